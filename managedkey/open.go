package managedkey

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// The time limits of a backend's call whose caller has no later deadline of its own. Making an RSA key takes some
// hardware more than the usual limit.
const (
	openTimeout = backend.DefaultCallTimeout
	makeTimeout = 2 * time.Minute
)

// errOvertaken ends a flight that has no result, because the entry's location changed meanwhile. Callers look again;
// they never return it.
var errOvertaken = errors.New("overtaken")

// flight is a slow call to the backend about one entry. An entry has one at a time.
//
// The call runs on a goroutine of its own, so that callers come and go without disturbing one another. Its result is
// committed to the entry by that goroutine before done is closed.
//
// kind, ctx and done are immutable. over, state, err and next are stored under space.mu, once; after done was closed,
// they are read without it.
type flight struct {
	kind flightKind
	ctx  context.Context // of the call; ends at its time limit, and after done was closed
	done chan struct{}

	over  bool   // the result was committed or thrown away
	state *state // of the entry after the commit
	err   error
	next  *flight // goes on with what this one began, and has the result; nil if this one has it
}

type flightKind uint8

const (
	opening    flightKind = iota // shared by everyone who wants the key open
	generating                   // as opening, for a key that is not there yet
	making                       // of one Generate or Import
	probing                      // of one Update, and void when that has left
)

// shared reports whether all who want the key open wait for this flight's result.
func (k flightKind) shared() bool { return k == opening || k == generating }

// hasEffect reports whether the call changes something in the key manager, so that no other may begin before it has
// returned.
func (k flightKind) hasEffect() bool { return k == generating || k == making }

// callFunc is a call that gives a key.
type callFunc = func(context.Context) (backend.Key, error)

// found is what a flight brought home: a key and a binding for it, or an error.
type found struct {
	key   backend.Key
	bound *binding
	err   error
}

// flight returns the entry's flight, or nil; space.mu is held.
func (e *entry) flight() *flight { return e.space.flights[e] }

// forget makes f the entry's flight no longer, if it still is; space.mu is held.
func (e *entry) forget(f *flight) {
	if e.flight() != f {
		return
	}
	delete(e.space.flights, e)
	if len(e.space.flights) == 0 {
		e.space.flights = nil // a map never shrinks
	}
}

// free reports whether another flight may start; space.mu is held. A call that ignores the end of its context is left
// behind, unless it may have an effect.
func (e *entry) free() bool {
	f := e.flight()
	return f == nil || !f.kind.hasEffect() && f.ctx.Err() != nil
}

// start begins a flight; space.mu is held and e is free. commit is called under space.mu. cancel ends ctx.
func (e *entry) start(ctx context.Context, cancel context.CancelFunc, kind flightKind, call callFunc,
	commit func(*flight, found) (*state, error)) {
	f := &flight{kind: kind, ctx: ctx, done: make(chan struct{})}
	if e.space.flights == nil {
		e.space.flights = make(map[*entry]*flight)
	}
	e.space.flights[e] = f
	go func() {
		defer cancel()
		result := fetch(ctx, call)
		e.space.mu.Lock()
		f.state, f.err = commit(f, result)
		f.over = true
		e.forget(f)
		e.space.mu.Unlock()
		close(f.done)
	}()
}

// fetch makes the call and asks the key for what handles say of it. A driver that panics must not end the program from
// a goroutine that the program doesn't know of.
func fetch(ctx context.Context, call callFunc) (result found) {
	defer func() {
		if r := recover(); r != nil {
			result = found{err: fmt.Errorf("the driver panicked: %v: %w", r, backend.ErrUnavailable)}
		}
	}()
	key, err := call(ctx)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(err, backend.ErrUnavailable):
		return found{err: fmt.Errorf("%w: no answer in time: %w", backend.ErrUnavailable, err)}
	case err != nil:
		return found{err: err}
	case isNil(key):
		return found{err: fmt.Errorf("the driver returned neither a key nor an error: %w", backend.ErrUnavailable)}
	}
	fresh, err := newBinding(key)
	return found{key, fresh, err}
}

// wait returns nil when f has ended. Before that, it returns an error when ctx ends, or when the call's time is up.
func (f *flight) wait(ctx context.Context) error {
	err := error(nil)
	select {
	case <-f.done:
	case <-ctx.Done():
		err = backend.ContextError(ctx)
	case <-f.ctx.Done():
		err = fmt.Errorf("%w: the key manager did not answer in time: %w", backend.ErrUnavailable, f.ctx.Err())
	}
	select {
	case <-f.done: // a result that is there is better than an error, and its call's context has ended, too
		return nil
	default:
		return err
	}
}

