package transit

import (
	"bytes"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

var derivable = []string{TypeAES128, TypeAES256, TypeChaCha20Poly1305, TypeXChaCha20Poly1305}

// A derived key is another one for each context; a convergent one has one ciphertext for each plaintext and context.
func TestDerived(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	for _, kind := range derivable {
		for _, convergent := range []bool{false, true} {
			name := strings.ReplaceAll(kind, "-", "") + map[bool]string{true: "-c"}[convergent]
			h.create(t, name, KeyOptions{Type: kind, Derived: true, Convergent: convergent})
			encrypt := func(plaintext, context string) string {
				ciphertext, err := e.Encrypt(ctx, name, EncryptRequest{Plaintext: []byte(plaintext), Context: []byte(context)})
				if err != nil {
					t.Fatal(err)
				}
				return ciphertext
			}
			a := encrypt("secret", "a")
			if same := encrypt("secret", "a") == a; same != convergent {
				t.Errorf("%s: the same ciphertext again: %t", name, same)
			}
			if encrypt("secret", "b") == a || encrypt("other", "a") == a {
				t.Errorf("%s: the same ciphertext of something else", name)
			}
			plaintext, err := e.Decrypt(ctx, name, DecryptRequest{Ciphertext: a, Context: []byte("a")})
			if err != nil || string(plaintext) != "secret" {
				t.Errorf("%s: %q, %v", name, plaintext, err)
			}
			_, err = e.Decrypt(ctx, name, DecryptRequest{Ciphertext: a, Context: []byte("b")})
			wantError(t, err, backend.ErrDecryption)
			_, err = e.Decrypt(ctx, name, DecryptRequest{Ciphertext: a, Context: []byte("a"), AssociatedData: []byte("x")})
			wantError(t, err, backend.ErrDecryption)
			_, err = e.Decrypt(ctx, name, DecryptRequest{Ciphertext: "vault:v1:AAAA", Context: []byte("a")})
			wantError(t, err, backend.ErrDecryption)
			_, err = e.Encrypt(ctx, name, EncryptRequest{})
			wantError(t, err, backend.ErrInvalidParams, "missing 'context' for key derivation")
			_, err = e.Encrypt(ctx, name, EncryptRequest{Context: []byte("a"), Nonce: make([]byte, 12)})
			wantError(t, err, backend.ErrInvalidParams, "nonce provided when not allowed")
			_, err = e.WrapKey(ctx, name, make([]byte, 32), 0)
			wantError(t, err, backend.ErrUnsupported, "derived")
		}
	}
}

func TestDerivedSignatures(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	h.create(t, "k", KeyOptions{Type: TypeEd25519, Derived: true})
	r := SignRequest{Input: []byte("message"), Context: []byte("a")}
	signature, err := e.Sign(ctx, "k", r)
	if err != nil {
		t.Fatal(err)
	}
	for context, want := range map[string]bool{"a": true, "b": false} {
		r.Context = []byte(context)
		if ok, err := e.Verify(ctx, "k", signature, r); ok != want || err != nil {
			t.Errorf("context %s: %t, %v", context, ok, err)
		}
	}
	r.Context = nil
	_, err = e.Sign(ctx, "k", r)
	wantError(t, err, backend.ErrInvalidParams, "missing 'context'")
	_, err = e.Verify(ctx, "k", signature, r)
	wantError(t, err, backend.ErrInvalidParams, "missing 'context'")
	_, err = e.CSR(ctx, "k", 0, nil)
	wantError(t, err, backend.ErrUnsupported)
	_, err = e.Encrypt(ctx, "k", EncryptRequest{Context: []byte("a")})
	wantError(t, err, backend.ErrUnsupported, "message encryption not supported for key type ed25519")
	if info, err := e.Key("k"); err != nil || info.Type != TypeEd25519 || info.Versions[0].PublicKey != nil || info.Versions[0].PublicOnly {
		t.Errorf("got %+v, %v", info, err)
	}
}

// Convergent encryption 1 takes the nonce from the caller, who also has to keep it.
func TestConvergent1(t *testing.T) {
	e, ctx := newSoftHouse(t).engine, t.Context()
	for _, v := range readVectors(t) {
		if v.Name == "aes256-convergent-1" {
			if err := e.Restore(ctx, "k", v.Backup, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	nonce, context := []byte("0123456789ab"), []byte("c")
	ciphertext, err := e.Encrypt(ctx, "k", EncryptRequest{Plaintext: []byte("secret"), Context: context, Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: ciphertext, Context: context, Nonce: nonce})
	if err != nil || !bytes.Equal(plaintext, []byte("secret")) {
		t.Errorf("got %q, %v", plaintext, err)
	}
	for _, nonce := range []string{"", "short", "0123456789abc"} {
		_, err = e.Encrypt(ctx, "k", EncryptRequest{Context: context, Nonce: []byte(nonce)})
		wantError(t, err, backend.ErrInvalidParams, "must be 12 bytes long")
		_, err = e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: ciphertext, Context: context, Nonce: []byte(nonce)})
		wantError(t, err, backend.ErrInvalidParams, "must be 12 bytes long")
	}
	_, err = e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: ciphertext, Context: context, Nonce: []byte("0123456789ac")})
	wantError(t, err, backend.ErrDecryption)
}

// A context for a key that isn't derived would be lost silently.
func TestContextRefused(t *testing.T) {
	h := newHouse(t, "aes", "p256")
	ctx := t.Context()
	_, err := h.engine.Encrypt(ctx, "aes", EncryptRequest{Context: []byte("c")})
	wantError(t, err, backend.ErrUnsupported, "managed keys can't be derived")
	_, err = h.engine.Encrypt(ctx, "aes", EncryptRequest{Nonce: make([]byte, 12)})
	wantError(t, err, backend.ErrInvalidParams, "nonce provided when not allowed")
	_, err = h.engine.Sign(ctx, "p256", SignRequest{Context: []byte("c")})
	wantError(t, err, backend.ErrUnsupported, "managed keys can't be derived")
	soft := newSoftHouse(t)
	soft.create(t, "aes", KeyOptions{Type: TypeAES256})
	_, err = soft.engine.Encrypt(ctx, "aes", EncryptRequest{Context: []byte("c")})
	wantError(t, err, backend.ErrInvalidParams, "the key is not a derived one")
}
