package managedkey

import (
	"context"
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// Update replaces the policy and location of the entry in.Ref, all at once; its UUID and grants stay. Handles that are
// out follow the new policy at once. If there is an error, nothing was changed.
//
// If Backend and Params are what they were, the open key is kept and no call is made. If they changed, the key is
// opened at its new place first, and it must be the pinned one; handles that are out then go on with it. Handles of a
// symmetric key can't be proved to mean the same key: they fail with backend.ErrKeyChanged, and new look-ups give the
// new key.
//
// An empty PublicKeySHA256 leaves the pin as it is. Another one points the entry at another key on purpose: the key at
// the place that in names must have it, and handles that are out fail with backend.ErrKeyChanged.
//
// An entry whose key was never opened, may be generated and is not there yet, may move without being opened; Update
// generates nothing. Of two concurrent updates, the one that ends last holds.
//
// The error wraps backend.ErrInvalidParams as for [Registry.Create], or if in.UUID is that of another entry;
// backend.ErrKeyNotFound; backend.ErrKeyChanged; or what the backend's Open returned.
func (r *Registry) Update(ctx context.Context, in Entry) (err error) {
	ctx, done, err := r.begin(ctx, "update", in.Ref, describeEntry(&in))
	if err != nil {
		return err
	}
	defer done(&err)
	if ctx.Err() != nil {
		return fail("update", in.Ref, "", backend.ContextError(ctx))
	}
	next, err := r.newState(&in)
	if err != nil {
		return fail("update", in.Ref, "", err)
	}
	e, err := r.lookup("update", in.Ref)
	if err != nil {
		return err
	}
	if id, ok := parseID(in.UUID); in.UUID != "" && (!ok || id != e.id) {
		return fail("update", in.Ref, in.Backend.Type(), fmt.Errorf("field UUID is %.40q, that of the entry is %q: %w",
			in.UUID, e.id, backend.ErrInvalidParams))
	}
	given := in.Older != nil
	older, err := e.plan(ctx, &in, next)
	switch {
	case err != nil:
	case r.kept != nil:
		err = r.kept.update(ctx, e, in, next, older, given)
	default:
		still := func() error { return e.stillNewest(in.KeyVersion) }
		if err = e.update(ctx, next, still, false); err == nil {
			for _, move := range older { // each was opened there a moment ago
				err = errors.Join(err, move.try(ctx))
			}
		}
	}
	if err != nil {
		return fail("update", in.Ref, in.Backend.Type(), err)
	}
	return nil
}

// stillNewest returns an error if number is not that of the newest version any more.
func (e *entry) stillNewest(number int) error {
	if number != int(e.number()) {
		return errRotated
	}
	return nil
}

// update makes next the entry's state, unless still, which is called under space.mu, has an error by then. If policyStays, it has
// brought no policy of its own, and that of the moment is kept.
func (e *entry) update(ctx context.Context, next *state, still func() error, policyStays bool) error {
	for {
		if ctx.Err() != nil {
			return backend.ContextError(ctx)
		}
		e.space.mu.Lock()
		now := e.state.Load()
		if now.is(deleted) {
			e.space.mu.Unlock()
			return errAbsent
		}
		if err := still(); err != nil {
			e.space.mu.Unlock()
			return err
		}
		if policyStays {
			next.keepPolicy(now)
		}
		next.backend = e.space.registry.renewed(next.backend)
		if now.stays(next) {
			next.version, next.pin, next.key, next.bound = now.version, now.pin, now.key, now.bound
			e.put(next)
			e.space.mu.Unlock()
			return nil
		}
		mine := e.free()
		if mine {
			callCtx, cancel := bounded(ctx)
			e.start(callCtx, cancel, probing,
				func(ctx context.Context) (backend.Key, error) { return next.backend.Open(ctx, next.params) },
				func(f *flight, result found) (*state, error) {
					if now := e.state.Load(); policyStays && !now.is(deleted) {
						next.keepPolicy(now)
					}
					return e.move(f, next, still, result)
				})
		}
		f := e.flight()
		e.space.mu.Unlock()
		if mine {
			return e.leave(f, f.wait(ctx))
		}
		if err := f.outlast(ctx); err != nil {
			return err
		}
	}
}

// plan checks what in, an update that makes next the newest state, says of the versions, and fills in what it leaves open. It
// opens the older versions that have to move at their new places, to see whether they are there.
func (e *entry) plan(ctx context.Context, in *Entry, next *state) (moves []*relocation, err error) {
	e.space.mu.Lock()
	moves, err = e.planMoves(in, next)
	e.space.mu.Unlock()
	for _, move := range moves {
		if err = move.entry.probe(ctx, move.entry.state.Load(), move.next); err != nil {
			return nil, fmt.Errorf("field Older, version %d: %w", move.entry.number(), err)
		}
	}
	return moves, err
}

// planMoves is plan without the probes; space.mu is held.
func (e *entry) planMoves(in *Entry, next *state) (moves []*relocation, err error) {
	now := e.state.Load()
	switch {
	case now.is(deleted):
		return nil, errAbsent
	case now.backend.Type() != next.backend.Type():
		return nil, fmt.Errorf("field Backend is %q; an entry keeps its type, %q: %w", next.backend.Type(), now.backend.Type(), backend.ErrInvalidParams)
	case in.KeyVersion != 0 && in.KeyVersion != int(e.number()):
		return nil, fmt.Errorf("field KeyVersion is %d, that of the entry is %d: %w", in.KeyVersion, e.number(), errRotated)
	}
	in.KeyVersion = int(e.number())
	if next.window, err = newWindow(in, e.number()); err != nil {
		return nil, err
	}
	from := e.export() // which a move that is under way has left already
	past := from.Older
	switch {
	case in.Older == nil:
		in.Older = past
		for i := range past {
			if o := &in.Older[i]; sameBackend(o.Backend, from.Backend) && o.Connection == from.Connection {
				o.Backend, o.Connection = next.backend, in.Connection
			}
		}
	case len(in.Older) != len(past):
		return nil, fmt.Errorf("field Older has %d versions, the entry %d; Trim takes some away: %w", len(in.Older), len(past), backend.ErrInvalidParams)
	}
	if _, err := firstVersion(in); err != nil {
		return nil, err
	}
	for i := range in.Older {
		moved, err := newOlder(in, &in.Older[i])
		if err != nil {
			return nil, err
		}
		o := e.lineage.Load().older[i].entry
		st := o.state.Load()
		if moved.pin != nil && (st.pin == nil || *moved.pin != *st.pin) {
			return nil, fmt.Errorf("field Older, version %d: PublicKeySHA256 is %x; an older version keeps its key: %w", in.Older[i].Version, *moved.pin, backend.ErrKeyChanged)
		}
		moved.pin = st.pin
		if !st.sameLocation(moved) {
			moves = append(moves, newRelocation(o, moved))
		}
	}
	return moves, nil
}

// stays reports whether an update to next means the same key at the same place.
func (s *state) stays(next *state) bool {
	return s.sameLocation(next) && (next.pin == nil || s.pin != nil && *s.pin == *next.pin)
}

// keepPolicy gives s the policy of now.
func (s *state) keepPolicy(now *state) { s.usages, s.bits, s.window = now.usages, now.bits, now.window }

// bounded returns a context that ends with ctx, and at the latest after openTimeout if ctx has no deadline.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, openTimeout)
}

