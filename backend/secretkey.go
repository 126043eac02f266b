package backend

import (
	"context"
	"crypto/hmac"
	"fmt"
	"slices"
)

// CipherFunc encrypts or decrypts data with additional data. When it decrypts and can't, the error wraps
// [ErrDecryption].
type CipherFunc func(ctx context.Context, data, additionalData []byte) ([]byte, error)

// AEADOps are the operations of an [AEAD], for embedding beside a [Handle].
type AEADOps struct {
	h          *Handle
	seal, open CipherFunc
}

// AEAD returns the operations of authenticated encryption over seal and open.
func (h *Handle) AEAD(seal, open CipherFunc) AEADOps { return AEADOps{h, seal, open} }

// Seal implements [AEAD].
func (o AEADOps) Seal(ctx context.Context, plaintext, additionalData []byte) ([]byte, error) {
	if err := o.h.need(UsageEncrypt); err != nil {
		return nil, err
	}
	if limit := o.h.cfg.Capabilities.MaxPlaintext; limit > 0 && len(plaintext) > limit {
		return nil, o.h.Refusef(ErrInvalidParams, "got a plaintext of %d bytes; it takes at most %d", len(plaintext), limit)
	}
	if least := o.h.cfg.Capabilities.MinPlaintext; len(plaintext) < least {
		return nil, o.h.Refusef(ErrInvalidParams, "got a plaintext of %d bytes; it takes at least %d", len(plaintext), least)
	}
	return o.call(ctx, o.seal, plaintext, additionalData)
}

// Open implements [AEAD].
func (o AEADOps) Open(ctx context.Context, ciphertext, additionalData []byte) ([]byte, error) {
	if err := o.h.need(UsageDecrypt); err != nil {
		return nil, err
	}
	plaintext, err := o.call(ctx, o.open, ciphertext, additionalData)
	return plaintext, decryptionError(err)
}

func (o AEADOps) call(ctx context.Context, fn CipherFunc, data, additionalData []byte) ([]byte, error) {
	return run(ctx, o.h, cipherCall{fn, o.h.input(data), o.h.input(additionalData)}, runCipher)
}

type cipherCall struct {
	fn                   CipherFunc
	data, additionalData []byte
}

func runCipher(ctx context.Context, c cipherCall) ([]byte, error) {
	return c.fn(ctx, c.data, c.additionalData)
}

// MACFunc returns the MAC of message.
type MACFunc func(ctx context.Context, alg MACAlgorithm, message []byte) ([]byte, error)

// MACOps are the operations of a [MAC], for embedding beside a [Handle].
type MACOps struct {
	h   *Handle
	mac MACFunc
}

// MAC returns the operations of message authentication over fn.
func (h *Handle) MAC(fn MACFunc) MACOps { return MACOps{h, fn} }

// ComputeMAC implements [MAC].
func (o MACOps) ComputeMAC(ctx context.Context, alg MACAlgorithm, message []byte) ([]byte, error) {
	if err := o.h.need(UsageMAC); err != nil {
		return nil, err
	}
	caps := o.h.cfg.Capabilities
	switch {
	case !slices.Contains(caps.MACs, alg):
		return nil, o.h.Refusef(ErrUnsupported, "can't compute %.40q; it takes %v", string(alg), caps.MACs)
	case caps.MaxMessage > 0 && len(message) > caps.MaxMessage:
		return nil, o.h.Refusef(ErrInvalidParams, "got a message of %d bytes; it takes at most %d", len(message), caps.MaxMessage)
	case len(message) < caps.MinMessage:
		return nil, o.h.Refusef(ErrInvalidParams, "got a message of %d bytes; it takes at least %d", len(message), caps.MinMessage)
	}
	return run(ctx, o.h, macCall{o.mac, alg, o.h.input(message)}, runMAC)
}

type macCall struct {
	fn      MACFunc
	alg     MACAlgorithm
	message []byte
}

func runMAC(ctx context.Context, c macCall) ([]byte, error) { return c.fn(ctx, c.alg, c.message) }

// VerifyMAC implements [MAC].
func (o MACOps) VerifyMAC(ctx context.Context, alg MACAlgorithm, message, mac []byte) error {
	want, err := o.ComputeMAC(ctx, alg, message)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, mac) {
		return fmt.Errorf("backend: MAC does not match: %w", ErrInvalidSignature)
	}
	return nil
}

// RandomFunc returns n random bytes.
type RandomFunc func(ctx context.Context, n int) ([]byte, error)

// RandomOps are the operations of a [Random], for embedding beside a [Handle].
type RandomOps struct {
	h      *Handle
	random RandomFunc
}

// Random returns the operation of random bytes over fn.
func (h *Handle) Random(fn RandomFunc) RandomOps { return RandomOps{h, fn} }

// GenerateRandom implements [Random].
func (o RandomOps) GenerateRandom(ctx context.Context, n int) ([]byte, error) {
	if err := o.h.need(UsageGenerateRandom); err != nil {
		return nil, err
	}
	if limit := o.h.cfg.Capabilities.MaxRandom; n < 1 || n > limit {
		return nil, o.h.Refusef(ErrInvalidParams, "was asked for %d random bytes; it takes 1 to %d", n, limit)
	}
	return run(ctx, o.h, n, o.random)
}

// WrapFunc wraps or unwraps key material. When it unwraps and can't, the error wraps [ErrDecryption].
type WrapFunc func(ctx context.Context, data []byte) ([]byte, error)

// WrapOps are the operations of a [Wrapper], for embedding beside a [Handle].
type WrapOps struct {
	h            *Handle
	wrap, unwrap WrapFunc
}

// Wrapping returns the operations of key wrapping over wrap and unwrap.
func (h *Handle) Wrapping(wrap, unwrap WrapFunc) WrapOps { return WrapOps{h, wrap, unwrap} }

// WrapKey implements [Wrapper].
func (o WrapOps) WrapKey(ctx context.Context, material []byte) ([]byte, error) {
	if err := o.h.need(UsageWrap); err != nil {
		return nil, err
	}
	return run(ctx, o.h, o.h.input(material), o.wrap)
}

// UnwrapKey implements [Wrapper].
func (o WrapOps) UnwrapKey(ctx context.Context, wrapped []byte) ([]byte, error) {
	if err := o.h.need(UsageUnwrap); err != nil {
		return nil, err
	}
	material, err := run(ctx, o.h, o.h.input(wrapped), o.unwrap)
	return material, decryptionError(err)
}
