package managedkey

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// ECDH implements ecdh.KeyExchanger, bounded as [Key.Sign] is. It needs the usage derive.
func (k *Key) ECDH(peer *ecdh.PublicKey) ([]byte, error) { return k.ECDHContext(k.context(), peer) }

// ECDHContext is as backend.KeyAgreer has it. It needs the usage derive.
func (k *Key) ECDHContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("agree", "", bytesOf(peer)), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.ECDHContext(ctx, peer)
		})
	}
	for {
		agreer, err := need[backend.KeyAgreer](k, "agree", backend.UsageDerive)
		if err != nil {
			return nil, err
		}
		secret, err := agreer.ECDHContext(ctx, peer)
		if !k.moved(agreer, err) {
			return k.result("agree", secret, err)
		}
	}
}

// bytesOf returns the encoding of a public key that may be nil.
func bytesOf(peer *ecdh.PublicKey) []byte {
	if peer == nil {
		return nil
	}
	return peer.Bytes()
}

// PublicKey implements ecdh.KeyExchanger. It is [Key.Public] as crypto/ecdh has it, or nil unless that is an
// *ecdsa.PublicKey on P-256, P-384 or P-521.
func (k *Key) PublicKey() *ecdh.PublicKey {
	pub, ok := k.bound.public.(*ecdsa.PublicKey)
	if !ok {
		return nil
	}
	public, err := pub.ECDH()
	if err != nil {
		return nil
	}
	return public
}

// Curve implements ecdh.KeyExchanger. It is nil where [Key.PublicKey] is.
func (k *Key) Curve() ecdh.Curve {
	public := k.PublicKey()
	if public == nil {
		return nil
	}
	return public.Curve()
}

// exchanger shows what agrees of a Key, and nothing else.
type exchanger struct {
	k      *Key
	public *ecdh.PublicKey
}

var _ ecdh.KeyExchanger = exchanger{}

func (x exchanger) PublicKey() *ecdh.PublicKey { return x.public }

func (x exchanger) Curve() ecdh.Curve { return x.public.Curve() }

func (x exchanger) Capabilities() backend.Capabilities { return x.k.Capabilities() }

func (x exchanger) ECDH(peer *ecdh.PublicKey) ([]byte, error) { return x.k.ECDH(peer) }

func (x exchanger) ECDHContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	return x.k.ECDHContext(ctx, peer)
}

// narrowExchanger returns k as an exchanger, if its key agrees and its entry allows that now.
func (k *Key) narrowExchanger(ctx context.Context) (ecdh.KeyExchanger, error) {
	if err := able[backend.KeyAgreer](ctx, k, backend.UsageDerive); err != nil {
		return nil, err
	}
	public := k.PublicKey()
	if public == nil {
		return nil, k.denied(ctx, "open", fmt.Errorf("the key (%s) is on no curve of crypto/ecdh: %w", k.bound.algorithm, backend.ErrUnsupported))
	}
	return exchanger{k, public}, nil
}
