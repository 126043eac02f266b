package backend

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Gate counts the calls in flight on a connection and shuts it for new ones. The zero value is open.
//
// All methods are safe for concurrent use. Entering and leaving take no lock and allocate nothing.
type Gate struct {
	// state is the number of calls entered and not left, plus gateClosed once Close was called. It never loses
	// gateClosed, and no call enters after it was added.
	state atomic.Int64

	closing sync.Once     // guards drained and adding gateClosed to state, in this order
	drained chan struct{} // closed when state reaches gateClosed; read only by those who saw gateClosed
	drain   atomic.Bool   // drained is, or is about to be, closed: a refused call may bring state to gateClosed again
}

// gateClosed is more than the number of calls can be.
const gateClosed = 1 << 62

// Enter counts a call in. It returns [ErrClosed] if the gate is closed; else [Gate.Leave] must be called once.
func (g *Gate) Enter() error {
	// A closed gate is not touched, so that refused calls don't show in what Close returns.
	if g.state.Load() < gateClosed {
		if g.state.Add(1) < gateClosed {
			return nil
		}
		g.Leave() // it was closed in between
	}
	return fmt.Errorf("backend: %w", ErrClosed)
}

// Leave counts a call out.
func (g *Gate) Leave() {
	if g.state.Add(-1) == gateClosed {
		// Nothing is written afterwards, so that whoever saw the gate drained can read what it is part of.
		if g.drain.CompareAndSwap(false, true) {
			close(g.drained)
		}
	}
}

// Close shuts the gate and waits until no call is in flight, for at most wait. It returns how many calls had not ended
// then. It may be called more than once and concurrently.
func (g *Gate) Close(wait time.Duration) int {
	g.closing.Do(func() {
		g.drained = make(chan struct{})
		g.state.Add(gateClosed + 1) // closing counts as a call, so that it is Leave alone that finds the gate drained
		g.Leave()
	})
	select {
	case <-g.drained:
		return 0
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-g.drained:
		return 0
	case <-timer.C:
		return int(g.state.Load() - gateClosed)
	}
}

// Closed reports whether Close was called.
func (g *Gate) Closed() bool { return g.state.Load() >= gateClosed }
