package backend

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha1" // every hash that a key manager takes must be computable here
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"encoding/asn1"
	"fmt"
	"math/big"

	"filippo.io/mldsa"
)

// Verify returns nil if signature is pub's signature of digest under opts, as for [Signer]: digest has the length of
// opts.HashFunc(), or is the message for a scheme that signs messages. For RSASSA-PSS, PSSSaltLengthAuto accepts any
// salt length.
//
// The error wraps [ErrInvalidSignature], or [ErrInvalidParams] or [ErrUnsupported] if the question makes no sense, as with
// a curve that is not one of P-224, P-256, P-384, P-521 and secp256k1. No signature of a point that is not on its curve is
// valid. It makes no remote call.
func Verify(pub crypto.PublicKey, digest, signature []byte, opts crypto.SignerOpts) error {
	req, salt, err := parseSignerOpts(pub, opts)
	if err != nil {
		return fmt.Errorf("backend: verify with %T and options %T: %w", pub, opts, err)
	}
	if req.Hash != 0 {
		if !req.Hash.Available() {
			return fmt.Errorf("backend: verify with %v: %w", req.Hash, ErrUnsupported)
		}
		if len(digest) != req.Hash.Size() {
			return fmt.Errorf("backend: verify: got a digest of %d bytes; %v has %d: %w", len(digest), req.Hash, req.Hash.Size(), ErrInvalidParams)
		}
	}
	if ec, ok := pub.(*ecdsa.PublicKey); ok && !certifiable(ec.Curve) && !isSecp256k1(ec.Curve) {
		return fmt.Errorf("backend: verify with %s; it takes P-224, P-256, P-384, P-521 and secp256k1: %w", Describe(pub), ErrUnsupported)
	}
	req.SaltLength = salt
	if req.Scheme == RSAPSS && (req.Hash == 0 || salt < rsa.PSSSaltLengthEqualsHash) {
		return fmt.Errorf("backend: verify RSA PSS with hash %d and salt length %d: %w", req.Hash, salt, ErrInvalidParams)
	}
	if req.Scheme == MLDSA && req.Hash != 0 {
		return fmt.Errorf("backend: verify ML-DSA with hash %d: %w", req.Hash, ErrUnsupported)
	}
	if !req.verify(pub, digest, signature) {
		return fmt.Errorf("backend: %s: %w", req.Scheme, ErrInvalidSignature)
	}
	return nil
}

// verify reports whether signature is what was requested, for the digest or message input.
func (req SignRequest) verify(pub crypto.PublicKey, input, signature []byte) bool {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if req.Scheme == RSAPSS {
			return rsa.VerifyPSS(pub, req.Hash, input, signature, &rsa.PSSOptions{SaltLength: req.SaltLength}) == nil
		}
		return rsa.VerifyPKCS1v15(pub, req.Hash, input, signature) == nil
	case *ecdsa.PublicKey:
		switch {
		case isSecp256k1(pub.Curve):
			return verifySecp256k1(pub, input, signature)
		case certifiable(pub.Curve):
			return ecdsa.VerifyASN1(pub, input, signature)
		}
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(pub, input, signature, &ed25519.Options{Hash: req.Hash, Context: req.Context}) == nil
	case *mldsa.PublicKey:
		return mldsa.Verify(pub, input, signature, &mldsa.Options{Context: req.Context}) == nil
	}
	return false
}

// ECDSASignature returns the ASN.1 DER form (RFC 3279, Section 2.2.3) of a signature that a key manager returned as
// r ‖ s, each as long as the curve's order, 32 bytes for P-256 and secp256k1. The error wraps [ErrUnavailable]: the key manager's answer is unusable.
func ECDSASignature(pub *ecdsa.PublicKey, raw []byte) ([]byte, error) {
	n := (pub.Curve.Params().N.BitLen() + 7) / 8
	if len(raw) != 2*n {
		return nil, fmt.Errorf("backend: key manager returned an ECDSA signature of %d bytes; %s has %d: %w", len(raw), pub.Curve.Params().Name, 2*n, ErrUnavailable)
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])})
}

func sum(h crypto.Hash, message []byte) []byte {
	hash := h.New()
	hash.Write(message)
	return hash.Sum(nil)
}
