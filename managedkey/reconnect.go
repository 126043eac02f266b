package managedkey

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Reconnect gives a connection of a registry with a store another backend or other namespaces, or adds a connection. Keys of the
// connection that are open are first opened through the new backend, and must be the keys that they were; then look-ups and
// handles that are out go on with it. Operations that had begun end at the former backend. None fails because of the change.
//
// It returns whether the registry has the connection as c says now. If so and there is no error, nothing uses the former
// backend any more, and the program may close it: what is under way there is waited for by its Close. If not, nothing has
// changed. If there is an error nevertheless, some keys could be opened at first but not when it came to it, and stay where they
// were: then neither backend may be closed before the registry, and calling Reconnect again tries again.
//
// Handles of symmetric keys go on if the backend gives both keys the same ID, and else fail with backend.ErrKeyChanged.
//
// The error wraps backend.ErrUnsupported for a registry without a store; backend.ErrInvalidParams for a connection that makes no
// sense, of another type than before, or without a namespace in which entries use it; backend.ErrKeyChanged; or what the new
// backend's Open returned.
func (r *Registry) Reconnect(ctx context.Context, c Connection) (swapped bool, err error) {
	kind := ""
	if !isNil(c.Backend) {
		kind = c.Backend.Type()
	}
	ctx, done, err := r.begin(ctx, "reconnect", namespace.Ref{}, func(op *Operation) { op.Backend, op.Options = kind, "connection "+c.Name })
	if err != nil {
		return false, err
	}
	defer done(&err)
	swapped, err = r.reconnect(ctx, c)
	if err != nil {
		err = fail("reconnect", namespace.Ref{}, kind, fmt.Errorf("connection %.40q: %w", c.Name, err))
	}
	return swapped, err
}

func (r *Registry) reconnect(ctx context.Context, c Connection) (bool, error) {
	k := r.kept
	if k == nil {
		return false, fmt.Errorf("a registry without a store has no connections: %w", backend.ErrUnsupported)
	}
	if err := k.open(); err != nil {
		return false, err
	}
	valid, err := newConnections([]Connection{c})
	if err != nil {
		return false, err
	}
	for _, c = range valid { // there is one
	}
	k.swapping.Lock()
	defer k.swapping.Unlock()
	next := maps.Clone(*k.conns.Load())
	now, exists := next[c.Name]
	c.former = nil
	if exists {
		if was, kind := now.Backend.Type(), c.Backend.Type(); was != kind {
			return false, fmt.Errorf("the backend is of type %q; a connection keeps its type, %q: %w", kind, was, backend.ErrInvalidParams)
		}
		c.former = now.former
		if !sameBackend(now.Backend, c.Backend) {
			c.former = append(slices.Clone(now.former[max(0, len(now.former)-maxFormer):]), now.Backend)
		}
	}
	s := &swap{kept: k, to: c, opened: make(map[*entry]reopened)}
	pending, _, err := s.scan(false)
	if err == nil {
		err = s.open(ctx, pending)
	}
	if err != nil {
		return false, err
	}
	next[c.Name] = c
	k.conns.Store(&next)
	return true, s.finish(ctx)
}

// maxFormer is how many replaced backends a connection remembers, beside the last.
const maxFormer = 7

// Disconnect takes a connection out of a registry with a store. There being none is no error.
//
// The error wraps backend.ErrNotPermitted if entries use the connection, and names some of them; or backend.ErrUnsupported for a
// registry without a store.
func (r *Registry) Disconnect(name string) error {
	refuse := func(err error) error {
		return fail("disconnect", namespace.Ref{}, "", fmt.Errorf("connection %.40q: %w", name, err))
	}
	k := r.kept
	if k == nil {
		return refuse(fmt.Errorf("a registry without a store has no connections: %w", backend.ErrUnsupported))
	}
	k.swapping.Lock()
	defer k.swapping.Unlock()
	now := k.conns.Load()
	next := maps.Clone(*now)
	delete(next, name)
	// An entry that is created in this moment either is seen here or doesn't find the connection.
	k.conns.Store(&next)
	if users := k.users(name); len(users) > 0 {
		k.conns.Store(now)
		more := ""
		if len(users) > 5 {
			more = fmt.Sprintf(" and %d more", len(users)-5)
		}
		return refuse(fmt.Errorf("it is used by %v%s: %w", users[:min(5, len(users))], more, backend.ErrNotPermitted))
	}
	return nil
}

