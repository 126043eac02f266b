package gcpckms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rsa"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// Algorithm is an algorithm of the service, by the name that it has there, such as "EC_SIGN_P256_SHA256". A key version has
// exactly one. Its text, JSON included, is read in any case.
type Algorithm string

// pbAlgorithm is an Algorithm on the wire.
type pbAlgorithm = kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm

// kind is what a key does.
type kind uint8

const (
	kindPSS       kind = iota + 1
	kindPKCS1          // the service makes the DigestInfo (RFC 8017, Section 9.2)
	kindRawPKCS1       // the caller makes the DigestInfo
	kindECDSA          //
	kindEd25519        //
	kindMLDSA          //
	kindMLDSAMu        // ML-DSA of the message representative (FIPS 204, Algorithm 7, line 6), which is computed here
	kindOAEP           //
	kindMAC            //
	kindSymmetric      // the service has its own form of ciphertexts
	kindGCM            // AES-GCM
	kindMLKEM          //
)

// algorithm is what there is to know of an Algorithm. Which fields are set depends on the kind.
type algorithm struct {
	name    Algorithm
	pb      pbAlgorithm
	purpose kmspb.CryptoKey_CryptoKeyPurpose
	kind    kind
	hash    crypto.Hash          // of digests, OAEP or HMAC
	bits    int                  // of RSA and AES
	curve   elliptic.Curve       // of ECDSA
	set     mldsa.Parameters     // of ML-DSA
	kem     int                  // the parameter set of ML-KEM: 768 or 1024
	mac     backend.MACAlgorithm // of HMAC
}

var (
	algorithms = make(map[Algorithm]*algorithm)
	byNumber   = make(map[pbAlgorithm]*algorithm)
)

func init() {
	add := func(a algorithm, name string) {
		a.name, a.pb = Algorithm(name), pbAlgorithm(kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm_value[name])
		algorithms[a.name], byNumber[a.pb] = &a, &a
	}
	const (
		sign    = kmspb.CryptoKey_ASYMMETRIC_SIGN
		decrypt = kmspb.CryptoKey_ASYMMETRIC_DECRYPT
	)
	for _, bits := range []int{2048, 3072, 4096} {
		for hash, suffix := range map[crypto.Hash]string{crypto.SHA256: "SHA256", crypto.SHA512: "SHA512"} {
			if hash == crypto.SHA512 && bits != 4096 {
				continue
			}
			add(algorithm{purpose: sign, kind: kindPSS, bits: bits, hash: hash}, fmt.Sprintf("RSA_SIGN_PSS_%d_%s", bits, suffix))
			add(algorithm{purpose: sign, kind: kindPKCS1, bits: bits, hash: hash}, fmt.Sprintf("RSA_SIGN_PKCS1_%d_%s", bits, suffix))
			add(algorithm{purpose: decrypt, kind: kindOAEP, bits: bits, hash: hash}, fmt.Sprintf("RSA_DECRYPT_OAEP_%d_%s", bits, suffix))
		}
		add(algorithm{purpose: sign, kind: kindRawPKCS1, bits: bits}, fmt.Sprintf("RSA_SIGN_RAW_PKCS1_%d", bits))
		add(algorithm{purpose: decrypt, kind: kindOAEP, bits: bits, hash: crypto.SHA1}, fmt.Sprintf("RSA_DECRYPT_OAEP_%d_SHA1", bits))
	}
	add(algorithm{purpose: sign, kind: kindECDSA, curve: elliptic.P256(), hash: crypto.SHA256}, "EC_SIGN_P256_SHA256")
	add(algorithm{purpose: sign, kind: kindECDSA, curve: elliptic.P384(), hash: crypto.SHA384}, "EC_SIGN_P384_SHA384")
	add(algorithm{purpose: sign, kind: kindECDSA, curve: backend.Secp256k1(), hash: crypto.SHA256}, "EC_SIGN_SECP256K1_SHA256")
	add(algorithm{purpose: sign, kind: kindEd25519}, "EC_SIGN_ED25519")
	for set, p := range map[int]mldsa.Parameters{44: mldsa.MLDSA44(), 65: mldsa.MLDSA65(), 87: mldsa.MLDSA87()} {
		add(algorithm{purpose: sign, kind: kindMLDSA, set: p}, fmt.Sprintf("PQ_SIGN_ML_DSA_%d", set))
		add(algorithm{purpose: sign, kind: kindMLDSAMu, set: p}, fmt.Sprintf("PQ_SIGN_ML_DSA_%d_EXTERNAL_MU", set))
	}
	for _, mac := range []backend.MACAlgorithm{
		backend.HMACSHA1, backend.HMACSHA224, backend.HMACSHA256, backend.HMACSHA384, backend.HMACSHA512,
	} {
		name := strings.ReplaceAll(string(mac), "-", "_") // HMAC-SHA256 is HMAC_SHA256 there
		add(algorithm{purpose: kmspb.CryptoKey_MAC, kind: kindMAC, hash: mac.Hash(), mac: mac}, name)
	}
	for _, name := range []string{"GOOGLE_SYMMETRIC_ENCRYPTION", "EXTERNAL_SYMMETRIC_ENCRYPTION"} {
		add(algorithm{purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT, kind: kindSymmetric, bits: 256}, name)
	}
	for _, bits := range []int{128, 256} {
		add(algorithm{purpose: kmspb.CryptoKey_RAW_ENCRYPT_DECRYPT, kind: kindGCM, bits: bits}, fmt.Sprintf("AES_%d_GCM", bits))
	}
	for _, set := range []int{768, 1024} {
		add(algorithm{purpose: kmspb.CryptoKey_KEY_ENCAPSULATION, kind: kindMLKEM, kem: set}, fmt.Sprintf("ML_KEM_%d", set))
	}
}

