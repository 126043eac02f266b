package pkimatrix

import (
	"slices"
	"strings"
	"testing"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

// exception is rules that zlint says are broken, and that nothing can obey.
type exception struct {
	kinds   string   // how their names begin
	names   []string // of certificates; nil is all
	because string
	rules   []string
}

var exceptions = []exception{
	{"Ed25519", nil, "public CAs have no Ed25519", []string{"e_algorithm_identifier_improper_encoding", "e_signature_algorithm_not_supported"}},
	{"ML-DSA", nil, "public CAs have no ML-DSA", []string{"e_algorithm_identifier_improper_encoding", "e_signature_algorithm_not_supported",
		"e_public_key_type_not_allowed"}},
	{"ML-DSA", []string{"root", "other"}, "zlint can't verify ML-DSA, and takes a root for an intermediate", []string{"e_invalid_ca_certificate_policies",
		"e_sub_ca_certificate_policies_missing", "e_sub_ca_crl_distribution_points_missing", "e_ext_authority_key_identifier_no_key_identifier"}},
}

// exceptionOf returns the exception for a rule and a certificate, or nil.
func (f *firm) exceptionOf(name, rule string) *exception {
	for i, e := range exceptions {
		if strings.HasPrefix(f.kind.name, e.kinds) && (e.names == nil || slices.Contains(e.names, name)) && slices.Contains(e.rules, rule) {
			return &exceptions[i]
		}
	}
	return nil
}

// lint holds everything against every rule that zlint has.
func (f *firm) lint(t *testing.T) {
	t.Helper()
	for name, cert := range f.certs {
		parsed, err := zx509.ParseCertificate(cert.Raw)
		if err != nil {
			t.Errorf("zlint, %s: %v", name, err)
			continue
		}
		f.passes(t, name, 20, zlint.LintCertificate(parsed).Results)
	}
	for name, list := range f.lists {
		parsed, err := zx509.ParseRevocationList(list.Raw)
		if err != nil {
			t.Errorf("zlint, CRL %s: %v", name, err)
			continue
		}
		f.passes(t, "CRL "+name, 5, zlint.LintRevocationList(parsed).Results)
	}
}

// passes wants no error but those of the exceptions, and that at least that many rules applied.
func (f *firm) passes(t *testing.T, name string, atLeast int, results map[string]*lint.LintResult) {
	t.Helper()
	passed := 0
	for rule, result := range results {
		e := f.exceptionOf(name, rule)
		switch bad := result.Status == lint.Error || result.Status == lint.Fatal; {
		case bad && e == nil:
			t.Errorf("zlint, %s: %s: %s %s", name, rule, result.Status, result.Details)
		case result.Status == lint.Pass && e != nil:
			t.Errorf("zlint, %s: %s: it passes, although %s", name, rule, e.because)
		case result.Status == lint.Pass:
			passed++
		}
	}
	if passed < atLeast {
		t.Errorf("zlint, %s: only %d rules applied", name, passed)
	}
}
