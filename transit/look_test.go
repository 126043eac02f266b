package transit

import (
	"crypto/ed25519"
	"encoding/base64"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func TestHasAndKind(t *testing.T) {
	h := newHouse(t, "p256", "rsa")
	e, ctx := h.engine, t.Context()
	for name, want := range map[string]bool{"p256": true, "none": false, "NONE": false, "": false} {
		if got, err := e.Has(ctx, name); got != want || err != nil {
			t.Errorf("%s: got %t, %v", name, got, err)
		}
	}
	fatal(t, e.Rotate(ctx, "p256", "rsa"))
	for number, want := range map[int]string{0: "rsa-2048", 1: "ecdsa-p256", 2: "rsa-2048"} {
		if got, err := e.Kind(ctx, "p256", number); got != want || err != nil {
			t.Errorf("version %d: got %s, %v; want %s", number, got, err, want)
		}
	}
	for _, number := range []int{-1, 3} {
		_, err := e.Kind(ctx, "p256", number)
		wantError(t, err, backend.ErrInvalidParams, "no such key version")
	}
	_, err := e.Kind(ctx, "none", 0)
	wantError(t, err, backend.ErrKeyNotFound)
}

// The public key of a derived key verifies what it signed for the context, and no other does.
func TestPublicKey(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	h.create(t, "derived", KeyOptions{Type: TypeEd25519, Derived: true})
	h.create(t, "plain", KeyOptions{Type: TypeEd25519})
	h.create(t, "aes", KeyOptions{Type: TypeAES256})
	for _, derivation := range []string{"a", "b"} {
		signature, err := e.Sign(ctx, "derived", SignRequest{Input: []byte("m"), Context: []byte("a")})
		fatal(t, err)
		_, encoded, err := parse("signature", signature)
		fatal(t, err)
		raw, err := base64.StdEncoding.DecodeString(encoded)
		fatal(t, err)
		public, err := e.PublicKey(ctx, "derived", 0, []byte(derivation))
		fatal(t, err)
		if ok := ed25519.Verify(public.(ed25519.PublicKey), []byte("m"), raw); ok != (derivation == "a") {
			t.Errorf("context %s: %t", derivation, ok)
		}
	}
	info, err := e.Key("plain")
	fatal(t, err)
	if public, err := e.PublicKey(ctx, "plain", 1, nil); err != nil || !samePublic(public, info.Versions[0].PublicKey) {
		t.Errorf("got %v, %v", public, err)
	}
	_, err = e.PublicKey(ctx, "aes", 0, nil)
	wantError(t, err, backend.ErrUnsupported, "has no public key")
	_, err = e.PublicKey(ctx, "derived", 0, nil)
	wantError(t, err, backend.ErrInvalidParams, "missing 'context'")
	_, err = e.PublicKey(ctx, "plain", 0, []byte("a"))
	wantError(t, err, backend.ErrInvalidParams, "not a derived one")
	_, err = e.PublicKey(ctx, "plain", 2, nil)
	wantError(t, err, backend.ErrInvalidParams, "too new")
	_, err = e.PublicKey(ctx, "none", 0, nil)
	wantError(t, err, backend.ErrKeyNotFound)
}

func TestIsManagedBackup(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	h.addManaged(t, "p256", allUsages)
	fatal(t, e.CreateKey(ctx, "managed", KeyOptions{ManagedKey: "p256"}))
	h.create(t, "soft", KeyOptions{Type: TypeP256, Exportable: true, AllowPlaintextBackup: true})
	for name, want := range map[string]bool{"managed": true, "soft": false} {
		text, err := e.Backup(ctx, name)
		fatal(t, err)
		if got := IsManagedBackup(text); got != want {
			t.Errorf("%s: got %t", name, got)
		}
	}
	if IsManagedBackup("") || IsManagedBackup(readVectors(t)[0].Backup) {
		t.Error("what is no backup of a managed key is taken for one")
	}
}
