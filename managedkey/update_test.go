package managedkey

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
)

func updateOf(ctx context.Context, r *Registry, in Entry) chan outcome {
	return inBackground(func() (*Key, error) { return nil, r.Update(ctx, in) })
}

// wantUpdate fails unless the update ended with want.
func wantUpdate(t *testing.T, done chan outcome, want error, texts ...string) {
	t.Helper()
	check(t, (<-done).err, want, texts...)
}

// wantSigner fails unless k signs, and with that key.
func wantSigner(t *testing.T, k *Key, id string) {
	t.Helper()
	if got, err := sign(k); err != nil || got != id {
		t.Fatalf("signed with %q, error %v; want %q", got, err, id)
	}
}

func TestUpdateOfPolicyMakesNoCall(t *testing.T) {
	r, c, in := setUp(t)
	before, _ := r.Entry(in.Ref)
	k := mustKey(t, r, "a/ca")
	in.Usages = backend.UsageVerify
	in.AllowReplaceKey = true
	check(t, r.Update(t.Context(), in), nil)
	_, err := sign(k)
	check(t, err, backend.ErrNotPermitted, "usage sign is not allowed", "allows verify")
	check(t, k.VerifyContext(t.Context(), nil, []byte(k.ID()), nil), nil)
	if again := mustKey(t, r, "a/ca"); again != k || c.opens.Load() != 1 {
		t.Errorf("the key was opened %d times", c.opens.Load())
	}
	after, _ := r.Entry(in.Ref)
	if after.UUID != before.UUID || !after.AllowReplaceKey || len(after.PublicKeySHA256) == 0 {
		t.Errorf("the entry is %v", after)
	}
	// What was read can be written back.
	check(t, r.Update(t.Context(), after), nil)
	if c.opens.Load() != 1 {
		t.Error("writing an entry back made a call")
	}
}

func TestUpdateChecksUUID(t *testing.T) {
	r, _, in := setUp(t)
	for _, id := range []string{uuid.NewString(), "nonsense", uuid.Nil.String()} {
		in.UUID = id
		check(t, r.Update(t.Context(), in), backend.ErrInvalidParams, "UUID", id)
	}
}

