package backend

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"filippo.io/mldsa"
)

// Scheme is a signature scheme.
type Scheme uint8

// The schemes.
const (
	RSAPKCS1v15 Scheme = iota + 1 // RSASSA-PKCS1-v1_5 (RFC 8017, Section 8.2)
	RSAPSS                        // RSASSA-PSS (RFC 8017, Section 8.1)
	ECDSA                         // FIPS 186-5, Section 6
	Ed25519                       // RFC 8032, Section 5.1
	MLDSA                         // FIPS 204
)

// String returns the scheme's usual name.
func (s Scheme) String() string {
	names := [...]string{RSAPKCS1v15: "RSA PKCS#1 v1.5", RSAPSS: "RSA PSS", ECDSA: "ECDSA", Ed25519: "Ed25519", MLDSA: "ML-DSA"}
	if s == 0 || int(s) >= len(names) {
		return fmt.Sprintf("Scheme(%d)", uint8(s))
	}
	return names[s]
}

// SaltRule says which salt lengths of RSASSA-PSS a key can produce.
type SaltRule uint8

// The rules.
const (
	SaltAny        SaltRule = iota // every length that fits the modulus
	SaltEqualsHash                 // the length of the hash only
)

// SignatureAlgorithm is one thing that a key can sign with.
type SignatureAlgorithm struct {
	Scheme Scheme
	Hash   crypto.Hash // 0 if the scheme takes the message itself (Ed25519, ML-DSA)
	Salt   SaltRule    // of RSAPSS
}

// String returns the scheme and the hash, as in "ECDSA with SHA-256".
func (a SignatureAlgorithm) String() string {
	if a.Hash == 0 {
		return a.Scheme.String()
	}
	return a.Scheme.String() + " with " + a.Hash.String()
}

// MACAlgorithm names a message authentication code.
type MACAlgorithm string

// The message authentication codes: HMAC (RFC 2104) and AES-CMAC (RFC 4493).
const (
	HMACSHA1     MACAlgorithm = "HMAC-SHA1"
	HMACSHA224   MACAlgorithm = "HMAC-SHA224"
	HMACSHA256   MACAlgorithm = "HMAC-SHA256"
	HMACSHA384   MACAlgorithm = "HMAC-SHA384"
	HMACSHA512   MACAlgorithm = "HMAC-SHA512"
	HMACSHA3_224 MACAlgorithm = "HMAC-SHA3-224"
	HMACSHA3_256 MACAlgorithm = "HMAC-SHA3-256"
	HMACSHA3_384 MACAlgorithm = "HMAC-SHA3-384"
	HMACSHA3_512 MACAlgorithm = "HMAC-SHA3-512"
	AESCMAC      MACAlgorithm = "AES-CMAC"
)

var hmacHashes = map[MACAlgorithm]crypto.Hash{
	HMACSHA1: crypto.SHA1, HMACSHA224: crypto.SHA224, HMACSHA256: crypto.SHA256, HMACSHA384: crypto.SHA384,
	HMACSHA512: crypto.SHA512, HMACSHA3_224: crypto.SHA3_224, HMACSHA3_256: crypto.SHA3_256,
	HMACSHA3_384: crypto.SHA3_384, HMACSHA3_512: crypto.SHA3_512,
}

// Hash returns the hash of an HMAC, and 0 for AES-CMAC or an unknown algorithm.
func (a MACAlgorithm) Hash() crypto.Hash { return hmacHashes[a] }

// Capabilities are what one key can do. Everything that is not listed is refused before any remote call.
type Capabilities struct {
	// Algorithm describes the key: "RSA-2048", "ECDSA P-256", "ECDSA secp256k1", "Ed25519", "ML-DSA-65", "ML-KEM-768",
	// "AES-256", "HMAC".
	Algorithm string

	// Usages are the operations that the key manager allows this key.
	Usages Usage

	// Signatures are the signature algorithms, the preferred one first.
	Signatures []SignatureAlgorithm

	// SignatureContexts tells whether Ed25519 and ML-DSA take a context string (RFC 8032, Section 5.1; FIPS 204,
	// Section 5.2).
	SignatureContexts bool

	// UnhashedPKCS1v15 tells that RSASSA-PKCS1-v1_5 takes crypto.Hash(0) as well, as crypto/rsa does: the input, of at most 11
	// bytes less than the modulus, is padded as it is, without the DigestInfo that names a hash (RFC 8017, Section 9.2).
	UnhashedPKCS1v15 bool

	// MinMessage and MaxMessage are the shortest and the longest message, in bytes, that can be signed where the key manager
	// takes the whole message, or authenticated; MaxMessage 0 means that there is no limit. Some key managers don't take an
	// empty message.
	MinMessage, MaxMessage int

	// OAEPHashes are the hashes with which RSAES-OAEP ciphertexts can be decrypted (the same for label and MGF1), the
	// preferred one first. OAEPLabels tells whether a label may be given.
	OAEPHashes []crypto.Hash
	OAEPLabels bool

	// RawRSA tells that the key decrypts without a padding scheme: see RawRSAOptions. Drivers offer it only where the
	// program asked for it.
	RawRSA bool

	// MinPlaintext and MaxPlaintext are the shortest and the longest plaintext of Seal in bytes; MaxPlaintext 0 means that
	// there is no limit.
	MinPlaintext, MaxPlaintext int

	// MACs are the message authentication codes.
	MACs []MACAlgorithm

	// MaxRandom is the largest n of GenerateRandom in bytes.
	MaxRandom int
}

