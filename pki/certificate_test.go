package pki

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// failing is a store that fails writes, before they are made or after.
type failing struct {
	store.Store
	before, after func(ops []store.Op) error
}

func (s *failing) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	if s.before != nil {
		if err := s.before(ops); err != nil {
			return 0, err
		}
	}
	revision, err := s.Store.Apply(ctx, ops...)
	if err == nil && s.after != nil {
		if err := s.after(ops); err != nil {
			return 0, err
		}
	}
	return revision, err
}

// isCert reports whether ops are about a certificate in that state.
func isCert(ops []store.Op, state string) bool {
	return slices.ContainsFunc(ops, func(op store.Op) bool {
		return strings.Contains(op.Key, "/certs/") && bytes.Contains(op.Value, []byte(`"state":"`+state+`"`))
	})
}

// TestStoredBeforeReturned: without a record nothing is signed; what was signed is in the store, whatever happens then.
func TestStoredBeforeReturned(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	s := &failing{Store: f.store}
	g := firmOn(t, f.house, s, nil)
	f.signed()

	s.before = func(ops []store.Op) error { return fmt.Errorf("disk full: %w", store.ErrUnavailable) }
	_, err := g.Issue(t.Context(), "r", cn("a.example"))
	wantError(t, err, store.ErrUnavailable)
	if f.signed() != 0 {
		t.Error("something was signed without a record")
	}
	s.before = func(ops []store.Op) error {
		if isCert(ops, StateIssued) {
			return fmt.Errorf("disk full: %w", store.ErrUnavailable)
		}
		return nil
	}
	pair, err := g.Issue(t.Context(), "r", cn("b.example"))
	wantError(t, err, store.ErrUnavailable, "was signed, is pending in the store, and is not returned")
	if pair != nil || f.signed() != 1 {
		t.Error("it was returned, or not signed")
	}
	page, err := f.Search(t.Context(), Query{Name: "b.example", State: StatePending})
	if err != nil || len(page.Certificates) != 1 {
		t.Fatalf("the certificate that may exist is not found: %v, %v", page, err)
	}
	if _, err := f.Revoke(t.Context(), page.Certificates[0].Serial, 1, time.Time{}); err != nil {
		t.Error(err)
	}
	if list := f.list(t, "root"); len(list.RevokedCertificateEntries) != 1 {
		t.Error("it can't be revoked")
	}

	// Answers that are lost are found out.
	s.before = nil
	s.after = func([]store.Op) error { return fmt.Errorf("connection lost: %w", store.ErrUnknownOutcome) }
	lost, err := g.Issue(t.Context(), "r", cn("c.example"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := f.Certificate(t.Context(), serialOf(lost)); err != nil || c.State != StateIssued || !c.Certificate.Equal(lost.Certificate) {
		t.Errorf("got %+v, %v", c, err)
	}

	// A caller that goes away while the key signs leaves no doubt.
	s.after = nil
	ctx, cancel := context.WithCancel(managedkey.WithActor(t.Context(), managedkey.Actor{ID: "jane"}))
	f.house.km.spoil = func(signature []byte) []byte { cancel(); return signature }
	_, err = g.Issue(ctx, "r", cn("d.example"))
	f.house.km.spoil = nil
	page, err2 := f.Search(t.Context(), Query{Name: "d.example"})
	if err2 != nil || len(page.Certificates) != 1 || page.Certificates[0].Actor != "jane" || (err == nil) != (page.Certificates[0].State == StateIssued) {
		t.Errorf("got %v; the store has %+v, %v", err, page.Certificates, err2)
	}
}

// TestRefusedLeavesNothing: what was certainly not signed is not pending.
func TestRefusedLeavesNothing(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	s := &failing{Store: f.store}
	s.after = func(ops []store.Op) error { // the grant goes between the record and the signature
		if isCert(ops, StatePending) {
			return f.house.registry.Revoke(t.Context(), f.mount, "p256")
		}
		return nil
	}
	_, err := firmOn(t, f.house, s, nil).Issue(t.Context(), "r", cn("a.example"))
	wantError(t, err, backend.ErrNotPermitted)
	if n, err := f.Count(t.Context()); err != nil || n.Pending != 0 || n.Issued != 1 {
		t.Errorf("counts %+v, %v", n, err)
	}
	for _, prefix := range []string{"names/", "texts/", "by-issuer/"} {
		for record, err := range f.all(t.Context(), prefix) {
			if err != nil || strings.Contains(record.Key, "names/example/a") {
				t.Errorf("%s is left, %v", record.Key, err)
			}
		}
	}
}

// TestReplicas: several processes issue at once, and no serial number comes twice.
func TestReplicas(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	var wg sync.WaitGroup
	var mu sync.Mutex
	serials := map[string]bool{}
	for range 4 {
		g := firmOn(t, f.house, f.store, nil)
		wg.Go(func() {
			for range 25 {
				pair, err := g.Issue(t.Context(), "r", cn("a.example"))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				serials[serialOf(pair)] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n, err := f.Count(t.Context()); len(serials) != 100 || err != nil || n.Issued != 101 {
		t.Errorf("%d serial numbers, counts %+v, %v", len(serials), n, err)
	}
	// A number that there is can't be used again.
	_, ca, _ := f.ca(t.Context(), "root", 0)
	key, _ := ca.key(t.Context())
	template, err := new(LeafTemplate{DNSNames: []string{"a.example"}, Validity: day}).certificate(noon, ca.cert, testKeys()["rsa"].Public())
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.engine.prepare(t.Context(), key, ca, template, testKeys()["rsa"].Public(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.keep(t.Context(), d, certRecord{}); err != nil {
		t.Fatal(err)
	}
	f.signed()
	d.used.Store(false)
	_, err = f.keep(t.Context(), d, certRecord{})
	wantError(t, err, store.ErrConflict)
	if _, err := d.sign(t.Context()); err == nil && f.signed() == 0 {
		t.Error("nothing was signed")
	}
	if _, err := d.sign(t.Context()); err == nil {
		t.Error("a draft was signed twice")
	}
}

func TestNoStore(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	r := anyRole("r")
	r.NoStore = true
	f.role(t, r)
	_, err := f.Certificate(t.Context(), serialOf(f.issue(t, "r", "a.example")))
	wantError(t, err, store.ErrNotFound)
}

func TestSearch(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	f.root(t, "p256", "root")
	f.root(t, "p384", "second")
	r := anyRole("r")
	f.role(t, r)
	many := IssueRequest{CommonName: "many.example.org", URIs: uris("spiffe://example.org/x"), IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}
	for i := range 120 { // more than one transaction takes
		many.AltNames = append(many.AltNames, fmt.Sprintf("host-%d.example.org", i))
	}
	if _, err := f.Issue(ctx, "r", many); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		req := IssueRequest{CommonName: fmt.Sprintf("n%d.example.com", i), AltNames: []string{"me@example.com"}, TTL: time.Duration(i+1) * 24 * time.Hour}
		if i%2 == 1 {
			req.Issuer = "second"
		}
		pair, err := f.Issue(ctx, "r", req)
		if err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			if _, err := f.Revoke(ctx, serialOf(pair), 1, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		q    Query
		want int
	}{
		"all":                 {Query{}, 10},
		"exact":               {Query{Name: "N3.example.com"}, 1},
		"below":               {Query{Name: ".example.com"}, 7},
		"below, one":          {Query{Name: ".many.example.org"}, 0},
		"many names, once":    {Query{Name: ".example.org"}, 1},
		"last of many names":  {Query{Name: "host-119.example.org"}, 1},
		"email":               {Query{Name: "me@example.com"}, 7},
		"address":             {Query{Name: "192.0.2.1"}, 1},
		"URI":                 {Query{Name: "spiffe://example.org/x"}, 1},
		"common name of a CA": {Query{Name: "example root"}, 1},
		"nobody":              {Query{Name: "nobody.example.com"}, 0},
		"issuer":              {Query{Issuer: "second"}, 4},
		"issuer and name":     {Query{Issuer: "second", Name: ".example.com"}, 3},
		"expiry":              {Query{ExpiresAfter: noon.Add(36 * time.Hour), ExpiresBefore: noon.Add(100 * time.Hour)}, 3},
		"revoked":             {Query{Revoked: new(true)}, 2},
		"not revoked":         {Query{Name: ".example.com", Revoked: new(false)}, 5},
		"pending":             {Query{State: StatePending}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, limit := range []int{0, 1, 3, 1000} {
				c.q.Limit, c.q.After = limit, ""
				seen := map[string]bool{}
				for {
					page, err := f.Search(ctx, c.q)
					if err != nil {
						t.Fatal(err)
					}
					if limit > 0 && len(page.Certificates) > limit {
						t.Errorf("a page of %d; the limit is %d", len(page.Certificates), limit)
					}
					for _, cert := range page.Certificates {
						seen[cert.Serial] = true
					}
					if page.Next == "" {
						break
					}
					c.q.After = page.Next
				}
				if len(seen) != c.want {
					t.Errorf("with limit %d: got %d; want %d", limit, len(seen), c.want)
				}
			}
		})
	}
	for _, q := range []Query{{Limit: -1}, {Limit: 1001}, {Name: ".a b"}, {ExpiresAfter: noon, ExpiresBefore: noon.AddDate(200, 0, 0)}} {
		_, err := f.Search(ctx, q)
		wantError(t, err, backend.ErrInvalidParams)
	}
}

// TestTidy: what has expired goes with all that finds it, and nothing else.
func TestTidy(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	f.root(t, "p256", "root")
	r := anyRole("r")
	f.role(t, r)
	for i := range 6 {
		pair, err := f.Issue(ctx, "r", IssueRequest{CommonName: "a.example", TTL: time.Duration(1+i*10) * 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if _, err := f.Revoke(ctx, serialOf(pair), 1, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	now = now.Add(25 * day)
	if n := len(f.list(t, "root").RevokedCertificateEntries); n != 3 {
		t.Errorf("%d revoked", n)
	}
	days := 0
	p, err := f.Tidy(ctx, &TidyOptions{Progress: func(p TidyProgress) { days = p.Days }})
	if err != nil || p.Removed != 3 || p.Revoked != 2 || p.Days != p.AllDays || days != p.Days {
		t.Errorf("got %+v, %v", p, err)
	}
	if n := len(f.list(t, "root").RevokedCertificateEntries); n != 1 {
		t.Errorf("%d revoked after tidying", n)
	}
	if page, err := f.Search(ctx, Query{Name: "a.example"}); err != nil || len(page.Certificates) != 3 {
		t.Errorf("got %v, %v", page, err)
	}
	keys := 0
	for _, err := range f.all(ctx, "names/") {
		if keys++; err != nil {
			t.Fatal(err)
		}
	}
	if keys != 3 {
		t.Errorf("%d names are left; want 3", keys)
	}
	if p, err := f.Tidy(ctx, nil); err != nil || p.Removed != 0 || p.AllDays > 2 {
		t.Errorf("again: %+v, %v", p, err)
	}
	_, err = f.Tidy(ctx, &TidyOptions{Buffer: time.Minute})
	wantError(t, err, backend.ErrInvalidParams)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.Tidy(cancelled, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestSerials(t *testing.T) {
	for text, want := range map[string]int64{"17:8e": 0x178e, "178e": 0x178e, "17-8E": 0x178e, "1": 1} {
		if got, err := ParseSerial(text); err != nil || got.Int64() != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ":", "0", "-1", "+1", "0x1", "1_0", "g", strings.Repeat("f", 41), strings.Repeat("0", 100)} {
		if got, err := ParseSerial(text); err == nil && !strings.HasPrefix(text, "-") {
			t.Errorf("%q was taken as %d", text, got)
		}
	}
	if got := FormatSerial(big.NewInt(0xabc)); got != "0a:bc" {
		t.Errorf("got %s", got)
	}
}
