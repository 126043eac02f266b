package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/managedkeys/managedkeys/backend"
)

// How a connection recovers.
const (
	maxAttempts = 5 // of one operation
	maxHeals    = 4 // recoveries that may hang in the module at once

	firstDelay = 50 * time.Millisecond  // before a failed recovery is tried again; doubled each time
	maxDelay   = 500 * time.Millisecond // so that service is back soon after the token is
)

// healer is what a connection knows of its troubles. One recovery runs at a time, whoever needs it waits for it, and after
// one that failed a circuit breaker lets the next begin only after a delay; until then operations fail at once.
type healer struct {
	down    atomic.Bool // operations must ask heal first
	breaker circuitbreaker.CircuitBreaker[any]
	renewed atomic.Int64 // UnixNano of the last logInAgain

	healing struct {
		sync.Mutex
		current *recovery
		last    error              // of the last recovery, if it failed
		failed  int                // in a row
		hung    map[*recovery]bool // that have not returned from the module, without those that were left behind
		first   time.Duration      // firstDelay, but in tests
	}
}

// recovery is one attempt to recover.
type recovery struct {
	done  chan struct{}
	timer *time.Timer // ends it if the module hangs
	once  sync.Once
	err   error // set before done is closed
}

func (h *healer) init() {
	h.healing.hung, h.healing.first = make(map[*recovery]bool), firstDelay
	h.breaker = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(1).
		WithSuccessThreshold(1).
		WithDelayFunc(func(failsafe.ExecutionAttempt[any]) time.Duration { return h.delay() }).
		Build()
}

// delay is how long to wait after a failed recovery. healing is locked.
func (h *healer) delay() time.Duration {
	d := min(maxDelay, h.healing.first<<min(h.healing.failed, 8))
	return d - rand.N(d/4+1) // so that several programs don't return to the token at once
}

// heal recovers the connection, or waits for a recovery that runs. It does nothing if one was done since made. cause is
// what made it necessary, or nil.
func (c *conn) heal(d deadline, made uint64, cause error) error {
	h := &c.healing
	h.Lock()
	if c.made.Load() != made && !c.down.Load() {
		h.Unlock()
		return nil
	}
	r := h.current
	if r == nil {
		if cause == nil {
			cause = h.last
		}
		if err := c.hopeless(); err != nil {
			h.Unlock()
			return err
		}
		if rest := c.breaker.RemainingDelay(); rest > 0 || len(h.hung) >= maxHeals {
			err := fmt.Errorf("not tried again within the next %v: %w: %w", rest.Round(time.Millisecond), backend.ErrUnavailable, h.last)
			h.Unlock()
			return err
		}
		r = &recovery{done: make(chan struct{})}
		h.current = r
		h.hung[r] = true
		c.down.Store(true)
		// h is locked until the timer is set.
		go func() {
			err := c.recover(cause)
			h.Lock()
			delete(h.hung, r)
			h.Unlock()
			c.recovered(r, err)
		}()
		r.timer = time.AfterFunc(c.lib.callTimeout(), func() {
			c.recovered(r, fmt.Errorf("the module did not answer while the connection was recovered: %w", backend.ErrUnavailable))
		})
	}
	h.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-d.ctx.Done():
	case <-d.expired:
	}
	return d.err("the token is being reached again")
}

// recovered ends r, once.
func (c *conn) recovered(r *recovery, err error) {
	r.once.Do(func() {
		h := &c.healing
		h.Lock()
		defer h.Unlock()
		r.timer.Stop()
		h.current = nil
		r.err = err
		// The breaker asks for the delay only if it sees an execution, and not in RecordFailure.
		failsafe.With[any](c.breaker).Run(func() error { return err })
		if err != nil {
			h.failed++
			h.last = err
		} else {
			h.failed, h.last = 0, nil
			c.down.Store(false)
		}
		close(r.done)
	})
}

// recover goes from the cheapest remedy to the dearest: a session and a login; the token, in whatever slot; the module.
func (c *conn) recover(cause error) error {
	looked := troubleOf(cause) == tokenGone
	err := error(nil)
	if looked {
		err = c.find()
	}
	if err == nil {
		err = c.logIn(false)
	}
	if troubleOf(err) == exhausted {
		m := c.instance.enter()
		c.pool.drain(m)
		m.leave()
		time.Sleep(exhaustedPause)
		err = c.logIn(false)
	}
	if err == nil && troubleOf(cause) == deviceTrouble {
		err = c.logInAgain()
	}
	if needsMore(err) && troubleOf(err) != notInitialized && !looked {
		if err = c.find(); err == nil {
			err = c.logIn(false)
		}
	}
	if needsMore(err) {
		if e := c.instance.restart(c, troubleOf(err) == notInitialized); e != nil {
			return c.explain(fmt.Errorf("%w; before that: %w", e, err))
		}
		if err = c.find(); err == nil {
			err = c.logIn(false)
		}
	}
	return c.explain(err)
}

