package pkcs11

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// worker is a session and the goroutine that uses it. Only that goroutine touches the session's fields.
type worker struct {
	pool *pool
	in   chan *call // has room for one; closed to end the worker

	idleSince time.Time // guarded by pool.mu
	replaced  bool      // written off, and another worker may have its place; guarded by pool.mu

	era uint64          // that the worker belongs to; guarded by pool.mu
	wg  *sync.WaitGroup // that waits for it; guarded by pool.mu

	module *incarnation // that run entered

	open    bool
	session cryptoki.Handle
	rw      bool
	line    uint64 // the conn.line that the session belongs to
	reader  *cryptoki.Reader
}

// attributes returns the worker's reader of attributes.
func (w *worker) attributes() *cryptoki.Reader {
	if w.reader == nil {
		w.reader = w.module.NewReader()
	}
	return w.reader
}

// loop runs calls until there are no more, and closes the session.
func (w *worker) loop(c *call) {
	defer w.end()
	for c != nil {
		c.err = w.contained(c)
		c = w.pool.finish(w, c)
	}
	w.module = w.pool.conn.instance.enter()
	defer w.module.leave()
	w.close()
}

// contained runs c and turns a panic into an error.
func (w *worker) contained(c *call) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v: %w", r, backend.ErrUnavailable)
		}
	}()
	return w.run(c)
}

// run runs c in the worker's session, which it opens if need be. No session that saw a failure serves another call: what
// the module was in the middle of is not known.
func (w *worker) run(c *call) error {
	conn := w.pool.conn
	m := conn.instance.enter()
	defer m.leave()
	if m != w.module {
		w.module, w.reader = m, nil
	}
	if err := w.ready(c.rw); err != nil {
		return err
	}
	if c.fate != nil {
		if c.fate.leaving.Load() || !c.fate.mu.TryRLock() {
			return errLeaving
		}
		defer c.fate.mu.RUnlock()
		if c.fate.gone {
			return fmt.Errorf("the key was replaced or deleted: %w", backend.ErrKeyChanged)
		}
	}
	if c.epoch != 0 && c.epoch != conn.epoch.Load() {
		return errStale // the handle may be another key's by now
	}
	if c.fn != nil {
		err := c.fn(w)
		if err != nil && !isOrdinary(err) {
			w.drop(err, false)
		}
		return wrap(err)
	}
	c.Measure = w.pool.measures()
	n, err := m.Run(w.session, c.key, &c.Operation)
	if err = wrap(err); err != nil {
		w.drop(err, troubleOf(err) == callersFault || c.mayBeInput(err))
		return err
	}
	if c.Measure {
		w.pool.observe(c.CPU, c.Wall)
	}
	if c.exact && n != len(c.Out) {
		return fmt.Errorf("the module gave %d bytes; the result has %d: %w", n, len(c.Out), backend.ErrUnavailable)
	}
	c.n = n
	return nil
}

// errStale says that an object handle is of a time before the last recovery. Nothing was done with it.
var errStale = &callError{function: "the handle's lookup", code: ckrKeyHandleInvalid}

// isOrdinary reports whether err, of a function of several calls, leaves the session usable: it is no failure of the
// module.
func isOrdinary(err error) bool {
	var failure *cryptoki.Error
	var c ckr
	return errors.Is(err, errStale) || !errors.As(err, &failure) && !errors.As(err, &c)
}

// ready sees to it that the worker has an open session.
func (w *worker) ready(rw bool) error {
	conn := w.pool.conn
	line := conn.line.Load()
	rw = rw || conn.rw.Load()
	if w.open && w.line != line {
		w.open = false // its handle may be that of somebody else's session by now
	}
	if w.open && (w.rw || !rw) {
		return nil
	}
	if s := w.pool.adopted(rw, line); s != nil {
		w.close()
		w.open, w.session, w.rw, w.line = true, s.session, s.rw, s.line
		return nil
	}
	if !w.pool.hasRoom() {
		w.close()
	}
	session, err := w.module.OpenSession(conn.slot(), rw)
	full := isExhausted(err)
	if r, _ := code(wrap(err)); err != nil && (w.open && r.trouble() != callersFault || full && rw) {
		// The token may allow no other session besides. If the one that is closed holds the login, logging in again is what
		// it takes, and that session must then be one that does for everything.
		if full && rw {
			conn.rw.Store(true)
		}
		w.close()
		w.pool.closeSpare(w.module)
		session, err = w.module.OpenSession(conn.slot(), rw)
	}
	if err != nil {
		return wrap(err)
	}
	w.close()
	w.open, w.session, w.rw, w.line = true, session, rw, line
	return nil
}

// drop gives up the session after a failure, which may have left it in the middle of something that would fail the next
// call. Where it can, it opens the next session before, because the last one that is closed takes the login along. If it is
// the only one that there may be, it stays after a harmless failure, which says that the operation was refused and so is
// over.
func (w *worker) drop(failure error, harmless bool) {
	c, _ := code(wrap(failure))
	gone := c == ckrSessionClosed || c == ckrSessionHandleInvalid
	if gone {
		w.pool.conn.distrust()
		w.pool.recheck()
	}
	if t := c.trouble(); gone || t == tokenGone || t == notInitialized {
		w.open = false // there is nothing to close, and the handle may be given to another session
		return
	}
	if !w.open {
		return
	}
	if !w.pool.hasRoom() {
		if !harmless || !w.pool.hasOne() {
			w.close()
		}
		return
	}
	old, line := w.session, w.line
	w.open = false
	if err := w.ready(w.rw); isExhausted(err) && harmless {
		w.open = line == w.pool.conn.line.Load()
		return
	} // another error is seen by the next call
	if line == w.pool.conn.line.Load() {
		w.module.CloseSession(old)
	}
}

// isExhausted reports whether err says that the token has no session or memory left.
func isExhausted(err error) bool { return err != nil && troubleOf(err) == exhausted }

// close closes the session, if its handle is still its own.
func (w *worker) close() {
	if w.open && w.line == w.pool.conn.line.Load() {
		w.module.CloseSession(w.session)
	}
	w.open = false
}
