package managedkey

import (
	"context"
	"crypto"

	"github.com/managedkeys/managedkeys/backend"
)

// Decapsulate implements crypto.Decapsulator, bounded as [Key.Sign] is. It needs the usage derive.
func (k *Key) Decapsulate(ciphertext []byte) ([]byte, error) {
	return k.DecapsulateContext(k.context(), ciphertext)
}

// DecapsulateContext is as backend.Decapsulator has it. It needs the usage derive.
func (k *Key) DecapsulateContext(ctx context.Context, ciphertext []byte) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("decapsulate", "", ciphertext), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.DecapsulateContext(ctx, ciphertext)
		})
	}
	for {
		d, err := need[backend.Decapsulator](k, "decapsulate", backend.UsageDerive)
		if err != nil {
			return nil, err
		}
		shared, err := d.DecapsulateContext(ctx, ciphertext)
		if !k.moved(d, err) {
			return k.decrypted("decapsulate", shared, err)
		}
	}
}

// Encapsulator implements crypto.Decapsulator. It is [Key.Public], or nil unless that is a key of ML-KEM.
func (k *Key) Encapsulator() crypto.Encapsulator {
	public, _ := k.bound.public.(crypto.Encapsulator)
	return public
}

// decapsulator shows what decapsulates of a Key, and nothing else.
type decapsulator struct {
	k *Key
}

var _ crypto.Decapsulator = decapsulator{}

func (d decapsulator) Encapsulator() crypto.Encapsulator { return d.k.Encapsulator() }

func (d decapsulator) Capabilities() backend.Capabilities { return d.k.Capabilities() }

func (d decapsulator) Decapsulate(ciphertext []byte) ([]byte, error) {
	return d.k.Decapsulate(ciphertext)
}

func (d decapsulator) DecapsulateContext(ctx context.Context, ciphertext []byte) ([]byte, error) {
	return d.k.DecapsulateContext(ctx, ciphertext)
}

// narrowDecapsulator returns k as a decapsulator, if its key decapsulates and its entry allows that now.
func (k *Key) narrowDecapsulator(ctx context.Context) (crypto.Decapsulator, error) {
	if err := able[backend.Decapsulator](ctx, k, backend.UsageDerive); err != nil {
		return nil, err
	}
	return decapsulator{k}, nil
}
