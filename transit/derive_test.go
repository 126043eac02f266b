package transit

import (
	"bytes"
	"encoding/base64"
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

// A nonce must never be that of something else under the same key: with two sets of associated data, it would tell who sees both
// ciphertexts the key of the authentication, and let him forge.
func TestConvergentNonces(t *testing.T) {
	h := newSoftHouse(t)
	for _, kind := range derivable {
		h.create(t, kind, KeyOptions{Type: kind, Derived: true, Convergent: true})
		nonces := make(map[string]string)
		nonce := func(what, plaintext, associated string) {
			t.Helper()
			r := EncryptRequest{Plaintext: []byte(plaintext), Context: []byte("c"), AssociatedData: []byte(associated)}
			ciphertext, err := h.engine.Encrypt(t.Context(), kind, r)
			if err != nil {
				t.Fatal(err)
			}
			again, err := h.engine.Encrypt(t.Context(), kind, r)
			if err != nil || again != ciphertext {
				t.Errorf("%s, %s: %s and then %s, %v: not convergent", kind, what, ciphertext, again, err)
			}
			plaintext2, err := h.engine.Decrypt(t.Context(), kind, DecryptRequest{Ciphertext: again, Context: r.Context, AssociatedData: r.AssociatedData})
			if err != nil || string(plaintext2) != plaintext {
				t.Errorf("%s, %s: decrypted %q, %v", kind, what, plaintext2, err)
			}
			_, encoded, _ := parse("ciphertext", ciphertext)
			raw, _ := decode(encoded, base64.StdEncoding)
			n := string(raw[:softTypes[kind].nonce])
			if other, ok := nonces[n]; ok {
				t.Errorf("%s: %s has the nonce of %s", kind, what, other)
			}
			nonces[n] = what
		}
		nonce("none", "secret", "")
		nonce("one", "secret", "1")
		nonce("another", "secret", "2")
		nonce("moved to the plaintext", "1secret", "")
		nonce("moved in part", "2secret", "1")
		nonce("as it is hashed", "\x00\x00\x00\x00\x00\x00\x00\x011secret", "")
	}
}

// What version 3 has encrypted without associated data is what version 4 makes of it, so that who looks for equal ciphertexts finds them.
func TestConvergentOlder(t *testing.T) {
	h := newSoftHouse(t)
	h.create(t, "k", KeyOptions{Type: TypeAES256, Derived: true, Convergent: true, Exportable: true, AllowPlaintextBackup: true})
	text := rewritten(t, backedUp(t, h.engine, "k"), nil, map[string]any{"convergent": 3})
	if err := h.engine.Restore(t.Context(), "older", text, false); err != nil {
		t.Fatal(err)
	}
	for associated, want := range map[string]bool{"": true, "1": false} {
		r := EncryptRequest{Plaintext: []byte("secret"), Context: []byte("c"), AssociatedData: []byte(associated)}
		a, err := h.engine.Encrypt(t.Context(), "k", r)
		b, err2 := h.engine.Encrypt(t.Context(), "older", r)
		if err != nil || err2 != nil || (a == b) != want {
			t.Errorf("associated data %q: %s, %v and %s, %v", associated, a, err, b, err2)
		}
		back, err := h.engine.Decrypt(t.Context(), "k", DecryptRequest{Ciphertext: b, Context: r.Context, AssociatedData: r.AssociatedData})
		if err != nil || string(back) != "secret" {
			t.Errorf("associated data %q: decrypted %q, %v", associated, back, err)
		}
	}
}