// leave returns the result of the update's own flight f. If f has none yet, it is made void, and err is returned.
func (e *entry) leave(f *flight, err error) error {
	e.space.mu.Lock()
	defer e.space.mu.Unlock()
	if f.over {
		return f.err
	}
	e.forget(f)
	return err
}

// move makes next, whose key was opened, the state of the entry; space.mu is held.
func (e *entry) move(f *flight, next *state, still func() error, result found) (*state, error) {
	now := e.state.Load()
	switch {
	case now.is(deleted):
		return nil, errAbsent
	case e.flight() != f:
		return nil, fmt.Errorf("%w: the key manager did not answer in time", backend.ErrUnavailable)
	}
	if err := still(); err != nil {
		return nil, err
	}
	next.version = now.version + 1
	fresh := now.key == nil && now.pin == nil && next.pin == nil
	if fresh && errors.Is(result.err, backend.ErrKeyNotFound) && next.is(allowGenerate) {
		e.put(next)
		return next, nil
	}
	if result.err != nil {
		return nil, result.err
	}
	if next.pin == nil {
		next.pin = now.pin
		if now.key != nil && now.pin == nil && result.bound.pin != nil {
			return nil, fmt.Errorf("the entry has a symmetric key, but the new one has a public key: %w", backend.ErrKeyChanged)
		}
	}
	if err := matches(next.pin, result.bound.pin); err != nil {
		return nil, err
	}
	e.bind(next, now, result)
	e.put(next)
	return next, nil
}
