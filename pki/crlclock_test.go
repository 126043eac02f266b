package pki

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestCRLLeaseRenewed: a list that takes longer than the lease is made all the same, while others wait; and one whose maker is gone holds
// others up for no longer than the lease.
func TestCRLLeaseRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFirm(t, &Options{Now: time.Now})
		root := f.root(t, "ed25519", "root")
		f.list(t, "root")
		other := firmOn(t, f.house, f.store, &Options{Now: time.Now})
		busy := 0
		f.house.km.spoil = func(signature []byte) []byte { // the key needs four times the lease
			f.house.km.spoil = nil
			for range 12 {
				time.Sleep(crlLease / 3)
				crl, err := other.RotateCRL(context.Background(), "root")
				if !errors.Is(err, errCRLBusy) || crl == nil || crl.Number != 1 {
					t.Errorf("while it is being made: %+v, %v", crl, err)
				}
				busy++
			}
			return signature
		}
		var r crlRecord
		name := CRLScope{}.name(signer(root.Certificate()))
		_, err := f.RotateCRL(t.Context(), "root")
		must(t, err)
		_, err = f.read(t.Context(), "crl/"+name, &r)
		if must(t, err); r.Number != 2 || r.Owner != "" || busy != 12 {
			t.Errorf("%+v; want number 2 and no lease", r)
		}

		r.Taken, r.Owner, r.Until = 3, "gone", time.Now().Add(crlLease)
		must(t, update(t.Context(), f.Authority, "crl/"+name, func(out *crlRecord, _ uint64) error { *out = r; return nil }))
		_, err = other.RotateCRL(t.Context(), "root")
		wantError(t, err, errCRLBusy)
		time.Sleep(crlLease)
		crl, err := other.RotateCRL(t.Context(), "root")
		if must(t, err); crl.Number != 4 {
			t.Errorf("number %d; the one that was taken must not come again", crl.Number)
		}
	})
}

// TestCRLLeaseLost: a process whose lease was taken stops at the next renewal, publishes nothing, and leaves nothing in the store; one
// whose renewal came true although the answer was lost goes on.
func TestCRLLeaseLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFirm(t, &Options{Now: time.Now})
		root := f.root(t, "ed25519", "root")
		f.list(t, "root")
		name := CRLScope{}.name(signer(root.Certificate()))
		s := &failing{Store: f.store}
		g := firmOn(t, f.house, s, &Options{Now: time.Now})
		var losing atomic.Bool
		var lost atomic.Int32
		s.after = func([]store.Op) error {
			if losing.Load() {
				lost.Add(1)
			}
			return fault(losing.Load(), store.ErrUnknownOutcome)
		}
		f.house.km.spoil = func(signature []byte) []byte {
			f.house.km.spoil = nil
			losing.Store(true)
			time.Sleep(crlLease)
			losing.Store(false)
			return signature
		}
		crl, err := g.RotateCRL(t.Context(), "root")
		if must(t, err); crl.Number != 2 || lost.Load() == 0 {
			t.Errorf("number %d after %d lost answers", crl.Number, lost.Load())
		}

		f.house.km.spoil = func(signature []byte) []byte {
			f.house.km.spoil = nil
			must(t, update(context.Background(), f.Authority, "crl/"+name, func(r *crlRecord, _ uint64) error {
				r.Taken, r.Owner, r.Until = r.Taken+1, "thief", time.Now().Add(crlLease)
				return nil
			}))
			time.Sleep(crlLease / 2)
			return signature
		}
		stale, err := g.RotateCRL(t.Context(), "root")
		if wantError(t, err, errCRLBusy); stale != nil && stale.Number != 2 {
			t.Errorf("number %d was published", stale.Number)
		}
		parts := 0
		for record := range f.all(t.Context(), "crl-data/") {
			if parts++; record.Key != f.prefix+chunkKey(name, 2, 0) {
				t.Errorf("%s is left", record.Key)
			}
		}
		if parts != 1 {
			t.Errorf("%d parts of lists; want that of list 2", parts)
		}
	})
}

