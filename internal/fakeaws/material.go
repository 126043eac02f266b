package fakeaws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// material is what a key is made of: one of the fields is set, beside public.
type material struct {
	signer crypto.Signer // *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey or *mldsa.PrivateKey
	secp   *secp256k1.PrivateKey
	kem    crypto.Decapsulator
	secret []byte
	public []byte // SubjectPublicKeyInfo in DER; nil if secret is set
}

var curves = map[string]elliptic.Curve{"ECC_NIST_P256": elliptic.P256(), "ECC_NIST_P384": elliptic.P384(), "ECC_NIST_P521": elliptic.P521()}

var mldsaSets = map[string]mldsa.Parameters{"ML_DSA_44": mldsa.MLDSA44(), "ML_DSA_65": mldsa.MLDSA65(), "ML_DSA_87": mldsa.MLDSA87()}

// newMaterial makes the material of a key of a spec.
func (s *Server) newMaterial(spec string) (*material, error) {
	name, size, _ := strings.Cut(spec, "_")
	n, _ := strconv.Atoi(size)
	switch {
	case name == "RSA":
		k, err := s.opts.NewRSA(n)
		return signerMaterial(k, err)
	case curves[spec] != nil:
		k, err := ecdsa.GenerateKey(curves[spec], rand.Reader)
		return signerMaterial(k, err)
	case spec == "ECC_NIST_EDWARDS25519":
		_, k, err := ed25519.GenerateKey(nil)
		return signerMaterial(k, err)
	case spec == "ECC_SECG_P256K1":
		k, err := secp256k1.GeneratePrivateKey()
		if err != nil {
			return nil, err
		}
		return secpMaterial(k)
	case strings.HasPrefix(spec, "ML_DSA_"):
		k, err := mldsa.GenerateKey(mldsaSets[spec])
		return signerMaterial(k, err)
	case spec == "ML_KEM_768":
		k, err := mlkem.GenerateKey768()
		if err != nil {
			return nil, err
		}
		return kemMaterial(k, 2, k.EncapsulationKey().Bytes())
	case spec == "ML_KEM_1024":
		k, err := mlkem.GenerateKey1024()
		if err != nil {
			return nil, err
		}
		return kemMaterial(k, 3, k.EncapsulationKey().Bytes())
	case name == "HMAC":
		return randomSecret(n / 8), nil
	}
	return randomSecret(32), nil
}

func randomSecret(n int) *material {
	secret := make([]byte, n)
	rand.Read(secret) // never fails
	return &material{secret: secret}
}

// signerMaterial returns the material of a key that crypto/x509 or filippo.io/mldsa/x509 can write.
func signerMaterial(k crypto.Signer, err error) (*material, error) {
	if err != nil {
		return nil, err
	}
	der, err := mldsax509.MarshalPKIXPublicKey(k.Public())
	return &material{signer: k, public: der}, err
}

type publicKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	PublicKey asn1.BitString
}

var (
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidSecp256k1   = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	oidKEM         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4} // and 1, 2 or 3 (FIPS 203's object identifiers)
)

func secpMaterial(k *secp256k1.PrivateKey) (*material, error) {
	curve, err := asn1.Marshal(oidSecp256k1)
	if err != nil {
		return nil, err
	}
	point := k.PubKey().SerializeUncompressed()
	der, err := asn1.Marshal(publicKeyInfo{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidECPublicKey, Parameters: asn1.RawValue{FullBytes: curve}},
		PublicKey: asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	})
	return &material{secp: k, public: der}, err
}

func kemMaterial(k crypto.Decapsulator, number int, public []byte) (*material, error) {
	der, err := asn1.Marshal(publicKeyInfo{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: append(oidKEM[:len(oidKEM):len(oidKEM)], number)},
		PublicKey: asn1.BitString{Bytes: public, BitLength: 8 * len(public)},
	})
	return &material{kem: k, public: der}, err
}

// privateKeyInfo is PKCS #8 (RFC 5958), and ecPrivateKey what is in it for a key on a curve (RFC 5915).
type privateKeyInfo struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
}

type ecPrivateKey struct {
	Version    int
	PrivateKey []byte
	Parameters asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

var errMaterial = errors.New("the key material doesn't fit the key spec")

// importMaterial reads what was imported for a key of a spec: PKCS #8, or the secret itself.
func importMaterial(spec string, plain []byte) (*material, error) {
	switch {
	case spec == "SYMMETRIC_DEFAULT":
		return checked(len(plain) == 32, &material{secret: plain})
	case strings.HasPrefix(spec, "HMAC_"):
		n, _ := strconv.Atoi(strings.TrimPrefix(spec, "HMAC_"))
		return checked(len(plain) >= n/8 && len(plain) <= 128, &material{secret: plain})
	case spec == "ECC_SECG_P256K1":
		var info privateKeyInfo
		var ec ecPrivateKey
		if _, err := asn1.Unmarshal(plain, &info); err != nil {
			return nil, err
		}
		if _, err := asn1.Unmarshal(info.PrivateKey, &ec); err != nil {
			return nil, err
		}
		if !info.Algorithm.Algorithm.Equal(oidECPublicKey) || len(ec.PrivateKey) != 32 {
			return nil, errMaterial
		}
		return secpMaterial(secp256k1.PrivKeyFromBytes(ec.PrivateKey))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, err
	}
	fits := false
	switch k := parsed.(type) {
	case *rsa.PrivateKey:
		fits = spec == fmt.Sprintf("RSA_%d", k.N.BitLen())
	case *ecdsa.PrivateKey:
		fits = curves[spec] == k.Curve
	case ed25519.PrivateKey:
		fits = spec == "ECC_NIST_EDWARDS25519"
	}
	if !fits {
		return nil, errMaterial
	}
	return signerMaterial(parsed.(crypto.Signer), nil)
}

func checked(fits bool, m *material) (*material, error) {
	if !fits {
		return nil, errMaterial
	}
	return m, nil
}
