package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// conn is the one login of this process on one token. All keys of the token and all backends share it.
type conn struct {
	instance *instance
	id       string // tokenInfo.identity
	lib      Library
	info     tokenInfo
	login    atomic.Pointer[credential] // of the PIN that logged in last
	pin      func() (string, error)     // gives the PIN, which may be rotated where it is kept
	refs     int                        // backends that use it; guarded by instance.busy
	uses     map[Mechanism]mechanismUse // set once, when connecting
	number   atomic.Uint64              // of the slot; changes if the token comes back in another one
	rw       atomic.Bool                // all sessions are to be read/write

	// epoch counts what may have made object handles invalid: a login, a new start of the module, a token that came back, a
	// session that is gone although it was not closed here: nobody knows what else happened then. line counts what made
	// session handles invalid: a new start and a return. A handle is used in its own epoch and line only, since modules give
	// the same numbers again to other objects. made is the epoch of the last recovery: if a handle is of that time, it has
	// to be proven again, but may well be valid.
	epoch, line, made atomic.Uint64

	pool  *pool
	wheel *wheel // of the call timeout
	healer

	// search is held while objects are listed or made. It guards index.
	search semaphore
	index  *index // nil before the first search

	mu      sync.Mutex
	fates   map[string]*fate // of the objects that handles exist for, by conn.identity
	trials  *trials          // what the token was found to do; nil before the first RSA key
	refused []credential     // by the token, since the connection began

	presenting semaphore // held by the operation that gives the PIN

	ended   chan struct{} // closed when the connection is
	janitor sync.WaitGroup
}

// fate is what becomes of an object that handles exist for. A token may give the handle of a removed object to another
// one, so removal takes mu for writing and an operation holds it for reading. Neither waits for it: an operation that did
// would keep its worker from the removal.
type fate struct {
	mu      sync.RWMutex
	gone    bool
	leaving atomic.Bool // while it is being removed; operations wait outside, and those that are under way end
}

// errLeaving says that it is not decided yet whether the object stays. Nothing was done with it.
var errLeaving = errors.New("the key is being replaced or deleted")

// isGone reports whether the object was removed here.
func (f *fate) isGone() bool {
	if !f.mu.TryRLock() {
		return false // it is not decided
	}
	defer f.mu.RUnlock()
	return f.gone
}

// settled waits until it is decided whether the object stays.
func (f *fate) settled(d deadline) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for f.leaving.Load() {
		select {
		case <-ticker.C:
		case <-d.ctx.Done():
			return d.err(errLeaving.Error())
		case <-d.expired:
			return d.err(errLeaving.Error())
		}
	}
	return nil
}

func newConn(i *instance, info tokenInfo, lib Library, pin backend.Secret, login credential) *conn {
	c := &conn{
		instance: i, id: info.identity(), lib: lib, info: info, pin: pin.Resolve,
		search: make(semaphore, 1), fates: make(map[string]*fate), trials: new(trials), presenting: make(semaphore, 1), ended: make(chan struct{}),
	}
	c.login.Store(&login)
	c.number.Store(uint64(info.Slot))
	c.epoch.Store(1)
	c.pool = newPool(c, info.sessionLimit(lib))
	c.rw.Store(c.pool.hasOne()) // it must do for everything
	c.wheel = newWheel(lib.callTimeout())
	c.healer.init()
	return c
}

func (c *conn) slot() uint { return uint(c.number.Load()) }

// connect logs in for the first time. The error wraps a sentinel.
func (c *conn) connect() error {
	if err := c.logIn(true); err != nil {
		return c.explain(err)
	}
	m := c.instance.enter()
	mechanisms, err := m.Mechanisms(c.slot())
	m.leave()
	if err != nil {
		return c.explain(wrap(err))
	}
	c.uses = make(map[Mechanism]mechanismUse, len(mechanisms))
	for _, m := range mechanisms {
		c.uses[Mechanism(m.Type)] = mechanismUse(m.Flags)
	}
	c.janitor.Go(c.tidy)
	return nil
}

