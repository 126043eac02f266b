package managedkey

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Registry holds entries and mounts. Its methods are safe for concurrent use; looking up a key takes no lock.
type Registry struct {
	seed maphash.Seed // of the hashes of paths and names; immutable

	// mu is taken before any space.mu. It is held while spaces changes; lookups read spaces without it. A space is in
	// spaces exactly as long as it is not dead.
	mu     sync.Mutex
	spaces index[space]

	kept *kept // nil without a store; immutable

	observer atomic.Pointer[Observer] // nil if nobody looks on
	health   health
}

// space is one namespace that has entries or mounts.
//
// mu guards every change: of names and ids (the same entries, found by name and by UUID), of mounts (by path) and of
// the mounts' paths and seats, of all entries' states, of flights, and of dead. Nothing that may wait is done while
// holding it, such as a call to a backend. Names, ids, seats and states are read without it.
type space struct {
	registry *Registry
	path     namespace.Path // immutable

	mu      sync.Mutex
	names   index[entry]
	ids     index[entry]
	mounts  map[string]*Mount  // nil until there is one
	flights map[*entry]*flight // the one slow call that is under way for an entry; nil until there is one
	dead    bool               // was taken out of the registry; another may have taken its place
	made    bool               // by CreateNamespace

	madeVersion uint64 // of the record in the store
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{seed: maphash.MakeSeed()} }

func (r *Registry) hash(s string) uint64 { return maphash.String(r.seed, s) }

// space returns the namespace's space, or nil if it has neither entries nor mounts.
func (r *Registry) space(path namespace.Path) *space {
	return r.spaces.find(r.hash(string(path)), func(s *space) bool { return s.path == path })
}

// lockSpace returns the namespace's space, made if need be, with its lock held.
func (r *Registry) lockSpace(path namespace.Path) *space {
	for {
		s := r.space(path)
		if s == nil {
			r.mu.Lock()
			if s = r.space(path); s == nil {
				s = &space{registry: r, path: namespace.Path(strings.Clone(string(path)))}
				r.spaces.add(s, func(s *space) uint64 { return r.hash(string(s.path)) })
			}
			r.mu.Unlock()
		}
		s.mu.Lock()
		if !s.dead {
			return s
		}
		s.mu.Unlock()
	}
}

// sweep takes s out of the registry if nothing is left in it. The caller holds no lock.
func (s *space) sweep() {
	r := s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead || s.made || s.names.live > 0 || len(s.mounts) > 0 {
		return
	}
	s.dead = true
	r.spaces.remove(s, r.hash(string(s.path)))
}

func (s *space) byName(name string) *entry {
	return s.names.find(s.registry.hash(name), func(e *entry) bool { return e.name.is(name) })
}

func (s *space) byID(id uuid.UUID) *entry {
	return s.ids.find(hashID(&id), func(e *entry) bool { return e.id == id })
}

// resolve returns the entry of this namespace with that name or UUID, or nil. The two can't be confused, since no name
// has the form of a UUID.
func (s *space) resolve(nameOrUUID string) *entry {
	if id, ok := parseID(nameOrUUID); ok {
		return s.byID(id)
	}
	return s.byName(nameOrUUID)
}

func (r *Registry) find(ref namespace.Ref) *entry {
	s := r.space(ref.Namespace)
	if s == nil {
		return nil
	}
	return s.byName(ref.Name)
}

// lookup returns the entry, or the error that there is none.
func (r *Registry) lookup(op string, ref namespace.Ref) (*entry, error) {
	e := r.find(ref)
	if e != nil {
		return e, nil
	}
	if err := ref.Validate(); err != nil {
		return nil, fail(op, ref, "", invalidRef(err))
	}
	return nil, fail(op, ref, "", errAbsent)
}

// Create adds an entry. It makes no call to the backend: the key is opened, or generated if that is allowed, when it is
// first used. If there is an error, nothing was added.
//
// The error wraps backend.ErrInvalidParams if a field is missing or malformed, and backend.ErrKeyExists if the
// namespace has an entry of that name.
func (r *Registry) Create(ctx context.Context, in Entry) (err error) {
	ctx, done, err := r.begin(ctx, "create", in.Ref, describeEntry(&in))
	if err != nil {
		return err
	}
	defer done(&err)
	if err := ctx.Err(); err != nil {
		return fail("create", in.Ref, "", backend.ContextError(ctx))
	}
	st, err := r.newState(&in)
	if err != nil {
		return fail("create", in.Ref, "", err)
	}
	first, past, err := newLineage(&in, st)
	if err != nil {
		return fail("create", in.Ref, in.Backend.Type(), err)
	}
	if r.kept != nil {
		if err := r.kept.create(ctx, in); err != nil {
			return fail("create", in.Ref, in.Backend.Type(), err)
		}
		return nil
	}
	id, err := uuid.NewRandom()
	if err != nil {
		err = fmt.Errorf("no randomness for a UUID: %w: %w", backend.ErrUnavailable, err)
		return fail("create", in.Ref, in.Backend.Type(), err)
	}
	s := r.lockSpace(in.Ref.Namespace)
	defer s.mu.Unlock()
	if s.byName(in.Ref.Name) != nil {
		return fail("create", in.Ref, in.Backend.Type(), fmt.Errorf("an entry of that name: %w", backend.ErrKeyExists))
	}
	s.add(in.Ref.Name, id, st, func(e *entry) { e.inherit(first, past, &in) })
	return nil
}

