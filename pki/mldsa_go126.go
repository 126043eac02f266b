//go:build !go1.27

package pki

import "crypto/x509"

// x509HasMLDSA tells whether crypto/x509 knows ML-DSA (RFC 9881), as it does from Go 1.27 on.
const x509HasMLDSA = false

const takenKeys = "RSA, ECDSA and Ed25519"

var mldsaAlgorithms []x509.SignatureAlgorithm
