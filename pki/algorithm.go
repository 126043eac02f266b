package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

var (
	pkcs1Algorithms = []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA}
	pssAlgorithms   = []x509.SignatureAlgorithm{x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS}

	// The hash that is as strong as the curve comes first (RFC 5480, Section 4).
	p256Algorithms = []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512}
	p384Algorithms = []x509.SignatureAlgorithm{x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.ECDSAWithSHA256}
	p521Algorithms = []x509.SignatureAlgorithm{x509.ECDSAWithSHA512, x509.ECDSAWithSHA384, x509.ECDSAWithSHA256}
)

// algorithm returns want, or the best algorithm of key if want is 0. The error wraps backend.ErrUnsupported and lists
// what the key takes.
func (e *Engine) algorithm(key *managedkey.Key, want x509.SignatureAlgorithm) (x509.SignatureAlgorithm, error) {
	pub := key.Public()
	able := key.Capabilities().X509(pub)
	if len(able) == 0 {
		return 0, fmt.Errorf("pki: signature algorithm: the %s key %q has none that certificates can use here: %w",
			backend.Describe(pub), key.ID(), backend.ErrUnsupported)
	}
	if want != x509.UnknownSignatureAlgorithm {
		if slices.Contains(able, want) {
			return want, nil
		}
		names := make([]string, len(able))
		for i, a := range able {
			names[i] = a.String()
		}
		return 0, fmt.Errorf("pki: signature algorithm: the %s key %q can't sign with %s; it takes %s: %w",
			backend.Describe(pub), key.ID(), want, strings.Join(names, ", "), backend.ErrUnsupported)
	}
	for _, a := range e.preferred(pub) {
		if slices.Contains(able, a) {
			return a, nil
		}
	}
	return able[0], nil
}

// preferred returns the algorithms for pub, best first. It is empty where a key has only one.
func (e *Engine) preferred(pub crypto.PublicKey) []x509.SignatureAlgorithm {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if e.pss {
			return slices.Concat(pssAlgorithms, pkcs1Algorithms)
		}
		return slices.Concat(pkcs1Algorithms, pssAlgorithms)
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P384():
			return p384Algorithms
		case elliptic.P521():
			return p521Algorithms
		}
		return p256Algorithms
	}
	return nil
}

// fits reports whether alg is an algorithm of keys of pub's kind. What the key itself can do only its key manager knows.
func fits(alg x509.SignatureAlgorithm, pub crypto.PublicKey) bool {
	switch pub.(type) {
	case *rsa.PublicKey:
		return slices.Contains(pkcs1Algorithms, alg) || slices.Contains(pssAlgorithms, alg)
	case *ecdsa.PublicKey:
		return slices.Contains(p256Algorithms, alg)
	case ed25519.PublicKey:
		return alg == x509.PureEd25519
	}
	return slices.Contains(mldsaAlgorithms, alg)
}

// signerOpts returns how crypto.Signer expresses alg. The salt of RSASSA-PSS is as long as the hash (RFC 4055, Section
// 3.1, and the CA/Browser Forum's rules).
func signerOpts(alg x509.SignatureAlgorithm) crypto.SignerOpts {
	switch alg {
	case x509.SHA256WithRSAPSS:
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	case x509.SHA384WithRSAPSS:
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA384}
	case x509.SHA512WithRSAPSS:
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA512}
	case x509.SHA256WithRSA, x509.ECDSAWithSHA256:
		return crypto.SHA256
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384:
		return crypto.SHA384
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512:
		return crypto.SHA512
	}
	return crypto.Hash(0) // Ed25519 and ML-DSA sign the message itself
}

// algorithmIdentifier returns the AlgorithmIdentifier of alg in DER, as crypto/x509 writes it: it is cut out of what a throwaway
// key of the same kind as pub signs.
func (e *Engine) algorithmIdentifier(pub crypto.PublicKey, alg x509.SignatureAlgorithm) ([]byte, error) {
	if der, ok := e.identifiers.Load(alg); ok {
		return der.([]byte), nil
	}
	throwaway, err := e.throwaway.like(pub)
	if err != nil {
		return nil, err
	}
	template := &x509.RevocationList{SignatureAlgorithm: alg, Number: big.NewInt(1), NextUpdate: time.Unix(1, 0)}
	issuer := &x509.Certificate{KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}, PublicKey: throwaway.Public()}
	draft, err := x509.CreateRevocationList(rand.Reader, template, issuer, throwaway)
	if err != nil {
		return nil, fmt.Errorf("pki: signature algorithm %s: %w: %w", alg, backend.ErrUnsupported, err)
	}
	var object signedObject
	if _, err := asn1.Unmarshal(draft, &object); err != nil {
		return nil, fmt.Errorf("pki: signature algorithm %s: %w", alg, err)
	}
	e.identifiers.Store(alg, object.Algorithm.FullBytes)
	return object.Algorithm.FullBytes, nil
}
