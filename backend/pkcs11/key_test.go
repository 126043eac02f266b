package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

const hashSHA256 = crypto.SHA256

func opened(t *testing.T, m *fakeModule, p Params) backend.Key {
	t.Helper()
	return mustOpen(t, fakeBackend(t, m.shared()), p)
}

// TestProof: a private key is only ever given out with its own public key.
func TestProof(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign := rsaKeys()[0].Public()
	for _, test := range []struct {
		name   string
		spec   keySpec
		params Params
		change func(*fakeObject)
		want   error // nil if the key must be opened
		says   string
	}{
		{"own key", ecSpec, ecParams, func(*fakeObject) {}, nil, ""},
		{"own key is second", ecSpec, ecParams, func(o *fakeObject) {
			o.public = []crypto.PublicKey{other.Public(), o.public[0]}
		}, nil, ""},
		{"other EC key", ecSpec, ecParams, func(o *fakeObject) { o.public = []crypto.PublicKey{other.Public()} }, backend.ErrKeyChanged, "trial signature"},
		{"other RSA key", rsaSpec, rsaParams, func(o *fakeObject) {
			o.public = []crypto.PublicKey{rsaKeys()[0].Public()}
			o.private = rsaKeys()[1]
		}, backend.ErrKeyChanged, "trial signature"},
		{"other key, decrypting", oaepSpec, oaepParams, func(o *fakeObject) {
			o.public = []crypto.PublicKey{rsaKeys()[0].Public()}
			o.private = rsaKeys()[1]
		}, backend.ErrUnsupported, "not its own"},
		{"no public key", ecSpec, ecParams, func(o *fakeObject) { o.public = nil }, backend.ErrUnsupported, "neither a public key nor a certificate"},
		{"asks for the PIN", ecSpec, ecParams, func(o *fakeObject) { o.alwaysAuthenticate = true }, backend.ErrUnsupported, "CKA_ALWAYS_AUTHENTICATE"},
		{"may do nothing", ecSpec, ecParams, func(o *fakeObject) { o.sign = false }, backend.ErrNotPermitted, "neither signing nor decryption"},
		{"may only use other mechanisms", ecSpec, ecParams, func(o *fakeObject) { o.allowed = []Mechanism{0x1044} }, backend.ErrNotPermitted, ""},
		{"short modulus", rsaSpec, rsaParams, func(o *fakeObject) {
			short, err := rsa.GenerateKey(rand.Reader, 1024)
			if err != nil {
				t.Fatal(err)
			}
			o.private, o.public = short, []crypto.PublicKey{short.Public()}
		}, backend.ErrUnsupported, "1024 bits"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newFake()
			o := m.add(test.spec)
			test.change(o)
			key, err := fakeBackend(t, m.shared()).Open(t.Context(), test.params)
			if test.want != nil {
				wants(t, err, test.want, test.says, fmt.Sprintf("%q", test.spec.label))
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(o.private.Public()) {
				t.Error("key has another public key than its own")
			}
		})
	}
	t.Run("decrypting, when OAEP is known", func(t *testing.T) {
		m := newFake()
		m.add(rsaSpec)
		o := m.add(oaepSpec)
		b := fakeBackend(t, m.shared())
		mustOpen(t, b, rsaParams)
		o.private, o.public = rsaKeys()[1], []crypto.PublicKey{foreign}
		_, err := b.Open(t.Context(), oaepParams)
		wants(t, err, backend.ErrKeyChanged, "trial decryption")
	})
}

func TestAgree(t *testing.T) {
	m := newFake()
	m.add(ecSpec)
	m.add(rsaSpec)
	b := fakeBackend(t, m.shared())
	for _, test := range []struct {
		name string
		p    Params
		says string // empty if the key must be opened
	}{
		{"curve", func() Params { p := ecParams; p.Curve = "P256"; return p }(), ""},
		{"other curve", func() Params { p := ecParams; p.Curve = "P521"; return p }(), "curve: got P521, but the key is on P-256"},
		{"size", func() Params { p := rsaParams; p.KeyBits = 2048; return p }(), ""},
		{"other size", func() Params { p := rsaParams; p.KeyBits = 4096; return p }(), "key_bits: got 4096, but the key has 2048"},
		{"other kind", func() Params { p := ecParams; p.Mechanism = RSAPKCS; return p }(), "CKM_RSA_PKCS takes an RSA key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := b.Open(t.Context(), test.p)
			if test.says == "" && err != nil {
				t.Error(err)
			} else if test.says != "" {
				wants(t, err, backend.ErrInvalidParams, test.says)
			}
		})
	}
}

