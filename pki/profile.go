package pki

import (
	"crypto/x509"
	"strings"

	"github.com/zmap/zlint/v3/lint"
)

// LintProfile says which rules a certificate is held to before it is signed.
type LintProfile struct {
	Name   string // one of the constants below; "" is LintRFC5280
	Reason string // why nothing is linted, for LintOff, and nothing otherwise
}

// The names of lint profiles.
const (
	LintRFC5280 = "rfc5280" // RFC 5280 and its updates, for every CA
	LintCABF    = "cabf"    // and the CA/Browser Forum's Baseline Requirements for TLS server certificates
	LintOff     = "off"     // zlint is not asked, for a reason that is given; custom linters still are
)

// Linter returns what is wrong with a certificate that is about to be signed; nothing, if it may be. The certificate is
// complete but for its signature, which a throwaway key made. Each finding stops it, whatever its severity.
type Linter func(draft *x509.Certificate) []LintFinding

func (p LintProfile) check() error {
	switch p.Name {
	case "", LintRFC5280, LintCABF:
		if p.Reason != "" {
			return invalid("lint profile %s: got a reason, %.80q; only %q takes one", p.Name, p.Reason, LintOff)
		}
	case LintOff:
		if strings.TrimSpace(p.Reason) == "" {
			return invalid("lint profile %q: it takes a reason", LintOff)
		}
	default:
		return invalid("lint profile %.40q: it takes %s, %s or %s", p.Name, LintRFC5280, LintCABF, LintOff)
	}
	return nil
}

// registry returns the lints of the profile, nil for LintOff.
func (p LintProfile) registry() (lint.Registry, error) {
	switch p.Name {
	case LintOff:
		return nil, nil
	case LintCABF:
		return publicLints()
	}
	return lints()
}
