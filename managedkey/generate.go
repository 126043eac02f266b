package managedkey

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Generate makes the entry's key in the key manager and returns its handle. If the entry has a key already, the new one
// takes its place: the entry is pinned to the new public key, new look-ups give it, and handles that are out, which are
// bound to the old one, fail with backend.ErrKeyChanged.
//
// The entry must allow generating, and replacing if there is a key, be it in the key manager or pinned. When ctx ends,
// Generate returns; the key manager may still finish, and the entry then has the new key. Without a
// later deadline of ctx, it is given up after 2 minutes.
//
// The error wraps backend.ErrNotPermitted if the entry doesn't allow it, and backend.ErrKeyExists too if what is
// missing is the permission to replace; backend.ErrUnsupported if the backend can't generate; backend.ErrKeyNotFound
// if there is no such entry; store.ErrConflict if another process has moved or rotated the entry meanwhile; or what the backend
// returned.
func (r *Registry) Generate(ctx context.Context, ref namespace.Ref) (*Key, error) {
	return r.make(ctx, "generate", ref, func(e *entry, st *state) (callFunc, commitFunc, error) {
		if !st.is(allowGenerate) {
			return nil, nil, fmt.Errorf("the entry has allow_generate_key off: %w", backend.ErrNotPermitted)
		}
		generator, ok := st.backend.(backend.Generator)
		if !ok {
			return nil, nil, fmt.Errorf("the backend can't generate keys: %w", backend.ErrUnsupported)
		}
		if st.pin != nil && !st.is(allowReplace) {
			return nil, nil, errPinned(st)
		}
		call := func(ctx context.Context) (backend.Key, error) {
			return generator.Generate(ctx, st.params, &backend.GenerateOptions{Replace: st.is(allowReplace)})
		}
		return e.pinning(st, true, call), e.replacing(st), nil
	})
}

// Import puts a private key or symmetric key that the program holds into the key manager as the entry's key, and
// returns its handle. material is as backend.Importer takes it. What is said of [Registry.Generate] holds here too,
// where the permission needed is AllowStoreKey; a key that the entry is pinned to already may be imported without
// AllowReplaceKey if the key manager doesn't have it.
func (r *Registry) Import(ctx context.Context, ref namespace.Ref, material any) (*Key, error) {
	if isNil(material) {
		err := fmt.Errorf("material is nil; it takes a private key or bytes: %w", backend.ErrInvalidParams)
		return nil, fail("import", ref, "", err)
	}
	return r.make(ctx, "import", ref, importing(material))
}

// importing returns the plan that puts material into the key manager.
func importing(material any) planFunc {
	return func(e *entry, st *state) (callFunc, commitFunc, error) {
		if !st.is(allowStore) {
			return nil, nil, fmt.Errorf("the entry has allow_store_key off: %w", backend.ErrNotPermitted)
		}
		importer, ok := st.backend.(backend.Importer)
		if !ok {
			return nil, nil, fmt.Errorf("the backend can't import keys: %w", backend.ErrUnsupported)
		}
		if st.pin != nil && !st.is(allowReplace) && !pinned(st, material) {
			return nil, nil, errPinned(st)
		}
		call := func(ctx context.Context) (backend.Key, error) {
			return importer.Import(ctx, st.params, material, &backend.ImportOptions{Replace: st.is(allowReplace)})
		}
		return e.pinning(st, true, call), e.replacing(st), nil
	}
}

// errReplace adds to an error that wraps ErrKeyExists that policy is why the key can't be replaced.
func errReplace(err error) error {
	return fmt.Errorf("%w; the entry has allow_replace_key off: %w", err, backend.ErrNotPermitted)
}

// errPinned says that a pinned key can't be replaced.
func errPinned(st *state) error {
	return errReplace(fmt.Errorf("the entry is pinned to the key with SHA-256 %x: %w", *st.pin, backend.ErrKeyExists))
}

// pinned reports whether the public key of material is the one that st is pinned to. Material that is malformed is not;
// the driver will say what is wrong with it.
func pinned(st *state, material any) (same bool) {
	defer func() {
		if recover() != nil {
			same = false
		}
	}()
	pair, ok := material.(interface{ Public() crypto.PublicKey })
	if !ok {
		return false
	}
	pin, err := backend.Fingerprint(pair.Public())
	return err == nil && pin == *st.pin
}

// commitFunc makes what a call brought home the entry's, under space.mu, and returns the state after that.
type commitFunc = func(found) (*state, error)

// planFunc says how a key is to be made for an entry whose state is st; space.mu is held.
type planFunc = func(e *entry, st *state) (callFunc, commitFunc, error)

// make has a key made as plan says.
func (r *Registry) make(ctx context.Context, op string, ref namespace.Ref, plan planFunc) (_ *Key, err error) {
	ctx, done, err := r.begin(ctx, op, ref, nil)
	if err != nil {
		return nil, err
	}
	defer done(&err)
	e, err := r.lookup(op, ref)
	if err != nil {
		return nil, err
	}
	st, err := e.make(ctx, plan)
	if err != nil {
		return nil, fail(op, ref, e.kind(), err)
	}
	return &st.bound.handle, nil
}

func (e *entry) make(ctx context.Context, plan planFunc) (*state, error) {
	for {
		if ctx.Err() != nil {
			return nil, backend.ContextError(ctx)
		}
		e.space.mu.Lock()
		st := e.state.Load()
		if st.is(deleted) {
			e.space.mu.Unlock()
			return nil, errAbsent
		}
		mine := e.free()
		if mine {
			call, commit, err := plan(e, st)
			if err != nil {
				e.space.mu.Unlock()
				return nil, err
			}
			callCtx, cancel := detached(ctx, makeTimeout)
			e.start(callCtx, cancel, making, call, func(_ *flight, result found) (*state, error) { return commit(result) })
		}
		f := e.flight()
		e.space.mu.Unlock()
		if !mine {
			if err := f.outlast(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if err := f.wait(ctx); err != nil {
			return nil, err
		}
		return f.state, f.err
	}
}

// replacing makes the key that was made for st the entry's key, in the place of the one that it had.
func (e *entry) replacing(st *state) commitFunc {
	number := e.number()
	return func(result found) (*state, error) {
		now := e.state.Load()
		switch {
		case now.is(deleted):
			return nil, errDeleted
		case errors.Is(result.err, backend.ErrKeyExists) && !st.is(allowReplace):
			return nil, errReplace(result.err)
		case result.err != nil:
			return nil, result.err
		case e.number() != number:
			return nil, errRotated
		case now.elsewhere(st):
			return nil, errMoved
		}
		next := *now
		e.bind(&next, now, result)
		e.state.Store(&next)
		return &next, nil
	}
}
