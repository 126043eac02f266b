//go:build go1.27

package pki

import "crypto/x509"

// x509HasMLDSA tells whether crypto/x509 knows ML-DSA (RFC 9881), as it does from Go 1.27 on.
const x509HasMLDSA = true

const takenKeys = "RSA, ECDSA, Ed25519 and ML-DSA"

var mldsaAlgorithms = []x509.SignatureAlgorithm{x509.MLDSA44, x509.MLDSA65, x509.MLDSA87}