// newState returns the state that in describes, and fills in what a registry with a store knows of it.
func (r *Registry) newState(in *Entry) (*state, error) {
	if err := r.complete(in.Ref.Namespace, &in.Connection, &in.Backend); err != nil {
		return nil, err
	}
	in.Older = slices.Clone(in.Older)
	for i := range in.Older {
		o := &in.Older[i]
		if at, ok := o.Backend.(absentBackend); ok && r.kept != nil && at.connection == o.Connection {
			continue // it stays what it is: who has retired a connection must be able to retire its versions
		}
		if err := r.complete(in.Ref.Namespace, &o.Connection, &o.Backend); err != nil {
			return nil, fmt.Errorf("field Older, version %d: %w", o.Version, err)
		}
	}
	return newState(in)
}

// complete fills in which connection is meant, in a registry that has some.
func (r *Registry) complete(ns namespace.Path, connection *string, b *backend.Backend) error {
	if r.kept != nil {
		return r.kept.conns.Load().complete(ns, connection, b)
	}
	if *connection != "" {
		return fmt.Errorf("field Connection is %.40q; a registry without a store has none: %w", *connection, backend.ErrInvalidParams)
	}
	return nil
}

// add makes an entry, of whose name there is none; mu is held. What complete does is done before look-ups, which take no lock,
// can find it.
func (s *space) add(name string, id uuid.UUID, st *state, complete func(*entry)) *entry {
	e := &entry{name: newName(name), id: id, space: s}
	e.state.Store(st)
	if s.registry.kept != nil {
		e.kept = new(keptEntry)
	}
	complete(e)
	s.ids.add(e, func(e *entry) uint64 { return hashID(&e.id) })
	s.names.add(e, func(e *entry) uint64 { return s.registry.hash(e.name.String()) })
	return e
}

// Delete removes an entry, and never the key itself. Handles that are out stop working: their operations fail with an
// error that wraps backend.ErrKeyNotFound; those that are under way end as usual.
//
// The error wraps backend.ErrKeyNotFound if there is no such entry, and backend.ErrNotPermitted if a mount has a grant
// for it; it then names the mounts.
func (r *Registry) Delete(ctx context.Context, ref namespace.Ref) (err error) {
	ctx, done, err := r.begin(ctx, "delete", ref, nil)
	if err != nil {
		return err
	}
	defer done(&err)
	if err := ctx.Err(); err != nil {
		return fail("delete", ref, "", backend.ContextError(ctx))
	}
	e, err := r.lookup("delete", ref)
	if err != nil {
		return err
	}
	if r.kept != nil {
		err = r.kept.delete(ctx, e)
	} else {
		err = e.remove()
	}
	if err != nil {
		return fail("delete", ref, e.kind(), err)
	}
	e.space.sweep()
	return nil
}

// remove marks the entry as deleted and takes it out of all indexes, unless a mount has a grant for it.
func (e *entry) remove() error {
	s := e.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state.Load().is(deleted) {
		return errAbsent
	}
	var paths []string
	for path, m := range s.mounts {
		if seat := m.seat(e); seat != nil && seat.granted.Load() {
			paths = append(paths, path)
		}
	}
	if len(paths) > 0 {
		slices.Sort(paths)
		return errGranted(paths)
	}
	e.drop()
	return nil
}

func errGranted(paths []string) error {
	return fmt.Errorf("granted to the mounts %s; revoke that first: %w", strings.Join(paths, ", "), backend.ErrNotPermitted)
}

// drop takes the entry out of all indexes and ends its handles; space.mu is held.
func (e *entry) drop() {
	s := e.space
	for _, m := range s.mounts {
		if seat := m.seat(e); seat != nil {
			m.seats.remove(seat, hashID(&e.id))
		}
	}
	s.names.remove(e, s.registry.hash(e.name.String()))
	s.ids.remove(e, hashID(&e.id))
	e.state.Store(deletedState)
	e.trim(e.number())
}

