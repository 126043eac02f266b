package backend

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
)

// SubjectPublicKeyInfo returns pub as a SubjectPublicKeyInfo in DER (RFC 5280, Section 4.1.2.7): what
// x509.MarshalPKIXPublicKey returns, and also for ML-DSA (RFC 9881),
// ML-KEM (RFC 9935) and secp256k1 (RFC 5480, Section 2). The error wraps
// [ErrUnsupported] if pub is of a type that has no such form, as nil is, or a point that is not on its curve.
func SubjectPublicKeyInfo(pub crypto.PublicKey) ([]byte, error) {
	der, err := marshalPublic(pub)
	if err != nil {
		return nil, fmt.Errorf("backend: public key %T: %w: %w", pub, ErrUnsupported, err)
	}
	return der, nil
}

func marshalPublic(pub crypto.PublicKey) ([]byte, error) {
	if der, is, err := marshalMLKEM(pub); is {
		return der, err
	}
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return mldsax509.MarshalPKIXPublicKey(pub)
	}
	if ec == nil || ec.Curve == nil {
		return nil, errors.New("it is nil or has no curve")
	}
	if !isSecp256k1(ec.Curve) {
		return mldsax509.MarshalPKIXPublicKey(pub)
	}
	point, err := secp256k1Point(ec)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(publicKeyInfo{
		Algorithm: secp256k1Identifier,
		PublicKey: asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	})
}

// ParsePublicKey is the inverse of [SubjectPublicKeyInfo], for drivers that are given a public key in this form. It
// returns a type that [Key].Public returns. The error wraps [ErrUnsupported] if it is another kind of key, and
// [ErrInvalidParams] if der is not one SubjectPublicKeyInfo and nothing else, or the point is not on its curve.
func ParsePublicKey(der []byte) (crypto.PublicKey, error) {
	var info publicKeyInfo
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("backend: public key: %d bytes are no SubjectPublicKeyInfo: %w", len(der), ErrInvalidParams)
	}
	if info.Algorithm.Algorithm.Equal(oidECPublicKey) && bytes.Equal(info.Algorithm.Parameters.FullBytes, secp256k1Identifier.Parameters.FullBytes) {
		if info.PublicKey.BitLength%8 != 0 {
			return nil, fmt.Errorf("backend: public key: a point of %d bits: %w", info.PublicKey.BitLength, ErrInvalidParams)
		}
		return ParseSecp256k1(info.PublicKey.Bytes)
	}
	if pub, is, err := parseMLKEM(info); is {
		return pub, err
	}
	pub, err := mldsax509.ParsePKIXPublicKey(der)
	if err != nil {
		sentinel := ErrUnsupported
		if info.known() {
			sentinel = ErrInvalidParams
		}
		return nil, fmt.Errorf("backend: public key: %w: %w", sentinel, err)
	}
	switch pub.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, *mldsa.PublicKey:
		return pub, nil
	}
	return nil, fmt.Errorf("backend: public key: got %T: %w", pub, ErrUnsupported)
}

// publicKeyInfo is SubjectPublicKeyInfo (RFC 5280, Section 4.1).
type publicKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	PublicKey asn1.BitString
}

// known reports whether it is of a kind that the contract has, so that an error is one of the key itself.
func (i publicKeyInfo) known() bool {
	var curve asn1.ObjectIdentifier
	if i.Algorithm.Algorithm.Equal(oidECPublicKey) {
		_, err := asn1.Unmarshal(i.Algorithm.Parameters.FullBytes, &curve)
		return err == nil && slices.ContainsFunc(knownCurves, curve.Equal)
	}
	return slices.ContainsFunc(knownAlgorithms, i.Algorithm.Algorithm.Equal)
}

var (
	// rsaEncryption (RFC 8017, Appendix A.1), id-Ed25519 (RFC 8410, Section 3) and ML-DSA (RFC 9881, Section 2).
	knownAlgorithms = []asn1.ObjectIdentifier{
		{1, 2, 840, 113549, 1, 1, 1}, {1, 3, 101, 112},
		{2, 16, 840, 1, 101, 3, 4, 3, 17}, {2, 16, 840, 1, 101, 3, 4, 3, 18}, {2, 16, 840, 1, 101, 3, 4, 3, 19},
	}
	// P-224, P-256, P-384 and P-521 (RFC 5480, Section 2.1.1.1).
	knownCurves = []asn1.ObjectIdentifier{{1, 3, 132, 0, 33}, {1, 2, 840, 10045, 3, 1, 7}, {1, 3, 132, 0, 34}, {1, 3, 132, 0, 35}}
)

// oidECPublicKey is id-ecPublicKey (RFC 5480, Section 2.1.1).
var oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}

// Fingerprint returns the SHA-256 hash of pub's [SubjectPublicKeyInfo]. The error is the one of that function.
func Fingerprint(pub crypto.PublicKey) ([sha256.Size]byte, error) {
	der, err := SubjectPublicKeyInfo(pub)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(der), nil
}

// Describe returns the kind and size of a public key, as in "RSA-2048", "ECDSA P-256", "ECDSA secp256k1", "Ed25519",
// "ML-DSA-65" or "ML-KEM-768", for [Capabilities].Algorithm and for people.
func Describe(pub crypto.PublicKey) string {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", pub.N.BitLen())
	case *ecdsa.PublicKey:
		if pub.Curve == nil {
			return "ECDSA"
		}
		return "ECDSA " + pub.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case *mldsa.PublicKey:
		return pub.Parameters().String()
	case *mlkem.EncapsulationKey768:
		return "ML-KEM-768"
	case *mlkem.EncapsulationKey1024:
		return "ML-KEM-1024"
	}
	return fmt.Sprintf("%T", pub)
}

// certifiable reports whether crypto/x509 takes keys on curve.
func certifiable(curve elliptic.Curve) bool {
	switch curve {
	case elliptic.P224(), elliptic.P256(), elliptic.P384(), elliptic.P521():
		return true
	}
	return false
}
