package pki

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestRecall: a record is decoded once, and again when its version or its value is another. What can't be decoded is not kept.
func TestRecall(t *testing.T) {
	var r recalled
	decoded := 0
	text := func(version uint64, value string) (*string, error) {
		return recall(&r, store.Record{Key: "k", Value: []byte(value), Version: version}, func(record store.Record) (*string, error) {
			decoded++
			if value == "bad" {
				return nil, store.ErrCorrupt
			}
			return new(string(record.Value)), nil
		})
	}
	for i, c := range []struct {
		version uint64
		value   string
		decoded int
	}{{1, "a", 1}, {1, "a", 1}, {2, "a", 2}, {2, "b", 3}, {2, "b", 3}, {3, "bad", 4}, {3, "bad", 5}, {2, "b", 5}} {
		got, err := text(c.version, c.value)
		if c.value == "bad" && !errors.Is(err, store.ErrCorrupt) || c.value != "bad" && (err != nil || *got != c.value) {
			t.Errorf("%d: %v", i, err)
		}
		if decoded != c.decoded {
			t.Errorf("%d: it was decoded %d times; want %d", i, decoded, c.decoded)
		}
	}
}

// TestRecallBounded: what was kept once doesn't stay for ever.
func TestRecallBounded(t *testing.T) {
	var r recalled
	for i := range maxRecalled + 10 {
		record := store.Record{Key: fmt.Sprint(i), Version: 1}
		if got, err := recall(&r, record, func(store.Record) (*int, error) { return &i, nil }); err != nil || *got != i {
			t.Fatal(got, err)
		}
	}
	if len(r.of) != maxRecalled {
		t.Errorf("%d are kept; want %d", len(r.of), maxRecalled)
	}
}

// TestChangesCountAtOnce: what another process changes counts for the next certificate: roles, issuers, settings, and what they refer to.
func TestChangesCountAtOnce(t *testing.T) {
	f := newFirm(t, nil)
	g := firmOn(t, f.house, f.store, nil)
	ctx := t.Context()
	first := f.root(t, "p256", "first")
	second := f.root(t, "p384", "second")
	role := anyRole("r")
	f.role(t, role)
	issuedBy := func(want *Issuer) {
		t.Helper()
		if pair := f.issue(t, "r", "a.example"); pair.Certificate.CheckSignatureFrom(want.Certificate()) != nil || !pair.Chain[0].Equal(want.Certificate()) {
			t.Errorf("issued by %s; want %s", pair.Certificate.Issuer, want.Name)
		}
	}
	issuedBy(first)
	must(t, g.SetDefaultIssuer(ctx, "second"))
	issuedBy(second)
	role.IssuerRef = "first"
	must(t, g.PutRole(ctx, role))
	issuedBy(first)

	must(t, g.SetURLs(ctx, URLs{OCSP: []string{"http://ocsp.example.com"}}))
	if got := f.issue(t, "r", "a.example").Certificate.OCSPServer; !slices.Equal(got, []string{"http://ocsp.example.com"}) {
		t.Errorf("OCSP responders %q", got)
	}

	issuer, err := g.Issuer(ctx, "first")
	must(t, err)
	issuer.Usage &^= IssueCertificates
	_, err = g.UpdateIssuer(ctx, *issuer)
	must(t, err)
	_, err = f.Issue(ctx, "r", cn("a.example"))
	wantError(t, err, backend.ErrNotPermitted, "usage")
	must(t, g.DeleteIssuer(ctx, "first"))
	_, err = f.Issue(ctx, "r", cn("a.example"))
	wantError(t, err, store.ErrNotFound)

	role.IssuerRef, role.AllowAnyName = "", false
	must(t, g.PutRole(ctx, role))
	_, err = f.Issue(ctx, "r", cn("a.example"))
	wantError(t, err, backend.ErrNotPermitted, "allowed_domains")
	must(t, g.DeleteRole(ctx, "r"))
	_, err = f.Issue(ctx, "r", cn("a.example"))
	wantError(t, err, store.ErrNotFound, `role "r"`)

	f.role(t, anyRole("r"))
	issuedBy(second)
	must(t, f.house.registry.Revoke(ctx, f.mount, "p384"))
	_, err = f.Issue(ctx, "r", cn("a.example"))
	wantError(t, err, backend.ErrNotPermitted)
}

// counted is a store that counts reads by the end of what is below the authority's prefix.
type counted struct {
	store.Store
	mu    sync.Mutex
	reads map[string]int
}

func (s *counted) Get(ctx context.Context, key string) (store.Record, error) {
	s.mu.Lock()
	s.reads[strings.Join(strings.Split(key, "/")[2:], "/")]++
	s.mu.Unlock()
	return s.Store.Get(ctx, key)
}

// TestReadsPerCertificate: a certificate takes one read each of its role, the default issuer's id, the issuer and the settings.
func TestReadsPerCertificate(t *testing.T) {
	f := newFirm(t, nil)
	s := &counted{Store: f.store, reads: make(map[string]int)}
	g := firmOn(t, f.house, s, nil)
	clear(s.reads) // of opening
	root := f.root(t, "p256", "root")
	role := offRole("r")
	role.NoStore = true
	f.role(t, role)
	for range 5 {
		g.issue(t, "r", "a.example")
	}
	want := map[string]int{"roles/r": 5, "config/issuers": 5, "issuers/" + root.ID: 5, "config/main": 5}
	if !maps.Equal(s.reads, want) {
		t.Errorf("read %v; want %v", s.reads, want)
	}
}

// TestReturnedIsOwn: what a caller changes in what it was given changes nothing here.
func TestReturnedIsOwn(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	f.root(t, "p256", "root")
	must(t, f.SetURLs(ctx, testURLs))
	for range 2 { // the first time it is read, and the second it is recalled
		issuer, err := f.Issuer(ctx, "root")
		must(t, err)
		if issuer.Name != "root" || issuer.Chain[0] == nil || issuer.Usage != AllIssuerUsages {
			t.Errorf("got %+v", issuer)
		}
		issuer.Name, issuer.Chain[0], issuer.Usage = "other", nil, 0

		urls, err := f.URLs(ctx)
		must(t, err)
		if urls.CRL[0] != testURLs.CRL[0] {
			t.Errorf("got %q", urls.CRL)
		}
		urls.CRL[0] = "http://other.example"

		names, err := f.Role(ctx, "r")
		if err != nil {
			role := anyRole("r")
			role.AllowedDomains, role.OU, role.PolicyIdentifiers = Strings{"a.example"}, Strings{}, Policies{{OID: "1.2.3"}}
			f.role(t, role)
			names, err = f.Role(ctx, "r")
			must(t, err)
		}
		if names.AllowedDomains[0] != "a.example" || names.PolicyIdentifiers[0].OID != "1.2.3" || names.OU == nil {
			t.Errorf("got %+v", names)
		}
		names.AllowedDomains[0], names.PolicyIdentifiers[0].OID = "b.example", "1.2.4"
	}
	issuer, err := f.Issuer(ctx, "root")
	must(t, err)
	issuer.URLs = URLs{CRL: []string{"http://own.example/crl"}}
	_, err = f.UpdateIssuer(ctx, *issuer)
	must(t, err)
	for range 2 {
		issuer, err := f.Issuer(ctx, "root")
		must(t, err)
		if issuer.URLs.CRL[0] != "http://own.example/crl" {
			t.Errorf("got %q", issuer.URLs.CRL)
		}
		issuer.URLs.CRL[0] = "http://other.example"
	}
}
