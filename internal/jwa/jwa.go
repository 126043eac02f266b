// Package jwa signs with transit keys by the algorithms of JSON Web Signature (RFC 7518, Section 3; RFC 8037, Section 3.1).
package jwa

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/transit"
)

// algorithm is one of RFC 7518.
type algorithm struct {
	name   string
	scheme backend.Scheme
	hash   crypto.Hash
	curve  elliptic.Curve // of ECDSA, which has one for each hash
}

// algorithms are in order of preference: those that can't be signed with a weak padding come first.
var algorithms = []algorithm{
	{"ES256", backend.ECDSA, crypto.SHA256, elliptic.P256()},
	{"ES384", backend.ECDSA, crypto.SHA384, elliptic.P384()},
	{"ES512", backend.ECDSA, crypto.SHA512, elliptic.P521()},
	{"PS256", backend.RSAPSS, crypto.SHA256, nil},
	{"PS384", backend.RSAPSS, crypto.SHA384, nil},
	{"PS512", backend.RSAPSS, crypto.SHA512, nil},
	{"RS256", backend.RSAPKCS1v15, crypto.SHA256, nil},
	{"RS384", backend.RSAPKCS1v15, crypto.SHA384, nil},
	{"RS512", backend.RSAPKCS1v15, crypto.SHA512, nil},
	{"EdDSA", backend.Ed25519, 0, nil},
}

// Of returns the algorithms that a key can sign with, the preferred one first.
func Of(s *transit.Signer) []string {
	var names []string
	caps := s.Capabilities()
	for _, a := range algorithms {
		if _, ok := caps.Signature(a.scheme, a.hash); ok && a.fits(s.Public()) {
			names = append(names, a.name)
		}
	}
	return names
}

func (a *algorithm) fits(public crypto.PublicKey) bool {
	switch pub := public.(type) {
	case *ecdsa.PublicKey:
		return a.scheme == backend.ECDSA && pub.Curve == a.curve
	case *rsa.PublicKey:
		return a.scheme == backend.RSAPSS || a.scheme == backend.RSAPKCS1v15
	case ed25519.PublicKey:
		return a.scheme == backend.Ed25519
	}
	return false
}

// Sign returns the signature of payload as JWS has it, with one call. The error wraps [backend.ErrUnsupported] for an algorithm that
// isn't one of the key, and is that of the signer otherwise.
func Sign(ctx context.Context, s *transit.Signer, name string, payload []byte) ([]byte, error) {
	i := slices.IndexFunc(algorithms, func(a algorithm) bool { return a.name == name })
	if i < 0 || !algorithms[i].fits(s.Public()) {
		return nil, fmt.Errorf("jws: algorithm %.20q; the key takes %v: %w", name, Of(s), backend.ErrUnsupported)
	}
	a := &algorithms[i]
	var opts crypto.SignerOpts = a.hash
	if a.scheme == backend.RSAPSS {
		opts = &rsa.PSSOptions{Hash: a.hash, SaltLength: rsa.PSSSaltLengthEqualsHash} // RFC 7518, Section 3.5
	}
	signature, err := s.SignMessageContext(ctx, payload, opts)
	if err != nil || a.curve == nil {
		return signature, err
	}
	return join(a.curve, signature)
}

// join turns ASN.1 into r ‖ s, each as long as the curve's order (RFC 7518, Section 3.4).
func join(curve elliptic.Curve, der []byte) ([]byte, error) {
	n := (curve.Params().N.BitLen() + 7) / 8
	r, s, outer, inner := new(big.Int), new(big.Int), cryptobyte.String(der), cryptobyte.String(nil)
	ok := outer.ReadASN1(&inner, asn1.SEQUENCE) && outer.Empty() && inner.ReadASN1Integer(r) && inner.ReadASN1Integer(s) && inner.Empty()
	if !ok || r.Sign() < 0 || s.Sign() < 0 || r.BitLen() > 8*n || s.BitLen() > 8*n {
		return nil, fmt.Errorf("jws: the key manager returned a malformed ECDSA signature: %w", backend.ErrInvalidSignature)
	}
	out := make([]byte, 2*n)
	r.FillBytes(out[:n])
	s.FillBytes(out[n:])
	return out, nil
}
