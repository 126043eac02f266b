package managedkey

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// held is a hook that lets calls wait until they are told how to go on.
type held struct {
	entered chan context.Context // receives the context of each call
	release chan error
}

func newHeld() held { return held{make(chan context.Context), make(chan error)} }

func (h held) hook(ctx context.Context, _, _ string) error {
	h.entered <- ctx
	return <-h.release
}

// obedient is as hook, but the call returns when its context ends, too.
func (h held) obedient(ctx context.Context, _, _ string) error {
	h.entered <- ctx
	select {
	case err := <-h.release:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// outcome is what a look-up in the background gave.
type outcome struct {
	key *Key
	err error
}

func inBackground(f func() (*Key, error)) chan outcome {
	done := make(chan outcome, 1)
	go func() {
		k, err := f()
		done <- outcome{k, err}
	}()
	return done
}

func lookupOf(ctx context.Context, r *Registry, name string) chan outcome {
	return inBackground(func() (*Key, error) { return r.Key(ctx, ref(name)) })
}

func (o outcome) want(t *testing.T, err error, texts ...string) {
	t.Helper()
	check(t, o.err, err, texts...)
	if err == nil && o.key == nil || err != nil && o.key != nil {
		t.Fatalf("got key %v with error %v", o.key, o.err)
	}
}

// setUp returns a registry with the entry a/ca, whose key exists.
func setUp(t *testing.T) (*Registry, *client, Entry) {
	t.Helper()
	c := newClient(newVault("a/ca"))
	r := NewRegistry()
	in := entryOf(c, "a/ca", allUsages)
	mustCreate(t, r, in)
	return r, c, in
}

func TestConcurrentOpenersShareOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, _ := setUp(t)
		h := newHeld()
		c.before = h.hook
		var done []chan outcome
		for range 50 {
			done = append(done, lookupOf(t.Context(), r, "a/ca"))
		}
		<-h.entered
		synctest.Wait()
		h.release <- nil
		first := <-done[0]
		first.want(t, nil)
		for _, d := range done[1:] {
			if o := <-d; o.err != nil || o.key != first.key {
				t.Fatalf("got %v, %v; want the same handle for all", o.key, o.err)
			}
		}
		mustKey(t, r, "a/ca")
		if n := c.opens.Load(); n != 1 {
			t.Errorf("%d calls to open", n)
		}
	})
}

func TestSharedFailureIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, _ := setUp(t)
		h := newHeld()
		c.before = h.hook
		one, two := lookupOf(t.Context(), r, "a/ca"), lookupOf(t.Context(), r, "a/ca")
		<-h.entered
		synctest.Wait()
		h.release <- fmt.Errorf("fake: PIN refused: %w", backend.ErrCredentials)
		(<-one).want(t, backend.ErrCredentials, "PIN refused")
		(<-two).want(t, backend.ErrCredentials)
		if n := c.opens.Load(); n != 1 {
			t.Errorf("%d calls to open", n)
		}
		c.before = nil
		mustKey(t, r, "a/ca")
	})
}

// TestOpenerMayLeave cancels the context of the caller that started the open, and of one that joined it.
func TestOpenerMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, _ := setUp(t)
		h := newHeld()
		c.before = h.obedient
		type key struct{}
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "trace"))
		first := lookupOf(ctx, r, "a/ca")
		call := <-h.entered
		late, cancelLate := context.WithTimeout(t.Context(), time.Second)
		defer cancelLate()
		second, third := lookupOf(t.Context(), r, "a/ca"), lookupOf(late, r, "a/ca")
		synctest.Wait()
		cancel()
		(<-first).want(t, context.Canceled)
		o := <-third
		o.want(t, context.DeadlineExceeded)
		o.want(t, backend.ErrUnavailable)
		if call.Err() != nil || call.Value(key{}) != "trace" {
			t.Fatalf("the call's context ended with its caller's (%v) or lost its values", call.Err())
		}
		h.release <- nil
		(<-second).want(t, nil)
		synctest.Wait()
		if call.Err() == nil {
			t.Error("the call's context is left running")
		}
	})
}

// TestOpenIsBounded has a driver that ignores its context: nobody waits for longer than the call timeout, and the next
// caller tries again.
func TestOpenIsBounded(t *testing.T) {
	for _, key := range []fakeKey{{"a/ca#1"}, {"sym-1"}} {
		t.Run(key.id, func(t *testing.T) { testOpenIsBounded(t, key) })
	}
}

func testOpenIsBounded(t *testing.T, key fakeKey) {
	synctest.Test(t, func(t *testing.T) {
		r, c, _ := setUp(t)
		c.set("a/ca", key)
		stuck := newHeld()
		c.before = stuck.hook
		start := time.Now()
		first := lookupOf(context.Background(), r, "a/ca")
		<-stuck.entered
		(<-first).want(t, backend.ErrUnavailable)
		if waited := time.Since(start); waited != openTimeout {
			t.Errorf("waited for %v", waited)
		}
		c.before = nil
		k := mustKey(t, r, "a/ca")
		stuck.release <- nil
		synctest.Wait()
		if again := mustKey(t, r, "a/ca"); again != k {
			t.Error("the call that came back late replaced the handle")
		}
	})
}

func TestOpenLastsAsLongAsItsCallerWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, _ := setUp(t)
		h := newHeld()
		c.before = h.obedient
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		done := lookupOf(ctx, r, "a/ca")
		<-h.entered
		time.Sleep(30 * time.Minute)
		h.release <- nil
		(<-done).want(t, nil)

		check(t, r.Delete(ctx, ref("a/ca")), nil)
		mustCreate(t, r, entryOf(c, "a/ca", 0))
		done = lookupOf(context.Background(), r, "a/ca")
		<-h.entered
		(<-done).want(t, backend.ErrUnavailable)
	})
}

