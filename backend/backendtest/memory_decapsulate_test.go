package backendtest_test

import (
	"context"
	"crypto"
	"crypto/mlkem"
	"crypto/sha256"
	"slices"
	"sync"

	"github.com/managedkeys/managedkeys/backend"
)

// kemKey is a key that decapsulates.
type kemKey struct {
	*backend.Handle
	backend.DecapsulateOps
}

// decapsulating breaks what the driver's own function is for.
func (m *memory) decapsulating(h *backend.Handle, e *entry) backend.DecapsulateOps {
	private := e.secret.(*mlkem.DecapsulationKey768)
	var mu sync.Mutex
	seen := make(map[string]bool)
	return h.Decapsulating(func(_ context.Context, ciphertext []byte) ([]byte, error) {
		shared, err := private.Decapsulate(ciphertext)
		if err != nil {
			return nil, backend.ErrDecryption
		}
		switch {
		case m.is("decapsulates-hashed"):
			hashed := sha256.Sum256(shared)
			return hashed[:], nil
		case m.is("decapsulates-in-one-buffer"):
			m.mu.Lock()
			defer m.mu.Unlock()
			m.shared = append(m.shared[:0], shared...)
			return m.shared, nil
		case m.is("decapsulates-rejecting"):
			// Which ciphertext was tampered with is known by another secret for each try.
			mu.Lock()
			defer mu.Unlock()
			if again := string(shared); !seen[again] {
				seen[again] = true
				return shared, nil
			}
			return nil, backend.ErrDecryption
		}
		return slices.Clone(shared), nil
	})
}

// badDecapsulator breaks rules that package backend keeps for a driver which builds its keys on backend.Handle.
type badDecapsulator struct {
	kemKey
	m *memory
}

func (b badDecapsulator) Encapsulator() crypto.Encapsulator {
	if b.m.is("decapsulates-as-another") {
		return material("mlkem").(*mlkem.DecapsulationKey768).Encapsulator()
	}
	return b.kemKey.Encapsulator()
}

func (b badDecapsulator) Decapsulate(ciphertext []byte) ([]byte, error) {
	return b.DecapsulateContext(context.Background(), ciphertext)
}

func (b badDecapsulator) DecapsulateContext(ctx context.Context, ciphertext []byte) ([]byte, error) {
	switch b.m.fault {
	case "decapsulates-any-length":
		if len(ciphertext) != mlkem.CiphertextSize768 {
			return make([]byte, mlkem.SharedKeySize), nil
		}
	case "decapsulates-without-context":
		ctx = context.WithoutCancel(ctx)
	}
	return b.kemKey.DecapsulateContext(ctx, ciphertext)
}
