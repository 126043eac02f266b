//go:build !go1.27

package backendtest

import (
	"crypto/x509"

	"filippo.io/mldsa"
)

// certificateMLDSA returns nothing: crypto/x509 has ML-DSA from Go 1.27 on.
func certificateMLDSA(mldsa.Parameters) []x509.SignatureAlgorithm { return nil }
