package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// firm is a house with an authority.
type firm struct {
	*Authority
	house *house
}

func (f *firm) signed() int64 { return f.house.signed() }

func newFirm(tb testing.TB, opts *Options) *firm {
	tb.Helper()
	s := memory.New(nil)
	tb.Cleanup(func() { s.Close() })
	return firmOn(tb, newHouse(tb, opts), s, opts)
}

func firmOn(tb testing.TB, h *house, s store.Store, opts *Options) *firm {
	tb.Helper()
	o := Options{}
	if opts != nil {
		o = *opts
	}
	if o.Now == nil {
		o.Now = h.engine.now
	}
	a, err := OpenAuthority(tb.Context(), h.mount, s, &o)
	if err != nil {
		tb.Fatal(err)
	}
	return &firm{a, h}
}

// testURLs are where a firm says that its things are.
var testURLs = URLs{Issuer: []string{"http://pki.example.com/{{issuer_id}}.crt"}, CRL: []string{"http://pki.example.com/{{issuer_id}}.crl"}}

func (f *firm) root(tb testing.TB, key, name string) *Issuer {
	tb.Helper()
	t := rootTemplate()
	t.Subject.CommonName = "Example " + name
	issuer, err := f.GenerateRoot(tb.Context(), KeyRef{Name: key}, name, t)
	if err != nil {
		tb.Fatal(err)
	}
	return issuer
}

// intermediate makes an issuer as an operator would.
func (f *firm) intermediate(tb testing.TB, parent, key, name string) *Issuer {
	tb.Helper()
	csr, err := f.CreateIntermediateCSR(tb.Context(), KeyRef{Name: key}, CSRTemplate{CA: true,
		Subject: pkix.Name{Country: []string{"SE"}, Organization: []string{"Example"}, CommonName: "Example " + name}})
	if err != nil {
		tb.Fatal(err)
	}
	issued, err := f.SignIntermediate(tb.Context(), parent, csr, CATemplate{Validity: 365 * day, MaxPathLen: new(0)})
	if err != nil {
		tb.Fatal(err)
	}
	issuer, err := f.SetSigned(tb.Context(), name, append([]*x509.Certificate{issued.Certificate}, issued.Chain...))
	if err != nil {
		tb.Fatal(err)
	}
	return issuer
}

func (f *firm) role(tb testing.TB, r Role) {
	tb.Helper()
	if err := f.PutRole(tb.Context(), r); err != nil {
		tb.Fatal(err)
	}
}

// anyRole is a role for names of every kind, with keys that are made fast.
func anyRole(name string) Role {
	r := NewRole(name)
	r.KeyType, r.AllowAnyName, r.AllowedURISANs, r.AllowedOtherSANs = "ed25519", true, Strings{"*"}, Strings{"*"}
	return r
}

func (f *firm) issue(tb testing.TB, role, name string) *KeyPair {
	tb.Helper()
	pair, err := f.Issue(tb.Context(), role, IssueRequest{CommonName: name})
	if err != nil {
		tb.Fatal(err)
	}
	return pair
}

func serialOf(p *KeyPair) string { return FormatSerial(p.Certificate.SerialNumber) }

func wantFinding(tb testing.TB, err error, name string) {
	tb.Helper()
	var lintErr *LintError
	if !errors.As(err, &lintErr) {
		tb.Errorf("got %v; want a finding %s", err, name)
		return
	}
	for _, f := range lintErr.Findings {
		if strings.HasPrefix(f.Lint, name) {
			return
		}
	}
	tb.Errorf("got %v; want a finding %s", err, name)
}
