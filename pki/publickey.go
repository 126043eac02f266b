package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"math/big"
	"sync"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/rsasize"
)

// Limits of RSA keys. Below 2048 bits they are weak (NIST SP 800-57 Part 1, Table 2); above 8192 they are only slow.
const (
	minRSABits     = 2048
	maxRSABits     = rsasize.Most
	minRSAExponent = 65537 // FIPS 186-5, Section A.1.1
)

// checkPublicKey returns nil if pub is strong enough to be certified. Its errors have no "pki: " in front, because they
// are always part of another.
func checkPublicKey(pub crypto.PublicKey) error {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return checkRSA(pub)
	case *ecdsa.PublicKey:
		return checkECDSA(pub)
	case ed25519.PublicKey:
		if len(pub) != ed25519.PublicKeySize {
			return fmt.Errorf("public key: Ed25519 key of %d bytes; it has %d: %w", len(pub), ed25519.PublicKeySize, backend.ErrInvalidParams)
		}
		return nil
	case *mldsa.PublicKey:
		if pub != nil && x509HasMLDSA {
			return nil
		}
		return fmt.Errorf("public key: ML-DSA certificates need a program built with Go 1.27 or later: %w", backend.ErrUnsupported)
	}
	return fmt.Errorf("public key: kind %T is not supported; it takes %s: %w", pub, takenKeys, backend.ErrInvalidParams)
}

func checkRSA(pub *rsa.PublicKey) error {
	switch {
	case pub == nil || pub.N == nil || pub.N.Sign() <= 0:
		return fmt.Errorf("public key: RSA key without a modulus: %w", backend.ErrInvalidParams)
	case pub.N.BitLen() < minRSABits || pub.N.BitLen() > maxRSABits:
		return fmt.Errorf("public key: RSA key of %d bits; it takes %d to %d: %w", pub.N.BitLen(), minRSABits, maxRSABits, backend.ErrInvalidParams)
	case pub.E < minRSAExponent || pub.E%2 == 0:
		return fmt.Errorf("public key: RSA exponent %d; it takes odd ones from %d: %w", pub.E, minRSAExponent, backend.ErrInvalidParams)
	case new(big.Int).GCD(nil, nil, pub.N, smallPrimes()).Cmp(big.NewInt(1)) != 0:
		return fmt.Errorf("public key: RSA modulus has a small prime factor: %w", backend.ErrInvalidParams)
	}
	return nil
}

func checkECDSA(pub *ecdsa.PublicKey) error {
	if pub == nil || pub.Curve == nil {
		return fmt.Errorf("public key: ECDSA key without a curve: %w", backend.ErrInvalidParams)
	}
	switch pub.Curve {
	case elliptic.P256(), elliptic.P384(), elliptic.P521():
	default:
		return fmt.Errorf("public key: curve %s; it takes P-256, P-384 and P-521: %w", pub.Curve.Params().Name, backend.ErrInvalidParams)
	}
	//lint:ignore SA1019 a key that was put together by hand may lack them, and ECDH panics then
	if pub.X == nil || pub.Y == nil {
		return fmt.Errorf("public key: ECDSA key without a point: %w", backend.ErrInvalidParams)
	}
	// ECDH checks that the point is on the curve and not at infinity.
	if _, err := pub.ECDH(); err != nil {
		return fmt.Errorf("public key: %w: %w", backend.ErrInvalidParams, err)
	}
	return nil
}

// smallPrimes is the product of the primes up to 751, as SP 800-89, Section 5.3.3, checks a modulus against.
var smallPrimes = sync.OnceValue(func() *big.Int {
	product := big.NewInt(1)
	for n := int64(2); n <= 751; n++ {
		if big.NewInt(n).ProbablyPrime(0) { // exact below 2^64
			product.Mul(product, big.NewInt(n))
		}
	}
	return product
})
