package backend

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"io"

	"filippo.io/mldsa"
)

// SignRequest is what a driver is asked to sign, checked and with every default filled in.
type SignRequest struct {
	Scheme     Scheme
	Hash       crypto.Hash // of Digest, or 0
	SaltLength int         // of RSAPSS, in bytes
	Digest     []byte      // to sign, if Hash is set
	Message    []byte      // to sign, or for RSAPKCS1v15 to pad, if Hash is 0; else what Digest was made of, or nil if only the digest was given
	Context    string      // context string of Ed25519 or ML-DSA, at most 255 bytes
}

// minPKCS1v15 are the bytes that RSASSA-PKCS1-v1_5 adds at least (RFC 8017, Section 9.2).
const minPKCS1v15 = 11

// SignFunc signs. The signature is as crypto.Signer has it; [ECDSASignature] helps where the key manager returns r ‖ s.
type SignFunc func(ctx context.Context, req SignRequest) ([]byte, error)

// SignOps are the operations of a [MessageSigner] and [Verifier], for embedding beside a [Handle].
type SignOps struct {
	h    *Handle
	sign SignFunc
}

// Signing returns the signing operations over fn.
func (h *Handle) Signing(fn SignFunc) SignOps { return SignOps{h, fn} }

// Sign implements crypto.Signer, bounded by the call timeout. The first parameter is ignored.
func (o SignOps) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return o.SignContext(context.Background(), digest, opts)
}

// SignContext implements [Signer].
func (o SignOps) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	req, err := o.request(opts)
	if err != nil {
		return nil, err
	}
	least, limit := o.h.cfg.Capabilities.MinMessage, o.h.cfg.Capabilities.MaxMessage
	switch {
	case req.Hash != 0 && len(digest) != req.Hash.Size():
		return nil, o.h.Refusef(ErrInvalidParams, "got a digest of %d bytes; %s has %d", len(digest), req.Hash, req.Hash.Size())
	case req.Hash != 0:
		req.Digest = o.h.input(digest)
	case req.Scheme == RSAPKCS1v15:
		if longest := o.h.cfg.Public.(*rsa.PublicKey).Size() - minPKCS1v15; len(digest) > longest {
			return nil, o.h.Refusef(ErrInvalidParams, "got an input of %d bytes; without a hash it takes at most %d", len(digest), longest)
		}
		req.Message = o.h.input(digest)
	case limit > 0 && len(digest) > limit:
		return nil, o.h.Refusef(ErrInvalidParams, "got a message of %d bytes; it takes at most %d", len(digest), limit)
	case len(digest) < least:
		return nil, o.h.Refusef(ErrInvalidParams, "got a message of %d bytes; it takes at least %d", len(digest), least)
	default:
		req.Message = o.h.input(digest)
	}
	return o.call(ctx, req)
}

// SignMessage implements crypto.MessageSigner, bounded by the call timeout. The first parameter is ignored.
func (o SignOps) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return o.SignMessageContext(context.Background(), message, opts)
}

// SignMessageContext implements [MessageSigner].
func (o SignOps) SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	req, err := o.request(opts)
	if err != nil {
		return nil, err
	}
	if req.Hash == 0 {
		return o.SignContext(ctx, message, opts)
	}
	req.Digest = sum(req.Hash, message)
	if message == nil {
		message = []byte{} // nil says that there is only a digest
	}
	req.Message = o.h.input(message)
	return o.call(ctx, req)
}

// VerifyContext implements [Verifier] with [Verify].
func (o SignOps) VerifyContext(ctx context.Context, digest, signature []byte, opts crypto.SignerOpts) error {
	if ctx.Err() != nil {
		return contextError(ctx, o.h, nil)
	}
	return Verify(o.h.cfg.Public, digest, signature, opts)
}

func (o SignOps) call(ctx context.Context, req SignRequest) ([]byte, error) {
	signature, err := run(ctx, o.h, req, o.sign)
	if err != nil || !o.h.cfg.VerifySignatures {
		return signature, err
	}
	input := req.Digest
	if req.Hash == 0 {
		input = req.Message
	}
	if !req.verify(o.h.cfg.Public, input, signature) {
		return nil, o.h.Refusef(ErrKeyChanged, "was asked to sign, but the signature is not its own")
	}
	return signature, nil
}