// Algorithms returns the algorithms that this package can use, in alphabetical order.
func Algorithms() []Algorithm { return slices.Sorted(maps.Keys(algorithms)) }

// UnmarshalText sets a to the algorithm that text names in any case, or to text itself, which Validate then refuses.
func (a *Algorithm) UnmarshalText(text []byte) error {
	*a = Algorithm(text)
	if upper := Algorithm(strings.ToUpper(string(text))); algorithms[upper] != nil {
		*a = upper
	}
	return nil
}

// whyNot says why an algorithm of the service can't be used, by the beginning of its name.
var whyNot = []struct{ prefix, reason string }{
	{"AES_128_C", unauthenticated}, {"AES_256_C", unauthenticated}, // CBC and CTR
	{"AES_256_KWP", "such keys wrap others inside a single-tenant HSM and take no bytes"},
	{"PQ_SIGN_SLH_DSA", "nothing in Go verifies SLH-DSA, so that neither key nor signature could be checked"},
	{"PQ_SIGN_HASH_SLH_DSA", "nothing in Go verifies SLH-DSA, so that neither key nor signature could be checked"},
	{"KEM_XWING", "X-Wing is an Internet-Draft, and crypto/mlkem doesn't have it"},
}

const unauthenticated = "AES-CBC and AES-CTR don't authenticate what they encrypt"

// reason says why an algorithm can't be used, or returns "".
func (a Algorithm) reason() string {
	for _, w := range whyNot {
		if strings.HasPrefix(string(a), w.prefix) {
			return w.reason
		}
	}
	return ""
}

// lookUp returns what is known of an algorithm on the wire. The error wraps backend.ErrUnsupported.
func lookUp(name string, pb pbAlgorithm) (*algorithm, error) {
	if a := byNumber[pb]; a != nil {
		return a, nil
	}
	if reason := Algorithm(pb.String()).reason(); reason != "" {
		return nil, fmt.Errorf("gcpckms: key %q has the algorithm %v; %s: %w", name, pb, reason, backend.ErrUnsupported)
	}
	return nil, fmt.Errorf("gcpckms: key %q has the algorithm %v, which this version of the library doesn't know: %w", name, pb, backend.ErrUnsupported)
}

// asymmetric reports whether keys of the algorithm have a public key.
func (a *algorithm) asymmetric() bool {
	return a.purpose == kmspb.CryptoKey_ASYMMETRIC_SIGN || a.purpose == kmspb.CryptoKey_ASYMMETRIC_DECRYPT ||
		a.purpose == kmspb.CryptoKey_KEY_ENCAPSULATION
}

// format is the format in which the service has the public key. Only post-quantum keys have none by default.
func (a *algorithm) format() kmspb.PublicKey_PublicKeyFormat {
	switch a.kind {
	case kindMLDSA, kindMLDSAMu, kindMLKEM:
		return kmspb.PublicKey_NIST_PQC
	}
	return kmspb.PublicKey_PUBLIC_KEY_FORMAT_UNSPECIFIED
}

// fits reports whether pub is of the algorithm.
func (a *algorithm) fits(pub crypto.PublicKey) bool {
	switch key := pub.(type) {
	case *rsa.PublicKey:
		return a.bits > 0 && a.asymmetric() && key.N.BitLen() == a.bits
	case *ecdsa.PublicKey:
		return a.curve != nil && key.Curve == a.curve
	case ed25519.PublicKey:
		return a.kind == kindEd25519
	case *mldsa.PublicKey:
		return (a.kind == kindMLDSA || a.kind == kindMLDSAMu) && key.Parameters() == a.set
	case *mlkem.EncapsulationKey768:
		return a.kem == 768
	case *mlkem.EncapsulationKey1024:
		return a.kem == 1024
	}
	return false
}

// describe is what Capabilities.Algorithm says of such keys.
func (a *algorithm) describe() string {
	switch a.kind {
	case kindECDSA:
		return "ECDSA " + a.curve.Params().Name
	case kindEd25519:
		return "Ed25519"
	case kindMLDSA, kindMLDSAMu:
		return a.set.String()
	case kindMAC:
		return "HMAC"
	case kindSymmetric, kindGCM:
		return fmt.Sprintf("AES-%d", a.bits)
	case kindMLKEM:
		return fmt.Sprintf("ML-KEM-%d", a.kem)
	}
	return fmt.Sprintf("RSA-%d", a.bits)
}
