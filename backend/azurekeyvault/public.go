package azurekeyvault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"math/big"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/managedkeys/managedkeys/backend"
)

// curveInfo is what this package knows of a curve.
type curveInfo struct {
	name  azkeys.CurveName
	curve elliptic.Curve
	hash  crypto.Hash // of the only algorithm that the service has for it
	alg   azkeys.SignatureAlgorithm
	size  int // of a coordinate, in bytes
}

var curveInfos = map[Curve]curveInfo{
	P256:  {azkeys.CurveNameP256, elliptic.P256(), crypto.SHA256, azkeys.SignatureAlgorithmES256, 32},
	P384:  {azkeys.CurveNameP384, elliptic.P384(), crypto.SHA384, azkeys.SignatureAlgorithmES384, 48},
	P521:  {azkeys.CurveNameP521, elliptic.P521(), crypto.SHA512, azkeys.SignatureAlgorithmES512, 66},
	P256K: {azkeys.CurveNameP256K, backend.Secp256k1(), crypto.SHA256, azkeys.SignatureAlgorithmES256K, 32},
}

// curveOf returns the curve with the service's name for it.
func curveOf(name azkeys.CurveName) (Curve, curveInfo, bool) {
	for c, info := range curveInfos {
		if info.name == name {
			return c, info, true
		}
	}
	return "", curveInfo{}, false
}

// publicKey returns the public key of a JSON Web Key (RFC 7518, Section 6), nil if it is symmetric, and what kind of key it
// is. The error wraps backend.ErrUnsupported if it is of another kind, and backend.ErrIntegrity if it is no such key.
func publicKey(key *azkeys.JSONWebKey) (crypto.PublicKey, Params, error) {
	if key == nil || key.Kty == nil {
		return nil, Params{}, integrity("the answer has no key")
	}
	kind := Params{KeyType: KeyType(*key.Kty)}
	switch kind.KeyType {
	case RSA, RSAHSM:
		pub, err := rsaKeyOf(key)
		if err != nil {
			return nil, Params{}, err
		}
		kind.KeyBits = pub.N.BitLen()
		return pub, kind, nil
	case EC, ECHSM:
		if key.Crv == nil {
			return nil, Params{}, integrity("the answer's EC key has no curve")
		}
		name, info, ok := curveOf(*key.Crv)
		if !ok {
			return nil, Params{}, fmt.Errorf("%w: it is on the curve %.40q; this library knows %s", backend.ErrUnsupported, string(*key.Crv), list(curves))
		}
		pub, err := ecKeyOf(key, info)
		kind.Curve = name
		return pub, kind, err
	case OctHSM:
		return nil, kind, nil
	}
	return nil, Params{}, fmt.Errorf("%w: it is of type %.40q; this library knows %s", backend.ErrUnsupported, string(*key.Kty), list(keyTypes))
}

// rsaKeyOf takes moduli that Key Vault can have, and exponents that are sound (FIPS 186-5, Section 5.1, and Go's limit).
func rsaKeyOf(key *azkeys.JSONWebKey) (*rsa.PublicKey, error) {
	n, e := new(big.Int).SetBytes(key.N), new(big.Int).SetBytes(key.E)
	switch {
	case n.BitLen() < 2048 || n.BitLen() > 4096 || n.Bit(0) == 0:
		return nil, integrity("the answer's RSA key has a modulus of %d bits that is none", n.BitLen())
	case e.BitLen() < 2 || e.BitLen() > 31 || e.Bit(0) == 0:
		return nil, integrity("the answer's RSA key has the public exponent %.40s", e)
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// ecKeyOf takes coordinates that are shorter than they should be, which stand for leading zeros.
func ecKeyOf(key *azkeys.JSONWebKey, info curveInfo) (crypto.PublicKey, error) {
	point := make([]byte, 1+2*info.size)
	point[0] = 4
	if len(key.X) == 0 || len(key.Y) == 0 || len(key.X) > info.size || len(key.Y) > info.size {
		return nil, integrity("the answer's key on %s has coordinates of %d and %d bytes", info.name, len(key.X), len(key.Y))
	}
	copy(point[1+info.size-len(key.X):], key.X)
	copy(point[1+2*info.size-len(key.Y):], key.Y)
	var pub *ecdsa.PublicKey
	var err error
	if info.curve == backend.Secp256k1() {
		pub, err = backend.ParseSecp256k1(point)
	} else {
		pub, err = ecdsa.ParseUncompressedPublicKey(info.curve, point)
	}
	if err != nil {
		return nil, integrity("the answer's key on %s is not on it", info.name)
	}
	return pub, nil
}
