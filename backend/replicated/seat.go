package replicated

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

const (
	// firstRest and longestRest bound how long a place that failed is used last before it is tried again; the rest doubles
	// with each failure in a row.
	firstRest   = 100 * time.Millisecond
	longestRest = 5 * time.Second
)

// seat is a key at one place.
type seat struct {
	Place
	params backend.Params

	mu       sync.Mutex
	key      backend.Key // nil while the place never had it since the key was opened
	err      error       // the last failure; nil if the place is well
	failures int         // in a row
	rests    time.Time   // the place is not tried again before, unless nothing else is left
	probing  bool        // a probe is under way
}

func (s *seat) handle() backend.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key
}

func (s *seat) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// open opens the key at the place for the first time.
func (s *seat) open(ctx context.Context) error {
	key, err := s.Backend.Open(ctx, s.params)
	if err != nil {
		s.failed(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
	return nil
}

// failed notes that the place could not do something.
func (s *seat) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.rests = time.Now().Add(min(firstRest<<min(s.failures, 10), longestRest))
	s.failures++
}

// worked notes that the place did what it was asked to.
func (s *seat) worked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.failures = nil, 0
}

// well reports whether the place may be preferred.
func (s *seat) well() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key != nil && s.err == nil
}

// due reports whether it is time to probe the place, and if so, has everyone else leave that to the caller.
func (s *seat) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil || s.probing || time.Now().Before(s.rests) {
		return false
	}
	s.probing = true
	return true
}

// probe looks whether the place is back, opens the key there if it never was, and compares it with known. The place is
// well again if all that works.
func (s *seat) probe(ctx context.Context, known backend.Key) {
	key := s.handle()
	err := func() error {
		if pinger, ok := s.Backend.(backend.Pinger); ok {
			if err := pinger.Ping(ctx); err != nil {
				return err
			}
		}
		if key != nil {
			return nil
		}
		opened, err := s.Backend.Open(ctx, s.params)
		if err != nil {
			return err
		}
		if err := same(ctx, known, opened); err != nil {
			return err
		}
		key = opened
		return nil
	}()
	if err != nil {
		s.failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probing = false
	if err == nil {
		s.key, s.err = key, nil // failures is left for worked to clear: a place that pings and can't sign rests longer each time
	}
}

// same returns an error that wraps backend.ErrKeyChanged unless a and b are the same key.
func same(ctx context.Context, a, b backend.Key) error {
	if a.Public() == nil || b.Public() == nil {
		if a.Public() != nil || b.Public() != nil {
			return fmt.Errorf("one has a symmetric key and the other a key pair: %w", backend.ErrKeyChanged)
		}
		return sameSecret(ctx, a, b)
	}
	x, err := backend.Fingerprint(a.Public())
	if err != nil {
		return err
	}
	y, err := backend.Fingerprint(b.Public())
	if err != nil {
		return err
	}
	if x != y {
		return fmt.Errorf("their public keys have the SHA-256 hashes %x and %x: %w", x, y, backend.ErrKeyChanged)
	}
	return nil
}

// sameSecret is same for symmetric keys: what one makes the other must take.
func sameSecret(ctx context.Context, a, b backend.Key) error {
	differ := fmt.Errorf("they have different symmetric keys: %w", backend.ErrKeyChanged)
	if m, ok := a.(backend.MAC); ok && len(a.Capabilities().MACs) > 0 {
		other, ok := b.(backend.MAC)
		if !ok {
			return differ
		}
		alg, message := a.Capabilities().MACs[0], []byte("managedkeys: is this the same key?")
		mac, err := m.ComputeMAC(ctx, alg, message)
		if err != nil {
			return err
		}
		if err := other.VerifyMAC(ctx, alg, message, mac); errors.Is(err, backend.ErrInvalidSignature) {
			return differ
		} else if err != nil {
			return err
		}
		return nil
	}
	seal, ok := a.(backend.AEAD)
	open, ok2 := b.(backend.AEAD)
	if !ok || !ok2 {
		return fmt.Errorf("symmetric keys that neither authenticate nor encrypt can't be compared: %w", backend.ErrUnsupported)
	}
	ciphertext, err := seal.Seal(ctx, []byte("managedkeys: is this the same key?"), nil)
	if err != nil {
		return err
	}
	if _, err := open.Open(ctx, ciphertext, nil); errors.Is(err, backend.ErrDecryption) {
		return differ
	} else if err != nil {
		return err
	}
	return nil
}
