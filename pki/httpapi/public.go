package httpapi

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"strings"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// kindOf returns the kind of a public key as roles and answers have it.
func kindOf(pub crypto.PublicKey) string {
	switch pub.(type) {
	case *rsa.PublicKey:
		return "rsa"
	case *ecdsa.PublicKey:
		return "ec"
	case ed25519.PublicKey:
		return "ed25519"
	case *mldsa.PublicKey:
		return "ml-dsa"
	}
	return strings.ToLower(backend.Describe(pub))
}

// bitsOf returns the size of a public key, 0 for kinds that have only one.
func bitsOf(pub crypto.PublicKey) int {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return pub.N.BitLen()
	case *ecdsa.PublicKey:
		return pub.Curve.Params().BitSize
	}
	return 0
}

// The algorithms that signature_bits and use_pss choose from.
var (
	pkcs1       = map[int]x509.SignatureAlgorithm{256: x509.SHA256WithRSA, 384: x509.SHA384WithRSA, 512: x509.SHA512WithRSA}
	pss         = map[int]x509.SignatureAlgorithm{0: x509.SHA256WithRSAPSS, 256: x509.SHA256WithRSAPSS, 384: x509.SHA384WithRSAPSS, 512: x509.SHA512WithRSAPSS}
	ecdsaHashes = map[int]x509.SignatureAlgorithm{256: x509.ECDSAWithSHA256, 384: x509.ECDSAWithSHA384, 512: x509.ECDSAWithSHA512}
)

// algorithm returns the signature algorithm of a key that was asked for; 0 is the best that it has. Whether the key can do it is
// looked at before it is called. Vault ignored signature_bits where the key was a managed one.
func algorithm(pub crypto.PublicKey, bits int, usePSS bool) (x509.SignatureAlgorithm, error) {
	switch {
	case bits != 0 && bits != 256 && bits != 384 && bits != 512:
		return 0, refuse("field signature_bits: it takes 256, 384, 512, or 0 for the best")
	case bits == 0 && !usePSS:
		return 0, nil
	}
	switch kindOf(pub) {
	case "rsa":
		if usePSS {
			return pss[bits], nil
		}
		return pkcs1[bits], nil
	case "ec":
		if usePSS {
			return 0, refuse("field use_pss: the signing key is ECDSA, and only RSA has PSS")
		}
		return ecdsaHashes[bits], nil
	}
	if usePSS {
		return 0, refuse("field use_pss: the signing key is %s, and only RSA has PSS", backend.Describe(pub))
	}
	return 0, refuse("field signature_bits: the signing key, %s, signs messages and has no hash to choose", backend.Describe(pub))
}
