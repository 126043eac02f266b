package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/managedkeys/managedkeys/backend"
)

// Shared keeps one client for each settings, so that entries with equal settings share connections, credentials and
// limits.
//
// All methods are safe for concurrent use.
type Shared[Settings comparable, Client any] struct {
	open    func(context.Context, Settings) (Client, error)
	release func(Client) error

	mu      sync.Mutex // guards what follows
	clients map[Settings]*slot[Client]
	closed  bool
}

// slot is a client or the place for one.
type slot[Client any] struct {
	turn   chan struct{} // holds a token while somebody makes the client
	made   bool          // guarded by Shared.mu; never becomes false again
	client Client        // written before made is set
}

// NewShared returns an empty Shared. open makes a client, and release, which may be nil, frees it.
func NewShared[S comparable, C any](open func(context.Context, S) (C, error), release func(C) error) *Shared[S, C] {
	return &Shared[S, C]{open: open, release: release, clients: make(map[S]*slot[C])}
}

// Get returns the client for settings, and makes it if there is none yet. Of concurrent callers one makes it; if it fails,
// the next one tries. The error is that of making it, ctx.Err() if ctx ends while another caller makes it, or
// backend.ErrClosed.
func (s *Shared[S, C]) Get(ctx context.Context, settings S) (C, error) {
	var none C
	at, err := s.slot(settings)
	if err != nil {
		return none, err
	}
	if client, ok := s.ready(at); ok {
		return client, nil
	}
	select {
	case at.turn <- struct{}{}:
		defer func() { <-at.turn }()
	case <-ctx.Done():
		return none, ctx.Err()
	}
	if client, ok := s.ready(at); ok {
		return client, nil
	}
	client, err := s.open(ctx, settings)
	if err != nil {
		return none, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return none, errors.Join(errClosed, s.free(client))
	}
	at.client, at.made = client, true
	return client, nil
}

var errClosed = fmt.Errorf("remote: %w", backend.ErrClosed)

func (s *Shared[S, C]) slot(settings S) (*slot[C], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	at := s.clients[settings]
	if at == nil {
		at = &slot[C]{turn: make(chan struct{}, 1)}
		s.clients[settings] = at
	}
	return at, nil
}

func (s *Shared[S, C]) ready(at *slot[C]) (C, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return at.client, at.made
}

func (s *Shared[S, C]) free(client C) error {
	if s.release == nil {
		return nil
	}
	return s.release(client)
}

// Clients returns the clients that there are, in no order.
func (s *Shared[S, C]) Clients() []C {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []C
	for _, at := range s.clients {
		if at.made {
			all = append(all, at.client)
		}
	}
	return all
}

// Close releases all clients and has Get fail from now on. Closing again does nothing and returns nil.
func (s *Shared[S, C]) Close() error {
	s.mu.Lock()
	slots := s.clients
	s.clients, s.closed = nil, true
	s.mu.Unlock()
	var errs []error
	for _, at := range slots {
		// Nothing is made any more once closed is set.
		if at.made {
			errs = append(errs, s.free(at.client))
		}
	}
	return errors.Join(errs...)
}