// Signature returns the key's algorithm of that scheme and hash, and whether it has one.
func (c Capabilities) Signature(s Scheme, h crypto.Hash) (SignatureAlgorithm, bool) {
	i := slices.IndexFunc(c.Signatures, func(a SignatureAlgorithm) bool { return a.Scheme == s && a.Hash == h })
	if i < 0 {
		return SignatureAlgorithm{}, false
	}
	return c.Signatures[i], true
}

// Hashes returns the hashes with which digests can be signed, in order of preference and without repetition.
func (c Capabilities) Hashes() []crypto.Hash {
	var hashes []crypto.Hash
	for _, a := range c.Signatures {
		if a.Hash != 0 && !slices.Contains(hashes, a.Hash) {
			hashes = append(hashes, a.Hash)
		}
	}
	return hashes
}

// SignsMessages reports whether the key signs whole messages and not digests.
func (c Capabilities) SignsMessages() bool {
	return slices.ContainsFunc(c.Signatures, func(a SignatureAlgorithm) bool { return a.Scheme == Ed25519 || a.Scheme == MLDSA })
}

// x509Algorithms are the certificate signature algorithms by what they sign with; x509 has no others that are safe.
var x509Algorithms = map[SignatureAlgorithm]x509.SignatureAlgorithm{
	{Scheme: RSAPKCS1v15, Hash: crypto.SHA256}: x509.SHA256WithRSA,
	{Scheme: RSAPKCS1v15, Hash: crypto.SHA384}: x509.SHA384WithRSA,
	{Scheme: RSAPKCS1v15, Hash: crypto.SHA512}: x509.SHA512WithRSA,
	{Scheme: RSAPSS, Hash: crypto.SHA256}:      x509.SHA256WithRSAPSS,
	{Scheme: RSAPSS, Hash: crypto.SHA384}:      x509.SHA384WithRSAPSS,
	{Scheme: RSAPSS, Hash: crypto.SHA512}:      x509.SHA512WithRSAPSS,
	{Scheme: ECDSA, Hash: crypto.SHA256}:       x509.ECDSAWithSHA256,
	{Scheme: ECDSA, Hash: crypto.SHA384}:       x509.ECDSAWithSHA384,
	{Scheme: ECDSA, Hash: crypto.SHA512}:       x509.ECDSAWithSHA512,
	{Scheme: Ed25519}:                          x509.PureEd25519,
}

// X509 returns the algorithms with which the key pub can sign certificates, requests and CRLs in this program, the
// preferred one first. ML-DSA is among them from Go 1.27 on. There are none for secp256k1, which crypto/x509 doesn't know.
func (c Capabilities) X509(pub crypto.PublicKey) []x509.SignatureAlgorithm {
	if ec, ok := pub.(*ecdsa.PublicKey); ok && !certifiable(ec.Curve) {
		return nil
	}
	var algs []x509.SignatureAlgorithm
	for _, a := range c.Signatures {
		alg := x509Algorithms[SignatureAlgorithm{Scheme: a.Scheme, Hash: a.Hash}]
		if m, ok := pub.(*mldsa.PublicKey); ok && a.Scheme == MLDSA {
			alg = x509MLDSA(m.Parameters())
		}
		if alg != x509.UnknownSignatureAlgorithm {
			algs = append(algs, alg)
		}
	}
	return algs
}

// TLS returns the signature schemes that the key pub can use in TLS 1.2 and 1.3, the preferred one first, as
// tls.Certificate.SupportedSignatureAlgorithms takes them (RFC 8446, Section 4.2.3). ML-DSA is among them from Go 1.27
// on. There are none for P-224 and secp256k1.
func (c Capabilities) TLS(pub crypto.PublicKey) []tls.SignatureScheme {
	var schemes []tls.SignatureScheme
	for _, a := range c.Signatures {
		if s, ok := tlsScheme(a, pub); ok {
			schemes = append(schemes, s)
		}
	}
	return schemes
}

func tlsScheme(a SignatureAlgorithm, pub crypto.PublicKey) (tls.SignatureScheme, bool) {
	byHash := func(sha256, sha384, sha512 tls.SignatureScheme) (tls.SignatureScheme, bool) {
		switch a.Hash {
		case crypto.SHA256:
			return sha256, sha256 != 0
		case crypto.SHA384:
			return sha384, sha384 != 0
		case crypto.SHA512:
			return sha512, sha512 != 0
		}
		return 0, false
	}
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if a.Scheme == RSAPSS {
			return byHash(tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512)
		}
		return byHash(tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512)
	case *ecdsa.PublicKey:
		// RFC 8446 ties each curve to one hash.
		switch pub.Curve {
		case elliptic.P256():
			return byHash(tls.ECDSAWithP256AndSHA256, 0, 0)
		case elliptic.P384():
			return byHash(0, tls.ECDSAWithP384AndSHA384, 0)
		case elliptic.P521():
			return byHash(0, 0, tls.ECDSAWithP521AndSHA512)
		}
	case ed25519.PublicKey:
		return tls.Ed25519, a.Hash == 0
	case *mldsa.PublicKey:
		return tlsMLDSA(pub.Parameters())
	}
	return 0, false
}

// supported lists the signature algorithms for an error message.
func (c Capabilities) supported() string {
	if len(c.Signatures) == 0 {
		return "no signature algorithm"
	}
	names := make([]string, len(c.Signatures))
	for i, a := range c.Signatures {
		names[i] = a.String()
		if a.Scheme == RSAPSS && a.Salt == SaltEqualsHash {
			names[i] += " (salt as long as the hash)"
		}
	}
	return strings.Join(names, ", ")
}