// close ends all sessions, and with them the login, and waits for that. It returns how many calls hang in the module.
func (c *conn) close(wait time.Duration) int {
	close(c.ended)
	c.janitor.Wait()
	hung := c.pool.close(wait)
	c.wheel.close()
	return hung
}

// beginAnew notes that no handle means anything any more.
func (c *conn) beginAnew() {
	c.line.Add(1)
	c.renumber()
}

// renumber notes that object handles mean nothing any more.
func (c *conn) renumber() { c.made.Store(c.epoch.Add(1)) }

// distrust notes that object handles may mean something else, since the token forgot a session or an object that it should
// know. Other code of the process may have initialised the module again.
func (c *conn) distrust() { c.epoch.Add(1) }

// find looks for the token in all slots, since one that was away may come back in another.
func (c *conn) find() error {
	m := c.instance.enter()
	found, err := m.Tokens()
	m.leave()
	if err != nil {
		return wrap(err)
	}
	for _, t := range found {
		if info := (tokenInfo{t}); info.identity() == c.id {
			c.number.Store(uint64(t.Slot))
			c.startOver()
			return nil
		}
	}
	return fmt.Errorf("the token is not there: %w", &callError{function: "C_GetSlotList", code: ckrTokenNotPresent})
}

// startOver notes that no handle means anything any more, and closes all sessions on the token: one that was not away has
// them still, and would soon have no room for more.
func (c *conn) startOver() {
	if c.instance.foreign.Load() { // they may be others'
		c.beginAnew()
		return
	}
	m, done, ok := c.instance.exclusive(restartTimeout)
	if !ok {
		c.beginAnew()
		return
	}
	defer done()
	c.beginAnew()
	m.CloseAllSessions(c.slot())
}

// errorf returns an error that names the token.
func (c *conn) errorf(format string, args ...any) error {
	return fmt.Errorf("pkcs11: token %q in slot %d: %w", c.info.Label, c.slot(), fmt.Errorf(format, args...))
}

// explain returns err with its sentinel and the name of the token.
func (c *conn) explain(err error) error {
	if err == nil {
		return nil
	}
	return c.errorf("%w", classify(err))
}

// do calls fn with a session, read/write if rw is set, and heals the connection as often as that helps. fn must be such
// that doing it twice does no harm, unless once is set.
func (c *conn) do(ctx context.Context, rw, once bool, fn func(*worker) error) error {
	call := newCall(0, nil, nil, nil, 0)
	call.fn, call.rw = fn, rw
	ctx, cancel := bounded(ctx, OpenTimeout)
	defer cancel()
	reusable, err := c.attempt(deadline{ctx: ctx}, call, nil, once)
	if reusable {
		call.free()
	}
	return err
}

// doResult is do for functions with a result. The result is the function's own memory: a caller that leaves early leaves
// it behind.
func doResult[T any](ctx context.Context, c *conn, rw, once bool, fn func(*worker) (T, error)) (T, error) {
	out := new(T)
	err := c.do(ctx, rw, once, func(w *worker) (err error) {
		*out, err = fn(w)
		return err
	})
	if err != nil {
		var zero T
		return zero, err // out may still be written to
	}
	return *out, nil
}

// tidy closes sessions that have been idle for long and keeps the others alive, until the connection ends.
func (c *conn) tidy() {
	idle, keepAlive := c.lib.idleTimeout(), c.lib.KeepAlive
	interval := idle / 2
	if keepAlive > 0 {
		interval = min(interval, keepAlive/2)
	}
	ticker := time.NewTicker(max(interval, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-c.ended:
			return
		case now := <-ticker.C:
			stale := time.Time{}
			if keepAlive > 0 {
				stale = now.Add(-keepAlive)
			}
			for _, w := range c.pool.expire(now.Add(-idle), stale, c.lib.minIdle()) {
				c.pool.touch(w)
			}
		}
	}
}
