package transit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend/software"
)

// No operation fails while keys are rotated, in whichever process: what one encrypts and signs the other decrypts and verifies,
// whether it has heard of the version or not.
func TestRotateUnderLoadOfProcesses(t *testing.T) {
	st, hsm, ctx := newSealed(t), software.New(nil), t.Context()
	t.Cleanup(func() { hsm.Close() })
	a, b := newProcess(t, st, hsm), newProcess(t, st, hsm)
	a.addKey(t, "aes", kinds["aes"])
	a.addKey(t, "p256", kinds["p256"])
	for name, opts := range map[string]KeyOptions{
		"soft-aes": {Type: TypeAES128}, "soft-p256": {Type: TypeP256}, "managed-aes": {ManagedKey: "aes"}, "managed-p256": {ManagedKey: "p256"},
	} {
		if err := a.engine.CreateKey(ctx, name, opts); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"aes", "p256"} {
		eventually(t, "the entry is known", func() bool { _, err := b.mount.Key(ctx, name); return err == nil })
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	operation := func(from, to *Engine, name string) error {
		if name == "soft-aes" || name == "managed-aes" {
			ciphertext, err := from.Encrypt(ctx, name, EncryptRequest{Plaintext: []byte("m")})
			if err != nil {
				return err
			}
			plaintext, err := to.Decrypt(ctx, name, DecryptRequest{Ciphertext: ciphertext})
			if err == nil && string(plaintext) != "m" {
				err = errors.New("it decrypts to something else")
			}
			return err
		}
		signature, err := from.Sign(ctx, name, SignRequest{Input: []byte("m")})
		if err != nil {
			return err
		}
		ok, err := to.Verify(ctx, name, signature, SignRequest{Input: []byte("m")})
		if err == nil && !ok {
			err = errors.New("it does not verify")
		}
		return err
	}
	for _, name := range a.engine.List() {
		for _, pair := range [][2]*Engine{{a.engine, b.engine}, {b.engine, a.engine}} {
			running.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						if n == 0 {
							t.Errorf("%s: nothing was done", name)
						}
						return
					default:
					}
					if err := operation(pair[0], pair[1], name); err != nil {
						t.Errorf("%s, operation %d: %v", name, n, err)
						return
					}
				}
			})
		}
	}
	var rotating sync.WaitGroup
	for _, name := range []string{"soft-aes", "soft-p256"} {
		for _, e := range []*Engine{a.engine, b.engine} {
			rotating.Go(func() {
				for range 10 {
					if err := e.Rotate(ctx, name, ""); err != nil {
						t.Error(name, err)
					}
				}
			})
		}
	}
	rotating.Go(func() {
		for n := range 10 {
			for _, name := range []string{"managed-aes", "managed-p256"} {
				if err := a.engine.Rotate(ctx, name, ""); err != nil {
					t.Error(name, n, err)
				}
			}
		}
	})
	rotating.Wait()
	close(stop)
	running.Wait()
	for name, want := range map[string]int{"soft-aes": 21, "soft-p256": 21, "managed-aes": 11, "managed-p256": 11} {
		eventually(t, fmt.Sprint(name, " has all versions"), func() bool { info, _ := b.engine.Key(name); return info.LatestVersion == want })
	}
}

// Of processes that rotate one managed key at the same time, each adds a version, and each version is another key.
func TestRotateManagedTogether(t *testing.T) {
	st, hsm, ctx := newSealed(t), software.New(nil), t.Context()
	t.Cleanup(func() { hsm.Close() })
	all := []*process{newProcess(t, st, hsm), newProcess(t, st, hsm), newProcess(t, st, hsm)}
	all[0].addKey(t, "k", kinds["p256"])
	if err := all[0].engine.CreateKey(ctx, "k", KeyOptions{ManagedKey: "k"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		eventually(t, "the entry is known", func() bool { _, err := p.mount.Key(ctx, "k"); return err == nil })
	}
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			for range 4 {
				if err := p.engine.Rotate(ctx, "k", ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, p := range all {
		eventually(t, "all versions are known", func() bool { info, _ := p.engine.Key("k"); return info.LatestVersion == 13 })
	}
	info, err := all[1].engine.Key("k")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, v := range info.Versions {
		if other, ok := seen[v.KeyID]; ok {
			t.Errorf("versions %d and %d are the same key", other, v.Version)
		}
		seen[v.KeyID] = v.Version
	}
}

// A batch whose items name a version that nobody knows asks the store once.
func TestBatchAsksOnce(t *testing.T) {
	st, hsm, ctx := newSealed(t), software.New(nil), t.Context()
	t.Cleanup(func() { hsm.Close() })
	a, b := newProcess(t, st, hsm), newProcess(t, st, hsm)
	if err := a.engine.CreateKey(ctx, "k", KeyOptions{Type: TypeAES256}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.engine.Encrypt(ctx, "k", EncryptRequest{}); err != nil {
		t.Fatal(err)
	}
	before := b.store.count()
	requests := make([]DecryptRequest, 100)
	for i := range requests {
		requests[i].Ciphertext = "vault:v9:AAAA"
	}
	results, err := b.engine.DecryptBatch(ctx, "k", requests)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Err == nil {
			t.Errorf("item %d: no error", i)
		}
	}
	if n := b.store.count() - before; n != 1 {
		t.Errorf("the store was read %d times", n)
	}
}

// An engine whose context has ended does nothing.
func TestCancelled(t *testing.T) {
	h := newSoftHouse(t)
	h.create(t, "k", KeyOptions{Type: TypeAES256, Derived: true})
	h.create(t, "p", KeyOptions{Type: TypeP256})
	h.create(t, "h", KeyOptions{Type: TypeHMAC})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"encrypt": second(h.engine.Encrypt(ctx, "k", EncryptRequest{Context: []byte("c")})),
		"decrypt": second(h.engine.Decrypt(ctx, "k", DecryptRequest{Ciphertext: "vault:v1:AAAA", Context: []byte("c")})),
		"sign":    second(h.engine.Sign(ctx, "p", SignRequest{})),
		"verify":  second(h.engine.Verify(ctx, "p", "vault:v1:AAAA", SignRequest{})),
		"hmac":    second(h.engine.HMAC(ctx, "h", MACRequest{})),
		"rotate":  h.engine.Rotate(ctx, "k", ""),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
