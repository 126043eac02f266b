package managedkey

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Mount is what an engine is given instead of a registry: it reaches only keys of its own namespace, neither of parents
// nor of children, and of those only the ones that it has a grant for or that every mount may use (Entry.AnyMount).
//
// A mount asks for keys by name or by UUID. If its namespace has no such key, the answer is the same whether another
// namespace has one or not; the error wraps backend.ErrKeyNotFound. If its namespace has the key but the mount has no
// grant, the error wraps backend.ErrNotPermitted.
//
// All methods are safe for concurrent use; looking up a key takes no lock.
type Mount struct {
	id    string // immutable; grants belong to the mount whatever its path is
	space *space // immutable

	version uint64 // of the record in the store; guarded by space.mu

	closed atomic.Bool               // stored under space.mu, once
	path   atomic.Pointer[string]    // stored under space.mu; the key of this mount in space.mounts while it is not closed
	info   atomic.Pointer[mountInfo] // stored under space.mu; nil if there is nothing to say
	seats  index[seat]               // changed under space.mu; by UUID of the entry
}

// seat is one mount's relation to one entry. It exists from the first grant or the first use on, until the entry is
// deleted or the mount closed, so that handles follow each later grant and revocation.
type seat struct {
	mount   *Mount
	entry   *entry
	granted atomic.Bool         // stored under space.mu
	handle  atomic.Pointer[Key] // the newest handle that was given out
}

// ID returns the mount's UUID. It stays the same when the mount is renamed.
func (m *Mount) ID() string { return m.id }

// Namespace returns the namespace whose keys the mount may use.
func (m *Mount) Namespace() namespace.Path { return m.space.path }

// Path returns the mount's path within its namespace.
func (m *Mount) Path() string { return *m.path.Load() }

func (m *Mount) fail(op, name, kind string, err error) error {
	return fail(op, namespace.Ref{Namespace: m.space.path, Name: name}, kind, err)
}

// seat returns the mount's seat for e, or nil.
func (m *Mount) seat(e *entry) *seat {
	return m.seats.find(hashID(&e.id), func(s *seat) bool { return s.entry == e })
}

// sit returns the mount's seat for e, made if need be; space.mu is held.
func (m *Mount) sit(e *entry) *seat {
	s := m.seat(e)
	if s == nil {
		s = &seat{mount: m, entry: e}
		m.seats.add(s, func(s *seat) uint64 { return hashID(&s.entry.id) })
	}
	return s
}

// admits reports whether the mount may use the entry whose state is st.
func (s *seat) admits(st *state) bool {
	return (s.granted.Load() || st.is(anyMount)) && !s.mount.closed.Load()
}

// Key returns a handle to a key of the mount's namespace. It opens or generates the key as [Registry.Key] does, and
// costs as little afterwards. The handle stops when the grant is revoked or the mount closed. For the error see
// [Mount] and [Registry.Key].
func (m *Mount) Key(ctx context.Context, nameOrUUID string) (*Key, error) {
	e := m.space.resolve(nameOrUUID)
	if e == nil {
		return nil, m.refused(ctx, nameOrUUID, m.fail("open", nameOrUUID, "", m.absent()))
	}
	st := e.state.Load()
	s := m.seat(e)
	if s == nil || !s.admits(st) {
		var err error
		if s, err = m.take(e); err != nil {
			return nil, m.refused(ctx, nameOrUUID, m.fail("open", nameOrUUID, e.kind(), err))
		}
	}
	if st.key == nil {
		var err error
		if st, err = e.opening(ctx, m, e.open); err != nil {
			return nil, m.fail("open", nameOrUUID, e.kind(), err)
		}
	}
	k := s.handle.Load()
	if k == nil || k.bound != st.bound {
		k = &Key{bound: st.bound, seat: s}
		s.handle.Store(k)
	}
	return k, nil
}

// absent says why the mount doesn't know a key.
func (m *Mount) absent() error {
	if m.closed.Load() {
		return errUnmounted
	}
	return errAbsent
}

// take returns the mount's seat for e, made if e is there for any mount.
func (m *Mount) take(e *entry) (*seat, error) {
	m.space.mu.Lock()
	defer m.space.mu.Unlock()
	st := e.state.Load()
	switch s := m.seat(e); {
	case m.closed.Load():
		return nil, errUnmounted
	case st.is(deleted):
		return nil, errAbsent
	case s != nil && s.admits(st):
		return s, nil
	case st.is(anyMount):
		return m.sit(e), nil
	}
	return nil, m.errNotGranted()
}

func (m *Mount) errNotGranted() error {
	return fmt.Errorf("the mount %q has no grant for this key: %w", m.Path(), backend.ErrNotPermitted)
}

// Signer returns the key as [Registry.Signer] does, for this mount.
func (m *Mount) Signer(ctx context.Context, nameOrUUID string) (crypto.Signer, error) {
	k, err := m.Key(ctx, nameOrUUID)
	if err != nil {
		return nil, err
	}
	return k.narrowSigner(ctx)
}

// Decrypter returns the key as [Registry.Decrypter] does, for this mount.
func (m *Mount) Decrypter(ctx context.Context, nameOrUUID string) (crypto.Decrypter, error) {
	k, err := m.Key(ctx, nameOrUUID)
	if err != nil {
		return nil, err
	}
	return k.narrowDecrypter(ctx)
}

// KeyExchanger returns the key as [Registry.KeyExchanger] does, for this mount.
func (m *Mount) KeyExchanger(ctx context.Context, nameOrUUID string) (ecdh.KeyExchanger, error) {
	k, err := m.Key(ctx, nameOrUUID)
	if err != nil {
		return nil, err
	}
	return k.narrowExchanger(ctx)
}

// Decapsulator returns the key as [Registry.Decapsulator] does, for this mount.
func (m *Mount) Decapsulator(ctx context.Context, nameOrUUID string) (crypto.Decapsulator, error) {
	k, err := m.Key(ctx, nameOrUUID)
	if err != nil {
		return nil, err
	}
	return k.narrowDecapsulator(ctx)
}

// Allowed returns the names of the keys that the mount has a grant for, sorted. Keys that every mount may use are not
// among them.
func (m *Mount) Allowed() []string {
	m.space.mu.Lock()
	defer m.space.mu.Unlock()
	var names []string
	for s := range m.seats.all {
		if s.granted.Load() {
			names = append(names, s.entry.name.String())
		}
	}
	slices.Sort(names)
	return names
}

// Close removes the mount and its grants, as [Registry.Unmount] does. In a registry with a store, where others use the mount
// as well and it is to be there when the program starts again, Close does nothing. The error is nil unless an [Observer] refuses.
func (m *Mount) Close() error {
	if m.space.registry.kept == nil {
		return m.space.registry.Unmount(context.Background(), m)
	}
	return nil
}

func (m *Mount) remove() {
	s := m.space
	s.mu.Lock()
	m.shut()
	s.mu.Unlock()
	s.sweep()
}

// shut ends the mount; space.mu is held.
func (m *Mount) shut() {
	if m.closed.Swap(true) {
		return
	}
	delete(m.space.mounts, m.Path())
	for seat := range m.seats.all {
		seat.granted.Store(false)
	}
	m.seats.clear()
}
