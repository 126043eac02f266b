//go:build !go1.27

package backend

import (
	"crypto/tls"
	"crypto/x509"

	"filippo.io/mldsa"
)

// x509MLDSA returns UnknownSignatureAlgorithm: crypto/x509 has ML-DSA from Go 1.27 on.
func x509MLDSA(mldsa.Parameters) x509.SignatureAlgorithm { return x509.UnknownSignatureAlgorithm }

func tlsMLDSA(mldsa.Parameters) (tls.SignatureScheme, bool) { return 0, false }
