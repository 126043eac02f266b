package awskms

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/managedkeys/managedkeys/backend"
)

// marshalPrivate returns a private key as PKCS #8 (RFC 5958).
func marshalPrivate(key any) ([]byte, error) {
	if ec, ok := key.(*ecdsa.PrivateKey); ok && ec.Curve == backend.Secp256k1() {
		return marshalSecp256k1(ec)
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// isComplete reports whether the private and the public half of a key are there and belong together, as far as crypto/ecdh
// knows the curve; marshalSecp256k1 looks at the others.
func isComplete(key *ecdsa.PrivateKey) bool {
	//lint:ignore SA1019 a caller can have made the key of its fields
	if key == nil || key.Curve == nil || key.D == nil || key.X == nil || key.Y == nil {
		return false
	}
	switch key.Curve {
	case elliptic.P256(), elliptic.P384(), elliptic.P521():
		private, err := key.ECDH()
		if err != nil {
			return false
		}
		public, err := key.PublicKey.ECDH()
		return err == nil && private.PublicKey().Equal(public)
	}
	return true
}

// privateKeyInfo is OneAsymmetricKey without attributes (RFC 5958, Section 2).
type privateKeyInfo struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
}

// ecPrivateKey is ECPrivateKey without parameters, which the algorithm has (RFC 5915, Section 3).
type ecPrivateKey struct {
	Version    int
	PrivateKey []byte
	PublicKey  asn1.BitString `asn1:"optional,explicit,tag:1"`
}

var (
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} // id-ecPublicKey (RFC 5480, Section 2.1.1)
	oidSecp256k1   = asn1.ObjectIdentifier{1, 3, 132, 0, 10}       // secp256k1 (SEC 2, Section A.2)
)

// marshalSecp256k1 does what crypto/x509 does for the curves that it has.
func marshalSecp256k1(key *ecdsa.PrivateKey) ([]byte, error) {
	//lint:ignore SA1019 there is no other access to a key on a curve that crypto/ecdsa doesn't know
	d := key.D
	if d.Sign() <= 0 || d.Cmp(key.Params().N) >= 0 {
		return nil, asn1.StructuralError{Msg: "the private key is out of range"}
	}
	raw := d.FillBytes(make([]byte, 32))
	defer clear(raw)
	point := secp256k1.PrivKeyFromBytes(raw).PubKey()
	if x, y := key.X, key.Y; point.X().Cmp(x) != 0 || point.Y().Cmp(y) != 0 {
		return nil, asn1.StructuralError{Msg: "the private key is not that of the public key"}
	}
	curve, err := asn1.Marshal(oidSecp256k1)
	if err != nil {
		return nil, err
	}
	public := point.SerializeUncompressed()
	inner, err := asn1.Marshal(ecPrivateKey{Version: 1, PrivateKey: raw, PublicKey: asn1.BitString{Bytes: public, BitLength: 8 * len(public)}})
	if err != nil {
		return nil, err
	}
	defer clear(inner)
	return asn1.Marshal(privateKeyInfo{
		Algorithm:  pkix.AlgorithmIdentifier{Algorithm: oidECPublicKey, Parameters: asn1.RawValue{FullBytes: curve}},
		PrivateKey: inner,
	})
}
