package managedkey

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func TestDefaultRegistry(t *testing.T) {
	const name = "default-test/ca"
	ctx := t.Context()
	in := entryOf(newClient(newVault()), name, allUsages)
	in.AllowGenerateKey, in.AllowReplaceKey, in.AllowStoreKey = true, true, true
	check(t, Create(ctx, in), nil)
	check(t, Default().Create(ctx, in), backend.ErrKeyExists)
	m, err := NewMount(ctx, "default-test", "pki", "ca")
	check(t, err, nil)
	for op, run := range map[string]func() error{
		"Generate":  func() error { _, err := Generate(ctx, in.Ref); return err },
		"Import":    func() error { _, err := Import(ctx, in.Ref, []byte("key")); return err },
		"KeyFor":    func() error { _, err := KeyFor(ctx, in.Ref); return err },
		"Signer":    func() error { _, err := Signer(ctx, in.Ref); return err },
		"Decrypter": func() error { _, err := Decrypter(ctx, in.Ref); return err },
		"KeyExchanger": func() error {
			if _, err := KeyExchanger(ctx, in.Ref); !errors.Is(err, backend.ErrUnsupported) { // the fake has an Ed25519 key
				return fmt.Errorf("got %v", err)
			}
			return nil
		},
		"EntryFor":  func() error { _, err := EntryFor(in.Ref); return err },
		"Update":    func() error { return Update(ctx, in) },
		"Mount.Key": func() error { _, err := m.Key(ctx, "ca"); return err },
	} {
		if err := run(); err != nil {
			t.Errorf("%s: %v", op, err)
		}
	}
	if got := List("default-test"); !slices.Equal(got, []string{"ca"}) {
		t.Errorf("listed %q", got)
	}
	check(t, m.Close(), nil)
	check(t, Delete(ctx, in.Ref), nil)
	if Default().spaces.live != 0 {
		t.Error("something is left in the default registry")
	}
}