// TestSearch: label, id and kind of key choose; what is left over is ambiguous.
func TestSearch(t *testing.T) {
	m := newFake()
	for _, spec := range []keySpec{
		{id: []byte{1}, label: "same", kind: keyEC, sign: true},
		{id: []byte{2}, label: "same", kind: keyEC, sign: true},
		{id: []byte{3}, label: "same", kind: keyRSA, sign: true},
		{id: []byte{4}, label: "same", kind: keyEdDSA, sign: true},
		{id: []byte("text"), label: "other", kind: keyEC, sign: true},
		{label: "no id", kind: keyEC, sign: true},
	} {
		m.add(spec)
	}
	b := fakeBackend(t, m.shared())
	for _, test := range []struct {
		name, label, id string
		mechanism       Mechanism
		want            error
		says            []string
	}{
		{"two", "same", "", ECDSA, backend.ErrAmbiguousKey, []string{`2 private keys`, `EC key with label "same" and id 0x01`, "0x02"}},
		{"label and id", "same", "0x02", ECDSA, nil, nil},
		{"label and kind", "same", "", RSAPKCS, nil, nil},
		{"id", "", "0x01", ECDSA, nil, nil},
		{"id as text", "", "text", ECDSA, nil, nil},
		{"label without id", "no id", "", ECDSA, nil, nil},
		{"label", "absent", "", ECDSA, backend.ErrKeyNotFound, []string{`key_label "absent"`}},
		{"id of another label", "other", "0x01", ECDSA, backend.ErrKeyNotFound, []string{`key_label "other" and key_id 0x01`}},
		{"id without prefix", "", "02", ECDSA, backend.ErrKeyNotFound, []string{"hexadecimal is written 0x02"}},
		{"id of another kind", "", "0x04", ECDSA, backend.ErrInvalidParams, []string{"takes an EC key", "EdDSA key"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := Params{Library: "lib", TokenLabel: "one", PIN: fakePIN, KeyLabel: test.label, KeyID: test.id, Mechanism: test.mechanism}
			_, err := b.Open(t.Context(), p)
			if test.want != nil {
				wants(t, err, test.want, test.says...)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLooseSearch: what a token finds beyond what was asked for doesn't count.
func TestLooseSearch(t *testing.T) {
	m := newFake()
	m.loose = true
	m.add(ecSpec)
	upper := ecSpec
	upper.label = "KEY"
	o := m.add(upper)
	b := fakeBackend(t, m.shared())
	p := ecParams
	p.KeyLabel = "KEY"
	if key := mustOpen(t, b, p); !same(key.Public(), o.private.Public()) {
		t.Error("opened another key")
	}
	p.KeyLabel = "Key"
	_, err := b.Open(t.Context(), p)
	wants(t, err, backend.ErrKeyNotFound)
}

func TestID(t *testing.T) {
	m := newFake()
	m.infos[0].label = "a token/1"
	m.add(keySpec{id: []byte{0, 0xab}, label: "ca;ü", kind: keyEC, sign: true})
	p := ecParams
	p.TokenLabel, p.KeyLabel = "a token/1", "ca;ü"
	want := "pkcs11:token=a%20token%2F1;serial=s-one;id=%00%AB;object=ca%3B%C3%BC;type=private"
	if got := opened(t, m, p).ID(); got != want {
		t.Errorf("ID = %s, want %s", got, want)
	}
}

// TestOtherKeysSignature: no signature leaves that is not the key's own.
func TestOtherKeysSignature(t *testing.T) {
	m := newFake()
	o := m.add(ecSpec)
	key := opened(t, m, ecParams)
	o.private = m.add(ecSpec).private // as when the handle came to stand for another object
	out, err := key.(backend.Signer).Sign(nil, make([]byte, 32), crypto.SHA256)
	wants(t, err, backend.ErrKeyChanged, "the signature is not its own")
	if out != nil {
		t.Error("and yet there is a signature")
	}
}

// TestOperationErrors: every return value gets its sentinel, and all that a ciphertext can cause look alike.
func TestOperationErrors(t *testing.T) {
	m := newFake()
	m.add(rsaSpec)
	key := opened(t, m, rsaParams)
	ciphertext := make([]byte, 256)
	for c := range ckrs {
		t.Run(c.Error(), func(t *testing.T) {
			for _, function := range []string{"C_Sign", "C_Decrypt", "C_GenerateRandom"} {
				m.fails(function, c)
				defer m.on(function, nil)
			}
			if c != ckrEncryptedDataInvalid {
				_, err := key.(backend.Signer).Sign(nil, make([]byte, 32), crypto.SHA256)
				wants(t, err, c.sentinel(), "C_Sign", c.Error(), `token "one" in slot 1`)
				_, err = key.(backend.Random).GenerateRandom(t.Context(), 8)
				wants(t, err, c.sentinel(), "C_GenerateRandom", c.Error())
			}
			_, err := key.(backend.Decrypter).Decrypt(nil, ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA256})
			if c.failsDecryption() || c.sentinel() == backend.ErrDecryption {
				if err != backend.ErrDecryption {
					t.Errorf("error = %v, want exactly ErrDecryption", err)
				}
			} else {
				wants(t, err, c.sentinel(), "C_Decrypt", c.Error())
			}
		})
	}
	t.Run("unknown", func(t *testing.T) {
		m.fails("C_Sign", 0x80000042)
		_, err := key.(backend.Signer).Sign(nil, make([]byte, 32), crypto.SHA256)
		wants(t, err, backend.ErrUnavailable, "0x80000042")
		m.on("C_Sign", func() error { return errors.New("odd answer") })
		_, err = key.(backend.Signer).Sign(nil, make([]byte, 32), crypto.SHA256)
		wants(t, err, backend.ErrUnavailable, "odd answer")
		m.on("C_Sign", func() error { panic("odd answer") })
		_, err = key.(backend.Signer).Sign(nil, make([]byte, 32), crypto.SHA256)
		wants(t, err, backend.ErrUnavailable, "panicked")
		m.on("C_Sign", nil)
		signsWell(t, key)
	})
}

// TestMaxParallel: no more operations run than allowed, those that wait leave when their context ends, and the place of
// one that ended is taken.
func TestMaxParallel(t *testing.T) {
	for _, test := range []struct {
		name               string
		parallel, sessions int
		says               string
	}{
		{"max_parallel", 2, 64, "max_parallel"},
		{"sessions", 64, 4, "all sessions are busy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newFake()
			m.add(ecSpec)
			b := newBackend([]library{{Library{Name: "lib", MaxSessions: test.sessions}, m.shared()}})
			p := ecParams
			p.MaxParallel = test.parallel
			key := mustOpen(t, b, p)
			entered, release := make(chan struct{}, 8), make(chan struct{})
			m.on("C_Sign", func() error { entered <- struct{}{}; <-release; return nil })
			errs := make(chan error)
			sign := func(ctx context.Context) {
				_, err := key.(backend.Signer).SignContext(ctx, make([]byte, 32), crypto.SHA256)
				errs <- err
			}
			for range 2 {
				go sign(t.Context())
				<-entered
			}
			waiting, cancel := context.WithCancel(t.Context())
			go sign(waiting)
			cancel()
			if err := <-errs; !errors.Is(err, context.Canceled) {
				t.Errorf("error = %v, want context.Canceled", err)
			}
			select {
			case <-entered:
				t.Error("a third operation runs")
			default:
			}
			go sign(t.Context())
			release <- struct{}{}
			<-entered
			close(release)
			for range 3 {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			var running, most atomic.Int32
			m.on("C_Sign", func() error {
				most.Store(max(most.Load(), running.Add(1)))
				for range 100 {
					runtime.Gosched()
				}
				running.Add(-1)
				return nil
			})
			for range 32 {
				go sign(t.Context())
			}
			for range 32 {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			if n := most.Load(); n > 2 {
				t.Errorf("%d operations ran at once, want at most 2", n)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHangingSign: a call that never returns holds up neither its caller nor Close, and nothing is pulled away from
// under it.
func TestHangingSign(t *testing.T) {
	m := newFake()
	m.add(ecSpec)
	shared := m.shared()
	b := newBackend([]library{{Library{Name: "lib"}, shared}})
	b.closeTimeout = 1 // ns
	key := mustOpen(t, b, ecParams)
	entered, release, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	m.on("C_Sign", func() error { close(entered); <-release; return nil })
	m.on("C_Logout", func() error { close(closed); return nil })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := key.(backend.Signer).SignContext(ctx, make([]byte, 32), crypto.SHA256)
		done <- err
	}()
	<-entered
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	wants(t, b.Close(), backend.ErrUnavailable, "have not ended")
	if err := b.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if m.isOpen() != 1 {
		t.Fatal("the token was closed under a call in flight")
	}
	m.on("C_Sign", nil)
	other := fakeBackend(t, shared)
	signsWell(t, mustOpen(t, other, ecParams)) // the others go on
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	close(release)
	<-closed
}
