package backendtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// hashes are all that a key might be asked for. Those that are not declared must be refused.
var hashes = []crypto.Hash{
	crypto.MD5, crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA512_224,
	crypto.SHA512_256, crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512, crypto.MD5SHA1,
}

// certificateAlgorithms are the signature algorithms of crypto/x509 that a key may declare, by what they sign with.
var certificateAlgorithms = map[x509.SignatureAlgorithm]backend.SignatureAlgorithm{
	x509.SHA256WithRSA:    {Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA256},
	x509.SHA384WithRSA:    {Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA384},
	x509.SHA512WithRSA:    {Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA512},
	x509.SHA256WithRSAPSS: {Scheme: backend.RSAPSS, Hash: crypto.SHA256},
	x509.SHA384WithRSAPSS: {Scheme: backend.RSAPSS, Hash: crypto.SHA384},
	x509.SHA512WithRSAPSS: {Scheme: backend.RSAPSS, Hash: crypto.SHA512},
	x509.ECDSAWithSHA256:  {Scheme: backend.ECDSA, Hash: crypto.SHA256},
	x509.ECDSAWithSHA384:  {Scheme: backend.ECDSA, Hash: crypto.SHA384},
	x509.ECDSAWithSHA512:  {Scheme: backend.ECDSA, Hash: crypto.SHA512},
	x509.PureEd25519:      {Scheme: backend.Ed25519},
}

// signatures returns what k must be able to sign with, given its public key.
func (k Key) signatures(pub crypto.PublicKey) []backend.SignatureAlgorithm {
	var algs []backend.SignatureAlgorithm
	add := func(a backend.SignatureAlgorithm) {
		if a.Scheme == backend.RSAPSS && k.SaltEqualsHash {
			a.Salt = backend.SaltEqualsHash
		}
		if !slices.Contains(algs, a) {
			algs = append(algs, a)
		}
	}
	for _, alg := range k.Signs {
		add(certificateAlgorithms[alg])
	}
	if _, ok := pub.(*mldsa.PublicKey); ok {
		add(backend.SignatureAlgorithm{Scheme: backend.MLDSA})
	}
	schemes := slices.Clone(k.Schemes)
	for _, a := range algs {
		schemes = append(schemes, a.Scheme)
	}
	for _, s := range schemes {
		for _, h := range k.Digests {
			add(backend.SignatureAlgorithm{Scheme: s, Hash: h})
		}
	}
	for _, h := range k.PKCS1Digests {
		add(backend.SignatureAlgorithm{Scheme: backend.RSAPKCS1v15, Hash: h})
	}
	return algs
}

// certificates returns the algorithms with which k must be able to sign certificates.
func (k Key) certificates(pub crypto.PublicKey) []x509.SignatureAlgorithm {
	algs := slices.Clone(k.Signs)
	if pub, ok := pub.(*mldsa.PublicKey); ok {
		algs = append(algs, certificateMLDSA(pub.Parameters())...)
	}
	return algs
}

// servesTLS reports whether k must have a TLS signature scheme. RFC 8446, Section 4.2.3, ties each curve to one hash.
func (k Key) servesTLS(pub crypto.PublicKey) bool {
	if pub, ok := pub.(*ecdsa.PublicKey); ok {
		byCurve := map[elliptic.Curve]x509.SignatureAlgorithm{
			elliptic.P256(): x509.ECDSAWithSHA256,
			elliptic.P384(): x509.ECDSAWithSHA384,
			elliptic.P521(): x509.ECDSAWithSHA512,
		}
		alg, ok := byCurve[pub.Curve]
		return ok && slices.Contains(k.Signs, alg)
	}
	return len(k.certificates(pub)) > 0
}

// schemesOf returns the signature schemes of a kind of key.
func schemesOf(pub crypto.PublicKey) []backend.Scheme {
	switch pub.(type) {
	case *rsa.PublicKey:
		return []backend.Scheme{backend.RSAPKCS1v15, backend.RSAPSS}
	case *ecdsa.PublicKey:
		return []backend.Scheme{backend.ECDSA}
	case ed25519.PublicKey:
		return []backend.Scheme{backend.Ed25519}
	case *mldsa.PublicKey:
		return []backend.Scheme{backend.MLDSA}
	}
	return nil
}

// options returns what a caller passes to Sign for a, with a PSS salt as long as the hash.
func options(a backend.SignatureAlgorithm) crypto.SignerOpts {
	switch {
	case a.Scheme == backend.RSAPSS:
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.Hash}
	case a.Scheme == backend.Ed25519 && a.Hash != 0:
		return &ed25519.Options{Hash: a.Hash}
	}
	return a.Hash
}

// verify checks a signature with the standard library and filippo.io/mldsa, and with nothing of package backend, which is
// under test as well. The salt of PSS must be exactly salt bytes long; input is a digest or a message.
func verify(pub crypto.PublicKey, a backend.SignatureAlgorithm, salt int, context string, input, signature []byte) error {
	valid := false
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if a.Scheme == backend.RSAPSS {
			return rsa.VerifyPSS(pub, a.Hash, input, signature, &rsa.PSSOptions{SaltLength: salt})
		}
		return rsa.VerifyPKCS1v15(pub, a.Hash, input, signature)
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(pub, input, signature)
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(pub, input, signature, &ed25519.Options{Hash: a.Hash, Context: context})
	case *mldsa.PublicKey:
		return mldsa.Verify(pub, input, signature, &mldsa.Options{Context: context})
	default:
		return fmt.Errorf("can't verify with %T", pub)
	}
	if !valid {
		return errors.New("signature does not verify")
	}
	return nil
}

// samePublic reports whether a and b are equal public keys; two symmetric keys count as equal.
func samePublic(a, b crypto.PublicKey) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if k, ok := a.(interface{ Equal(crypto.PublicKey) bool }); ok {
		return k.Equal(b)
	}
	first, err := backend.Fingerprint(a) // keys of crypto/mlkem have no Equal
	second, err2 := backend.Fingerprint(b)
	return err == nil && err2 == nil && first == second
}

// digest returns the hash of message.
func digest(h crypto.Hash, message []byte) []byte {
	d := h.New()
	d.Write(message)
	return d.Sum(nil)
}

// input returns what is signed for message: its digest, or message itself if the scheme takes messages.
func input(a backend.SignatureAlgorithm, message []byte) []byte {
	if a.Hash == 0 {
		return message
	}
	return digest(a.Hash, message)
}

// random returns n random bytes.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// noRandom is passed where an API asks for randomness. The key manager provides its own, so nothing may read it.
type noRandom struct{}

func (noRandom) Read([]byte) (int, error) {
	return 0, errors.New("backendtest: the source of randomness was read; the key manager provides its own")
}
