package transit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/managedkeys/managedkeys/backend"
)

// sealedText is a ciphertext and what it is of.
type sealedText struct {
	text               string
	version            int
	plaintext, context []byte
	data               []byte
}

// decrypt(encrypt(x)) = x, whatever rotations, trims, windows and rewraps there were, for as long as the version may be used; and
// the engine's window is exactly that of a model.
func TestPropertyWindow(t *testing.T) {
	h, next := newSoftHouse(t), 0
	h.addGenerated(t, "aes")
	e, ctx := h.engine, t.Context()
	rapid.Check(t, func(t *rapid.T) {
		next++
		name := fmt.Sprint("k", next)
		opts := rapid.SampledFrom([]KeyOptions{
			{Type: TypeAES128}, {Type: TypeAES256, Derived: true}, {Type: TypeChaCha20Poly1305, Derived: true, Convergent: true}, {ManagedKey: "aes"},
		}).Draw(t, "options")
		if err := e.CreateKey(ctx, name, opts); err != nil {
			t.Fatal(err)
		}
		var kept []sealedText
		latest, first, dec, enc := 1, 1, 1, 0 // the model
		choose := func() *sealedText {
			if len(kept) == 0 {
				return nil
			}
			return &kept[rapid.IntRange(0, len(kept)-1).Draw(t, "which")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"encrypt": func(t *rapid.T) {
				s := sealedText{plaintext: rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "plaintext"), data: rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "data")}
				if opts.Derived {
					s.context = rapid.SliceOfN(rapid.Byte(), 1, 5).Draw(t, "context")
				}
				number := rapid.IntRange(0, latest+1).Draw(t, "version")
				text, err := e.Encrypt(ctx, name, EncryptRequest{Plaintext: s.plaintext, AssociatedData: s.data, Context: s.context, KeyVersion: number})
				allowed := number == 0 || number <= latest && number >= first && number >= dec && number >= enc
				if (err == nil) != allowed || err != nil && !errors.Is(err, backend.ErrInvalidParams) {
					t.Fatalf("encrypt with version %d of %d..%d, window %d, %d: %v", number, first, latest, dec, enc, err)
				}
				if err == nil {
					s.text, s.version = text, number
					if number == 0 {
						s.version = latest
					}
					kept = append(kept, s)
				}
			},
			"decrypt": func(t *rapid.T) {
				s := choose()
				if s == nil {
					return
				}
				got, err := e.Decrypt(ctx, name, DecryptRequest{Ciphertext: s.text, AssociatedData: s.data, Context: s.context})
				if allowed := s.version >= dec && s.version >= first; allowed != (err == nil) || allowed && !bytes.Equal(got, s.plaintext) {
					t.Fatalf("decrypt of version %d, window %d, first %d: %x, %v", s.version, dec, first, got, err)
				}
			},
			"rewrap": func(t *rapid.T) {
				s := choose()
				if s == nil || s.version < dec || s.version < first {
					return
				}
				text, err := e.Rewrap(ctx, name, RewrapRequest{Ciphertext: s.text, AssociatedData: s.data, Context: s.context})
				if err != nil {
					t.Fatal(err)
				}
				s.text, s.version = text, latest
			},
			"tamper": func(t *rapid.T) {
				s := choose()
				if s == nil || s.version < dec || s.version < first {
					return
				}
				number, encoded, _ := parse("ciphertext", s.text)
				raw, _ := decode(encoded, base64.StdEncoding)
				raw[rapid.IntRange(0, len(raw)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
				_, err := e.Decrypt(ctx, name, DecryptRequest{Ciphertext: format(number, raw, base64.StdEncoding), AssociatedData: s.data, Context: s.context})
				if !errors.Is(err, backend.ErrDecryption) {
					t.Fatalf("a tampered ciphertext: %v", err)
				}
			},
			"rotate": func(t *rapid.T) {
				if err := e.Rotate(ctx, name, ""); err != nil {
					t.Fatal(err)
				}
				latest++
			},
			"window": func(t *rapid.T) {
				d, n := rapid.IntRange(0, latest+1).Draw(t, "decryption"), rapid.IntRange(0, latest+1).Draw(t, "encryption")
				err := e.Configure(ctx, name, Config{MinDecryptionVersion: &d, MinEncryptionVersion: &n})
				fine := d <= latest && n <= latest && (n == 0 || n >= max(d, 1)) && max(d, 1) >= first
				if fine != (err == nil) {
					t.Fatalf("window %d, %d with versions %d..%d: %v", d, n, first, latest, err)
				}
				if fine {
					dec, enc = max(d, 1), n
				}
			},
			"trim": func(t *rapid.T) {
				n := rapid.IntRange(0, latest+1).Draw(t, "oldest")
				err := e.Trim(ctx, name, n)
				if err == nil && (enc == 0 || n > enc || n > dec || n < first) {
					t.Fatalf("trimmed to %d, window %d, %d, first %d", n, dec, enc, first)
				}
				if err == nil {
					first = max(first, n)
				}
			},
			"": func(t *rapid.T) {
				info, err := e.Key(name)
				if err != nil || info.LatestVersion != latest || info.MinDecryptionVersion != dec || info.MinEncryptionVersion != enc || info.Versions[0].Version != first {
					t.Fatalf("got %+v, %v; want %d..%d, window %d, %d", info, err, first, latest, dec, enc)
				}
			},
		})
	})
}
