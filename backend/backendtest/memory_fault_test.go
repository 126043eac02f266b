package backendtest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"github.com/managedkeys/managedkeys/backend"
)

// spoil returns key as the client's fault has it, if the fault is one of how a key checks and answers calls.
func (m *memory) spoil(key backend.Key) backend.Key {
	s, signs := key.(backend.MessageSigner)
	switch m.fault {
	case "no-message-signer":
		if signs {
			return struct{ backend.Signer }{s}
		}
	case "undeclared-accepted", "any-digest-length", "late-refusal", "context-ignored", "nil-options-panic", "any-salt",
		"verifies-anything", "closed-is-unsupported", "cancel-breaks", "reads-randomness":
		if k, ok := key.(rsaKey); ok {
			return struct {
				badSigner
				backend.DecryptOps
				backend.WrapOps
			}{badSigner{k, m}, k.DecryptOps, k.WrapOps}
		}
		if k, ok := key.(pssKey); ok {
			return struct {
				badSigner
				backend.DecryptOps
			}{badSigner{k, m}, k.DecryptOps}
		}
		if signs {
			return badSigner{s, m}
		}
	case "agrees-not":
		if k, ok := key.(agreeKey); ok {
			return signsOnly{k.Handle, k.SignOps}
		}
	case "agrees-as-another", "agrees-too-late", "agrees-without-context", "agrees-nil-panics", "agrees-on-other-curves":
		if k, ok := key.(agreeKey); ok {
			return badAgreer{k, m}
		}
	case "decapsulates-not":
		if k, ok := key.(kemKey); ok {
			return k.Handle
		}
	case "decapsulates-as-another", "decapsulates-any-length", "decapsulates-without-context":
		if k, ok := key.(kemKey); ok {
			return badDecapsulator{k, m}
		}
	case "decryption-reason", "mgf-ignored", "pkcs1-decrypted", "decryption-output":
		if k, ok := key.(rsaKey); ok {
			return badDecrypter{k, m, m.fault}
		}
	case "mac-prefix":
		if k, ok := key.(hmacKey); ok {
			return badMAC{k}
		}
	case "random-short":
		if k, ok := key.(aesKey); ok {
			return badRandom{k}
		}
	}
	return key
}

// badSigner breaks rules that package backend keeps for a driver which builds its keys on backend.Handle.
type badSigner struct {
	backend.MessageSigner
	m *memory
}

func (b badSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if b.m.is("reads-randomness") && random != nil {
		if _, err := random.Read(make([]byte, 16)); err != nil {
			return nil, fmt.Errorf("memory: %w: %w", backend.ErrUnavailable, err)
		}
	}
	return b.SignContext(context.Background(), digest, opts)
}

func (b badSigner) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	switch b.m.fault {
	case "undeclared-accepted":
		if opts != nil && opts.HashFunc() == crypto.SHA224 {
			opts, digest = crypto.SHA256, append(bytes.Clone(digest), 0, 0, 0, 0)
		}
	case "any-digest-length":
		if opts == crypto.SHA256 && len(digest) > 32 {
			digest = digest[:32]
		}
	case "late-refusal":
		if b.m.gate.Closed() {
			return nil, fmt.Errorf("memory: %w", backend.ErrClosed)
		}
	case "context-ignored":
		ctx = context.WithoutCancel(ctx)
	case "nil-options-panic":
		_ = opts.HashFunc()
	case "any-salt":
		if pss, ok := opts.(*rsa.PSSOptions); ok && pss != nil && pss.SaltLength == 20 {
			opts = &rsa.PSSOptions{Hash: pss.Hash}
		}
	case "cancel-breaks":
		b.m.mu.Lock()
		defer b.m.mu.Unlock()
		b.m.broken = b.m.broken || ctx.Err() != nil
		if b.m.broken && ctx.Err() == nil {
			return nil, fmt.Errorf("memory: session in use: %w", backend.ErrUnavailable)
		}
	case "closed-is-unsupported":
		if b.m.gate.Closed() {
			return nil, fmt.Errorf("memory: %w", backend.ErrUnsupported)
		}
	}
	return b.MessageSigner.SignContext(ctx, digest, opts)
}

func (b badSigner) VerifyContext(ctx context.Context, digest, sig []byte, opts crypto.SignerOpts) error {
	err := b.MessageSigner.(backend.Verifier).VerifyContext(ctx, digest, sig, opts)
	if b.m.is("verifies-anything") && errors.Is(err, backend.ErrInvalidSignature) {
		return nil
	}
	return err
}

// badDecrypter breaks the rules of decryption.
type badDecrypter struct {
	rsaKey
	m     *memory
	fault string
}

func (b badDecrypter) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return b.DecryptContext(context.Background(), ciphertext, opts)
}

func (b badDecrypter) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	switch oaep, _ := opts.(*rsa.OAEPOptions); {
	case b.fault == "mgf-ignored" && oaep != nil && oaep.MGFHash != 0:
		opts = &rsa.OAEPOptions{Hash: oaep.Hash, Label: oaep.Label}
	case b.fault == "pkcs1-decrypted" && oaep == nil:
		return nil, backend.ErrDecryption
	}
	out, err := b.rsaKey.DecryptContext(ctx, ciphertext, opts)
	if err == backend.ErrDecryption {
		switch b.fault {
		case "decryption-reason":
			return nil, fmt.Errorf("memory: ciphertext of %d bytes: %w", len(ciphertext), err)
		case "decryption-output":
			return make([]byte, 16), err
		}
	}
	return out, err
}

// badMAC accepts a MAC that was cut short.
type badMAC struct{ hmacKey }

func (b badMAC) VerifyMAC(ctx context.Context, alg backend.MACAlgorithm, message, mac []byte) error {
	want, err := b.ComputeMAC(ctx, alg, message)
	if err != nil {
		return err
	}
	if len(mac) > len(want) || !bytes.HasPrefix(want, mac) {
		return fmt.Errorf("memory: %w", backend.ErrInvalidSignature)
	}
	return nil
}

// badRandom gives fewer bytes than it was asked for.
type badRandom struct{ aesKey }

func (b badRandom) GenerateRandom(ctx context.Context, n int) ([]byte, error) {
	out, err := b.aesKey.GenerateRandom(ctx, n)
	return out[:min(len(out), 16)], err
}
