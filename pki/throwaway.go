package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// throwaways are private keys that stand in for managed keys until what is to be signed was checked. What they sign
// never leaves this package, so one of each kind serves every CA of an engine. The zero value is ready.
type throwaways struct {
	mu   sync.Mutex
	keys map[string]crypto.Signer // by kind; each made once, on first use
}

// like returns a key of the same kind as pub. An RSA key has 2048 bits whatever the size of pub, because no byte that is
// signed depends on it.
func (t *throwaways) like(pub crypto.PublicKey) (crypto.Signer, error) {
	kind := backend.Describe(pub)
	if _, ok := pub.(*rsa.PublicKey); ok {
		kind = "RSA"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if key := t.keys[kind]; key != nil {
		return key, nil
	}
	key, err := newThrowaway(pub)
	if err != nil {
		return nil, fmt.Errorf("pki: throwaway %s key: %w", kind, err)
	}
	if t.keys == nil {
		t.keys = make(map[string]crypto.Signer)
	}
	t.keys[kind] = key
	return key, nil
}

func newThrowaway(pub crypto.PublicKey) (crypto.Signer, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return rsa.GenerateKey(rand.Reader, 2048)
	case *ecdsa.PublicKey:
		return ecdsa.GenerateKey(pub.Curve, rand.Reader)
	case ed25519.PublicKey:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case *mldsa.PublicKey:
		return mldsa.GenerateKey(pub.Parameters())
	}
	return nil, backend.ErrUnsupported
}