// needsMore reports whether a dearer remedy may help against err.
func needsMore(err error) bool {
	switch troubleOf(err) {
	case callersFault, pinRefused, exhausted:
		return false
	}
	return err != nil
}

// logIn opens a session and logs in, unless the login stands, and gives the session to the pool. Only one C_Login is made,
// and none with a PIN that was refused. The error of the first login is that the user is logged in already if other code
// of the process did that: a token then takes any PIN, so that this one could not be checked.
func (c *conn) logIn(first bool) error {
	m := c.instance.enter()
	defer m.leave()
	line, rw := c.line.Load(), c.rw.Load()
	s, err := c.spareOr(m, rw, line)
	if code, _ := code(wrap(err)); code == ckrSessionCount && c.pool.drain(m) {
		s, err = c.spareOr(m, rw, line)
	}
	if err != nil {
		return wrap(err)
	}
	in, err := m.LoggedIn(s.session)
	if troubleOf(err) == lostSession { // the spare one was closed by others
		if s.session, err = m.OpenSession(c.slot(), rw); err != nil {
			return wrap(err)
		}
		s.rw = rw
		in, err = m.LoggedIn(s.session)
	}
	session := s.session
	switch {
	case err != nil:
	case first && in:
		err = fmt.Errorf("other code of this program is logged in to the token, so that the PIN can't be checked: %w", backend.ErrCredentials)
	case !in:
		err = c.present(first, func(pin string) error { return m.Login(session, pin) })
	}
	if err != nil {
		m.CloseSession(session)
		return wrap(err)
	}
	if !c.pool.adopt(s) {
		m.CloseSession(session) // the others hold the login
	}
	return nil
}

// spareOr returns the session that the pool keeps for the next who needs one, or else a new one: each that is opened beside
// those of the workers is one more than there may be.
func (c *conn) spareOr(m *incarnation, rw bool, line uint64) (spare, error) {
	if s := c.pool.adopted(rw, line); s != nil {
		return *s, nil
	}
	session, err := m.OpenSession(c.slot(), rw)
	return spare{session, rw, line}, err
}

// relogInterval is how often the login is renewed at most, to the cost of all keys of the token, for one key's trouble.
const relogInterval = time.Second

// logInAgain logs out and in, although the login stands, if that was not done lately: small devices get rid of what fills
// or confuses them only then. (tpm2-pkcs11 has room for two keys, and keeps each that was used until logout.)
func (c *conn) logInAgain() error {
	if c.instance.foreign.Load() || time.Since(time.Unix(0, c.renewed.Load())) < relogInterval {
		return nil
	}
	m, done, ok := c.instance.exclusive(restartTimeout)
	if !ok {
		return nil // calls hang; whatever they wait for, this won't help them
	}
	defer done()
	c.renewed.Store(time.Now().UnixNano())
	s, err := c.spareOr(m, false, c.line.Load())
	if err != nil {
		return wrap(err)
	}
	defer func() {
		if !c.pool.adopt(s) {
			m.CloseSession(s.session)
		}
	}()
	if err := m.Logout(s.session); err != nil {
		return wrap(err)
	}
	return c.present(false, func(pin string) error { return m.Login(s.session, pin) })
}

// present gives the PIN to login, which is C_Login.
func (c *conn) present(first bool, login func(pin string) error) error {
	pin, err := c.pin()
	if err != nil {
		return err
	}
	shown := newCredential(pin, c.id)
	if err := c.instance.refusal(shown); err != nil {
		return err
	}
	c.renumber() // handles of before the login mean nothing after it
	err = wrap(login(pin))
	switch c2, _ := code(err); {
	case c2 == ckrUserAlreadyLoggedIn && !first:
		return nil // somebody was faster; this PIN was checked when the connection began
	case c2.trouble() == pinRefused && err != nil:
		err = classify(err)
		c.refuse(err, shown)
	case err == nil:
		c.login.Store(&shown) // the PIN may have been rotated where it is kept
	}
	return err
}

// Ping implements backend.Pinger. It asks each token that a key was opened on whether the login still stands, tries to
// recover it where it does not, and makes no call if there is none.
func (b *Backend) Ping(ctx context.Context) error {
	if err := b.gate.Enter(); err != nil {
		return fmt.Errorf("pkcs11: %w", err)
	}
	defer b.gate.Leave()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("pkcs11: %w", err)
	}
	b.mu.Lock()
	held := append([]*conn(nil), b.held...)
	b.mu.Unlock()
	var failed []error
	for _, c := range held {
		failed = append(failed, c.explain(c.do(ctx, false, false, func(w *worker) error { return w.alive() })))
	}
	return errors.Join(failed...)
}

// alive returns an error that can be healed unless the login stands.
func (w *worker) alive() error {
	in, err := w.module.LoggedIn(w.session)
	if err != nil {
		return err
	}
	if !in {
		return &callError{function: "C_GetSessionInfo", code: ckrUserNotLoggedIn}
	}
	return nil
}
