package managedkey

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// Sign implements crypto.Signer, bounded by the context of a view ([Key.WithContext]) or the backend's call timeout. It
// needs the usage sign. The first parameter is ignored.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(k.context(), digest, opts)
}

// SignContext is as backend.Signer has it. It needs the usage sign.
func (k *Key) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("sign", describeSign(opts), digest), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.SignContext(ctx, digest, opts)
		})
	}
	for {
		signer, err := need[backend.Signer](k, "sign", backend.UsageSign)
		if err != nil {
			return nil, err
		}
		signature, err := signer.SignContext(ctx, digest, opts)
		if !k.moved(signer, err) {
			return k.result("sign", signature, err)
		}
	}
}

// SignMessage implements crypto.MessageSigner, bounded as [Key.Sign] is. It needs the usage sign. The first parameter
// is ignored.
func (k *Key) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignMessageContext(k.context(), message, opts)
}

// SignMessageContext is as backend.MessageSigner has it. It needs the usage sign. If the backend's key takes digests
// only, the message is hashed here.
func (k *Key) SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("sign_message", describeSign(opts), message), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.SignMessageContext(ctx, message, opts)
		})
	}
	signer, err := need[backend.Signer](k, "sign", backend.UsageSign)
	if err != nil {
		return nil, err
	}
	if m, ok := signer.(backend.MessageSigner); ok {
		signature, err := m.SignMessageContext(ctx, message, opts)
		if k.moved(m, err) {
			return k.SignMessageContext(ctx, message, opts)
		}
		return k.result("sign", signature, err)
	}
	if isNil(opts) {
		return nil, k.fail("sign", fmt.Errorf("options are nil; they take a crypto.SignerOpts: %w", backend.ErrInvalidParams))
	}
	digest := message
	if h := opts.HashFunc(); h != 0 {
		if !h.Available() {
			return nil, k.fail("sign", fmt.Errorf("can't hash a message with %v: %w", h, backend.ErrUnsupported))
		}
		hash := h.New()
		hash.Write(message)
		digest = hash.Sum(nil)
	}
	signature, err := signer.SignContext(ctx, digest, opts)
	if k.moved(signer, err) {
		return k.SignContext(ctx, digest, opts)
	}
	return k.result("sign", signature, err)
}

// VerifyContext is as backend.Verifier has it. It needs the usage verify, and is done here, with the public key.
func (k *Key) VerifyContext(ctx context.Context, digest, signature []byte, opts crypto.SignerOpts) error {
	if by := k.observer(); by != nil {
		return k.observeErr(ctx, by, k.operation("verify", describeSign(opts), digest, signature), func(ctx context.Context, k *Key) error {
			return k.VerifyContext(ctx, digest, signature, opts)
		})
	}
	key, err := k.use("verify", backend.UsageVerify)
	if err != nil {
		return err
	}
	if verifier, ok := key.(backend.Verifier); ok {
		err = verifier.VerifyContext(ctx, digest, signature, opts)
	} else if err = backend.ContextError(ctx); err == nil {
		err = backend.Verify(k.bound.public, digest, signature, opts)
	}
	if err != nil {
		return k.fail("verify", err)
	}
	return nil
}

// Decrypt implements crypto.Decrypter, bounded as [Key.Sign] is. It needs the usage decrypt. The first parameter is
// ignored.
func (k *Key) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.DecryptContext(k.context(), ciphertext, opts)
}

// DecryptContext is as backend.Decrypter has it. It needs the usage decrypt. Every failed decryption gives an error of
// the same text that wraps backend.ErrDecryption.
func (k *Key) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("decrypt", describeDecrypt(opts), ciphertext), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.DecryptContext(ctx, ciphertext, opts)
		})
	}
	for {
		decrypter, err := need[backend.Decrypter](k, "decrypt", backend.UsageDecrypt)
		if err != nil {
			return nil, err
		}
		plaintext, err := decrypter.DecryptContext(ctx, ciphertext, opts)
		if !k.moved(decrypter, err) {
			return k.decrypted("decrypt", plaintext, err)
		}
	}
}

// EncryptContext returns plaintext encrypted with the RSA public key by RSAES-OAEP (RFC 8017, Section 7.1.1). It needs
// the usage encrypt, and is done here. nil opts choose the hash that the key prefers, Capabilities().OAEPHashes[0].
//
// Options with which the key could not decrypt are refused with backend.ErrUnsupported, and a plaintext that is too
// long with backend.ErrInvalidParams.
func (k *Key) EncryptContext(ctx context.Context, plaintext []byte, opts *rsa.OAEPOptions) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("encrypt", describeDecrypt(opts), plaintext), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.EncryptContext(ctx, plaintext, opts)
		})
	}
	key, err := k.use("encrypt", backend.UsageEncrypt)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, k.fail("encrypt", backend.ContextError(ctx))
	}
	ciphertext, err := encryptOAEP(key, plaintext, opts)
	return k.result("encrypt", ciphertext, err)
}

func encryptOAEP(key backend.Key, plaintext []byte, opts *rsa.OAEPOptions) ([]byte, error) {
	caps := key.Capabilities()
	public, ok := key.Public().(*rsa.PublicKey)
	if !ok || len(caps.OAEPHashes) == 0 {
		return nil, fmt.Errorf("a %s key can't do RSAES-OAEP: %w", caps.Algorithm, backend.ErrUnsupported)
	}
	if opts == nil {
		opts = &rsa.OAEPOptions{Hash: caps.OAEPHashes[0]}
	}
	h := opts.Hash
	switch {
	case !slices.Contains(caps.OAEPHashes, h) || !h.Available():
		return nil, fmt.Errorf("OAEP with %v; the key takes %v: %w", h, caps.OAEPHashes, backend.ErrUnsupported)
	case opts.MGFHash != 0 && opts.MGFHash != h:
		return nil, fmt.Errorf("OAEP with %v for MGF1 and %v for the label; both must be the same: %w",
			opts.MGFHash, h, backend.ErrUnsupported)
	case len(opts.Label) > 0 && !caps.OAEPLabels:
		return nil, fmt.Errorf("the key takes no OAEP label: %w", backend.ErrUnsupported)
	}
	// RFC 8017, Section 7.1.1: mLen <= k - 2hLen - 2.
	if longest := public.Size() - 2*h.Size() - 2; len(plaintext) > longest {
		return nil, fmt.Errorf("plaintext of %d bytes; OAEP with %v takes at most %d: %w",
			len(plaintext), h, max(longest, 0), backend.ErrInvalidParams)
	}
	ciphertext, err := rsa.EncryptOAEP(h.New(), rand.Reader, public, plaintext, opts.Label)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", backend.ErrInvalidParams, err)
	}
	return ciphertext, nil
}
