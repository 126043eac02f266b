package pkimatrix

import (
	"crypto/x509"
	"slices"
	"strings"
)

// limit is what a tool can't verify, and what it says then.
type limit struct {
	tool      string
	kinds     string                  // how their names begin; "" is all
	algorithm x509.SignatureAlgorithm // 0 is any
	objects   []string                // nil is all
	short     string                  // of the objects, for the README
	says      string                  // is in the error
	because   string
}

// limits are those of the versions in Debian 12. The matrix fails where one of them is gone.
var limits = []limit{
	{"OpenSSL", "ML-DSA", 0, nil, "", "", "OpenSSL has ML-DSA from 3.5 on"},
	{"GnuTLS", "ML-DSA", 0, nil, "", "", "GnuTLS has ML-DSA from 3.8.9 on"},
	{"GnuTLS", "RSA", x509.SHA512WithRSAPSS, []string{byIssuer, delegated}, "OCSP answers with SHA-512", "Signature Algorithm: RSA-PSS-SHA256",
		"GnuTLS takes SHA-256 for granted in RSASSA-PSS of OCSP answers"},
	{"NSS", "ML-DSA", 0, nil, "", "SEC_ERROR_ADDING_CERT", "NSS 3.87 doesn't know ML-DSA"},
	{"NSS", "Ed25519", 0, nil, "", "SEC_ERROR_ADDING_CERT", "NSS 3.87 doesn't know Ed25519 in certificates"},
	{"NSS", "", 0, []string{sharded, delta}, "sharded and delta CRLs", "SEC_ERROR_CRL_UNKNOWN_CRITICAL_EXTENSION", "NSS has neither issuing distribution points nor delta CRLs"},
}

// limit returns the first limit that applies to what the firm has signed, or nil.
func (f *firm) limit(tool, object string) *limit {
	for i, l := range limits {
		if l.tool == tool && strings.HasPrefix(f.kind.name, l.kinds) && (l.objects == nil || slices.Contains(l.objects, object)) &&
			(l.algorithm == 0 || l.algorithm == f.certs["root"].SignatureAlgorithm) {
			return &limits[i]
		}
	}
	return nil
}
