package transit

import (
	"context"
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// SignRequest is what shall be signed or verified, and how. The zero value of each option fits every key.
type SignRequest struct {
	Input []byte // the message, or its digest if Prehashed is set; it may be empty

	// HashAlgorithm is one of sha1, sha2-224, sha2-256, sha2-384, sha2-512, sha3-224, sha3-256, sha3-384, sha3-512 and
	// none. Empty is sha2-256, or the hash that the key prefers if it can't sign with that. none is for RSA with
	// pkcs1v15 and Prehashed, where the input is padded as it is, and for Ed25519 and ML-DSA, which take nothing else.
	HashAlgorithm string

	// SignatureAlgorithm is, for RSA, pss or pkcs1v15. Empty is pss, or pkcs1v15 if the key can do nothing else. Other
	// keys take none.
	SignatureAlgorithm string

	// SaltLength of pss is auto, hash or a number of bytes. Empty is auto: the length of the hash for signing, any
	// length for verifying.
	SaltLength string

	// Prehashed says that Input is the digest by HashAlgorithm.
	Prehashed bool

	// Marshaling is asn1 (also if empty) or jws. It must be the same for verifying.
	Marshaling string

	// KeyVersion is the version to sign with; 0 is the latest. Verifying takes the version from the signature.
	KeyVersion int
}

// Sign returns a signature as vault:v<version>:<base64>. It needs the usage sign and makes one call.
//
// The error wraps [backend.ErrKeyNotFound] if there is no such transit key, [backend.ErrInvalidParams] or
// [backend.ErrUnsupported] if the request doesn't fit the key, [backend.ErrKeyChanged] if the managed key is another one
// now, or what the managed key returned.
func (e *Engine) Sign(ctx context.Context, name string, r SignRequest) (string, error) {
	v, err := e.choose("signing key", "signing", name, r.KeyVersion)
	if err != nil {
		return "", err
	}
	handle, err := e.handle(ctx, name, v)
	if err != nil {
		return "", err
	}
	s, err := r.scheme(v, v.caps)
	if err != nil {
		return "", err
	}
	sign := handle.SignMessageContext
	if r.Prehashed {
		sign = handle.SignContext
	}
	signature, err := sign(ctx, r.Input, s.opts)
	if err != nil {
		return "", fmt.Errorf("transit: sign with key %q version %d: %w", name, v.number, err)
	}
	if pub, ok := v.public.(*ecdsa.PublicKey); ok && s.jws {
		if signature, err = joinECDSA(pub, signature); err != nil {
			return "", fmt.Errorf("transit: sign with key %q version %d: %w", name, v.number, err)
		}
	}
	return format(v.number, signature, s.encoding), nil
}

// Verify reports whether signature is that of r.Input by the version of the key that it names. r has the options that it
// was signed with; r.KeyVersion is ignored. It needs the usage verify and makes no call. Every hash is taken, whether
// the key can sign with it or not.
//
// A signature that is well formed but of something else is false and no error. The error wraps
// [backend.ErrInvalidParams] if signature or request are malformed, [backend.ErrKeyNotFound] if there is no such transit
// key, or [backend.ErrNotPermitted].
func (e *Engine) Verify(ctx context.Context, name, signature string, r SignRequest) (bool, error) {
	number, encoded, err := parse("signature", signature)
	if err != nil {
		return false, err
	}
	v, err := e.made("signature verification key", "signature", name, number)
	if err != nil {
		return false, err
	}
	handle, err := e.verifier(ctx, name, v)
	if err != nil {
		return false, err
	}
	s, err := r.scheme(v, v.caps)
	if err != nil {
		return false, err
	}
	raw, ok := decode(encoded, s.encoding)
	if !ok {
		return false, invalid("invalid base64 signature value")
	}
	if pub, ok := v.public.(*ecdsa.PublicKey); ok {
		if raw, ok = splitECDSA(pub, raw, s.jws); !ok {
			return false, invalid("supplied signature is invalid")
		}
	}
	digest := r.Input
	if s.hash != 0 && !r.Prehashed {
		h := s.hash.New()
		h.Write(r.Input)
		digest = h.Sum(nil)
	}
	if handle != nil {
		err = handle.VerifyContext(ctx, digest, raw, s.opts)
	} else {
		err = backend.Verify(v.public, digest, raw, s.opts)
	}
	if errors.Is(err, backend.ErrInvalidSignature) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("transit: verify with key %q version %d: %w", name, v.number, err)
	}
	return true, nil
}

// verifier returns the handle that checks signatures of v under its policy. It is nil if the managed key has become
// another one: then the public key that v was made with checks them, because what was signed stays signed.
func (e *Engine) verifier(ctx context.Context, name string, v *version) (*managedkey.Key, error) {
	handle, err := e.managed(ctx, v)
	switch {
	case err != nil:
		return nil, fmt.Errorf("transit: key %q version %d: %w", name, v.number, err)
	case v.is(handle):
		return handle, nil
	case !handle.Capabilities().Usages.Has(backend.UsageVerify):
		return nil, fmt.Errorf("transit: key %q version %d: usage verify: %w", name, v.number, backend.ErrNotPermitted)
	}
	return nil, nil
}

type ecdsaSignature struct{ R, S *big.Int }

// joinECDSA turns an ASN.1 signature (RFC 3279, Section 2.2.3) into r ‖ s, each as long as the curve's order.
func joinECDSA(pub *ecdsa.PublicKey, der []byte) ([]byte, error) {
	n := (pub.Curve.Params().N.BitLen() + 7) / 8
	var sig ecdsaSignature
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) > 0 || !fits(pub, sig.R) || !fits(pub, sig.S) {
		return nil, fmt.Errorf("the key manager returned a malformed ECDSA signature: %w", backend.ErrInvalidSignature)
	}
	out := make([]byte, 2*n)
	sig.R.FillBytes(out[:n])
	sig.S.FillBytes(out[n:])
	return out, nil
}

// splitECDSA returns a signature in ASN.1, and whether it is well formed for the curve.
func splitECDSA(pub *ecdsa.PublicKey, raw []byte, jws bool) ([]byte, bool) {
	var sig ecdsaSignature
	if !jws {
		rest, err := asn1.Unmarshal(raw, &sig)
		return raw, err == nil && len(rest) == 0 && fits(pub, sig.R) && fits(pub, sig.S)
	}
	n := (pub.Curve.Params().N.BitLen() + 7) / 8
	if len(raw) != 2*n {
		return nil, false
	}
	sig.R, sig.S = new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])
	if !fits(pub, sig.R) || !fits(pub, sig.S) {
		return nil, false
	}
	der, err := asn1.Marshal(sig)
	return der, err == nil
}

// fits reports whether x is in [1, n-1] (FIPS 186-5, Section 6.4.2).
func fits(pub *ecdsa.PublicKey, x *big.Int) bool {
	return x.Sign() > 0 && x.Cmp(pub.Curve.Params().N) < 0
}
