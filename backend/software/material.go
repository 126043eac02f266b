package software

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/managedkeys/managedkeys/backend"
)

// material is one private or secret key in the form in which it is used.
type material struct {
	kind   Params              // type and size; no name, no store
	secret []byte              // PKCS #8; the seed of ML-KEM (FIPS 203, Section 7.1: d ‖ z); or the symmetric key itself
	signer crypto.Signer       // nil if the key doesn't sign
	public crypto.PublicKey    // nil if the key is symmetric
	agrees *ecdh.PrivateKey    // signer again; nil unless it is of ECDSA
	opens  crypto.Decapsulator // of ML-KEM
	gcm    cipher.AEAD         // of AES
	kwp    *kwp.KWP            // of AES
}

// wipe overwrites what can be reached of the key. Nothing may use m afterwards.
func (m *material) wipe() {
	clear(m.secret)
	if key, ok := m.signer.(ed25519.PrivateKey); ok {
		clear(key)
	}
	m.signer, m.agrees, m.opens, m.gcm, m.kwp = nil, nil, nil, nil, nil
}

// generateMaterial makes the key that p, which is complete, describes. RSA is made by newRSA.
func generateMaterial(p Params, newRSA func(bits int) (*rsa.PrivateKey, error)) (*material, error) {
	var key any
	var err error
	switch p.KeyType {
	case RSA:
		key, err = newRSA(p.KeyBits)
	case ECDSA:
		key, err = ecdsa.GenerateKey(map[Curve]elliptic.Curve{P256: elliptic.P256(), P384: elliptic.P384(), P521: elliptic.P521()}[p.Curve], rand.Reader)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case MLDSA:
		key, err = mldsa.GenerateKey(map[int]mldsa.Parameters{44: mldsa.MLDSA44(), 65: mldsa.MLDSA65(), 87: mldsa.MLDSA87()}[p.ParameterSet])
	case MLKEM:
		seed := make([]byte, mlkem.SeedSize)
		rand.Read(seed)
		return kemMaterial(p.ParameterSet, seed)
	default:
		secret := make([]byte, p.KeyBits/8)
		rand.Read(secret)
		return symmetricMaterial(p.KeyType, secret)
	}
	if err != nil {
		return nil, err
	}
	der, err := mldsax509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return privateMaterial(der)
}

// importMaterial copies a key that the program handed in and checks that it is sound. t decides what a []byte is. The
// error wraps ErrInvalidParams or ErrUnsupported and never shows the key.
func importMaterial(t KeyType, key any) (*material, error) {
	switch k := key.(type) {
	case []byte:
		return symmetricMaterial(t, bytes.Clone(k))
	case *mlkem.DecapsulationKey768:
		if k == nil {
			return nil, unsound(key, errors.New("it is nil"))
		}
		return kemMaterial(768, k.Bytes())
	case *mlkem.DecapsulationKey1024:
		if k == nil {
			return nil, unsound(key, errors.New("it is nil"))
		}
		return kemMaterial(1024, k.Bytes())
	}
	der, public, err := marshalImport(key)
	if err != nil {
		return nil, err
	}
	m, err := privateMaterial(der)
	if err != nil {
		return nil, err
	}
	// The public half that came along was not used so far. If it is another key's, then signing with both halves
	// together could disclose the private one.
	if !m.public.(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
		return nil, unsound(key, errors.New("the public key does not belong to the private key"))
	}
	return m, nil
}

// marshalImport returns the key as PKCS #8, and the public key that it claims to have.
func marshalImport(key any) (der []byte, public crypto.PublicKey, err error) {
	// A key struct that was filled in by hand can hold anything, and the standard library takes some of it for granted.
	defer func() {
		if recover() != nil {
			der, public, err = nil, nil, unsound(key, errors.New("fields are missing or out of range"))
		}
	}()
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if err := checkRSA(k); err != nil {
			return nil, nil, err
		}
		// Marshalling writes to the Precomputed values, and the caller's key is not ours to change.
		own := &rsa.PrivateKey{PublicKey: k.PublicKey, D: k.D, Primes: k.Primes}
		own.Precompute()
		if err := own.Validate(); err != nil {
			return nil, nil, unsound(key, err)
		}
		key, public = own, k.Public()
	case *ecdsa.PrivateKey:
		if k == nil || k.Curve == nil {
			return nil, nil, unsound(key, errors.New("it is nil or has no curve"))
		}
		if _, err := curveName(k.Curve); err != nil {
			return nil, nil, err
		}
		public = k.Public()
	case ed25519.PrivateKey:
		if len(k) != ed25519.PrivateKeySize {
			return nil, nil, unsound(key, fmt.Errorf("got %d bytes; it has %d", len(k), ed25519.PrivateKeySize))
		}
		public = k.Public()
	case *mldsa.PrivateKey:
		public = k.Public()
	default:
		return nil, nil, fmt.Errorf("software: import: got %T; it takes *rsa.PrivateKey, *ecdsa.PrivateKey, "+
			"ed25519.PrivateKey, *mldsa.PrivateKey, *mlkem.DecapsulationKey768, *mlkem.DecapsulationKey1024 or []byte: %w", key, backend.ErrUnsupported)
	}
	der, err = mldsax509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, unsound(key, err)
	}
	return der, public, nil
}