// kind returns the type of the entry's backend, or "" if the entry was deleted.
func (e *entry) kind() string {
	if st := e.state.Load(); !st.is(deleted) {
		return st.backend.Type()
	}
	return ""
}

// Entry returns the entry as it is now, with its UUID and, once the key was opened, its pin. Changing the copy changes
// nothing; hand it to [Registry.Update]. The error wraps backend.ErrKeyNotFound.
func (r *Registry) Entry(ref namespace.Ref) (Entry, error) {
	e, err := r.lookup("read", ref)
	if err != nil {
		return Entry{}, err
	}
	e.space.mu.Lock()
	defer e.space.mu.Unlock()
	if e.state.Load().is(deleted) {
		return Entry{}, fail("read", ref, "", errAbsent)
	}
	return e.export(), nil
}

// List returns the names of the entries of exactly this namespace, sorted; nil if there are none. It takes time in
// proportion to their number, however many the registry holds.
func (r *Registry) List(ns namespace.Path) []string {
	s := r.space(ns)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	names := make([]string, 0, s.names.live)
	for e := range s.names.all {
		names = append(names, e.name.String())
	}
	s.mu.Unlock()
	slices.Sort(names)
	return names
}

// Key returns a handle to the key, with everything that the key can do and the entry allows. The first call opens the
// key, and generates it if the key manager doesn't have it and the entry allows that; concurrent callers share one
// open, and each leaves when its own ctx ends. Later calls make no call and allocate nothing. A failure is not
// remembered: the next call tries again. Without a later deadline of ctx, an open is given up after 30 s and a
// generation after 2 minutes.
//
// The error wraps backend.ErrKeyNotFound, backend.ErrKeyChanged if the public key is not the pinned one,
// backend.ErrUnsupported if the key would have to be generated and the backend can't, or what the backend's Open
// returned.
func (r *Registry) Key(ctx context.Context, ref namespace.Ref) (*Key, error) {
	e := r.find(ref)
	if e == nil {
		_, err := r.lookup("open", ref)
		return nil, r.refused(ctx, ref, nil, err)
	}
	st := e.state.Load()
	if st.key == nil {
		var err error
		if st, err = e.opening(ctx, nil, e.open); err != nil {
			return nil, fail("open", ref, e.kind(), err)
		}
	}
	return &st.bound.handle, nil
}

// Signer returns the key as a crypto.Signer that is a crypto.MessageSigner too, and has Capabilities, SignContext and
// SignMessageContext of package backend, but no other operation. The error is that of [Registry.Key]; or it wraps
// backend.ErrNotPermitted if the entry doesn't allow signing and backend.ErrUnsupported if the key can't sign.
func (r *Registry) Signer(ctx context.Context, ref namespace.Ref) (crypto.Signer, error) {
	k, err := r.Key(ctx, ref)
	if err != nil {
		return nil, err
	}
	return k.narrowSigner(ctx)
}

// Decrypter returns the key as a crypto.Decrypter that has Capabilities and DecryptContext of package backend too, but no
// other operation. The error is that of [Registry.Key]; or it wraps backend.ErrNotPermitted if the entry doesn't allow
// decrypting and backend.ErrUnsupported if the key can't decrypt.
func (r *Registry) Decrypter(ctx context.Context, ref namespace.Ref) (crypto.Decrypter, error) {
	k, err := r.Key(ctx, ref)
	if err != nil {
		return nil, err
	}
	return k.narrowDecrypter(ctx)
}

// KeyExchanger returns the key as an ecdh.KeyExchanger that has Capabilities and ECDHContext of package backend too, but no
// other operation. The error is that of [Registry.Key]; or it wraps backend.ErrNotPermitted if the entry doesn't allow
// the usage derive and backend.ErrUnsupported if the key can't agree.
func (r *Registry) KeyExchanger(ctx context.Context, ref namespace.Ref) (ecdh.KeyExchanger, error) {
	k, err := r.Key(ctx, ref)
	if err != nil {
		return nil, err
	}
	return k.narrowExchanger(ctx)
}

// Decapsulator returns the key as a crypto.Decapsulator that has Capabilities and DecapsulateContext of package backend too,
// but no other operation. The error is that of [Registry.Key]; or it wraps backend.ErrNotPermitted if the entry doesn't
// allow the usage derive and backend.ErrUnsupported if the key can't decapsulate.
func (r *Registry) Decapsulator(ctx context.Context, ref namespace.Ref) (crypto.Decapsulator, error) {
	k, err := r.Key(ctx, ref)
	if err != nil {
		return nil, err
	}
	return k.narrowDecapsulator(ctx)
}
