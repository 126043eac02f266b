package backendtest_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// agreeKey is a key that signs and agrees.
type agreeKey struct {
	*backend.Handle
	backend.SignOps
	backend.AgreeOps
}

// agreeing breaks what the driver's own function is for. The faults that package backend would notice are made after it.
func (m *memory) agreeing(h *backend.Handle, e *entry) backend.AgreeOps {
	private, err := e.secret.(*ecdsa.PrivateKey).ECDH()
	if err != nil {
		panic(err)
	}
	return h.Agreeing(func(_ context.Context, peer *ecdh.PublicKey) ([]byte, error) {
		secret, err := private.ECDH(peer)
		switch {
		case err != nil:
			return nil, fmt.Errorf("memory: %w: %w", backend.ErrUnavailable, err)
		case m.is("agrees-without-zeros"):
			// Filled up at the wrong end, so that the length is right.
			return append(bytes.TrimLeft(secret, "\x00"), make([]byte, len(secret)-len(bytes.TrimLeft(secret, "\x00")))...), nil
		case m.is("agrees-hashed"):
			hashed := sha256.Sum256(secret)
			return hashed[:], nil
		case m.is("agrees-in-one-buffer"):
			m.mu.Lock()
			defer m.mu.Unlock()
			m.shared = append(m.shared[:0], secret...)
			return m.shared, nil
		}
		return slices.Clone(secret), nil
	})
}

// badAgreer breaks rules that package backend keeps for a driver which builds its keys on backend.Handle.
type badAgreer struct {
	agreeKey
	m *memory
}

func (b badAgreer) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	return b.ECDHContext(context.Background(), peer)
}

func (b badAgreer) PublicKey() *ecdh.PublicKey {
	if b.m.is("agrees-as-another") {
		return materialECDH().PublicKey()
	}
	return b.agreeKey.PublicKey()
}

// materialECDH returns a key that is not the store's.
func materialECDH() *ecdh.PrivateKey {
	key, err := material("agree").(*ecdsa.PrivateKey).ECDH()
	if err != nil {
		panic(err)
	}
	return key
}

func (b badAgreer) ECDHContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	switch b.m.fault {
	case "agrees-too-late":
		if b.m.gate.Closed() {
			return nil, fmt.Errorf("memory: %w", backend.ErrClosed)
		}
	case "agrees-without-context":
		ctx = context.WithoutCancel(ctx)
	case "agrees-nil-panics":
		_ = peer.Curve()
		_ = peer.Bytes()[0]
	case "agrees-on-other-curves":
		if peer != nil && peer.Curve() == ecdh.P384() {
			return make([]byte, 48), nil
		}
	}
	return b.agreeKey.ECDHContext(ctx, peer)
}

// signsOnly hides that a key agrees.
type signsOnly struct {
	*backend.Handle
	backend.SignOps
}
