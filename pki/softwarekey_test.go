package pki

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// softFirms are two processes with one store: the first has the key "absent", which it keeps there, and the second hasn't.
func softFirms(t *testing.T, now func() time.Time, restore func(h *house, name string, key crypto.Signer) error) (one, two *firm) {
	t.Helper()
	h, other := newHouse(t, nil), newHouse(t, nil)
	h.km.keys["absent"] = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	s := memoryStore(t)
	one = firmOn(t, h, s, &Options{Now: now, AllowUnsealed: true})
	two = firmOn(t, other, s, &Options{Now: now, Restore: func(_ context.Context, m *managedkey.Mount, name string, key crypto.Signer) error {
		if m != other.mount {
			t.Error("it is another mount")
		}
		return restore(other, name, key)
	}})
	two.prefix = one.prefix
	return one, two
}

func (h *house) put(name string, key crypto.Signer) error {
	h.km.mu.Lock()
	defer h.km.mu.Unlock()
	h.km.keys[name] = key
	return nil
}

// TestKeepSoftwareKey: what is kept is the key of the managed key, in a store that may have it, and goes with the last that is known of it.
func TestKeepSoftwareKey(t *testing.T) {
	f, _ := softFirms(t, func() time.Time { return noon }, nil)
	ctx, key := t.Context(), f.house.km.keys["absent"]
	_, err := firmOn(t, f.house, f.store, nil).KeepSoftwareKey(ctx, "absent", key)
	wantError(t, err, backend.ErrNotPermitted, "not sealed")
	_, err = f.KeepSoftwareKey(ctx, "p256", key)
	wantError(t, err, backend.ErrInvalidParams, "p256")
	_, err = f.KeepSoftwareKey(ctx, "no-such", key)
	wantError(t, err, backend.ErrKeyNotFound)
	if all, err := f.SoftwareKeys(ctx); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	id, err := f.KeepSoftwareKey(ctx, "absent", key)
	must(t, err)
	if again, err := f.KeepSoftwareKey(ctx, "absent", key); again != id || !errors.Is(err, store.ErrConflict) {
		t.Errorf("again: %q, %v", again, err)
	}
	if all, err := f.SoftwareKeys(ctx); err != nil || len(all) != 1 || all[0] != (SoftwareKey{id, "absent"}) {
		t.Errorf("%v, %v", all, err)
	}
	known, err := f.AddKey(ctx, KeyRef{Name: "absent"}, "k")
	must(t, err)
	second := strings.Repeat("ab", 32) // another version of it
	_, err = f.apply(ctx, f.put("keys/"+second, store.Absent, keyRecord{UUID: id, Version: 2}))
	must(t, err)
	for want, ref := range []string{second, known.ID} {
		if all, err := f.SoftwareKeys(ctx); err != nil || len(all) != 1 {
			t.Errorf("before key %d of 2 is deleted: %v, %v", want+1, all, err)
		}
		must(t, f.DeleteKey(ctx, ref))
	}
	if all, err := f.SoftwareKeys(ctx); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	_, err = f.KeepSoftwareKey(ctx, "absent", key)
	must(t, err)
	must(t, f.ForgetSoftwareKey(ctx, id))
	must(t, f.ForgetSoftwareKey(ctx, id))
	if all, err := f.SoftwareKeys(ctx); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// TestRestoreSoftwareKey: a process that hasn't a key gets it when it is first needed, and then has it; what isn't kept is not looked for.
func TestRestoreSoftwareKey(t *testing.T) {
	restored := 0
	f, g := softFirms(t, func() time.Time { return noon }, func(h *house, name string, key crypto.Signer) error {
		restored++
		return h.put(name, key)
	})
	_, err := g.ManagedKey(t.Context(), KeyRef{Name: "absent"})
	if !errors.Is(err, backend.ErrKeyNotFound) || restored != 0 {
		t.Errorf("%v, after %d were restored", err, restored)
	}
	_, err = f.KeepSoftwareKey(t.Context(), "absent", f.house.km.keys["absent"])
	must(t, err)
	_, err = g.ManagedKey(t.Context(), KeyRef{Name: "no-such"})
	if !errors.Is(err, backend.ErrKeyNotFound) || restored != 0 {
		t.Errorf("%v, after %d were restored", err, restored)
	}
	root := g.root(t, "absent", "root")
	if !equalKeys(root.Certificate().PublicKey, f.house.km.keys["absent"].Public()) {
		t.Error("it is another key")
	}
	for _, version := range []int{0, 1} {
		_, err = g.ManagedKey(t.Context(), KeyRef{Name: "absent", Version: version})
		must(t, err)
	}
	if restored != 1 {
		t.Errorf("restored %d times", restored)
	}
}

// TestRestoreNew: a process waits a while for a key that was just made, since it may not have heard of it yet, no longer than who asks, and
// not at all for one that is older.
func TestRestoreNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := time.Hour // of the key's arrival
		f, g := softFirms(t, time.Now, func(h *house, name string, key crypto.Signer) error {
			time.AfterFunc(late, func() { _ = h.put(name, key) })
			return nil
		})
		_, err := f.KeepSoftwareKey(t.Context(), "absent", f.house.km.keys["absent"])
		must(t, err)
		ask := func(ctx context.Context, want error, took time.Duration) {
			t.Helper()
			begun := time.Now()
			_, err := g.ManagedKey(ctx, KeyRef{Name: "absent"})
			if d := time.Since(begun); !errors.Is(err, want) || d < took || d > took+100*time.Millisecond {
				t.Errorf("after %v: %v; want %v after %v", d, err, want, took)
			}
		}
		ask(t.Context(), backend.ErrKeyNotFound, softwareWait)
		short, cancel := context.WithTimeout(t.Context(), time.Second+softwarePause/2) // between two looks
		defer cancel()
		ask(short, backend.ErrUnavailable, time.Second) // it may be on its way
		time.Sleep(softwareFresh)
		ask(t.Context(), backend.ErrKeyNotFound, 0)

		must(t, update(t.Context(), f.Authority, "software/"+only(t, f).UUID, func(r *softwareRecord, _ uint64) error { r.Made = time.Now(); return nil }))
		late = 100 * time.Millisecond
		ask(t.Context(), nil, late)
		time.Sleep(2 * time.Hour) // the others arrive
	})
}

func only(t *testing.T, f *firm) SoftwareKey {
	t.Helper()
	all, err := f.SoftwareKeys(t.Context())
	must(t, err)
	if len(all) != 1 {
		t.Fatalf("%v; want one", all)
	}
	return all[0]
}