// users returns the entries that use a connection, sorted.
func (k *kept) users(connection string) (refs []namespace.Ref) {
	for _, s := range k.registry.allSpaces() {
		s.mu.Lock()
		for e := range s.names.all {
			for _, v := range e.versions() {
				if v.connection == connection {
					refs = append(refs, e.ref())
					break
				}
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(refs, namespace.Ref.Compare)
	return refs
}

// versions returns the newest version and the older ones of an entry of a registry with a store; space.mu is held.
func (e *entry) versions() []older {
	all := []older{{e, e.kept.connection, e.kept.asked}}
	if l := e.lineage.Load(); l != nil {
		all = append(all, l.older...)
	}
	return all
}

// renewed returns the backend that took the place of b, if b is a former one of a connection, and else b.
func (r *Registry) renewed(b backend.Backend) backend.Backend {
	if r.kept == nil {
		return b
	}
	for _, at := range *r.kept.conns.Load() {
		if len(at.former) > 0 && !sameBackend(at.Backend, b) && at.is(b) {
			return at.Backend
		}
	}
	return b
}

// reconnected reports whether next is an open symmetric key of old after its connection was given another backend: there is no
// public key to compare, but the place is the same, and the key manager calls the key the same.
func (e *entry) reconnected(old, next *state) bool {
	return e.kept != nil && old.key != nil && old.pin == nil && next.pin == nil && old.key.ID() == next.key.ID() &&
		!sameBackend(old.backend, next.backend) && sameBackend(e.space.registry.renewed(old.backend), next.backend) &&
		reflect.DeepEqual(old.params, next.params)
}

// moved reports whether an operation that failed is to be done again: its client was closed, and the entry is with another one
// since. A client that was closed has done nothing.
func (k *Key) moved(key backend.Key, err error) bool {
	if err == nil || !errors.Is(err, backend.ErrClosed) {
		return false
	}
	st := k.current()
	return st != nil && !sameKey(st.key, key)
}

// sameKey reports whether a and b are one open key. Keys of some backends are structs that hold functions, which can't be compared:
// then it is everything else in them, a pointer to what is open among it.
func sameKey(a, b backend.Key) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if x.Type() != y.Type() {
		return false
	}
	if x.Comparable() && y.Comparable() {
		return a == b
	}
	if x.Kind() != reflect.Struct {
		return true
	}
	for i := range x.NumField() {
		if f, g := x.Field(i), y.Field(i); f.Comparable() && g.Comparable() && !f.Equal(g) {
			return false
		}
	}
	return true
}

// swap is the change of a connection's backend.
type swap struct {
	kept *kept
	to   Connection

	mu     sync.Mutex
	opened map[*entry]reopened
}

// reopened is a key that was opened at its new place.
type reopened struct {
	params backend.Params
	found  found
}

// pending is a key that is to be opened at its new place.
type pending struct {
	entry  *entry
	state  *state
	params backend.Params
}

// concerns reports whether a version has to be moved, and returns the parameters that it has then.
func (s *swap) concerns(v older, st *state) (bool, backend.Params, error) {
	if away, ok := st.backend.(absentBackend); ok {
		if away.connection != s.to.Name || away.kind != s.to.Backend.Type() || !s.to.admits(v.entry.space.path) {
			return false, nil, nil
		}
		raw, ok := st.params.(rawParams)
		if !ok {
			return false, nil, nil
		}
		params, err := s.to.Backend.(backend.ParamsDecoder).DecodeParams(raw.json)
		return err == nil, params, err
	}
	// A version that is about to leave the connection is still there, although its record names another one.
	mine := v.connection == s.to.Name || v.asked != nil
	now, exists := (*s.kept.conns.Load())[s.to.Name]
	if !mine || !exists || sameBackend(st.backend, s.to.Backend) && s.to.admits(v.entry.space.path) || !now.is(st.backend) {
		return false, nil, nil
	}
	if !s.to.admits(v.entry.space.path) {
		return false, nil, fmt.Errorf("it is used by %s, whose namespace may not: %w", v.entry.ref(), backend.ErrInvalidParams)
	}
	return true, st.params, nil
}

// scan looks at all entries. It returns those whose keys have to be opened first and, if commit is set, moves the others, and
// returns the flights that must end before.
func (s *swap) scan(commit bool) (todo []pending, busy []*flight, err error) {
	for _, space := range s.kept.registry.allSpaces() {
		space.mu.Lock()
		for e := range space.names.all {
			for _, v := range e.versions() {
				st := v.entry.state.Load()
				concerned, params, failure := s.concerns(v, st)
				if failure != nil {
					err = errors.Join(err, failure)
				}
				if f := v.entry.flight(); commit && f != nil && (f.kind == probing || f.kind == making) && !v.entry.free() {
					busy = append(busy, f)
					continue
				}
				switch t, tried := s.opened[v.entry]; {
				case !concerned:
				case st.key != nil && (!tried || !reflect.DeepEqual(t.params, params) || matches(st.pin, t.found.bound.pin) != nil):
					todo = append(todo, pending{v.entry, st, params})
				case commit:
					s.commit(v.entry, st, params, t)
				}
			}
		}
		space.mu.Unlock()
	}
	return todo, busy, err
}

// commit has a version use the new backend; space.mu is held.
func (s *swap) commit(e *entry, now *state, params backend.Params, t reopened) {
	next := *now
	next.backend, next.params = s.to.Backend, params
	next.version++
	switch {
	case now.key == nil:
	default:
		e.bind(&next, now, t.found)
	}
	e.put(&next)
	delete(s.opened, e)
}

// open opens keys at their new place, some at a time.
func (s *swap) open(ctx context.Context, todo []pending) error {
	const parallel = 16
	var wg sync.WaitGroup
	var failed error
	places := make(chan struct{}, parallel)
	for _, p := range todo {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			err := s.openOne(ctx, p)
			if err != nil {
				s.mu.Lock()
				failed = errors.Join(failed, fmt.Errorf("%s: %w", p.entry.ref(), err))
				s.mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}

func (s *swap) openOne(ctx context.Context, p pending) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	result := fetch(ctx, func(ctx context.Context) (backend.Key, error) { return s.to.Backend.Open(ctx, p.params) })
	if result.err != nil {
		return result.err
	}
	if p.state.pin == nil && result.bound.pin != nil {
		return fmt.Errorf("the entry has a symmetric key, but the new one has a public key: %w", backend.ErrKeyChanged)
	}
	if err := matches(p.state.pin, result.bound.pin); err != nil {
		return err
	}
	s.mu.Lock()
	s.opened[p.entry] = reopened{p.params, result}
	s.mu.Unlock()
	return nil
}

// finish moves all versions, those included that were opened or changed since they were looked at.
func (s *swap) finish(ctx context.Context) error {
	const attempts = 3
	for failures := 0; ; {
		todo, busy, err := s.scan(true)
		if err != nil || len(todo)+len(busy) == 0 {
			return err
		}
		for _, f := range busy {
			if err := f.wait(ctx); err != nil {
				return err
			}
		}
		if err := s.open(ctx, todo); err != nil {
			if failures++; failures == attempts || ctx.Err() != nil {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(patience):
			}
		}
	}
}
