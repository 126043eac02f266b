package backend_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"testing"
	"time"

	"filippo.io/mldsa"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

var rsa2048 = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// newSigner returns a private key of the kind: "rsa", "ecdsa", "ed25519" or "mldsa".
func newSigner(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "rsa":
		key = rsa2048()
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "mldsa":
		key, err = mldsa.GenerateKey(mldsa.MLDSA44())
	}
	require.NoError(t, err)
	require.NotNil(t, key, "unknown kind %q", kind)
	return key
}

// signingKey is what a driver would write for a key that signs.
type signingKey struct {
	*backend.Handle
	backend.SignOps
}

// rsaKey is what a driver would write for a key that signs and decrypts.
type rsaKey struct {
	*backend.Handle
	backend.SignOps
	backend.DecryptOps
}

// recorder signs with key and keeps what it was asked; calls tells whether the driver was reached.
type recorder struct {
	key crypto.Signer

	mu       sync.Mutex
	requests []backend.SignRequest
}

func (r *recorder) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests)
}

func (r *recorder) last() backend.SignRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests[len(r.requests)-1]
}

func (r *recorder) sign(_ context.Context, req backend.SignRequest) ([]byte, error) {
	r.mu.Lock()
	r.requests = append(r.requests, req)
	r.mu.Unlock()
	switch req.Scheme {
	case backend.RSAPSS:
		return r.key.Sign(rand.Reader, req.Digest, &rsa.PSSOptions{SaltLength: req.SaltLength, Hash: req.Hash})
	case backend.Ed25519:
		if req.Hash != 0 {
			return r.key.Sign(rand.Reader, req.Digest, &ed25519.Options{Hash: req.Hash, Context: req.Context})
		}
		return r.key.Sign(rand.Reader, req.Message, &ed25519.Options{Context: req.Context})
	case backend.MLDSA:
		return r.key.Sign(rand.Reader, req.Message, &mldsa.Options{Context: req.Context})
	case backend.RSAPKCS1v15:
		if req.Hash == 0 {
			return r.key.Sign(rand.Reader, req.Message, crypto.Hash(0))
		}
	}
	return r.key.Sign(rand.Reader, req.Digest, req.Hash)
}

// newKey returns a signing handle over a fresh key, with the given algorithms.
func newKey(t testing.TB, kind string, algorithms ...backend.SignatureAlgorithm) (signingKey, *recorder) {
	t.Helper()
	return newKeyWith(t, kind, backend.HandleConfig{Capabilities: backend.Capabilities{Signatures: algorithms}})
}

func newKeyWith(t testing.TB, kind string, cfg backend.HandleConfig) (signingKey, *recorder) {
	t.Helper()
	r := &recorder{key: newSigner(t, kind)}
	cfg.ID, cfg.Public = "test-"+kind, r.key.Public()
	cfg.Capabilities.Algorithm = backend.Describe(cfg.Public)
	if cfg.Capabilities.Usages == 0 {
		cfg.Capabilities.Usages = backend.UsageDefault
	}
	h := backend.NewHandle(cfg)
	return signingKey{h, h.Signing(r.sign)}, r
}

func digestOf(h crypto.Hash, message string) []byte {
	hash := h.New()
	hash.Write([]byte(message))
	return hash.Sum(nil)
}

// within fails the test if fn has not returned long after it should have.
func within(t testing.TB, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}
