package transit

import (
	"bytes"
	"encoding/base64"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// Ciphertexts without envelopes are those with envelopes, and both decrypt both.
func TestEncryptBytes(t *testing.T) {
	h := newSoftHouse(t)
	h.addManaged(t, "rsa", allUsages)
	h.create(t, "rsa", KeyOptions{ManagedKey: "rsa"})
	h.create(t, "aes", KeyOptions{Type: TypeAES256})
	h.create(t, "derived", KeyOptions{Type: TypeChaCha20Poly1305, Derived: true})
	e, ctx, secret := h.engine, t.Context(), []byte("secret")
	fatal(t, e.Rotate(ctx, "aes", ""))
	for name, want := range map[string]int{"rsa": 1, "aes": 2, "derived": 1} {
		r := EncryptRequest{Plaintext: secret}
		d := DecryptRequest{}
		if name == "derived" {
			r.Context, d.Context = []byte("c"), []byte("c")
		}
		for _, dst := range [][]byte{nil, []byte("before")} {
			out, version, err := e.EncryptBytes(ctx, name, dst, r)
			if err != nil || version != want || !bytes.HasPrefix(out, dst) {
				t.Fatalf("%s: %x, version %d, %v", name, out, version, err)
			}
			raw := out[len(dst):]
			if got, err := e.DecryptBytes(ctx, name, raw, version, d); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
			d.Ciphertext = format(version, raw, base64.StdEncoding)
			if got, err := e.Decrypt(ctx, name, d); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%s: in an envelope: got %q, %v", name, got, err)
			}
			raw[len(raw)-1] ^= 1
			_, err = e.DecryptBytes(ctx, name, raw, version, d)
			wantError(t, err, backend.ErrDecryption)
			for _, version := range []int{0, -1, 3} {
				_, err = e.DecryptBytes(ctx, name, raw, version, d)
				wantError(t, err, backend.ErrInvalidParams, "version")
			}
		}
		_, _, err := e.EncryptBytes(ctx, name, nil, EncryptRequest{Plaintext: secret, Context: r.Context, KeyVersion: 9})
		wantError(t, err, backend.ErrInvalidParams, "higher than the latest")
	}
	if allocs := testing.AllocsPerRun(100, func() {
		if _, _, err := e.EncryptBytes(ctx, "aes", nil, EncryptRequest{Plaintext: secret}); err != nil {
			t.Error(err)
		}
	}); allocs > 1 {
		t.Errorf("%v allocations; the bare cipher makes 1", allocs)
	}
}