func TestUpdateOfLocation(t *testing.T) {
	t.Run("same key by another client", func(t *testing.T) {
		r, c, in := setUp(t)
		k := mustKey(t, r, "a/ca")
		moved := newClient(c.vault)
		in.Backend = moved
		check(t, r.Update(t.Context(), in), nil)
		wantSigner(t, k, "a/ca#1")
		if mustKey(t, r, "a/ca") != k || moved.opens.Load() != 1 {
			t.Error("the handle changed, or the new client was not probed")
		}
	})
	t.Run("another key", func(t *testing.T) {
		r, c, in := setUp(t)
		k := mustKey(t, r, "a/ca")
		other := c.put("other")
		in.Params, in.Usages = params{Label: "other"}, backend.UsageMAC
		check(t, r.Update(t.Context(), in), backend.ErrKeyChanged)
		wantSigner(t, k, "a/ca#1") // nothing changed, the usages neither

		in.Usages = allUsages
		in.PublicKeySHA256 = c.put("third").pin(t)
		check(t, r.Update(t.Context(), in), backend.ErrKeyChanged)
		wantSigner(t, k, "a/ca#1")

		in.PublicKeySHA256 = other.pin(t)
		check(t, r.Update(t.Context(), in), nil)
		_, err := sign(k)
		check(t, err, backend.ErrKeyChanged, "another key")
		wantSigner(t, mustKey(t, r, "a/ca"), other.id)
	})
	t.Run("pin alone", func(t *testing.T) {
		r, c, in := setUp(t)
		k := mustKey(t, r, "a/ca")
		rotated := c.put("a/ca") // behind the registry's back
		wantSigner(t, k, "a/ca#1")
		in.PublicKeySHA256 = rotated.pin(t)
		check(t, r.Update(t.Context(), in), nil)
		wantSigner(t, mustKey(t, r, "a/ca"), rotated.id)
		_, err := sign(k)
		check(t, err, backend.ErrKeyChanged)
	})
	t.Run("never opened", func(t *testing.T) {
		r, c, in := setUp(t)
		c.put("elsewhere")
		in.Params = params{Label: "nowhere"}
		check(t, r.Update(t.Context(), in), backend.ErrKeyNotFound)
		in.Params = params{Label: "elsewhere"}
		check(t, r.Update(t.Context(), in), nil)
		wantSigner(t, mustKey(t, r, "a/ca"), "elsewhere#2")
	})
	t.Run("to be generated", func(t *testing.T) {
		r, c, in := setUp(t)
		in.AllowGenerateKey = true
		in.Params = params{Label: "later"}
		check(t, r.Update(t.Context(), in), nil)
		if c.makes.Load() != 0 {
			t.Fatal("the update generated a key")
		}
		k := mustKey(t, r, "a/ca")
		wantSigner(t, k, "later#2")
		in.Params = params{Label: "nowhere"}
		check(t, r.Update(t.Context(), in), backend.ErrKeyNotFound)
		wantSigner(t, k, "later#2")
	})
	t.Run("symmetric", func(t *testing.T) {
		r, c, in := setUp(t)
		c.set("a/ca", fakeKey{"sym-1"})
		old := mustKey(t, r, "a/ca")
		in.Backend = newClient(c.vault)
		check(t, r.Update(t.Context(), in), nil)
		_, err := old.Seal(t.Context(), nil, nil)
		check(t, err, backend.ErrKeyChanged)
		if _, err := mustKey(t, r, "a/ca").Seal(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
		c.put("pair")
		in.Params = params{Label: "pair"}
		check(t, r.Update(t.Context(), in), backend.ErrKeyChanged, "symmetric")
		pair, _ := c.get("pair")
		in.PublicKeySHA256 = pair.(fakeKey).pin(t)
		check(t, r.Update(t.Context(), in), nil)
	})
}

// uncomparable is a backend that can't be compared with ==.
type uncomparable struct {
	*client
	_ []int
}

func TestUpdateWithBackendThatCannotBeCompared(t *testing.T) {
	r := NewRegistry()
	c := newClient(newVault("a/ca"))
	in := entryOf(uncomparable{client: c}, "a/ca", allUsages)
	mustCreate(t, r, in)
	k := mustKey(t, r, "a/ca")
	check(t, r.Update(t.Context(), in), nil)
	wantSigner(t, k, "a/ca#1")
	if c.opens.Load() != 2 {
		t.Errorf("%d calls to open, want 2: it can't be known that the client is the same", c.opens.Load())
	}
}

// TestUpdateThatIsGivenUp cancels an update while it probes: it must not take effect later, and others must get on.
func TestUpdateThatIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, in := setUp(t)
		h := newHeld()
		slow := newClient(c.vault)
		slow.before = h.hook
		in.Backend, in.Usages = slow, backend.UsageVerify
		ctx, cancel := context.WithCancelCause(t.Context())
		update := updateOf(ctx, r, in)
		<-h.entered
		waiting := lookupOf(t.Context(), r, "a/ca")
		synctest.Wait()
		cancel(errors.New("changed my mind"))
		wantUpdate(t, update, context.Canceled, "changed my mind")
		o := <-waiting
		o.want(t, nil)
		h.release <- nil
		synctest.Wait()
		wantSigner(t, o.key, "a/ca#1")
		wantSigner(t, mustKey(t, r, "a/ca"), "a/ca#1")
		if got, _ := r.Entry(in.Ref); got.Backend != backend.Backend(c) {
			t.Error("the update that was given up took effect")
		}
	})
}

