package softkey_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/softkey"
	"github.com/managedkeys/managedkeys/managedkey"
)

// TestDiscard: a key that is discarded is no longer there under its name.
func TestDiscard(t *testing.T) {
	ctx := t.Context()
	b := software.New(nil)
	defer b.Close()
	if err := softkey.Check(b); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	params, err := softkey.Params(b, "one", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Import(ctx, params, key, nil); err != nil {
		t.Fatal(err)
	}
	if opened, err := b.Open(ctx, params); err != nil || !key.PublicKey.Equal(opened.Public()) {
		t.Fatalf("got %v, %v", opened, err)
	}
	if err := softkey.Discard(ctx, b, "one"); err != nil {
		t.Fatal(err)
	}
	if opened, err := b.Open(ctx, params); err == nil && opened.Public() != nil {
		t.Error("the private key is still there")
	}
}

// lame is a backend that can't import.
type lame struct{ backend.Backend }

func (lame) Type() string { return "lame" }

func TestCheck(t *testing.T) {
	if err := softkey.Check(lame{}); !errors.Is(err, backend.ErrInvalidParams) {
		t.Errorf("got %v", err)
	}
}

// TestAllowed: only "true" allows, and what is changed counts at once.
func TestAllowed(t *testing.T) {
	reg := managedkey.NewRegistry()
	defer reg.Close()
	for i, value := range []string{"true", "false", "TRUE", "1", ""} {
		m, err := reg.CreateMount(t.Context(), managedkey.MountSpec{Path: fmt.Sprint("m", i), Options: map[string]string{softkey.Option: value}})
		if err != nil {
			t.Fatal(err)
		}
		if got := softkey.Allowed(m); got != (i == 0) {
			t.Errorf("%q: got %v", value, got)
		}
	}
}
