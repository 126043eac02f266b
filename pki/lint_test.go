package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func TestLintError(t *testing.T) {
	h := newHouse(t, nil)
	ca := mustRoot(t, h, "p256", rootTemplate())
	lt := leafTemplate()
	lt.KeyUsage = x509.KeyUsageKeyEncipherment
	_, err := ca.Sign(t.Context(), testKeys()["p384"].Public(), lt)
	var lintErr *LintError
	if !errors.As(err, &lintErr) || !errors.Is(err, backend.ErrInvalidParams) {
		t.Fatalf("got %v; want a *LintError", err)
	}
	if lintErr.Object != "certificate" || len(lintErr.Findings) == 0 {
		t.Fatalf("got %+v", lintErr)
	}
	f := lintErr.Findings[0]
	if f.Lint == "" || f.Severity != "error" || f.Details == "" || f.Citation == "" || !strings.Contains(err.Error(), f.Lint) || !strings.Contains(err.Error(), f.Details) {
		t.Errorf("finding %+v in %q", f, err)
	}
}

func TestLintUnparsable(t *testing.T) {
	for name, err := range map[string]error{
		"certificate": lintCertificate([]byte{0x30, 0}, nil, false, nil),
		"CRL":         lintCRL([]byte{0x30, 0}),
		"nothing":     lintCRL(nil),
	} {
		var lintErr *LintError
		if !errors.As(err, &lintErr) || lintErr.Findings[0].Severity != "fatal" {
			t.Errorf("%s: got %v; want a fatal *LintError", name, err)
		}
	}
}

// The linter is in force for CRLs as well: one without an AKI or with an empty list that is there breaks RFC 5280.
func TestLintCRL(t *testing.T) {
	h := newHouse(t, nil)
	ca := mustRoot(t, h, "p256", rootTemplate())
	list, err := new(CRLTemplate).list(noon, ca.cert)
	if list != nil || err == nil {
		t.Fatal("a template without anything must be refused")
	}
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: noon, NextUpdate: noon.Add(day), RevokedCertificateEntries: []x509.RevocationListEntry{
		{SerialNumber: big.NewInt(1), RevocationTime: noon.Add(day)}, // after ThisUpdate
	}}
	der, err := x509.CreateRevocationList(rand.Reader, template, ca.cert, testKeys()["p256"])
	if err != nil {
		t.Fatal(err)
	}
	var lintErr *LintError
	if err := lintCRL(der); !errors.As(err, &lintErr) || lintErr.Object != "CRL" {
		t.Errorf("got %v; want a *LintError", err)
	}
}

// No lint of any CA's business may be missing from the registry.
func TestLintRegistry(t *testing.T) {
	registry, err := lints()
	if err != nil {
		t.Fatal(err)
	}
	certs, crls := len(registry.CertificateLints().Lints()), len(registry.RevocationListLints().Lints())
	if certs < 120 || crls < 8 {
		t.Errorf("got %d lints for certificates and %d for CRLs; want at least 120 and 8", certs, crls)
	}
	for _, name := range []string{"e_ext_san_not_critical_without_subject", "e_ecdsa_allowed_ku", "e_rsa_fermat_factorization", "e_crl_unique_revoked_certificate"} {
		if registry.CertificateLints().ByName(name) == nil && registry.RevocationListLints().ByName(name) == nil {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range registry.Names() {
		if strings.Contains(name, "cab") || strings.Contains(name, "_mp_") {
			t.Errorf("%s is for publicly trusted CAs", name)
		}
	}
}

func TestEncodePEM(t *testing.T) {
	if got := EncodePEM(); len(got) != 0 {
		t.Errorf("no certificates give %q", got)
	}
	h := newHouse(t, nil)
	ca := mustRoot(t, h, "p256", rootTemplate())
	issued, err := ca.Sign(t.Context(), testKeys()["rsa"].Public(), leafTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(issued.PEM(), EncodePEM(issued.Certificate)) {
		t.Error("a leaf of the root itself must come without the root")
	}
	alone := &Issued{Certificate: ca.Certificate()}
	if !bytes.Equal(alone.PEM(), EncodePEM(ca.Certificate())) {
		t.Error("a certificate alone must not be left out")
	}
}
