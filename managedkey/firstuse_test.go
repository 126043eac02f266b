package managedkey

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

func TestGenerateOnFirstUse(t *testing.T) {
	c := newClient(newVault())
	allowed := func(b backend.Backend, name string) Entry {
		in := entryOf(b, name, 0)
		in.AllowGenerateKey = true
		return in
	}
	t.Run("forbidden", func(t *testing.T) {
		r := NewRegistry()
		mustCreate(t, r, entryOf(c, "a/forbidden", 0))
		_, err := r.Key(t.Context(), ref("a/forbidden"))
		check(t, err, backend.ErrKeyNotFound)
	})
	t.Run("once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, h := NewRegistry(), newHeld()
			c := newClient(newVault())
			mustCreate(t, r, allowed(c, "a/once"))
			c.after = h.hook // nothing is found, so that this is the call to generate
			ctx, cancel := context.WithCancel(t.Context())
			one, two := lookupOf(ctx, r, "a/once"), lookupOf(t.Context(), r, "a/once")
			<-h.entered
			time.Sleep(makeTimeout - 1) // longer than an open may last
			cancel()
			h.release <- nil
			(<-two).want(t, nil)
			<-one
			if mustKey(t, r, "a/once"); c.makes.Load() != 1 || c.opens.Load() != 1 {
				t.Errorf("%d calls to open, %d to generate", c.opens.Load(), c.makes.Load())
			}
		})
	})
	t.Run("unsupported", func(t *testing.T) {
		r := NewRegistry()
		mustCreate(t, r, allowed(plain{c}, "a/unsupported"))
		_, err := r.Key(t.Context(), ref("a/unsupported"))
		check(t, err, backend.ErrUnsupported, "can't generate")
		check(t, err, errors.ErrUnsupported)
	})
	t.Run("pinned", func(t *testing.T) {
		r := NewRegistry()
		in := allowed(c, "a/lost")
		in.PublicKeySHA256 = fakeKey{"another"}.pin(t)
		mustCreate(t, r, in)
		before := c.makes.Load()
		_, err := r.Key(t.Context(), in.Ref)
		check(t, err, backend.ErrKeyNotFound, "not generated", "pinned")
		if c.makes.Load() != before {
			t.Error("a key was generated that could not be the pinned one")
		}
	})
	t.Run("another process is faster", func(t *testing.T) {
		r, c := NewRegistry(), newClient(newVault())
		mustCreate(t, r, allowed(c, "a/race"))
		var theirs fakeKey
		c.before = func(_ context.Context, op, label string) error {
			if op == "generate" {
				theirs = c.put(label)
			}
			return nil
		}
		if k := mustKey(t, r, "a/race"); k.ID() != theirs.id {
			t.Errorf("got key %s, want %s", k.ID(), theirs.id)
		}
	})
	t.Run("reply lost", func(t *testing.T) {
		r, c := NewRegistry(), newClient(newVault())
		c.after = func(_ context.Context, op, _ string) error {
			if op == "generate" {
				return backend.ErrUnavailable
			}
			return nil
		}
		for i := range 500 { // often enough that the generation may end before its caller looks
			name := fmt.Sprintf("a/k%d", i)
			mustCreate(t, r, allowed(c, name))
			_, err := r.Key(t.Context(), ref(name))
			check(t, err, backend.ErrUnavailable)
			if _, exists := c.get(name); !exists {
				t.Fatal("no key was generated")
			}
			mustKey(t, r, name)
			if n := c.makes.Load(); n != int64(i+1) {
				t.Fatalf("%d keys were generated for %d entries", n, i+1)
			}
		}
	})
	t.Run("joined late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, h := NewRegistry(), newHeld()
			c := newClient(newVault())
			mustCreate(t, r, allowed(c, "a/joined"))
			c.after = h.hook
			first := lookupOf(t.Context(), r, "a/joined")
			<-h.entered
			late := lookupOf(t.Context(), r, "a/joined")
			synctest.Wait()
			h.release <- backend.ErrThrottled
			(<-first).want(t, backend.ErrThrottled)
			(<-late).want(t, backend.ErrThrottled)
			if c.makes.Load() != 1 || c.opens.Load() != 1 {
				t.Errorf("%d calls to open, %d to generate", c.opens.Load(), c.makes.Load())
			}
		})
	})
	t.Run("stuck", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, h := NewRegistry(), newHeld()
			c := newClient(newVault())
			mustCreate(t, r, allowed(c, "a/stuck"))
			c.after = h.hook
			first := lookupOf(t.Context(), r, "a/stuck")
			<-h.entered
			(<-first).want(t, backend.ErrUnavailable)
			(<-lookupOf(t.Context(), r, "a/stuck")).want(t, backend.ErrUnavailable)
			if c.makes.Load() != 1 || c.opens.Load() != 1 {
				t.Error("another call began while a key may be in the making")
			}
			h.release <- nil
			synctest.Wait()
			mustKey(t, r, "a/stuck")
		})
	})
}

// TestLateOpenGeneratesNothing lets an open that was left behind find no key while another one is under way.
func TestLateOpenGeneratesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		c := newClient(newVault())
		in := entryOf(c, "a/ca", 0)
		in.AllowGenerateKey = true
		mustCreate(t, r, in)
		first, second := newHeld(), newHeld()
		c.before = first.hook
		left := lookupOf(t.Context(), r, "a/ca")
		<-first.entered
		(<-left).want(t, backend.ErrUnavailable)
		c.before = second.hook
		waits := lookupOf(t.Context(), r, "a/ca")
		<-second.entered
		first.release <- nil
		synctest.Wait()
		if c.makes.Load() != 0 {
			t.Error("the open that was left behind generated a key")
		}
		c.before = nil
		second.release <- nil
		(<-waits).want(t, nil)
		if c.makes.Load() != 1 {
			t.Errorf("%d keys were generated", c.makes.Load())
		}
	})
}
