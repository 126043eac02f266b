//go:build go1.27

package backendtest

import (
	"crypto/x509"

	"filippo.io/mldsa"
)

// certificateMLDSA returns the certificate signature algorithm of a parameter set (RFC 9881).
func certificateMLDSA(p mldsa.Parameters) []x509.SignatureAlgorithm {
	switch p {
	case mldsa.MLDSA44():
		return []x509.SignatureAlgorithm{x509.MLDSA44}
	case mldsa.MLDSA65():
		return []x509.SignatureAlgorithm{x509.MLDSA65}
	case mldsa.MLDSA87():
		return []x509.SignatureAlgorithm{x509.MLDSA87}
	}
	return nil
}
