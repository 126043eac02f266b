//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// TestKeyRemovedByOthers: a key that another program removes is not found, and one that it puts in its place is not used,
// whatever label and id say.
func TestKeyRemovedByOthers(t *testing.T) {
	f := newFaulty(t)
	pkcs11Tool := tool(t, f.token)
	for _, c := range []struct {
		label, id, kind string
		params          Params
	}{
		{"ec", "01", "EC:prime256v1", f.on("ec")},
		{"rsa", "02", "RSA:2048", withBits(on(f.token, "rsa", RSAPKCS), 2048)},
	} {
		t.Run(c.label, func(t *testing.T) {
			generate := func() {
				pkcs11Tool("--keypairgen", "--label", c.label, "--id", c.id, "--key-type", c.kind, "--usage-sign")
			}
			remove := func() {
				for _, kind := range []string{"privkey", "pubkey"} {
					pkcs11Tool("--delete-object", "--type", kind, "--label", c.label)
				}
			}
			generate()
			b := f.connect(t, Library{})
			key := mustOpen(t, b, c.params)
			signsWell(t, key)
			ours := mustGenerate(t, b, f.on("ours-"+c.label))

			remove()
			wants(t, signOnce(t.Context(), key), backend.ErrKeyNotFound)
			wants(t, signOnce(t.Context(), key), backend.ErrKeyNotFound)
			_, err := b.Open(t.Context(), c.params)
			wants(t, err, backend.ErrKeyNotFound)

			generate()
			eventually(t, "the new key is seen", func() bool {
				err := signOnce(t.Context(), key)
				if err == nil {
					t.Fatal("the new key signed in place of the old one")
				}
				if !errors.Is(err, backend.ErrKeyNotFound) { // what was found lately is not searched for at once
					wants(t, err, backend.ErrKeyChanged)
					return true
				}
				return false
			})
			wants(t, signOnce(t.Context(), key), backend.ErrKeyChanged)
			signsWell(t, mustOpen(t, b, c.params)) // to open it is to take the new one
			signsWell(t, ours)
			closeAll(t, b)
		})
	}
}

// TestKeyReplacedUnderLoad: while many sign, other programs replace the key. No signature of the new one leaves, and other
// keys are not disturbed.
func TestKeyReplacedUnderLoad(t *testing.T) {
	f := newFaulty(t)
	pkcs11Tool := tool(t, f.token)
	pkcs11Tool("--keypairgen", "--label", "key", "--id", "01", "--key-type", "EC:prime256v1")
	b := f.connect(t, Library{})
	key, other := mustOpen(t, b, f.on("key")), mustGenerate(t, b, f.on("other"))
	others := newSwarm(t, 2, other)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for end := time.Now().Add(patience); time.Now().Before(end); {
				err := signOnce(context.Background(), key)
				switch {
				case err == nil || errors.Is(err, backend.ErrKeyNotFound) || errors.Is(err, backend.ErrUnavailable):
				case errors.Is(err, backend.ErrKeyChanged):
					return
				default:
					t.Errorf("a signature: %v", err)
					return
				}
			}
			t.Error("the new key was not noticed")
		})
	}
	others.more(50, "before")
	for _, kind := range []string{"privkey", "pubkey"} {
		pkcs11Tool("--delete-object", "--type", kind, "--label", "key")
	}
	pkcs11Tool("--keypairgen", "--label", "key", "--id", "01", "--key-type", "EC:prime256v1")
	wg.Wait()
	others.more(50, "after")
	others.stop()
}
