package backend

import (
	"crypto"
	"crypto/mlkem"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
)

// id-alg-ml-kem-512, 768 and 1024 (RFC 9935, Section 3). The standard library doesn't have the first.
var (
	oidMLKEM512  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 1}
	oidMLKEM768  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 2}
	oidMLKEM1024 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 3}
)

// marshalMLKEM returns the SubjectPublicKeyInfo of an ML-KEM key, and whether pub is one (RFC 9935, Section 4).
func marshalMLKEM(pub crypto.PublicKey) (der []byte, is bool, err error) {
	var oid asn1.ObjectIdentifier
	var raw []byte
	switch pub := pub.(type) {
	case *mlkem.EncapsulationKey768:
		if pub == nil {
			return nil, true, fmt.Errorf("it is nil")
		}
		oid, raw = oidMLKEM768, pub.Bytes()
	case *mlkem.EncapsulationKey1024:
		if pub == nil {
			return nil, true, fmt.Errorf("it is nil")
		}
		oid, raw = oidMLKEM1024, pub.Bytes()
	default:
		return nil, false, nil
	}
	der, err = asn1.Marshal(publicKeyInfo{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oid},
		PublicKey: asn1.BitString{Bytes: raw, BitLength: 8 * len(raw)},
	})
	return der, true, err
}

// parseMLKEM is the inverse of marshalMLKEM.
func parseMLKEM(info publicKeyInfo) (pub crypto.PublicKey, is bool, err error) {
	oid := info.Algorithm.Algorithm
	if oid.Equal(oidMLKEM512) {
		return nil, true, fmt.Errorf("backend: public key: ML-KEM-512, which crypto/mlkem doesn't have: %w", ErrUnsupported)
	}
	if !oid.Equal(oidMLKEM768) && !oid.Equal(oidMLKEM1024) {
		return nil, false, nil
	}
	// "the parameters field MUST be absent" (RFC 9935, Section 3)
	if info.PublicKey.BitLength%8 != 0 || len(info.Algorithm.Parameters.FullBytes) > 0 {
		return nil, true, fmt.Errorf("backend: public key: malformed ML-KEM key: %w", ErrInvalidParams)
	}
	if oid.Equal(oidMLKEM768) {
		pub, err = mlkem.NewEncapsulationKey768(info.PublicKey.Bytes)
	} else {
		pub, err = mlkem.NewEncapsulationKey1024(info.PublicKey.Bytes)
	}
	if err != nil {
		return nil, true, fmt.Errorf("backend: public key: %w: %w", ErrInvalidParams, err)
	}
	return pub, true, nil
}
