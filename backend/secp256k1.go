package backend

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// Secp256k1 returns the curve secp256k1 (SEC 2, Section 2.4.1), which Go's standard library doesn't have. It is the value
// of [ecdsa.PublicKey].Curve of every key on it, and only names the curve: [Verify], [SubjectPublicKeyInfo] and
// [ParsePublicKey] do what crypto/ecdsa and crypto/x509 can't. The elliptic.Curve methods are not constant-time; private
// keys must not come near them.
func Secp256k1() elliptic.Curve {
	//lint:ignore SA1019 *ecdsa.PublicKey names its curve by an elliptic.Curve
	return secp256k1.S256()
}

// ParseSecp256k1 returns the public key on [Secp256k1] of an uncompressed point, 04 ‖ x ‖ y (SEC 1, Section 2.3.4), as
// key managers give it. The error wraps [ErrInvalidParams]: it has another form, or is not on the curve.
func ParseSecp256k1(point []byte) (*ecdsa.PublicKey, error) {
	if len(point) != secp256k1.PubKeyBytesLenUncompressed || point[0] != secp256k1.PubKeyFormatUncompressed {
		return nil, fmt.Errorf("backend: public key on secp256k1: got a point of %d bytes; it takes 04 and 64 more: %w", len(point), ErrInvalidParams)
	}
	pub, err := secp256k1.ParsePubKey(point)
	if err != nil {
		return nil, fmt.Errorf("backend: public key on secp256k1: %w: %w", ErrInvalidParams, err)
	}
	return pub.ToECDSA(), nil
}

// secp256k1Identifier is the AlgorithmIdentifier of a key on the curve (RFC 5480, Section 2.1.1; SEC 2, Section A.2).
var secp256k1Identifier = pkix.AlgorithmIdentifier{
	Algorithm:  oidECPublicKey,
	Parameters: asn1.RawValue{FullBytes: []byte{0x06, 5, 0x2b, 0x81, 0x04, 0x00, 0x0a}}, // 1.3.132.0.10
}

func isSecp256k1(curve elliptic.Curve) bool { return curve == Secp256k1() }

// secp256k1Point returns the uncompressed point. The error says that it is not on the curve.
func secp256k1Point(pub *ecdsa.PublicKey) ([]byte, error) {
	key, err := secp256k1Key(pub)
	if err != nil {
		return nil, err
	}
	return key.SerializeUncompressed(), nil
}

var errNotOnCurve = errors.New("the point is not on secp256k1")

func secp256k1Key(pub *ecdsa.PublicKey) (*secp256k1.PublicKey, error) {
	//lint:ignore SA1019 there is no other access to the point of a curve that crypto/ecdsa doesn't know
	x, y := pub.X, pub.Y
	if x == nil || y == nil || x.Sign() < 0 || y.Sign() < 0 || x.BitLen() > 256 || y.BitLen() > 256 {
		return nil, errNotOnCurve
	}
	var fx, fy secp256k1.FieldVal
	// Either reports a coordinate that is not below the field's prime.
	if fx.SetByteSlice(x.Bytes()) || fy.SetByteSlice(y.Bytes()) {
		return nil, errNotOnCurve
	}
	key := secp256k1.NewPublicKey(&fx, &fy)
	if !key.IsOnCurve() {
		return nil, errNotOnCurve
	}
	return key, nil
}

// verifySecp256k1 reports whether signature, in DER, is pub's of digest, whose leftmost 256 bits count (SEC 1, Section
// 4.1.4). crypto/ecdsa would take the curve too, but doesn't check the point, and panics in FIPS 140-only mode.
func verifySecp256k1(pub *ecdsa.PublicKey, digest, signature []byte) bool {
	key, err := secp256k1Key(pub)
	if err != nil {
		return false
	}
	parsed, err := secpecdsa.ParseDERSignature(signature)
	return err == nil && parsed.Verify(digest, key)
}
