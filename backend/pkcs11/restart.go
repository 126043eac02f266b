package pkcs11

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// incarnation is one of the instances that a module may have, with the calls that are in it.
type incarnation struct {
	*cryptoki.Module

	// calls is held for reading during every call that uses a session, and for writing while the module is initialised
	// or finalised. Writers only ever try, since a hung call holds it for ever and a waiting writer would stop the others.
	calls sync.RWMutex
}

// enter and leave stand around every call that uses a session, which is to be made with what enter returned.
func (i *instance) enter() *incarnation {
	for {
		m := i.loaded.Load()
		m.calls.RLock()
		if m == i.loaded.Load() {
			return m
		}
		m.leave()
	}
}

func (m *incarnation) leave() { m.calls.RUnlock() }

// module returns the module, which is loaded.
func (i *instance) module() *cryptoki.Module { return i.loaded.Load().Module }

// How long finalising waits for calls to return: at the end, and while everybody waits for the module.
const (
	stopTimeout    = time.Second
	restartTimeout = 500 * time.Millisecond
)

// maxLeft bounds the calls that are left behind. Each keeps a thread, of which a Go process has 10,000 at most.
const maxLeft = 4096

// exclusive waits until no call is in the module, and keeps others out until done is called. It gives up after a time:
// a call that hangs may do so for ever.
func (i *instance) exclusive(wait time.Duration) (m *incarnation, done func(), ok bool) {
	for end := time.Now().Add(wait); ; time.Sleep(time.Millisecond) {
		m = i.loaded.Load()
		if m.calls.TryLock() {
			if m == i.loaded.Load() {
				return m, m.calls.Unlock, true
			}
			m.calls.Unlock()
		}
		if time.Now().After(end) {
			return m, nil, false
		}
	}
}

// restart initialises the module again, for c, whose token can't be reached in any other way. gone tells that the module
// said it is not initialised. The connections of all its tokens begin anew.
func (i *instance) restart(c *conn, gone bool) error {
	if gone && !i.broken.Load() {
		i.foreign.Store(true) // who finalised it may come again
	}
	if !gone && i.foreign.Load() {
		return fmt.Errorf("the module can't be initialised again, because other code of this program uses it: %w", backend.ErrUnavailable)
	}
	others := i.others(c)
	if !gone && slices.ContainsFunc(others, (*conn).isUp) {
		return fmt.Errorf("the module can't be initialised again, because another of its tokens is in use: %w", backend.ErrUnavailable)
	}
	m, done, ok := i.exclusive(restartTimeout)
	if !ok {
		return i.another(m, c, others)
	}
	defer done()
	if !gone {
		m.Finalize()
	}
	return i.begin(c, others, i.initialize)
}

// others returns the connections but c.
func (i *instance) others(c *conn) (others []*conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, other := range i.conns {
		if other != c {
			others = append(others, other)
		}
	}
	return others
}

func (c *conn) isUp() bool { return !c.down.Load() }

// another starts another instance of the module, since a call hangs in old, for as long as it may. Few modules have more
// than one; p11-kit's client has, whose calls are the ones that were seen to hang. What hangs is left behind.
func (i *instance) another(old *incarnation, c *conn, others []*conn) error {
	err := fmt.Errorf("%d calls hang in this process already", maxLeft)
	var fresh *cryptoki.Module
	if i.left.Load() < maxLeft {
		fresh, err = old.Another()
	}
	if err != nil {
		return fmt.Errorf("the module can't be initialised again, because a call hangs in it, and %w: %w", err, backend.ErrUnavailable)
	}
	return i.begin(c, others, func() error {
		if !i.loaded.CompareAndSwap(old, &incarnation{Module: fresh}) {
			return fmt.Errorf("the module was started again for another token: %w", backend.ErrUnavailable)
		}
		i.left.Add(1) // that which made exclusive fail may be a recovery's
		// A call that was in the old one may have taken a handle of it for one of the time after the first beginAnew.
		for _, left := range append(others, c) {
			if left != nil {
				left.beginAnew()
				i.left.Add(int64(left.leaveBehind()))
			}
		}
		return i.initialize()
	})
}

// begin has the connections begin anew with a module that start initialises.
func (i *instance) begin(c *conn, others []*conn, start func() error) error {
	if c != nil {
		c.beginAnew()
	}
	for _, other := range others {
		other.beginAnew()
		other.down.Store(true)
	}
	i.broken.Store(true)
	err := start()
	i.broken.Store(err != nil)
	return err
}

// leaveBehind writes off what hangs in an instance of the module that was given up, and returns how many calls do.
func (c *conn) leaveBehind() int {
	hung := c.pool.leaveBehind()
	c.healing.Lock()
	defer c.healing.Unlock()
	clear(c.healing.hung)
	return hung
}

// errLeftBehind is the error of calls that hang in an instance of the module that was given up.
var errLeftBehind = fmt.Errorf("the module was started again while the call hung in it: %w", backend.ErrUnavailable)

// leaveBehind begins an era and returns how many workers the last one leaves in the module.
func (p *pool) leaveBehind() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	hung := p.running + min(p.stuck, maxStuck)
	p.era++
	close(p.left)
	p.left = make(chan struct{})
	p.wg = new(sync.WaitGroup)
	p.workers -= p.running
	p.running, p.stuck = 0, 0
	for _, w := range p.idle {
		w.join()
	}
	p.dispatch()
	return hung
}

// leave abandons c if its worker was left behind, and returns nil, or else what tells that the era ends.
func (p *pool) leave(c *call) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.state.Load() == callRunning && c.worker.era != p.era && c.state.CompareAndSwap(callRunning, callAbandoned) {
		return nil
	}
	return p.left
}

// join makes the worker one of its pool's era. pool.mu is held.
func (w *worker) join() {
	if w.wg != nil {
		w.wg.Done()
	}
	w.era, w.wg = w.pool.era, w.pool.wg
	w.wg.Add(1)
}

// end takes the worker from its era.
func (w *worker) end() {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	w.wg.Done()
}