// TestDriverErrors are what a driver returns of its own accord and must be made good here.
func TestDriverErrors(t *testing.T) {
	tests := map[string]struct {
		hook func(ctx context.Context, op, label string) error
		key  backend.Key
		want error
		text string
	}{
		"panic":         {hook: func(context.Context, string, string) error { panic("nil map") }, want: backend.ErrUnavailable, text: "panicked: nil map"},
		"no key":        {key: (*backend.Handle)(nil), want: backend.ErrUnavailable, text: "neither a key nor an error"},
		"bare deadline": {hook: func(ctx context.Context, _, _ string) error { <-ctx.Done(); return ctx.Err() }, want: backend.ErrUnavailable},
		"odd key":       {key: withPublic{fakeKey{"x"}, "a text"}, want: backend.ErrUnsupported},
		"ambiguous":     {hook: func(context.Context, string, string) error { return backend.ErrAmbiguousKey }, want: backend.ErrAmbiguousKey},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, c, _ := setUp(t)
				if tt.key != nil {
					c.set("a/ca", tt.key)
				}
				c.before = tt.hook
				for range 2 {
					_, err := r.Key(context.Background(), ref("a/ca"))
					check(t, err, tt.want, `open "a/ca" (fake)`, tt.text)
				}
			})
		})
	}
}

func TestPin(t *testing.T) {
	r, c, in := setUp(t)
	key, _ := c.get("a/ca")
	mustKey(t, r, "a/ca")
	if got, _ := r.Entry(in.Ref); string(got.PublicKeySHA256) != string(key.(fakeKey).pin(t)) {
		t.Error("the first open did not set the pin")
	}

	t.Run("given", func(t *testing.T) {
		pinned := entryOf(c, "a/pinned", 0)
		want := c.put("a/pinned")
		pinned.PublicKeySHA256 = want.pin(t)
		mustCreate(t, r, pinned)
		other := c.put("a/pinned")
		_, err := r.Key(t.Context(), pinned.Ref)
		check(t, err, backend.ErrKeyChanged, fmt.Sprintf("%x", want.pin(t)), fmt.Sprintf("%x", other.pin(t)))
		c.set("a/pinned", fakeKey{"symmetric"})
		_, err = r.Key(t.Context(), pinned.Ref)
		check(t, err, backend.ErrKeyChanged, "symmetric")
		c.set("a/pinned", want)
		mustKey(t, r, "a/pinned")
	})
	t.Run("symmetric", func(t *testing.T) {
		c.set("a/aes", fakeKey{"sym-1"})
		mustCreate(t, r, entryOf(c, "a/aes", allUsages))
		if k := mustKey(t, r, "a/aes"); k.Public() != nil {
			t.Errorf("public key is %v", k.Public())
		}
		if got, _ := r.Entry(ref("a/aes")); got.PublicKeySHA256 != nil {
			t.Errorf("pin is %x", got.PublicKeySHA256)
		}
	})
}

// TestResultsBeforeErrors prefers a result that is there to the end of a context, and a driver's bare deadline becomes
// ErrUnavailable whoever notices it first.
func TestResultsBeforeErrors(t *testing.T) {
	ended, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	f := &flight{ctx: ended, done: make(chan struct{})}
	if err := f.wait(t.Context()); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	close(f.done)
	for range 100 {
		if err := f.wait(ended); err != nil {
			t.Fatal(err)
		}
	}
	result := fetch(ended, func(ctx context.Context) (backend.Key, error) { return nil, ctx.Err() })
	if !errors.Is(result.err, backend.ErrUnavailable) || !errors.Is(result.err, context.DeadlineExceeded) {
		t.Errorf("got %v", result.err)
	}
}

// TestDeleteDuringOpen deletes the entry while its key is being opened.
func TestDeleteDuringOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, in := setUp(t)
		h := newHeld()
		c.before = h.hook
		done := lookupOf(t.Context(), r, "a/ca")
		<-h.entered
		check(t, r.Delete(t.Context(), in.Ref), nil)
		h.release <- nil
		(<-done).want(t, backend.ErrKeyNotFound, "deleted")
	})
}

// TestPolicyChangesDuringOpen narrows the usages while the key is being opened: the open must not bring them back.
func TestPolicyChangesDuringOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, in := setUp(t)
		h := newHeld()
		c.before = h.hook
		done := lookupOf(t.Context(), r, "a/ca")
		<-h.entered
		in.Usages = backend.UsageVerify
		check(t, r.Update(t.Context(), in), nil)
		h.release <- nil
		o := <-done
		o.want(t, nil)
		_, err := o.key.SignContext(t.Context(), nil, crypto.Hash(0))
		check(t, err, backend.ErrNotPermitted)
	})
}

func TestManyOpenAtOnce(t *testing.T) {
	const n = 64
	r := NewRegistry()
	c := newClient(newVault())
	for i := range n {
		in := entryOf(c, fmt.Sprintf("a/k%d", i), 0)
		in.AllowGenerateKey = i%2 == 0
		mustCreate(t, r, in)
	}
	var wg sync.WaitGroup
	for i := range 8 * n {
		wg.Go(func() {
			name := ref(fmt.Sprintf("a/k%d", i%n))
			k, err := r.Key(context.Background(), name)
			switch {
			case i%2 == 1 && !errors.Is(err, backend.ErrKeyNotFound):
				t.Errorf("%v: got error %v, want not found", name, err)
			case i%2 == 0 && (err != nil || k.Ref() != name):
				t.Errorf("%v: got %v, %v", name, k, err)
			}
		})
	}
	wg.Wait()
	if made := c.makes.Load(); made != n/2 {
		t.Errorf("%d keys were generated, want %d", made, n/2)
	}
}