// outlast waits until another flight may start in the place of f, or until ctx ends, for which callers look themselves.
// It returns an error when the time of f is up but f must return before anything else may be done.
func (f *flight) outlast(ctx context.Context) error {
	if err := f.wait(ctx); f.kind.hasEffect() {
		return err
	}
	return nil
}

// detached returns a context that has the values of ctx, ends not with it, and lasts for limit or until the deadline of
// ctx, whichever is later.
func detached(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(limit, time.Until(deadline))
	}
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}

// open returns the entry's state with an open key.
func (e *entry) open(ctx context.Context) (*state, error) {
	for {
		if ctx.Err() != nil {
			return nil, backend.ContextError(ctx)
		}
		e.space.mu.Lock()
		st := e.state.Load()
		if st.is(deleted) || st.key != nil {
			e.space.mu.Unlock()
			if st.is(deleted) {
				return nil, errDeleted
			}
			return st, nil
		}
		if e.free() {
			callCtx, cancel := detached(ctx, openTimeout)
			e.start(callCtx, cancel, opening,
				e.pinning(st, false, func(ctx context.Context) (backend.Key, error) { return st.backend.Open(ctx, st.params) }),
				func(f *flight, result found) (*state, error) { return e.opened(f, st, result) })
		}
		f := e.flight()
		e.space.mu.Unlock()
		if !f.kind.shared() {
			if err := f.outlast(ctx); err != nil {
				return nil, err
			}
			continue
		}
		// Whoever waited for an open must have the result of the generation that followed, however fast that was: looking
		// again instead could generate once more.
		err := f.wait(ctx)
		for ; err == nil && f.next != nil; err = f.wait(ctx) {
			f = f.next
		}
		if err != nil {
			return nil, err
		}
		if f.err != errOvertaken {
			return f.state, f.err
		}
	}
}

// opened ends the flight f that opened the key of st; space.mu is held. If there is no key and the entry allows that
// one is generated, another flight begins, which the callers of f wait for next. A pinned entry generates none, since
// the key would not be the one that it is pinned to; nor does a flight that was left behind, since another one looks
// now, or that looked where the entry is no longer.
func (e *entry) opened(f *flight, st *state, result found) (*state, error) {
	now := e.state.Load()
	if !errors.Is(result.err, backend.ErrKeyNotFound) || !now.is(allowGenerate) || now.version != st.version || e.flight() != f {
		return e.adopt(st, result)
	}
	if now.pin != nil {
		return nil, fmt.Errorf("not generated, because the entry is pinned to the key with SHA-256 %x: %w",
			*now.pin, result.err)
	}
	generator, ok := now.backend.(backend.Generator)
	if !ok {
		return nil, fmt.Errorf("the backend can't generate keys: %w: %w", backend.ErrUnsupported, result.err)
	}
	ctx, cancel := detached(f.ctx, makeTimeout)
	e.start(ctx, cancel, generating,
		e.generating(e.pinning(st, false, func(ctx context.Context) (backend.Key, error) {
			key, err := generator.Generate(ctx, st.params, nil)
			if errors.Is(err, backend.ErrKeyExists) {
				return st.backend.Open(ctx, st.params) // another process was faster
			}
			return key, err
		})),
		func(_ *flight, result found) (*state, error) { return e.adopt(st, result) })
	f.next = e.flight()
	return nil, nil
}

// adopt makes the key that was opened or generated for st the entry's key; space.mu is held. It returns the entry's
// state.
func (e *entry) adopt(st *state, result found) (*state, error) {
	now := e.state.Load()
	switch {
	case now.is(deleted):
		return nil, errDeleted
	case now.key != nil: // a call that took over from this one was faster
		return now, nil
	case now.version != st.version:
		return nil, errOvertaken
	case result.err != nil:
		return nil, result.err
	}
	if err := matches(now.pin, result.bound.pin); err != nil {
		return nil, err
	}
	next := *now
	e.bind(&next, now, result)
	e.state.Store(&next)
	return &next, nil
}

// bind sets next's key and pin; space.mu is held. Handles of the old state go on with the new key if it is certain that
// it is the same one, and are stopped by another binding if not.
func (e *entry) bind(next, old *state, result found) {
	next.key, next.pin = result.key, result.bound.pin
	if old.bound != nil && old.pin != nil && next.pin != nil && *old.pin == *next.pin || e.reconnected(old, next) {
		next.bound = old.bound
		return
	}
	next.bound = result.bound
	next.bound.entry.Store(e)
	next.bound.number, next.bound.kind = e.number(), next.backend.Type()
}
