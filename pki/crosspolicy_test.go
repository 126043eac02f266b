package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestRotationKeepsPolicies: what was issued below the old root is valid under its policy below the next root too, of another name or
// the same, by way of the cross-certificate. That has anyPolicy therefore, although the root has no policies, which it doesn't need.
func TestRotationKeepsPolicies(t *testing.T) {
	for name, subject := range map[string]pkix.Name{
		"same name": {}, "other name": {Country: []string{"SE"}, Organization: []string{"Example"}, CommonName: "Next"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFirm(t, &Options{Now: time.Now})
			must(t, f.SetURLs(t.Context(), testURLs))
			old := f.root(t, "p256", "root")
			issuing := f.intermediate(t, "root", "p256-b", "issuing")
			r := anyRole("r")
			r.IssuerRef, r.KeyType = "issuing", "ec"
			f.role(t, r)
			pair := f.issue(t, "r", "www.example.com")
			rotation, err := f.RotateRoot(t.Context(), "root", KeyRef{Name: "p256-c"}, "next", CATemplate{Subject: subject, Validity: 3650 * day})
			must(t, err)
			dir := t.TempDir()
			for name, cert := range map[string]*x509.Certificate{"old": old.Certificate(), "next": rotation.Issuer.Certificate(),
				"cross": rotation.OldByNew, "issuing": issuing.Certificate(), "leaf": pair.Certificate} {
				must(t, os.WriteFile(filepath.Join(dir, name+".pem"), EncodePEM(cert), 0o600))
			}
			for what, cert := range map[string]*x509.Certificate{"old root by the next one": rotation.OldByNew, "next root by the old one": rotation.NewByOld} {
				wantNoErrors(t, what, cert.Raw)
				wantPolicies(t, what, cert, anyPolicy)
			}
			wantPolicies(t, "next root", rotation.Issuer.Certificate())
			verify := []string{"verify", "-x509_strict", "-policy_check", "-explicit_policy", "-policy", "2.23.140.1.2.1", "-untrusted", "issuing.pem"}
			openssl(t, dir, slices.Concat(verify, []string{"-CAfile", "old.pem", "leaf.pem"})...)
			openssl(t, dir, slices.Concat(verify, []string{"-CAfile", "next.pem", "-untrusted", "cross.pem", "leaf.pem"})...)
			again, err := f.Reissue(t.Context(), "root", "again", 3650*day)
			must(t, err)
			wantPolicies(t, "root, reissued", again.Certificate())
		})
	}
}

// TestCrossSignKeepsPolicies: an intermediate's are its own, and none if it has none.
func TestCrossSignKeepsPolicies(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	f.root(t, "p384", "other")
	for name, want := range map[string][]string{"none": {}, "one": {"2.23.140.1.2.1"}} {
		csr, err := f.CreateIntermediateCSR(t.Context(), KeyRef{Name: "p256-b"}, CSRTemplate{Subject: pkix.Name{CommonName: name}})
		must(t, err)
		issued, err := f.SignIntermediate(t.Context(), "root", csr, CATemplate{Validity: 100 * day, Policies: want})
		must(t, err)
		cross, err := f.CrossSign(t.Context(), "other", issued.Certificate, CrossTemplate{})
		must(t, err)
		wantPolicies(t, name, cross, want...)
	}
}

func wantPolicies(t *testing.T, what string, cert *x509.Certificate, want ...string) {
	t.Helper()
	var got []string
	for _, oid := range cert.Policies {
		got = append(got, oid.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: the policies are %v; want %v", what, got, want)
	}
}