// TestCRLClocks: a process whose clock is a little behind makes no list that is older than the one before; what one with a wrong clock
// has left, lists and a lease from the future, is made good as soon as somebody asks.
func TestCRLClocks(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	root := f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	revoke := func() {
		t.Helper()
		_, err := f.Revoke(t.Context(), serialOf(f.issue(t, "r", "a.example")), ReasonSuperseded, time.Time{})
		must(t, err)
	}
	now = noon.Add(time.Hour)
	revoke()
	first := f.list(t, "root")
	now = now.Add(-crlSkew / 2)
	revoke()
	second := f.list(t, "root")
	if second.ThisUpdate.Before(first.ThisUpdate) || second.Number.Cmp(first.Number) <= 0 || len(second.RevokedCertificateEntries) != 2 {
		t.Errorf("list %d of %s after %d of %s", second.Number, second.ThisUpdate, first.Number, first.ThisUpdate)
	}

	now = noon.AddDate(1, 0, 0) // somebody's clock is wrong
	revoke()
	wrong := f.list(t, "root")
	must(t, update(t.Context(), f.Authority, "crl/"+signer(root.Certificate()), func(r *crlRecord, _ uint64) error {
		r.Taken, r.Owner, r.Until = r.Taken+1, "gone", now.Add(crlLease)
		return nil
	}))
	now = noon.Add(2 * time.Hour)
	list := f.list(t, "root")
	if list.ThisUpdate.After(now) || list.Number.Cmp(wrong.Number) <= 0 || len(list.RevokedCertificateEntries) != 3 {
		t.Errorf("list %d of %s, when it is %s", list.Number, list.ThisUpdate, now)
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.RevocationTime.After(list.ThisUpdate) {
			t.Errorf("an entry's time is %s", e.RevocationTime)
		}
	}
	if again := f.list(t, "root"); again.Number.Cmp(list.Number) != 0 {
		t.Error("it is made again and again")
	}
}

// TestRotateTogether: who wants the next list gets one that was begun afterwards, or is told that there is none yet.
func TestRotateTogether(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "ed25519", "root")
	f.list(t, "root")
	other := firmOn(t, f.house, f.store, nil)
	s := &failing{Store: f.store}
	g := firmOn(t, f.house, s, nil)
	began := false
	s.before = func(ops []store.Op) error { // just before the number is taken, another process has begun a list
		if began {
			return nil
		}
		began = true
		f.house.km.spoil = func(signature []byte) []byte {
			f.house.km.spoil = nil
			crl, err := g.RotateCRL(context.Background(), "root")
			if !errors.Is(err, errCRLBusy) {
				t.Errorf("while it is being made: %+v, %v", crl, err)
			}
			return signature
		}
		_, err := other.RotateCRL(context.Background(), "root")
		return err
	}
	crl, err := g.RotateCRL(t.Context(), "root")
	if must(t, err); crl.Number != 2 {
		t.Errorf("number %d; want 2, which was begun after the call", crl.Number)
	}
}

// TestMaintainHangs: an issuer whose key never answers holds Maintain up for a while only, and the others not at all.
func TestMaintainHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFirm(t, &Options{Now: time.Now})
		for _, key := range []string{"ed25519", "p256"} {
			f.root(t, key, key)
		}
		began := time.Now()
		f.house.km.hang = "ed25519"
		err := f.Maintain(t.Context())
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, backend.ErrUnavailable) || took > 2*crlSigning {
			t.Errorf("after %v: %v", took, err)
		}
		f.house.km.hang = ""
		if list := f.list(t, "p256"); list.Number.Int64() != 1 || time.Since(list.ThisUpdate) < crlSigning {
			t.Errorf("list %d of %s, now is %s", list.Number, list.ThisUpdate, time.Now())
		}
	})
}
