package transit

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/managedkeys/managedkeys/backend"
)

// keyModel is what is known of a key that is being tried.
type keyModel struct {
	e    *Engine
	name string
	opts KeyOptions

	rotate func(m *keyModel, latest int) (int, error) // makes a version; returns which key it is, as no other key is

	// The versions are keys[0] and so on, of which first is the first that there is. Restoring a backup can give a version another key.
	keys       []int
	first      int
	dec, enc   int // the window
	deleted    bool
	backups    []keyBackup
	kept       []sealedText
	streams    []sealedText // of which text is the stream
	convergent map[string]string
}

type keyBackup struct {
	text            string
	keys            []int
	first, dec, enc int
}

// sealedText is a ciphertext and what it is of.
type sealedText struct {
	text                     string
	version, key             int
	plaintext, context, data []byte
	padding                  string
}

func (m *keyModel) latest() int { return len(m.keys) }

// usable reports whether a version may be used for new work.
func (m *keyModel) usable(number int) bool {
	return number == 0 || number >= 1 && number <= m.latest() && number >= max(m.first, m.dec, m.enc)
}

// check says whether a call had to succeed, and stops if it did not end so.
func (m *keyModel) check(t *rapid.T, err error, fine bool, refused ...error) {
	t.Helper()
	if m.deleted {
		fine, refused = false, []error{backend.ErrNotPermitted}
	}
	if len(refused) == 0 {
		refused = []error{backend.ErrInvalidParams}
	}
	if fine != (err == nil) || err != nil && !slices.ContainsFunc(refused, func(s error) bool { return errors.Is(err, s) }) {
		t.Fatalf("got error %v; fine is %t, otherwise %v; versions %v from %d, window %d, %d, deleted %t", err, fine, refused, m.keys, m.first, m.dec, m.enc, m.deleted)
	}
}

// configure are the actions that change what versions there are and which of them may be used.
func (m *keyModel) configure() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"rotate": func(t *rapid.T) {
			key, err := m.rotate(m, m.latest())
			m.check(t, err, true)
			if err == nil {
				m.keys = append(slices.Clip(m.keys), key)
			}
		},
		"window": func(t *rapid.T) {
			d, n := rapid.IntRange(-1, m.latest()+1).Draw(t, "decryption"), rapid.IntRange(-1, m.latest()+1).Draw(t, "encryption")
			fine := d >= 0 && d <= m.latest() && n >= 0 && n <= m.latest() && (n == 0 || n >= max(d, 1)) && max(d, 1) >= m.first
			err := m.e.Configure(t.Context(), m.name, Config{MinDecryptionVersion: &d, MinEncryptionVersion: &n})
			m.check(t, err, fine)
			if err == nil {
				m.dec, m.enc = max(d, 1), n
			}
		},
		"trim": func(t *rapid.T) {
			n := rapid.IntRange(0, m.latest()+1).Draw(t, "oldest")
			err := m.e.Trim(t.Context(), m.name, n)
			m.check(t, err, n > 0 && n >= m.first && m.enc > 0 && n <= m.enc && n <= m.dec)
			if err == nil {
				m.first = n
			}
		},
		"soft-delete": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "seldom") > 0 {
				return
			}
			fatalRapid(t, m.e.SoftDelete(t.Context(), m.name))
			m.deleted = true
		},
		"undelete": func(t *rapid.T) {
			fatalRapid(t, m.e.Undelete(t.Context(), m.name))
			m.deleted = false
		},
		"backup": func(t *rapid.T) {
			text, err := m.e.Backup(t.Context(), m.name)
			m.check(t, err, true)
			if err == nil {
				m.backups = append(m.backups, keyBackup{text, m.keys, m.first, m.dec, m.enc})
			}
		},
		"restore": func(t *rapid.T) {
			if len(m.backups) == 0 {
				return
			}
			b := m.backups[rapid.IntRange(0, len(m.backups)-1).Draw(t, "which")]
			if err := m.e.Restore(t.Context(), m.name, b.text, false); !errors.Is(err, backend.ErrKeyExists) {
				t.Fatalf("restored over a key: %v", err)
			}
			fatalRapid(t, m.e.Restore(t.Context(), m.name, b.text, true))
			m.keys, m.first, m.dec, m.enc, m.deleted = b.keys, b.first, b.dec, b.enc, false
		},
		"": func(t *rapid.T) {
			info, err := m.e.Key(m.name)
			if err != nil || info.LatestVersion != m.latest() || info.MinDecryptionVersion != m.dec || info.MinEncryptionVersion != m.enc || info.Versions[0].Version != m.first {
				t.Fatalf("got %+v, %v; want %v from %d, window %d, %d", info, err, m.keys, m.first, m.dec, m.enc)
			}
		},
	}
}

func fatalRapid(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// decrypt(encrypt(x)) = x, whatever rotations, trims, windows, rewraps, deletions, backups and restores there were, for as long as
// the version may be used; the engine's window is exactly that of a model, and nothing else is ever decrypted.
func TestPropertyLife(t *testing.T) {
	h, next := newSoftHouse(t), 0
	h.addGenerated(t, "aes")
	h.engine.opts.AllowPKCS1v15 = true
	pool, newest := make([]Import, 3), 1
	for i := range pool {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		fatal(t, err)
		pool[i] = Import{Ciphertext: wrapped(t, h.engine, crypto.SHA256, key)}
	}
	unique := func(m *keyModel, _ int) (int, error) {
		next++
		return next, m.e.Rotate(t.Context(), m.name, "")
	}
	// A managed key has versions of its own: the newest is taken, if that isn't the latest.
	follow := func(m *keyModel, latest int) (int, error) {
		err := m.e.Rotate(t.Context(), m.name, "")
		if err == nil && m.keys[latest-1] == newest {
			newest++
		}
		return newest, err
	}
	importing := func(m *keyModel, latest int) (int, error) {
		return latest % len(pool), m.e.ImportVersion(t.Context(), m.name, pool[latest%len(pool)], 0)
	}
	for kind, opts := range map[string]KeyOptions{
		"aes128": {Type: TypeAES128}, "aes256-derived": {Type: TypeAES256, Derived: true}, "chacha-convergent": {Type: TypeChaCha20Poly1305, Derived: true, Convergent: true},
		"xchacha": {Type: TypeXChaCha20Poly1305}, "xchacha-derived": {Type: TypeXChaCha20Poly1305, Derived: true}, "xchacha-convergent": {Type: TypeXChaCha20Poly1305, Derived: true, Convergent: true},
		"managed": {ManagedKey: "aes"}, "rsa": {Type: TypeRSA2048},
	} {
		t.Run(kind, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				if opts.Type == TypeRSA2048 && rapid.IntRange(0, 19).Draw(t, "RSA is slow") != 7 {
					return
				}
				next++
				m := &keyModel{e: h.engine, name: fmt.Sprint("k", next), opts: opts, rotate: unique, keys: []int{next}, first: 1, dec: 1, convergent: map[string]string{}}
				switch {
				case opts.ManagedKey != "":
					m.rotate, m.keys = follow, []int{newest}
				default:
					m.opts.Exportable, m.opts.AllowPlaintextBackup = true, true
				}
				var err error
				if opts.Type == TypeRSA2048 {
					m.rotate, m.keys = importing, []int{0}
					err = m.e.ImportKey(t.Context(), m.name, pool[0], m.opts, false)
				} else {
					err = m.e.CreateKey(t.Context(), m.name, m.opts)
				}
				fatalRapid(t, err)
				actions := m.configure()
				for name, action := range m.use() {
					actions[name] = action
				}
				t.Repeat(actions)
			})
		})
	}
}
