package managedkey

import (
	"context"
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// RotateOptions are the options of [Registry.Rotate].
type RotateOptions struct {
	// Params say where the next key is, which need not be in the same place as the present one. If they are nil, the key
	// manager makes the next key and names it.
	Params backend.Params

	// Backend, or Connection in a registry with a store, is where Params are meant, of the same type as the entry's own; the
	// entry's own if both are empty.
	Backend    backend.Backend
	Connection string

	// PublicKeySHA256, if not empty, is the public key that the next key must have, as in Entry.
	PublicKeySHA256 []byte
}

// Rotate gives the entry a next version of its key and returns its handle. From then on look-ups give the new version. Handles
// that are out keep their key, and [Registry.KeyVersion] gives any version, so that what older ones signed and encrypted can be
// verified and decrypted; MinDecryptionVersion and MinEncryptionVersion of the entry say what older ones may still do.
//
// Without Params in opts, the key manager makes the next key, beside the present one, and names it as backend.Rotator of its
// driver says. The entry must allow generating. With Params, the key that is there is adopted; if there is none and the entry
// allows that, it is generated there. nil opts are the zero value.
//
// When ctx ends, Rotate returns; the key manager may still finish, and the entry then has the new version. Without a later
// deadline of ctx, it is given up after 2 minutes. Of two processes that rotate one entry at the same time, one gets an error.
//
// The error wraps backend.ErrNotPermitted if the entry doesn't allow generating; backend.ErrUnsupported if the backend can't
// make a next key by itself; backend.ErrKeyExists if there is a key already where it would be made, which may be left from a
// rotation that was cut off and can be adopted by its Params, or if the key is one that the entry has already;
// backend.ErrKeyChanged if it is not that of PublicKeySHA256; backend.ErrInvalidParams; store.ErrConflict if another process
// was faster; backend.ErrKeyNotFound; or what the backend returned.
func (r *Registry) Rotate(ctx context.Context, ref namespace.Ref, opts *RotateOptions) (_ *Key, err error) {
	ctx, done, err := r.begin(ctx, "rotate", ref, nil)
	if err != nil {
		return nil, err
	}
	defer done(&err)
	e, err := r.lookup("rotate", ref)
	if err != nil {
		return nil, err
	}
	if opts == nil {
		opts = new(RotateOptions)
	}
	st, err := e.rotate(ctx, opts)
	if err != nil {
		return nil, fail("rotate", ref, e.kind(), err)
	}
	return &st.bound.handle, nil
}

// Rotate has the key manager make the next version of a key, as [Registry.Rotate] does without options, and returns its handle
// for this mount. The entry must allow generating.
func (m *Mount) Rotate(ctx context.Context, nameOrUUID string) (_ *Key, err error) {
	ctx, done, err := m.begin(ctx, "rotate", nameOrUUID)
	if err != nil {
		return nil, err
	}
	defer done(&err)
	e := m.space.resolve(nameOrUUID)
	if e == nil {
		return nil, m.fail("rotate", nameOrUUID, "", m.absent())
	}
	s, err := m.take(e)
	if err != nil {
		return nil, m.fail("rotate", nameOrUUID, e.kind(), err)
	}
	st, err := e.rotate(ctx, new(RotateOptions))
	if err != nil {
		return nil, m.fail("rotate", nameOrUUID, e.kind(), err)
	}
	return &Key{bound: st.bound, seat: s}, nil
}

// Import puts key material that the program holds into the key manager, as [Registry.Import] does, and returns its handle for this
// mount. The entry must have AllowStoreKey.
func (m *Mount) Import(ctx context.Context, nameOrUUID string, material any) (_ *Key, err error) {
	ctx, done, err := m.begin(ctx, "import", nameOrUUID)
	if err != nil {
		return nil, err
	}
	defer done(&err)
	e := m.space.resolve(nameOrUUID)
	if e == nil {
		return nil, m.fail("import", nameOrUUID, "", m.absent())
	}
	s, err := m.take(e)
	if err != nil {
		return nil, m.fail("import", nameOrUUID, e.kind(), err)
	}
	if isNil(material) {
		return nil, m.fail("import", nameOrUUID, e.kind(), fmt.Errorf("material is nil; it takes a private key or bytes: %w", backend.ErrInvalidParams))
	}
	st, err := e.make(ctx, importing(material))
	if err != nil {
		return nil, m.fail("import", nameOrUUID, e.kind(), err)
	}
	return &Key{bound: st.bound, seat: s}, nil
}

func (e *entry) rotate(ctx context.Context, opts *RotateOptions) (*state, error) {
	if opts.Params == nil && (!isNil(opts.Backend) || opts.Connection != "") {
		return nil, fmt.Errorf("field Params is nil, but Backend or Connection is given: %w", backend.ErrInvalidParams)
	}
	// The present key must be known before another one takes its place: which one it is would never be known again. Of one that is
	// pinned, its exact parameters would be good to know, but it may be in a place that is no more.
	if st := e.state.Load(); st.key == nil {
		required := st.pin == nil || opts.Params == nil
		if _, versioned := st.backend.(backend.Versioned); required || versioned {
			if _, err := e.open(ctx); err != nil && required {
				return nil, err
			}
		}
	}
	var ro *rotation
	st, err := e.make(ctx, func(e *entry, st *state) (callFunc, commitFunc, error) {
		ro = &rotation{entry: e, from: st, number: e.number() + 1, want: opts.PublicKeySHA256}
		if err := ro.plan(opts); err != nil {
			return nil, nil, err
		}
		return ro.call, ro.commit, nil
	})
	if err == errOvertaken {
		return e.openVersion(ctx, nil, int(ro.number))
	}
	return st, err
}

// rotation is one step from a version to the next.
type rotation struct {
	entry  *entry
	from   *state // when it began
	number uint32 // of the version to be
	want   []byte // its pin, or nil

	make       func(context.Context) (backend.Key, backend.Params, error)
	next       *state       // the version to be; its place is known for certain when make has returned
	connection string       // where that is
	was        OlderVersion // where the version is, as far as is known, that becomes an older one
	exact      backend.Params
}

// plan decides where the next key comes from; space.mu is held.
func (ro *rotation) plan(opts *RotateOptions) error {
	st := ro.from
	if l := ro.entry.lineage.Load(); l != nil && len(l.older) >= MaxKeyVersions-1 {
		return fmt.Errorf("the entry has %d versions, which is the most; Trim takes old ones away: %w", len(l.older)+1, backend.ErrInvalidParams)
	}
	in := ro.entry.export()
	ro.was = OlderVersion{Connection: in.Connection, Params: in.Params}
	ro.exact = exactParams(in.Backend, in.Params, st.key)
	if opts.Params != nil {
		in.Params = opts.Params
		if !isNil(opts.Backend) || opts.Connection != "" {
			in.Backend, in.Connection = opts.Backend, opts.Connection
		}
	}
	in.PublicKeySHA256, in.Older = ro.want, nil
	next, err := ro.entry.space.registry.newState(&in)
	if err != nil {
		return err
	}
	if next.backend.Type() != st.backend.Type() {
		return fmt.Errorf("field Backend is %q; an entry keeps its type, %q: %w", next.backend.Type(), st.backend.Type(), backend.ErrInvalidParams)
	}
	next.keepPolicy(st)
	ro.next, ro.connection = next, in.Connection
	if opts.Params != nil {
		ro.make = ro.adopt
		return nil
	}
	if !st.is(allowGenerate) {
		return fmt.Errorf("the entry has allow_generate_key off; Params would name a key to adopt: %w", backend.ErrNotPermitted)
	}
	rotator, ok := next.backend.(backend.Rotator)
	if !ok {
		return fmt.Errorf("the backend can't make a next key by itself; Params would say where it is: %w", backend.ErrUnsupported)
	}
	ro.make = func(ctx context.Context) (backend.Key, backend.Params, error) {
		return rotator.Rotate(ctx, next.params, int(ro.number))
	}
	return nil
}

// adopt opens the key at the place of the version to be, and generates it if it isn't there and may be.
func (ro *rotation) adopt(ctx context.Context) (backend.Key, backend.Params, error) {
	b, params := ro.next.backend, ro.next.params
	key, err := b.Open(ctx, params)
	if generator, ok := b.(backend.Generator); ok && ro.next.is(allowGenerate) && len(ro.want) == 0 && errors.Is(err, backend.ErrKeyNotFound) {
		key, err = generator.Generate(ctx, params, nil)
	}
	return key, params, err
}

// exactParams returns params that open key and no later version of it.
func exactParams(b backend.Backend, params backend.Params, key backend.Key) backend.Params {
	if v, ok := b.(backend.Versioned); ok && key != nil {
		return v.ExactParams(params, key)
	}
	return params
}

// call makes the key and, in a registry with a store, tells the store.
func (ro *rotation) call(ctx context.Context) (backend.Key, error) {
	k := ro.entry.space.registry.kept
	if k != nil {
		if err := ro.settle(ctx, k); err != nil {
			return nil, err
		}
	}
	key, params, err := ro.make(ctx)
	if err != nil || isNil(key) {
		return key, err
	}
	ro.next.params = exactParams(ro.next.backend, params, key)
	if err := ro.check(key); err != nil {
		return nil, err
	}
	if k != nil {
		if err := ro.keep(ctx, k); err != nil {
			return nil, err
		}
	}
	return key, nil
}

// check makes sure that key is the one that is wanted, and none of those that the entry has had.
func (ro *rotation) check(key backend.Key) error {
	e := ro.entry
	if key.Public() == nil {
		if err := matches(ro.next.pin, nil); err != nil {
			return err
		}
		return ro.checkSymmetric(key)
	}
	pin, err := backend.Fingerprint(key.Public())
	if err != nil {
		return err
	}
	if err := matches(ro.next.pin, &pin); err != nil {
		return err
	}
	if v, _ := e.pinned(pin); v != nil {
		return fmt.Errorf("the key with SHA-256 %x is version %d already: %w", pin, v.number(), backend.ErrKeyExists)
	}
	ro.next.pin = &pin
	return nil
}

// checkSymmetric makes sure that a key without a public key is none of those that the entry has, which have nothing to compare but
// what their key manager calls them, and where they are.
func (ro *rotation) checkSymmetric(key backend.Key) error {
	for n := int(ro.number) - 1; ; n-- {
		v := ro.entry.version(n)
		if v == nil {
			return nil
		}
		st := v.state.Load()
		if st.sameLocation(ro.next) || st.key != nil && st.key.Public() == nil && st.key.ID() == key.ID() {
			return fmt.Errorf("it is version %d already: %w", n, backend.ErrKeyExists)
		}
	}
}

// commit makes the key that was made that of its version; space.mu is held.
func (ro *rotation) commit(result found) (*state, error) {
	e := ro.entry
	now := e.state.Load()
	switch {
	case now.is(deleted):
		return nil, errDeleted
	case result.err != nil:
		return nil, result.err
	case e.kept == nil && e.number() == ro.number-1: // nobody has told the entry yet
		next := *ro.next
		next.keepPolicy(now)
		e.succeed(&next, ro.exact, "")
	}
	v := e.version(int(ro.number)) // another process may have added versions already
	if v == nil {
		return nil, errRotated
	}
	now = v.state.Load()
	switch {
	case now.key != nil:
		return now, nil
	case now.elsewhere(ro.next): // another process has moved it already
		return nil, errOvertaken
	}
	if err := matches(now.pin, result.bound.pin); err != nil {
		return nil, err
	}
	next := *now
	v.bind(&next, now, result)
	v.state.Store(&next)
	return &next, nil
}
