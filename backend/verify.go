package backend

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha1" // every hash that a key manager takes must be computable here
	"crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"encoding/asn1"
	"fmt"
	"math/big"

	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
)

// Verify returns nil if signature is pub's signature of digest under opts, as for [Signer]: digest has the length of
// opts.HashFunc(), or is the message for a scheme that signs messages. For RSASSA-PSS, PSSSaltLengthAuto accepts any
// salt length.
//
// The error wraps [ErrInvalidSignature], or [ErrInvalidParams] or [ErrUnsupported] if the question makes no sense. It
// makes no remote call.
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
		return ecdsa.VerifyASN1(pub, input, signature)
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(pub, input, signature, &ed25519.Options{Hash: req.Hash, Context: req.Context}) == nil
	case *mldsa.PublicKey:
		return mldsa.Verify(pub, input, signature, &mldsa.Options{Context: req.Context}) == nil
	}
	return false
}

// Fingerprint returns the SHA-256 hash of pub's SubjectPublicKeyInfo in DER (RFC 5280, Section 4.1.2.7). The error wraps
// [ErrUnsupported] if pub is of a type that has no such form, as nil is.
func Fingerprint(pub crypto.PublicKey) ([sha256.Size]byte, error) {
	der, err := mldsax509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("backend: fingerprint of %T: %w: %w", pub, ErrUnsupported, err)
	}
	return sha256.Sum256(der), nil
}

// Describe returns the kind and size of a public key, as in "RSA-2048", "ECDSA P-256", "Ed25519" or "ML-DSA-65", for
// [Capabilities].Algorithm and for people.
func Describe(pub crypto.PublicKey) string {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", pub.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + pub.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case *mldsa.PublicKey:
		return pub.Parameters().String()
	}
	return fmt.Sprintf("%T", pub)
}

// ECDSASignature returns the ASN.1 DER form (RFC 3279, Section 2.2.3) of a signature that a key manager returned as
// r ‖ s, each as long as the curve's order. The error wraps [ErrUnavailable]: the key manager's answer is unusable.
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