// checkRSA refuses what the standard library would use, but no careful program should.
func checkRSA(k *rsa.PrivateKey) error {
	switch {
	case k == nil || k.N == nil || k.D == nil:
		return unsound(k, errors.New("it is nil or has no modulus or exponent"))
	case !validBits(RSA, k.N.BitLen()):
		return unsound(k, fmt.Errorf("the modulus has %d bits; it takes %s", k.N.BitLen(), bitsTaken[RSA]))
	case k.E < 65537 || k.E%2 == 0:
		// FIPS 186-5, Appendix A.1.1: 2^16 < e < 2^256, and odd.
		return unsound(k, fmt.Errorf("the public exponent is %d; it takes odd ones from 65537 on", k.E))
	case len(k.Primes) != 2:
		return unsound(k, fmt.Errorf("got %d primes; it takes 2", len(k.Primes)))
	}
	for _, p := range k.Primes {
		// Error probability below 2^-100 for any p (FIPS 186-5, Appendix B.3, and the Baillie-PSW test beside it).
		if p == nil || p.Cmp(big.NewInt(1)) <= 0 || !p.ProbablyPrime(50) {
			return unsound(k, errors.New("a factor of the modulus is not prime"))
		}
	}
	return nil
}

func unsound(key any, cause error) error {
	return fmt.Errorf("software: import of %T: %w: %w", key, backend.ErrInvalidParams, cause)
}

// privateMaterial parses a private key. It keeps der.
func privateMaterial(der []byte) (*material, error) {
	key, err := mldsax509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// Not wrapped as it is: what the parsers say may quote what they read.
		return nil, fmt.Errorf("software: the private key can't be parsed as PKCS #8: %w", backend.ErrInvalidParams)
	}
	m := &material{secret: der}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		m.signer, m.kind = k, Params{KeyType: RSA, KeyBits: k.N.BitLen()}
		if !validBits(RSA, m.kind.KeyBits) {
			return nil, fmt.Errorf("software: key_bits: got an RSA key of %d bits; it takes %s: %w", m.kind.KeyBits, bitsTaken[RSA], backend.ErrInvalidParams)
		}
	case *ecdsa.PrivateKey:
		curve, err := curveName(k.Curve)
		if err != nil {
			return nil, err
		}
		m.signer, m.kind = k, Params{KeyType: ECDSA, Curve: curve}
		if m.agrees, err = k.ECDH(); err != nil {
			return nil, fmt.Errorf("software: the private key is not one of %s: %w", curve, backend.ErrInvalidParams)
		}
	case ed25519.PrivateKey:
		m.signer, m.kind = k, Params{KeyType: Ed25519}
	case *mldsa.PrivateKey:
		sets := map[mldsa.Parameters]int{mldsa.MLDSA44(): 44, mldsa.MLDSA65(): 65, mldsa.MLDSA87(): 87}
		m.signer, m.kind = k, Params{KeyType: MLDSA, ParameterSet: sets[k.PublicKey().Parameters()]}
	default:
		return nil, fmt.Errorf("software: key_type: got %T; it takes %s: %w", key, list(keyTypes), backend.ErrUnsupported)
	}
	m.public = m.signer.Public()
	return m, nil
}

func curveName(c elliptic.Curve) (Curve, error) {
	switch c {
	case elliptic.P256():
		return P256, nil
	case elliptic.P384():
		return P384, nil
	case elliptic.P521():
		return P521, nil
	}
	return "", fmt.Errorf("software: curve: got %.40q; it takes %s: %w", c.Params().Name, list(curves), backend.ErrUnsupported)
}

// kemMaterial takes the seed of an ML-KEM key. It keeps seed.
func kemMaterial(set int, seed []byte) (*material, error) {
	m := &material{kind: Params{KeyType: MLKEM, ParameterSet: set}, secret: seed}
	var err error
	switch set {
	case 768:
		var key *mlkem.DecapsulationKey768
		if key, err = mlkem.NewDecapsulationKey768(seed); err == nil {
			m.opens, m.public = key, key.EncapsulationKey()
		}
	case 1024:
		var key *mlkem.DecapsulationKey1024
		if key, err = mlkem.NewDecapsulationKey1024(seed); err == nil {
			m.opens, m.public = key, key.EncapsulationKey()
		}
	default:
		err = fmt.Errorf("parameter_set: got %d; it takes %s", set, setsTaken[MLKEM])
	}
	if err != nil {
		return nil, fmt.Errorf("software: ML-KEM key: %w: %w", backend.ErrInvalidParams, err)
	}
	return m, nil
}

// symmetricMaterial takes an AES or HMAC key. It keeps secret.
func symmetricMaterial(t KeyType, secret []byte) (*material, error) {
	if t != AES && t != HMAC {
		return nil, fmt.Errorf("software: key_type: got %.40q for a symmetric key; it takes AES, HMAC: %w", string(t), backend.ErrInvalidParams)
	}
	m := &material{kind: Params{KeyType: t, KeyBits: 8 * len(secret)}, secret: secret}
	if !validBits(t, m.kind.KeyBits) {
		return nil, fmt.Errorf("software: key_bits: got %d bytes for key_type %s, which takes %s bits: %w", len(secret), t, bitsTaken[t], backend.ErrInvalidParams)
	}
	if t == HMAC {
		return m, nil
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	if m.gcm, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, err
	}
	m.kwp, err = kwp.NewKWP(secret)
	return m, err
}