// TestUpdateIsBounded has a driver that never answers; the update ends, and another one may follow.
func TestUpdateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, in := setUp(t)
		h := newHeld()
		slow := newClient(c.vault)
		slow.before = h.hook
		in.Backend = slow
		start := time.Now()
		update := updateOf(context.Background(), r, in)
		<-h.entered
		wantUpdate(t, update, backend.ErrUnavailable)
		if waited := time.Since(start); waited != openTimeout {
			t.Errorf("waited for %v", waited)
		}
		third := newClient(c.vault)
		in.Backend = third
		check(t, r.Update(t.Context(), in), nil)
		h.release <- nil
		synctest.Wait()
		if got, _ := r.Entry(in.Ref); got.Backend != backend.Backend(third) {
			t.Error("the update that came late took effect")
		}
		synctest.Wait()
		deadline, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		in.Backend = slow
		update = updateOf(deadline, r, in)
		<-h.entered
		wantUpdate(t, update, context.DeadlineExceeded)
		h.release <- nil
		synctest.Wait()
		if got, _ := r.Entry(in.Ref); got.Backend != backend.Backend(third) {
			t.Error("the update whose caller had left took effect")
		}
	})
}

// TestUpdateWaitsItsTurn starts changes of the location while another call about the same entry is under way.
func TestUpdateWaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, in := setUp(t)
		h := newHeld()
		c.before = h.hook
		open := lookupOf(t.Context(), r, "a/ca")
		<-h.entered
		moved := newClient(c.vault)
		in.Backend = moved
		update := updateOf(t.Context(), r, in)
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantUpdate(t, updateOf(impatient, r, in), context.DeadlineExceeded)
		if moved.opens.Load() != 0 {
			t.Fatal("two calls about one entry at once")
		}
		h.release <- nil
		(<-open).want(t, nil)
		wantUpdate(t, update, nil)
		wantSigner(t, mustKey(t, r, "a/ca"), "a/ca#1")
	})
}

// TestLateOpenOfAnOldLocation lets an open come back after it was left behind and the entry was moved.
func TestLateOpenOfAnOldLocation(t *testing.T) {
	for _, after := range []string{"move", "delete", "move to be generated"} {
		t.Run(after, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, c, in := setUp(t)
				h := newHeld()
				c.before = h.hook
				open := lookupOf(t.Context(), r, "a/ca")
				<-h.entered
				(<-open).want(t, backend.ErrUnavailable)
				moved := newClient(newVault("a/ca", "a/ca"))
				in.Backend = moved
				switch after {
				case "delete":
					check(t, r.Delete(t.Context(), in.Ref), nil)
					mustCreate(t, r, in)
				case "move":
					check(t, r.Update(t.Context(), in), nil)
				default:
					in.AllowGenerateKey = true
					in.Params = params{Label: "new"}
					check(t, r.Update(t.Context(), in), nil)
					check(t, r.Update(t.Context(), in), nil) // nothing new, and that the entry was moved must not be forgotten
				}
				h.release <- nil
				synctest.Wait()
				if got, _ := r.Entry(in.Ref); after != "move" && got.PublicKeySHA256 != nil {
					t.Error("the entry was pinned to a key of its old location")
				}
				k := mustKey(t, r, "a/ca")
				if got, err := sign(k); err != nil || got == "a/ca#1" {
					t.Errorf("signed with %s, error %v", got, err)
				}
			})
		})
	}
}

func TestDeleteDuringUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, in := setUp(t)
		k := mustKey(t, r, "a/ca")
		h := newHeld()
		slow := newClient(c.vault)
		slow.before = h.hook
		in.Backend = slow
		update := updateOf(t.Context(), r, in)
		<-h.entered
		waits := updateOf(t.Context(), r, in)
		synctest.Wait()
		check(t, r.Delete(t.Context(), in.Ref), nil)
		h.release <- nil
		wantUpdate(t, update, backend.ErrKeyNotFound)
		wantUpdate(t, waits, backend.ErrKeyNotFound)
		_, err := sign(k)
		check(t, err, backend.ErrKeyNotFound)
		if names := r.List("a"); len(names) != 0 {
			t.Errorf("listed %q", names)
		}
	})
}

func TestUpdateOfFailingBackend(t *testing.T) {
	r, c, in := setUp(t)
	k := mustKey(t, r, "a/ca")
	down := newClient(c.vault)
	down.before = func(context.Context, string, string) error {
		return fmt.Errorf("fake: %w", backend.ErrUnavailable)
	}
	in.Backend, in.Usages, in.AllowGenerateKey = down, backend.UsageMAC, true
	check(t, r.Update(t.Context(), in), backend.ErrUnavailable)
	wantSigner(t, k, "a/ca#1")
}
