package backend

import (
	"fmt"
	"sync"
	"time"
)

// Gate counts the calls in flight on a connection and shuts it for new ones. The zero value is open.
//
// All methods are safe for concurrent use.
type Gate struct {
	mu      sync.Mutex
	calls   int           // entered and not left
	closed  bool          // set once; no call enters afterwards
	drained chan struct{} // made by the first Close; closed when calls reaches 0 after closed was set
}

// Enter counts a call in. It returns [ErrClosed] if the gate is closed; else [Gate.Leave] must be called once.
func (g *Gate) Enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("backend: %w", ErrClosed)
	}
	g.calls++
	return nil
}

// Leave counts a call out.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls--
	if g.closed && g.calls == 0 {
		close(g.drained)
	}
}

// Close shuts the gate and waits until no call is in flight, for at most wait. It returns how many calls had not ended
// then. It may be called more than once and concurrently.
func (g *Gate) Close(wait time.Duration) int {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		g.drained = make(chan struct{})
		if g.calls == 0 {
			close(g.drained)
		}
	}
	g.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-g.drained:
	case <-timer.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls
}

// Closed reports whether Close was called.
func (g *Gate) Closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}