// request finds the algorithm that opts name and checks that the key has it.
func (o SignOps) request(opts crypto.SignerOpts) (SignRequest, error) {
	if err := o.h.need(UsageSign); err != nil {
		return SignRequest{}, err
	}
	req, salt, err := parseSignerOpts(o.h.cfg.Public, opts)
	if err != nil {
		return SignRequest{}, o.h.Refusef(err, "got unusable options %T", opts)
	}
	alg, ok := o.h.cfg.Capabilities.Signature(req.Scheme, req.Hash)
	if !ok && !(req.Scheme == RSAPKCS1v15 && req.Hash == 0 && o.h.cfg.Capabilities.UnhashedPKCS1v15) {
		return SignRequest{}, o.h.Refusef(ErrUnsupported, "can't sign with %s; it takes %s",
			SignatureAlgorithm{Scheme: req.Scheme, Hash: req.Hash}, o.h.cfg.Capabilities.supported())
	}
	if req.Scheme == RSAPSS {
		req.SaltLength, err = o.saltLength(alg, salt)
		return req, err
	}
	if req.Context != "" && !o.h.cfg.Capabilities.SignatureContexts {
		return SignRequest{}, o.h.Refusef(ErrUnsupported, "takes no signature context string")
	}
	if len(req.Context) > 255 {
		return SignRequest{}, o.h.Refusef(ErrInvalidParams, "got a context string of %d bytes; at most 255 are allowed", len(req.Context))
	}
	return req, nil
}

// saltLength applies the rules of crypto/rsa to a salt length for signing, except that PSSSaltLengthAuto means the
// length of the hash: key managers have no notion of "as long as possible", and TLS and X.509 want the hash's length.
func (o SignOps) saltLength(alg SignatureAlgorithm, salt int) (int, error) {
	hashLen := alg.Hash.Size()
	if salt == rsa.PSSSaltLengthAuto || salt == rsa.PSSSaltLengthEqualsHash {
		salt = hashLen
	}
	// RFC 8017, Section 9.1.1: emLen >= hLen + sLen + 2, with emBits = modBits - 1.
	pub := o.h.cfg.Public.(*rsa.PublicKey)
	longest := (pub.N.BitLen()-1+7)/8 - hashLen - 2
	switch {
	case salt < 0 || salt > longest:
		return 0, o.h.Refusef(ErrInvalidParams, "got a PSS salt length of %d bytes; with %s it takes 0 to %d", salt, alg.Hash, longest)
	case alg.Salt == SaltEqualsHash && salt != hashLen:
		return 0, o.h.Refusef(ErrUnsupported, "can't make a PSS salt of %d bytes; with %s it takes %d", salt, alg.Hash, hashLen)
	}
	return salt, nil
}

// parseSignerOpts returns the scheme, hash and context that opts ask of a key with this public key, and for PSS the salt
// length as given. The error is a sentinel.
func parseSignerOpts(pub crypto.PublicKey, opts crypto.SignerOpts) (req SignRequest, salt int, err error) {
	if absentOptions(opts) {
		return req, 0, ErrInvalidParams
	}
	switch pub.(type) {
	case *rsa.PublicKey:
		req.Scheme = RSAPKCS1v15
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			req.Scheme, salt = RSAPSS, pss.SaltLength
		}
	case *ecdsa.PublicKey:
		req.Scheme = ECDSA
	case ed25519.PublicKey:
		req.Scheme = Ed25519
		if o, ok := opts.(*ed25519.Options); ok {
			req.Context = o.Context
		}
	case *mldsa.PublicKey:
		req.Scheme = MLDSA
		if o, ok := opts.(*mldsa.Options); ok {
			req.Context = o.Context
		}
	default:
		return req, 0, ErrUnsupported
	}
	req.Hash = opts.HashFunc()
	return req, salt, nil
}

// absentOptions reports whether opts are nil or a nil pointer of a known type. crypto/rsa and crypto/ed25519 panic in
// HashFunc of the latter, and a key of any kind may be handed one.
func absentOptions(opts crypto.SignerOpts) bool {
	switch o := opts.(type) {
	case nil:
		return true
	case *rsa.PSSOptions:
		return o == nil
	case *ed25519.Options:
		return o == nil
	case *mldsa.Options:
		return o == nil
	}
	return false
}
