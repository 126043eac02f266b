package pki

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestTidyListed: a revoked certificate goes once a list that was made after its end has had it (RFC 5280, Section 3.3), however long that
// takes, and whoever tidies while the list is being made.
func TestTidyListed(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	root := f.root(t, "ed25519", "root")
	f.role(t, anyRole("r"))
	must(t, f.SetCRLConfig(ctx, CRLConfig{Expiry: 30 * day, Grace: day, AutoRebuild: true}))
	revoke := func() string {
		t.Helper()
		pair, err := f.Issue(ctx, "r", IssueRequest{CommonName: "a.example", TTL: time.Hour})
		must(t, err)
		_, err = f.Revoke(ctx, serialOf(pair), ReasonSuperseded, time.Time{})
		must(t, err)
		return serialOf(pair)
	}
	tidy := func(removed, unlisted int) {
		t.Helper()
		if p, err := f.Tidy(ctx, nil); err != nil || p.Removed != removed || p.Unlisted != unlisted {
			t.Errorf("tidied %+v, %v; want %d removed and %d kept", p, err, removed, unlisted)
		}
	}
	unknown := revoke()
	now = now.Add(10 * day)
	tidy(1, 0) // nobody was ever given a list
	if _, err := f.Certificate(ctx, unknown); err == nil {
		t.Error("it is still there")
	}

	before := revoke()
	f.list(t, "root")
	after := revoke() // is in no list yet, and will have ended when it is in the first one
	now = now.Add(10 * day)
	tidy(0, 2)
	now = now.Add(18 * day)
	tidy(0, 2)
	now = now.Add(day + time.Hour)
	f.house.km.spoil = func(signature []byte) []byte { // the list has been read, and is not published
		f.house.km.spoil = nil
		tidy(0, 2)
		return signature
	}
	if got := reasons(f.list(t, "root")); len(got) != 2 || got[before] == 0 || got[after] == 0 {
		t.Errorf("the list that is made after their end has %v", got)
	}
	tidy(2, 0)
	tidy(0, 0)
	left := 0
	for range f.all(ctx, "revoked/") {
		left++
	}
	if left != 0 {
		t.Errorf("%d revocations are left", left)
	}
	now = now.Add(30 * day)
	if got := f.list(t, "root"); len(got.RevokedCertificateEntries) != 0 {
		t.Errorf("%d entries are left", len(got.RevokedCertificateEntries))
	}

	pair, err := f.Issue(ctx, "r", IssueRequest{CommonName: "a.example", TTL: time.Hour})
	must(t, err)
	now = now.Add(5 * day)
	_, err = f.RotateCRL(ctx, "root") // after its end, and before its revocation
	must(t, err)
	_, err = f.Revoke(ctx, serialOf(pair), ReasonKeyCompromise, time.Time{})
	must(t, err)
	tidy(0, 1)
	change := *root
	change.Usage = IssueCertificates // nobody makes lists any more, and the last one ends by itself
	_, err = f.UpdateIssuer(ctx, change)
	must(t, err)
	tidy(1, 0)
}

// TestTidyConflict: a certificate that changes while it is tidied is looked at again the next time.
func TestTidyConflict(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	f.root(t, "ed25519", "root")
	f.role(t, anyRole("r"))
	pair, err := f.Issue(t.Context(), "r", IssueRequest{CommonName: "a.example", TTL: time.Hour})
	must(t, err)
	now = now.Add(10 * day)
	s := &failing{Store: f.store}
	var once atomic.Bool
	s.before = func(ops []store.Op) error {
		if ops[0].Kind != store.Delete || once.Swap(true) {
			return nil
		}
		_, err := f.Revoke(t.Context(), serialOf(pair), ReasonSuperseded, time.Time{})
		return err
	}
	g := firmOn(t, f.house, s, &Options{Now: f.engine.now})
	for _, want := range []int{0, 1, 0} {
		if p, err := g.Tidy(t.Context(), nil); err != nil || p.Removed != want {
			t.Errorf("tidied %+v, %v; want %d removed", p, err, want)
		}
	}
}

// TestRevokedWhileMade: what is revoked, or released, while a list is being made is in that one or the next.
func TestRevokedWhileMade(t *testing.T) {
	for _, force := range []bool{false, true} {
		f := newFirm(t, nil)
		f.root(t, "ed25519", "root")
		f.role(t, anyRole("r"))
		held, late := serialOf(f.issue(t, "r", "a.example")), serialOf(f.issue(t, "r", "b.example"))
		_, err := f.Revoke(t.Context(), held, ReasonCertificateHold, time.Time{})
		must(t, err)
		f.house.km.spoil = func(signature []byte) []byte {
			f.house.km.spoil = nil
			must(t, f.Release(t.Context(), held))
			_, err := f.Revoke(t.Context(), late, ReasonKeyCompromise, time.Time{})
			must(t, err)
			return signature
		}
		if force {
			_, err = f.RotateCRL(t.Context(), "root")
		} else {
			_, err = f.CRL(t.Context(), "root")
		}
		must(t, err)
		if got := reasons(f.list(t, "root")); len(got) != 1 || got[late] != ReasonKeyCompromise {
			t.Errorf("forced %v: the next list has %v", force, got)
		}
	}
}
