package transit

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// SignRequest is what shall be signed or verified, and how. The zero value of each option fits every key.
type SignRequest struct {
	Input []byte // the message, or its digest if Prehashed is set; it may be empty

	// HashAlgorithm is one of sha1, sha2-224, sha2-256, sha2-384, sha2-512, sha3-224, sha3-256, sha3-384, sha3-512 and
	// none. Empty is sha2-256, or the hash that the key prefers if it can't sign with that. none is for RSA with
	// pkcs1v15 and Prehashed, where the input is padded as it is if the key can do that (see
	// backend.Capabilities.UnhashedPKCS1v15), and for Ed25519 and ML-DSA, which take nothing else; but a digest by
	// sha2-512 that is Prehashed is signed with Ed25519ph (RFC 8032, Section 5.1).
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

	// SignatureContext is the context string of Ed25519ctx, Ed25519ph (RFC 8032, Section 5.1) or ML-DSA (FIPS 204, Section 5.2), at most
	// 255 bytes. Other keys take none.
	SignatureContext string

	Context   []byte // required by derived keys, and taken by no others
	Reference string // comes back in the result of a batch

	// KeyVersion is the version to sign with; 0 is the latest. Verifying takes the version from the signature.
	KeyVersion int
}

func (r SignRequest) reference() string { return r.Reference }
func (r SignRequest) context() []byte   { return r.Context }

// VerifyRequest is a signature, and what it is to be of.
type VerifyRequest struct {
	SignRequest
	Signature string // vault:v<version>:<base64>
}

const (
	signingKey      = "signing key"
	verificationKey = "signature verification key"
)

// Sign returns a signature as vault:v<version>:<base64>. It needs the usage sign and makes one call.
//
// The error wraps [backend.ErrKeyNotFound] if there is no such transit key, [backend.ErrInvalidParams] or
// [backend.ErrUnsupported] if the request doesn't fit the key, [backend.ErrKeyChanged] if the managed key is another one
// now, or what the managed key returned.
func (e *Engine) Sign(ctx context.Context, name string, r SignRequest) (string, error) {
	return one(ctx, e, signingKey, name, r, e.sign)
}

// SignBatch is Sign for each of requests. Results are in their order; the error is about the batch as a whole, as for
// [Engine.EncryptBatch].
func (e *Engine) SignBatch(ctx context.Context, name string, requests []SignRequest) ([]Result[string], error) {
	return all(ctx, e, signingKey, name, true, requests, e.sign)
}

func (e *Engine) sign(ctx context.Context, k *key, r SignRequest) (string, int, error) {
	k, v, err := e.choose(ctx, k, "signing", r.KeyVersion)
	if err != nil {
		return "", 0, err
	}
	// What can't be signed is told before anything is opened.
	s, err := r.scheme(v)
	if err != nil {
		return "", 0, err
	}
	if err := k.checkContext(r.Context); err != nil {
		return "", 0, err
	}
	var signature []byte
	if k.rec.Derived {
		signature, err = e.signDerived(ctx, v, &r, s)
	} else {
		var h handle
		if h, err = e.handle(ctx, k, v); err != nil {
			return "", 0, err
		}
		sign := h.SignMessageContext
		if r.Prehashed {
			sign = h.SignContext
		}
		signature, err = sign(ctx, r.Input, s.opts)
	}
	if pub, ok := v.public.(*ecdsa.PublicKey); ok && s.jws && err == nil {
		signature, err = joinECDSA(pub, signature)
	}
	if err != nil {
		return "", 0, failed("sign", k, v, err)
	}
	return format(v.number, signature, s.encoding), v.number, nil
}

func (e *Engine) signDerived(ctx context.Context, v *version, r *SignRequest, s scheme) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if e.opts.Software == nil {
		return nil, fmt.Errorf("software keys are not allowed here: Options.Software is nil: %w", backend.ErrUnsupported)
	}
	private, _, err := v.signingKey(r.Context)
	if err != nil {
		return nil, err
	}
	return private.Sign(nil, r.Input, s.opts)
}

// Verify reports whether signature is that of r.Input by the version of the key that it names. r has the options that it
// was signed with; r.KeyVersion is ignored. It needs the usage verify and makes no call. Every hash is taken, whether
// the key can sign with it or not.
//
// A signature that is well formed but of something else is false and no error. The error wraps
// [backend.ErrInvalidParams] if signature or request are malformed, [backend.ErrKeyNotFound] if there is no such transit
// key, or [backend.ErrNotPermitted].
func (e *Engine) Verify(ctx context.Context, name, signature string, r SignRequest) (bool, error) {
	return one(ctx, e, verificationKey, name, VerifyRequest{r, signature}, e.verify)
}

// VerifyBatch is Verify for each of requests, as [Engine.SignBatch] is Sign.
func (e *Engine) VerifyBatch(ctx context.Context, name string, requests []VerifyRequest) ([]Result[bool], error) {
	return all(ctx, e, verificationKey, name, true, requests, e.verify)
}

func (e *Engine) verify(ctx context.Context, k *key, r VerifyRequest) (bool, int, error) {
	number, encoded, err := parse("signature", r.Signature)
	if err != nil {
		return false, 0, err
	}
	k, v, err := e.made(ctx, k, "signature", number)
	if err != nil {
		return false, 0, err
	}
	s, err := r.scheme(v)
	if err != nil {
		return false, 0, err
	}
	if err := k.checkContext(r.Context); err != nil {
		return false, 0, err
	}
	h, err := e.verifier(ctx, k, v)
	if err != nil {
		return false, 0, err
	}
	raw, ok := decode(encoded, s.encoding)
	if !ok {
		return false, 0, invalid("invalid base64 signature value")
	}
	public := v.public
	switch pub := public.(type) {
	case *ecdsa.PublicKey:
		if raw, ok = splitECDSA(pub, raw, s.jws); !ok {
			return false, 0, invalid("supplied signature is invalid")
		}
	case nil: // derived
		var own ed25519.PublicKey
		if _, own, err = v.signingKey(r.Context); err != nil {
			return false, 0, failed("verify", k, v, err)
		}
		public = own
	}
	input := r.Input
	if s.hash != 0 && !r.Prehashed {
		input = digest(s.hash, r.Input)
	}
	if h != nil {
		err = h.VerifyContext(ctx, input, raw, s.opts)
	} else {
		err = backend.Verify(public, input, raw, s.opts)
	}
	if errors.Is(err, backend.ErrInvalidSignature) {
		return false, v.number, nil
	}
	if err != nil {
		return false, 0, failed("verify", k, v, err)
	}
	return true, v.number, nil
}
