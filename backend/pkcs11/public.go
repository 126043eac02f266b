package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"maps"
	"math/big"
	"slices"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// curves are the curves by their name in [Params].
var curves = map[string]elliptic.Curve{
	"P224":      elliptic.P224(),
	"P256":      elliptic.P256(),
	"P384":      elliptic.P384(),
	"P521":      elliptic.P521(),
	"SECP256K1": backend.Secp256k1(),
}

// curveEd25519 is the name of the one Edwards curve in [Params].
const curveEd25519 = "ED25519"

// curveOIDs are the namedCurve in CKA_EC_PARAMS (RFC 5480, Section 2.1.1.1; SEC 2, Section A.2).
var curveOIDs = map[string]asn1.ObjectIdentifier{
	"P224":      {1, 3, 132, 0, 33},
	"P256":      {1, 2, 840, 10045, 3, 1, 7},
	"P384":      {1, 3, 132, 0, 34},
	"P521":      {1, 3, 132, 0, 35},
	"SECP256K1": {1, 3, 132, 0, 10},
}

// ed25519Params are the forms of CKA_EC_PARAMS for Ed25519: curveName (PKCS #11 Specification Version 3.1, Section
// 6.3.5), and the object identifier of RFC 8410.
var ed25519Params = [][]byte{
	{0x13, 12, 'e', 'd', 'w', 'a', 'r', 'd', 's', '2', '5', '5', '1', '9'},
	{0x06, 3, 0x2b, 0x65, 0x70},
}

// ecParams returns CKA_EC_PARAMS of a curve of [Params].
func ecParams(curve string) ([]byte, error) {
	if curve == curveEd25519 {
		return ed25519Params[0], nil
	}
	return asn1.Marshal(curveOIDs[curve])
}

// RSA moduli in bits that are accepted. Shorter ones are not safe (SP 800-131A, Section 3); longer ones would stall the
// program when signatures are verified.
const (
	minModulus = 2048
	maxModulus = 16384
)

// mldsaSets are the parameter sets by their name in [Params], with CKA_PARAMETER_SET (PKCS #11 Specification Version 3.2)
// as index plus one.
var mldsaSets = []int{44, 65, 87}

// mldsaSet returns CKA_PARAMETER_SET of 44, 65 or 87, or 0.
func mldsaSet(name int) uint {
	for i, n := range mldsaSets {
		if n == name {
			return uint(i + 1)
		}
	}
	return 0
}

// publicKey returns the public key in m for a private key of a kind, or nil if it makes none that can be used.
func (m material) publicKey(kind keyType) crypto.PublicKey {
	candidates := []crypto.PublicKey{m.parse(kind)}
	if pub, err := backend.ParsePublicKey(m.info); err == nil {
		candidates = append(candidates, pub)
	}
	if certificate, err := x509.ParseCertificate(m.value); err == nil {
		candidates = append(candidates, certificate.PublicKey)
	}
	for _, pub := range candidates {
		if kindOf(pub) == kind && usablePublic(pub) {
			return pub
		}
	}
	return nil
}

func (m material) parse(kind keyType) crypto.PublicKey {
	switch kind {
	case keyRSA:
		return parseRSA(m.modulus, m.exponent)
	case keyEC:
		return parseEC(m.params, m.point)
	case keyEdDSA:
		return parseEd25519(m.params, m.point)
	case keyMLDSA:
		return parseMLDSA(m.set, m.value)
	}
	return nil
}

// parseRSA returns the key of CKA_MODULUS and CKA_PUBLIC_EXPONENT, both big-endian, or nil if they make no key.
func parseRSA(modulus, exponent []byte) crypto.PublicKey {
	n, e := new(big.Int).SetBytes(modulus), new(big.Int).SetBytes(exponent)
	if n.Sign() == 0 || n.BitLen() > maxModulus || e.BitLen() > 31 || e.Int64() < 3 || e.Bit(0) == 0 {
		return nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}
}

// points returns the readings of CKA_EC_POINT: a DER OCTET STRING by the standard, and the bare point with some modules.
func points(value []byte) [][]byte {
	var octets []byte
	if rest, err := asn1.Unmarshal(value, &octets); err == nil && len(rest) == 0 {
		return [][]byte{octets, value}
	}
	return [][]byte{value}
}

// parseEC returns the key of CKA_EC_PARAMS and CKA_EC_POINT, or nil if they make no point on a known curve.
func parseEC(params, point []byte) crypto.PublicKey {
	var oid asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(params, &oid); err != nil || len(rest) > 0 {
		return nil
	}
	for name, known := range curveOIDs {
		if !known.Equal(oid) {
			continue
		}
		for _, p := range points(point) {
			parse := ecdsa.ParseUncompressedPublicKey
			if curves[name] == backend.Secp256k1() {
				parse = func(_ elliptic.Curve, p []byte) (*ecdsa.PublicKey, error) { return backend.ParseSecp256k1(p) }
			}
			if pub, err := parse(curves[name], p); err == nil {
				return pub
			}
		}
	}
	return nil
}

// parseEd25519 is parseEC for Ed25519, whose point is its encoding by RFC 8032, Section 5.1.2.
func parseEd25519(params, point []byte) crypto.PublicKey {
	for _, known := range ed25519Params {
		if string(params) != string(known) {
			continue
		}
		for _, p := range points(point) {
			if len(p) == ed25519.PublicKeySize {
				return ed25519.PublicKey(p)
			}
		}
	}
	return nil
}

// parseMLDSA returns the key of CKA_PARAMETER_SET and CKA_VALUE, or nil if they make none.
func parseMLDSA(set uint64, value []byte) crypto.PublicKey {
	for i, params := range []mldsa.Parameters{mldsa.MLDSA44(), mldsa.MLDSA65(), mldsa.MLDSA87()} {
		if set == uint64(i+1) {
			if pub, err := mldsa.NewPublicKey(params, value); err == nil {
				return pub
			}
		}
	}
	return nil
}

// kindOf returns the kind of key that pub is of; ^0 for kinds that this package doesn't know.
func kindOf(pub crypto.PublicKey) keyType {
	switch pub.(type) {
	case *rsa.PublicKey:
		return keyRSA
	case *ecdsa.PublicKey:
		return keyEC
	case ed25519.PublicKey:
		return keyEdDSA
	case *mldsa.PublicKey:
		return keyMLDSA
	}
	return ^keyType(0)
}

// usablePublic reports whether pub can be verified with.
func usablePublic(pub crypto.PublicKey) bool {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if pub.N.BitLen() > maxModulus {
			return false
		}
	case *ecdsa.PublicKey: // whoever parsed it has seen to it that the point is on the curve, which takes long
		return slices.Contains(slices.Collect(maps.Values(curves)), pub.Curve)
	}
	_, err := backend.SubjectPublicKeyInfo(pub)
	return err == nil
}

// leftmost returns the digest that ECDSA signs: the leftmost bytes, as many as the order of the curve has (FIPS 186-5,
// Section 6.4.1, step 2). The orders of all curves that are shorter than a digest are whole bytes long. Tokens refuse
// longer digests.
func leftmost(digest []byte, pub *ecdsa.PublicKey) []byte {
	return digest[:min(len(digest), (pub.Curve.Params().N.BitLen()+7)/8)]
}

// signerOpts returns what a caller of crypto.Signer would have given for req.
func signerOpts(req backend.SignRequest) crypto.SignerOpts {
	if req.Scheme == backend.RSAPSS {
		return &rsa.PSSOptions{SaltLength: req.SaltLength, Hash: req.Hash}
	}
	return req.Hash
}
