//go:build go1.27

package backend

import (
	"crypto/tls"
	"crypto/x509"

	"filippo.io/mldsa"
)

func x509MLDSA(p mldsa.Parameters) x509.SignatureAlgorithm {
	switch p {
	case mldsa.MLDSA44():
		return x509.MLDSA44
	case mldsa.MLDSA65():
		return x509.MLDSA65
	case mldsa.MLDSA87():
		return x509.MLDSA87
	}
	return x509.UnknownSignatureAlgorithm
}

func tlsMLDSA(p mldsa.Parameters) (tls.SignatureScheme, bool) {
	switch p {
	case mldsa.MLDSA44():
		return tls.MLDSA44, true
	case mldsa.MLDSA65():
		return tls.MLDSA65, true
	case mldsa.MLDSA87():
		return tls.MLDSA87, true
	}
	return 0, false
}
