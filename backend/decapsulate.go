package backend

import (
	"context"
	"crypto"
	"crypto/mlkem"
)

// DecapsulateFunc returns the shared key of a ciphertext, which has the length that the key's parameter set gives it (FIPS
// 203, Section 7.3). For a ciphertext that nobody made for this key it returns another key and no error: FIPS 203 calls
// that implicit rejection.
type DecapsulateFunc func(ctx context.Context, ciphertext []byte) ([]byte, error)

// DecapsulateOps are the operations of a [Decapsulator], for embedding beside a [Handle].
type DecapsulateOps struct {
	h           *Handle
	public      crypto.Encapsulator // nil if the key can't decapsulate
	size        int                 // of a ciphertext, in bytes
	decapsulate DecapsulateFunc
}

// Decapsulating returns the operations of decapsulation over fn. The key must have an *mlkem.EncapsulationKey768 or
// *mlkem.EncapsulationKey1024; one with any other public key refuses every ciphertext.
func (h *Handle) Decapsulating(fn DecapsulateFunc) DecapsulateOps {
	ops := DecapsulateOps{h: h, decapsulate: fn}
	switch pub := h.cfg.Public.(type) {
	case *mlkem.EncapsulationKey768:
		ops.public, ops.size = pub, mlkem.CiphertextSize768
	case *mlkem.EncapsulationKey1024:
		ops.public, ops.size = pub, mlkem.CiphertextSize1024
	}
	return ops
}

// Encapsulator implements crypto.Decapsulator. It makes no call, and is nil if the key can't decapsulate.
func (o DecapsulateOps) Encapsulator() crypto.Encapsulator { return o.public }

// Decapsulate implements crypto.Decapsulator, bounded by the call timeout.
func (o DecapsulateOps) Decapsulate(ciphertext []byte) ([]byte, error) {
	return o.DecapsulateContext(context.Background(), ciphertext)
}

// DecapsulateContext implements [Decapsulator].
func (o DecapsulateOps) DecapsulateContext(ctx context.Context, ciphertext []byte) ([]byte, error) {
	if err := o.h.need(UsageDerive); err != nil {
		return nil, err
	}
	if o.public == nil {
		return nil, o.h.Refusef(ErrUnsupported, "can't decapsulate; that takes an ML-KEM key")
	}
	if len(ciphertext) != o.size {
		return nil, ErrDecryption // as for every ciphertext that can't be decrypted
	}
	key, err := run(ctx, o.h, o.h.input(ciphertext), o.decapsulate)
	if err != nil {
		return nil, err
	}
	if len(key) != mlkem.SharedKeySize {
		return nil, o.h.Refusef(ErrUnavailable, "gave a shared key of %d bytes; it has %d", len(key), mlkem.SharedKeySize)
	}
	return key, nil
}
