package pki

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestRoleVersion: a role that was read is stored only in place of what was read, and one without a version in place of anything.
func TestRoleVersion(t *testing.T) {
	f, ctx := newFirm(t, nil), t.Context()
	other := firmOn(t, f.house, f.store, nil)
	r := anyRole("r")
	f.role(t, r)
	read := func(f *firm) Role {
		t.Helper()
		role, err := f.Role(ctx, "r")
		must(t, err)
		return role
	}
	mine, theirs := read(f), read(other)
	if mine.Version == 0 || mine.Version != theirs.Version {
		t.Errorf("versions %d and %d", mine.Version, theirs.Version)
	}
	mine.TTL, theirs.AllowIPSANs = Duration(time.Hour), false
	must(t, other.PutRole(ctx, theirs))
	wantError(t, f.PutRole(ctx, mine), store.ErrConflict, `role "r"`)
	mine = read(f)
	if mine.AllowIPSANs || mine.TTL != 0 || mine.Version <= theirs.Version {
		t.Errorf("%+v", mine)
	}
	mine.TTL = Duration(time.Hour)
	must(t, f.PutRole(ctx, mine))
	wantError(t, f.PutRole(ctx, mine), store.ErrConflict) // its version is that of before
	f.role(t, r)
	if got := read(other); !got.AllowIPSANs || got.TTL != 0 {
		t.Errorf("%+v", got)
	}
	mine = read(f)
	must(t, other.DeleteRole(ctx, "r"))
	wantError(t, f.PutRole(ctx, mine), store.ErrConflict)
	mine.Name, mine.Version = "copy", 0
	f.role(t, mine)
	if _, err := f.Role(ctx, "r"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the deleted role is back: %v", err)
	}
}

// TestUpdateSettings: of the changes that processes make at once none is lost; a change that is refused, or is wrong, changes nothing.
func TestUpdateSettings(t *testing.T) {
	f, ctx := newFirm(t, nil), t.Context()
	other := firmOn(t, f.house, f.store, nil)
	const each = 10
	var all sync.WaitGroup
	for i, f := range []*firm{f, other} {
		all.Go(func() {
			for n := range each {
				err := f.UpdateSettings(ctx, func(s *Settings) error {
					s.URLs.CRL = append(s.URLs.CRL, fmt.Sprintf("http://%d.example/%d", i, n))
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if err := f.UpdateTidyConfig(ctx, func(c *TidyConfig) error { c.Interval++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range each {
			must(t, f.SetCluster(ctx, ClusterConfig{Path: "http://a.example"}))
			must(t, other.SetOCSPConfig(ctx, OCSPConfig{Nonce: true}))
		}
	})
	all.Wait()
	urls, err := f.URLs(ctx)
	must(t, err)
	slices.Sort(urls.CRL)
	if n := len(slices.Compact(urls.CRL)); n != 2*each {
		t.Errorf("%d URLs of %d", n, 2*each)
	}
	if c, err := f.TidyConfig(ctx); err != nil || c.Interval != 2*each {
		t.Errorf("%+v, %v", c, err)
	}
	want, err := f.config(ctx)
	must(t, err)
	if want.Cluster.Path == "" || !want.OCSP.Nonce {
		t.Errorf("%+v", want)
	}

	refused := errors.New("pki: refused")
	for _, c := range []struct {
		change func(*Settings)
		err    error
	}{
		{func(s *Settings) { s.URLs.CRL = nil }, refused},
		{func(s *Settings) { s.URLs.OCSP = []string{"http://{{nobody}}/"} }, backend.ErrInvalidParams},
		{func(s *Settings) { s.Cluster.AIAPath = "ftp://a.example" }, backend.ErrInvalidParams},
		{func(s *Settings) { s.CRL.Expiry = time.Second }, backend.ErrInvalidParams},
		{func(s *Settings) { s.OCSP.Validity = time.Second }, backend.ErrInvalidParams},
	} {
		err := f.UpdateSettings(ctx, func(s *Settings) error {
			s.CRL.Shards = 7 // right, and not stored all the same
			c.change(s)
			if c.err == refused {
				return refused
			}
			return nil
		})
		wantError(t, err, c.err)
	}
	if got, err := f.config(ctx); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	must(t, f.UpdateSettings(ctx, func(s *Settings) error { s.CRL.Shards = 7; return nil }))
	must(t, f.UpdateSettings(ctx, func(s *Settings) error { s.CRL.Shards = 2; return nil }))
	if got, err := other.config(ctx); err != nil || got.Shards != 7 || got.CRL.Shards != 2 {
		t.Errorf("%+v, %v; want 2 shards, and 7 that there ever were", got, err)
	}
}

// TestUpdateSettingsLost: a change whose answer was lost isn't made twice.
func TestUpdateSettingsLost(t *testing.T) {
	f := newFirm(t, nil)
	var lost atomic.Bool
	s := &failing{Store: f.store, after: func(ops []store.Op) error {
		return fault(strings.HasSuffix(ops[0].Key, "config/tidy") && !lost.Swap(true), store.ErrUnknownOutcome)
	}}
	g := firmOn(t, f.house, s, nil)
	must(t, g.UpdateTidyConfig(t.Context(), func(c *TidyConfig) error { c.Interval++; return nil }))
	if c, err := f.TidyConfig(t.Context()); err != nil || c.Interval != 1 || !lost.Load() {
		t.Errorf("%+v, %v", c, err)
	}
}
