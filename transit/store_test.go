package transit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
	"github.com/managedkeys/managedkeys/namespace"
)

// counted is a store that counts what it is asked.
type counted struct {
	store.Store
	mu    sync.Mutex
	gets  int
	after func() // after the next Get, once
}

func (c *counted) Sealed() bool { return store.IsSealed(c.Store) }

func (c *counted) Get(ctx context.Context, key string) (store.Record, error) {
	r, err := c.Store.Get(ctx, key)
	c.mu.Lock()
	c.gets++
	after := c.after
	c.after = nil
	c.mu.Unlock()
	if after != nil {
		after()
	}
	return r, err
}

func (c *counted) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gets
}

// process is what one process has: its own registry, software backend and engine on a store that it shares.
type process struct {
	registry *managedkey.Registry
	mount    *managedkey.Mount
	store    *counted
	engine   *Engine
}

// newSealed returns a sealed store in memory.
func newSealed(tb testing.TB) store.Store {
	tb.Helper()
	sealed, err := seal.Open(tb.Context(), memory.New(nil), sealKey(tb), nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { sealed.Close() })
	return sealed
}

// newProcess starts a process on st, whose managed keys are in hsm.
func newProcess(tb testing.TB, st store.Store, hsm *software.Backend) *process {
	tb.Helper()
	p := &process{store: &counted{Store: st}}
	client, own := hsm.Share(), software.New(nil)
	var err error
	p.registry, err = managedkey.Open(tb.Context(), st, []managedkey.Connection{{Name: "hsm", Backend: client}}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if p.mount, err = p.registry.OpenMount("", "transit"); err != nil {
		if p.mount, err = p.registry.Mount(tb.Context(), "", "transit"); err != nil {
			tb.Fatal(err)
		}
	}
	if p.engine, err = Open(tb.Context(), p.mount, p.store, &Options{Software: own}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		p.engine.Close()
		p.registry.Close()
		client.Close()
		own.Close()
	})
	return p
}

// eventually waits until ok.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not within 10 seconds", what)
		}
	}
}

