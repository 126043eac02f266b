package pki

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/cabf_br"   // lints of the Baseline Requirements, for LintCABF
	_ "github.com/zmap/zlint/v3/lints/community" // lints that belong to no root programme
	_ "github.com/zmap/zlint/v3/lints/rfc"       // lints of RFC 5280 and its updates

	"github.com/managedkeys/managedkeys/backend"
)

// LintError reports that a certificate or CRL was refused, and not signed, because it breaks a standard. It wraps
// [backend.ErrInvalidParams].
type LintError struct {
	Object   string        // "certificate" or "CRL"
	Findings []LintFinding // sorted by Lint; never empty
}

// LintFinding is one rule that was broken.
type LintFinding struct {
	Lint     string // name of the lint, such as "e_ecdsa_allowed_ku"
	Severity string // "error" or "fatal"
	Details  string // what is wrong
	Citation string // of the rule, such as "RFC 5280: 4.2.1.3"
}

// Error lists every finding.
func (e *LintError) Error() string {
	findings := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		findings[i] = fmt.Sprintf("%s (%s): %s", f.Lint, f.Citation, f.Details)
	}
	return fmt.Sprintf("pki: %s breaks %d lint rules: %s: %v", e.Object, len(e.Findings), strings.Join(findings, "; "), backend.ErrInvalidParams)
}

// Unwrap returns [backend.ErrInvalidParams].
func (e *LintError) Unwrap() error { return backend.ErrInvalidParams }

// lints are the rules for certificates and CRLs of any CA. Those of the CA/Browser Forum and of root programmes bind
// publicly trusted CAs only and are left out.
var lints = sync.OnceValues(func() (lint.Registry, error) { return filtered() })

// publicLints are lints and those of the Baseline Requirements for TLS servers besides.
var publicLints = sync.OnceValues(func() (lint.Registry, error) { return filtered(lint.CABFBaselineRequirements) })

func filtered(more ...lint.LintSource) (lint.Registry, error) {
	return lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: append(lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC8813, lint.Community}, more...),
		// It checks the signature against a public CA's keys. A throwaway key's never is one of theirs, and trying takes
		// longer than everything else together.
		ExcludeNames: []string{"e_cert_issued_by_compromised_emudhra_ca"},
	})
}

// lintCertificate returns a *LintError if the certificate der breaks a rule of its terms. root says that the certificate
// will be self-signed, which can't be seen while a throwaway key has signed it.
func lintCertificate(der []byte, parsed *x509.Certificate, root bool, how *terms, linters ...Linter) error {
	if how == nil {
		how = new(terms)
	}
	refusal := &LintError{Object: "certificate"}
	if registry, err := how.profile.registry(); err != nil {
		return fmt.Errorf("pki: lint: %w", err)
	} else if registry != nil {
		cert, err := zx509.ParseCertificate(der)
		if err != nil {
			return unparsable("certificate", err)
		}
		cert.SelfSigned = root
		for _, l := range registry.CertificateLints().Lints() {
			refusal.add(l.LintMetadata, l.Execute(cert, registry.GetConfiguration()))
		}
	}
	for _, l := range linters {
		refusal.Findings = append(refusal.Findings, l(parsed)...)
	}
	return refusal.result()
}

// lintCRL is lintCertificate for CRLs.
func lintCRL(der []byte) (err error) {
	registry, err := lints()
	if err != nil {
		return fmt.Errorf("pki: lint: %w", err)
	}
	// Unlike those of certificates, the lints of CRLs are not shielded from their own panics.
	defer func() {
		if r := recover(); r != nil {
			err = unparsable("CRL", fmt.Errorf("a lint panicked: %v", r))
		}
	}()
	crl, err := zx509.ParseRevocationList(der)
	if err != nil {
		return unparsable("CRL", err)
	}
	refusal := &LintError{Object: "CRL"}
	for _, l := range registry.RevocationListLints().Lints() {
		refusal.add(l.LintMetadata, l.Execute(crl, registry.GetConfiguration()))
	}
	return refusal.result()
}

// unparsable is the refusal of what the linter can't read, so that nothing unlinted slips through.
func unparsable(object string, err error) error {
	return &LintError{Object: object, Findings: []LintFinding{{Lint: "parse", Severity: "fatal", Details: err.Error(), Citation: "X.690"}}}
}

func (e *LintError) add(meta lint.LintMetadata, result *lint.LintResult) {
	if result == nil || result.Status != lint.Error && result.Status != lint.Fatal {
		return
	}
	details := result.Details
	if details == "" {
		details = meta.Description
	}
	e.Findings = append(e.Findings, LintFinding{meta.Name, result.Status.String(), details, meta.Citation})
}

func (e *LintError) result() error {
	if len(e.Findings) == 0 {
		return nil
	}
	slices.SortFunc(e.Findings, func(a, b LintFinding) int { return strings.Compare(a.Lint, b.Lint) })
	return e
}
