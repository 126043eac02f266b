package backend

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/subtle"
)

// AgreeFunc returns the x-coordinate of the product of the private key and peer, which is on the key's curve (SP 800-56A
// Rev. 3, Section 5.7.1.2). It is as long as an element of the curve's field, leading zeros included.
type AgreeFunc func(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error)

// AgreeOps are the operations of a [KeyAgreer], for embedding beside a [Handle].
type AgreeOps struct {
	h      *Handle
	public *ecdh.PublicKey // nil if the key can't agree
	size   int             // of a shared secret, in bytes
	agree  AgreeFunc
}

// Agreeing returns the operations of key agreement over fn. The key must have an *ecdsa.PublicKey on P-256, P-384 or
// P-521; one with any other public key refuses every peer.
func (h *Handle) Agreeing(fn AgreeFunc) AgreeOps {
	ops := AgreeOps{h: h, agree: fn}
	switch pub := h.cfg.Public.(type) {
	case *ecdsa.PublicKey:
		ops.public, _ = pub.ECDH() // fails for other curves, and for a point that is not on its curve
	case *ecdh.PublicKey:
		ops.public = pub
	}
	if ops.public != nil {
		ops.size = len(ops.public.Bytes()) // of X25519, whose public keys are coordinates as its secrets are
		if ops.public.Curve() != ecdh.X25519() {
			ops.size = (ops.size - 1) / 2 // 04 ‖ x ‖ y (SEC 1, Section 2.3.3)
		}
	}
	return ops
}

// PublicKey implements ecdh.KeyExchanger. It makes no call, and is nil if the key can't agree.
func (o AgreeOps) PublicKey() *ecdh.PublicKey { return o.public }

// Curve implements ecdh.KeyExchanger. It makes no call, and is nil if the key can't agree.
func (o AgreeOps) Curve() ecdh.Curve {
	if o.public == nil {
		return nil
	}
	return o.public.Curve()
}

// ECDH implements ecdh.KeyExchanger, bounded by the call timeout.
func (o AgreeOps) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	return o.ECDHContext(context.Background(), peer)
}

// noSecret is as long as the longest shared secret.
var noSecret [66]byte

// ECDHContext implements [KeyAgreer].
func (o AgreeOps) ECDHContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	if err := o.h.need(UsageDerive); err != nil {
		return nil, err
	}
	switch {
	case o.public == nil:
		return nil, o.h.Refusef(ErrUnsupported, "can't agree on a secret; that takes a key on P-256, P-384 or P-521")
	case peer == nil || peer.Curve() == nil:
		return nil, o.h.Refusef(ErrInvalidParams, "got no public key of a peer; it takes one on %v", o.Curve())
	case peer.Curve() != o.Curve():
		return nil, o.h.Refusef(ErrInvalidParams, "got a peer's public key on %v; it takes one on %v", peer.Curve(), o.Curve())
	}
	// An *ecdh.PublicKey can't be changed, so that no mode needs a copy.
	secret, err := run(ctx, o.h, peer, o.agree)
	if err != nil {
		return nil, err
	}
	if len(secret) != o.size {
		return nil, o.h.Refusef(ErrUnavailable, "gave a shared secret of %d bytes; %v has %d", len(secret), o.Curve(), o.size)
	}
	// A point with the x-coordinate 0 is met by chance as rarely as a key is guessed; an answer that was never filled in
	// looks the same, and so does a point of small order on X25519 (RFC 7748, Section 6.1).
	if subtle.ConstantTimeCompare(secret, noSecret[:o.size]) == 1 {
		return nil, o.h.Refusef(ErrUnavailable, "gave a shared secret of zeros")
	}
	return secret, nil
}