// addKey makes a managed key that can be rotated and that every mount may use.
func (p *process) addKey(tb testing.TB, name string, params software.Params) {
	tb.Helper()
	params.KeyName = name
	err := p.registry.Create(tb.Context(), managedkey.Entry{
		Ref: namespace.Ref{Name: name}, Connection: "hsm", Params: params, Usages: allUsages, AllowGenerateKey: true, AnyMount: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// Two processes on one store: what one makes the other can use at once, whatever the news.
func TestTwoProcesses(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("all", func(t *testing.T) {
		st, hsm, ctx := newSealed(t), software.New(nil), t.Context()
		t.Cleanup(func() { hsm.Close() })
		a, b := newProcess(t, st, hsm), newProcess(t, st, hsm)
		a.addKey(t, "managed", kinds["aes"])
		for name, opts := range map[string]KeyOptions{"soft": {Type: TypeAES256}, "managed": {ManagedKey: "managed"}} {
			if name == "managed" {
				eventually(t, "the entry is known", func() bool { _, err := b.mount.Key(ctx, name); return err == nil })
			}
			if err := a.engine.CreateKey(ctx, name, opts); err != nil {
				t.Fatal(err)
			}
			wantError(t, b.engine.CreateKey(ctx, name, opts), backend.ErrKeyExists)
			from, to := a, b
			for n := 1; n <= 5; n++ {
				ciphertext, err := from.engine.Encrypt(ctx, name, EncryptRequest{Plaintext: []byte("secret")})
				if err != nil || !strings.HasPrefix(ciphertext, fmt.Sprintf("vault:v%d:", n)) {
					t.Fatalf("%s: %.12s, %v; want version %d", name, ciphertext, err, n)
				}
				plaintext, err := to.engine.Decrypt(ctx, name, DecryptRequest{Ciphertext: ciphertext})
				if err != nil || string(plaintext) != "secret" {
					t.Fatalf("%s version %d: %q, %v", name, n, plaintext, err)
				}
				if err := to.engine.Rotate(ctx, name, ""); err != nil {
					t.Fatal(err)
				}
				from, to = to, from
			}
			allowed := true
			if err := b.engine.Configure(ctx, name, Config{DeletionAllowed: &allowed}); err != nil {
				t.Fatal(err)
			}
			if err := a.engine.DeleteKey(ctx, name); err != nil {
				t.Fatal(err)
			}
			_, err := a.engine.Encrypt(ctx, name, EncryptRequest{})
			wantError(t, err, backend.ErrKeyNotFound)
			eventually(t, "deleted", func() bool { _, err := b.engine.Key(name); return errors.Is(err, backend.ErrKeyNotFound) })
			if err := b.engine.CreateKey(ctx, name, opts); err != nil { // and made again
				t.Fatal(err)
			}
			if _, err := a.engine.Encrypt(ctx, name, EncryptRequest{}); err != nil {
				t.Error(err)
			}
		}
	})
}

// The configuration that one process sets holds in the other.
func TestTwoProcessesFollow(t *testing.T) {
	st, hsm, ctx := newSealed(t), software.New(nil), t.Context()
	t.Cleanup(func() { hsm.Close() })
	a, b := newProcess(t, st, hsm), newProcess(t, st, hsm)
	if err := a.engine.CreateKey(ctx, "k", KeyOptions{Type: TypeHMAC}); err != nil {
		t.Fatal(err)
	}
	old, err := b.engine.HMAC(ctx, "k", MACRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.engine.Rotate(ctx, "k", ""); err != nil {
		t.Fatal(err)
	}
	two := 2
	if err := a.engine.Configure(ctx, "k", Config{MinDecryptionVersion: &two}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the window is known", func() bool { info, _ := b.engine.Key("k"); return info.MinDecryptionVersion == 2 })
	_, err = b.engine.VerifyHMAC(ctx, "k", old, MACRequest{})
	wantError(t, err, backend.ErrInvalidParams, "too old")
	if err := b.engine.SoftDelete(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "soft deletion is known", func() bool { info, _ := a.engine.Key("k"); return info.SoftDeleted })
	_, err = a.engine.HMAC(ctx, "k", MACRequest{})
	wantError(t, err, backend.ErrNotPermitted, "is deleted")
}

// Operations with keys that are known ask the store for nothing.
func TestNoStoreCalls(t *testing.T) {
	st, hsm, ctx := newSealed(t), software.New(nil), t.Context()
	t.Cleanup(func() { hsm.Close() })
	p := newProcess(t, st, hsm)
	if err := p.engine.CreateKey(ctx, "k", KeyOptions{Type: TypeP256}); err != nil {
		t.Fatal(err)
	}
	before := p.store.count()
	for range 50 {
		signature, err := p.engine.Sign(ctx, "k", SignRequest{Input: []byte("m")})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := p.engine.Verify(ctx, "k", signature, SignRequest{Input: []byte("m")}); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if n := p.store.count() - before; n != 0 {
		t.Errorf("the store was read %d times", n)
	}
	_, err := p.engine.Sign(ctx, "nobody", SignRequest{})
	wantError(t, err, backend.ErrKeyNotFound)
	if n := p.store.count() - before; n != 1 {
		t.Errorf("for an unknown name the store was read %d times; want 1", n)
	}
}

// A key is there again when its process is started again.
func TestRestart(t *testing.T) {
	st, hsm, ctx := newSealed(t), software.New(nil), t.Context()
	t.Cleanup(func() { hsm.Close() })
	a := newProcess(t, st, hsm)
	a.addKey(t, "p256", kinds["p256"])
	var made [2]string
	for i, opts := range []KeyOptions{{ManagedKey: "p256"}, {Type: TypeMLDSA65}} {
		name := fmt.Sprint("k", i)
		if err := a.engine.CreateKey(ctx, name, opts); err != nil {
			t.Fatal(err)
		}
		var err error
		if made[i], err = a.engine.Sign(ctx, name, SignRequest{Input: []byte("m")}); err != nil {
			t.Fatal(err)
		}
	}
	before := a.engine.List()
	a.engine.Close()
	b := newProcess(t, st, hsm)
	if got := b.engine.List(); len(got) != 2 || got[0] != before[0] {
		t.Errorf("got %v; want %v", got, before)
	}
	for i, signature := range made {
		if ok, err := b.engine.Verify(ctx, fmt.Sprint("k", i), signature, SignRequest{Input: []byte("m")}); !ok || err != nil {
			t.Errorf("%d: %t, %v", i, ok, err)
		}
	}
}

// After a restart, signatures are verified with the public keys in the store even while the key manager is away, by whoever may.
func TestRestartWithoutKeyManager(t *testing.T) {
	st, hsm, ctx := newSealed(t), software.New(nil), t.Context()
	a := newProcess(t, st, hsm)
	a.addKey(t, "p256", kinds["p256"])
	if err := a.engine.CreateKey(ctx, "k", KeyOptions{ManagedKey: "p256"}); err != nil {
		t.Fatal(err)
	}
	signature, err := a.engine.Sign(ctx, "k", SignRequest{Input: []byte("m")})
	if err != nil {
		t.Fatal(err)
	}
	hsm.Close()
	b := newProcess(t, st, hsm)
	_, err = b.engine.Sign(ctx, "k", SignRequest{Input: []byte("m")})
	wantError(t, err, backend.ErrUnavailable)
	for input, want := range map[string]bool{"m": true, "n": false} {
		if ok, err := b.engine.Verify(ctx, "k", signature, SignRequest{Input: []byte(input)}); ok != want || err != nil {
			t.Errorf("%s: %t, %v", input, ok, err)
		}
	}
	entry, err := b.registry.Entry(namespace.Ref{Name: "p256"})
	if err != nil {
		t.Fatal(err)
	}
	entry.AnyMount = false
	if err := b.registry.Update(ctx, entry); err != nil {
		t.Fatal(err)
	}
	_, err = b.engine.Verify(ctx, "k", signature, SignRequest{Input: []byte("m")})
	wantError(t, err, backend.ErrNotPermitted)
	if err := b.registry.Delete(ctx, entry.Ref); err != nil {
		t.Fatal(err)
	}
	_, err = b.engine.Verify(ctx, "k", signature, SignRequest{Input: []byte("m")})
	wantError(t, err, backend.ErrKeyNotFound)
}

// A change that loses the race is made after the other one, and nothing of either is lost.
func TestLostRace(t *testing.T) {
	st, hsm, ctx := newSealed(t), software.New(nil), t.Context()
	t.Cleanup(func() { hsm.Close() })
	a, b := newProcess(t, st, hsm), newProcess(t, st, hsm)
	if err := a.engine.CreateKey(ctx, "k", KeyOptions{Type: TypeAES128}); err != nil {
		t.Fatal(err)
	}
	allowed := true
	a.store.after = func() {
		if err := b.engine.Rotate(ctx, "k", ""); err != nil {
			t.Error(err)
		}
	}
	if err := a.engine.Configure(ctx, "k", Config{DeletionAllowed: &allowed}); err != nil {
		t.Fatal(err)
	}
	if info, err := a.engine.Key("k"); err != nil || info.LatestVersion != 2 || !info.DeletionAllowed {
		t.Errorf("got %+v, %v; want both changes", info, err)
	}
	var wg sync.WaitGroup
	for _, p := range []*process{a, b} {
		for range 4 {
			wg.Go(func() {
				for range 5 {
					if err := p.engine.Rotate(ctx, "k", ""); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	for _, p := range []*process{a, b} {
		eventually(t, "all versions are known", func() bool { info, _ := p.engine.Key("k"); return info.LatestVersion == 42 })
	}
}

// sealKey is a seal key in a software backend.
func sealKey(tb testing.TB) seal.Key {
	tb.Helper()
	b := software.New(nil)
	tb.Cleanup(func() { b.Close() })
	k, err := b.Generate(tb.Context(), software.Params{KeyName: "seal", KeyType: software.AES, KeyBits: 256}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := seal.Managed(k)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}
