package managedkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/namespace"
)

// Changes of a registry with a store go to the store first, and then to memory. Each replaces exactly the record that it
// was made from; where the caller doesn't care which that was, it is made again from the newer one.

// tries is how often a change is made again because another process changed the same record.
const tries = 20

// maxOps is how many ops a transaction has at most: a sealed store takes one fewer than others.
const maxOps = store.MaxOps - 1

// apply makes changes in the store and returns their version. If the outcome is not known, it looks.
func (k *kept) apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	if err := k.open(); err != nil {
		return 0, err
	}
	version, err := k.store.Apply(ctx, ops...)
	if !errors.Is(err, store.ErrUnknownOutcome) || ctx.Err() != nil {
		return version, err
	}
	for _, op := range ops {
		record, readErr := k.store.Get(ctx, op.Key)
		switch {
		case op.Kind == store.Delete && errors.Is(readErr, store.ErrNotFound):
			version = max(version, uint64(op.Expect)) // what is newer than that was not deleted
		case readErr != nil || op.Kind == store.Delete || !bytes.Equal(record.Value, op.Value):
			return 0, err
		default:
			version = record.Version
		}
	}
	return version, nil
}

// get returns the record of an entry and its version. The error wraps backend.ErrKeyNotFound if there is none.
func (k *kept) get(ctx context.Context, ref namespace.Ref) (*entryRecord, uint64, error) {
	key := entryKey(ref)
	record, err := k.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, errAbsent
	}
	if err != nil {
		return nil, 0, err
	}
	var e entryRecord
	return &e, record.Version, decode(key, record.Value, &e)
}

// change replaces an entry's record by what fn makes of it, as often as it takes. fn reports whether there is anything to
// change.
func (k *kept) change(ctx context.Context, ref namespace.Ref, fn func(*entryRecord, uint64) (bool, error)) ([]*relocation, error) {
	for n := 0; ; n++ {
		record, version, err := k.get(ctx, ref)
		if err != nil {
			return nil, err
		}
		changed, err := fn(record, version)
		if err != nil {
			if errors.Is(err, store.ErrConflict) { // who tries again is to know what this was about
				moves, _ := k.install(ref, record, version)
				k.insist(moves)
			}
			return nil, err
		}
		if changed {
			version, err = k.apply(ctx, store.Op{Key: entryKey(ref), Value: encode(record), Expect: store.Expect(version)})
		}
		switch {
		case err == nil:
			return k.install(ref, record, version)
		case !errors.Is(err, store.ErrConflict) || n == tries:
			return nil, err
		}
	}
}

// amend is change for who doesn't wait for the moves of keys that are seen on the way.
func (k *kept) amend(ctx context.Context, ref namespace.Ref, fn func(*entryRecord, uint64) (bool, error)) error {
	moves, err := k.change(ctx, ref, fn)
	k.insist(moves)
	return err
}

// create is Registry.Create.
func (k *kept) create(ctx context.Context, in Entry) error {
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("no randomness for a UUID: %w: %w", backend.ErrUnavailable, err)
	}
	record, err := newRecord(&in, id)
	if err != nil {
		return err
	}
	version, err := k.apply(ctx, store.Op{Key: entryKey(in.Ref), Value: encode(record), Expect: store.Absent})
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("an entry of that name: %w: %w", backend.ErrKeyExists, err)
	}
	if err != nil {
		return err
	}
	_, err = k.install(in.Ref, record, version)
	return err
}

// update is Registry.Update; next is the state that in describes, and older what has to move of the older versions. The others
// are left as the record has them, unless they were given.
func (k *kept) update(ctx context.Context, e *entry, in Entry, next *state, older []*relocation, given bool) error {
	for {
		st := e.state.Load()
		next.backend = k.registry.renewed(next.backend)
		if st.is(deleted) || st.stays(next) {
			break
		}
		err := e.probe(ctx, st, next)
		if err == nil {
			break
		}
		if !errors.Is(err, backend.ErrClosed) || sameBackend(next.backend, k.registry.renewed(next.backend)) {
			return err
		}
	}
	moves, err := k.change(ctx, in.Ref, func(record *entryRecord, version uint64) (bool, error) {
		if record.UUID != e.id {
			return false, errAbsent
		}
		if in.Version != 0 && in.Version != version {
			return false, &store.ConflictError{Key: entryKey(in.Ref), Expect: store.Expect(in.Version), Version: version}
		}
		if record.KeyVersion != in.KeyVersion || len(record.Older) != len(in.Older) {
			return false, errRotated
		}
		changed, err := newRecord(&in, e.id)
		if err != nil {
			return false, err
		}
		changed.Grants = record.Grants
		for i := range changed.Older {
			changed.Older[i].Pin = record.Older[i].Pin
			if !given && !slices.ContainsFunc(older, func(m *relocation) bool { return int(m.number) == changed.Older[i].Version }) {
				changed.Older[i] = record.Older[i]
			}
		}
		if changed.Pin == "" {
			changed.Pin = record.Pin
		}
		*record = *changed
		return true, nil
	})
	if err != nil {
		return err
	}
	if len(moves) == 0 { // the watch may have been faster, and be about to move the keys: whoever waits here waits for that
		moves = append(older, &relocation{entry: e, next: next, number: uint32(in.KeyVersion)})
	}
	for _, move := range moves {
		if st := move.entry.state.Load(); st.key == nil || st.sameLocation(move.next) {
			continue
		}
		if move.try(ctx) != nil && move.version != 0 { // although it was opened there a moment ago
			k.background(func() { move.insist(k) })
		}
	}
	return nil
}

// probe opens the key at the place that next says, and compares it with the pin.
func (e *entry) probe(ctx context.Context, now, next *state) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	found := fetch(ctx, func(ctx context.Context) (backend.Key, error) { return next.backend.Open(ctx, next.params) })
	if now.pin == nil && now.key == nil && next.pin == nil && errors.Is(found.err, backend.ErrKeyNotFound) && next.is(allowGenerate) {
		return nil
	}
	if found.err != nil {
		return found.err
	}
	want := next.pin
	if want == nil {
		want = now.pin
		if now.key != nil && now.pin == nil && found.bound.pin != nil {
			return fmt.Errorf("the entry has a symmetric key, but the new one has a public key: %w", backend.ErrKeyChanged)
		}
	}
	return matches(want, found.bound.pin)
}

// delete is Registry.Delete.
func (k *kept) delete(ctx context.Context, e *entry) error {
	ref := e.ref()
	for n := 0; ; n++ {
		record, version, err := k.get(ctx, ref)
		if err != nil {
			return err
		}
		if record.UUID != e.id {
			return errAbsent
		}
		paths, err := k.granted(ctx, ref.Namespace, record.Grants)
		if err != nil {
			return err
		}
		if len(paths) > 0 {
			return errGranted(paths)
		}
		version, err = k.apply(ctx, store.Op{Kind: store.Delete, Key: entryKey(ref), Expect: store.Expect(version)})
		switch {
		case err == nil:
			k.removed(entryKey(ref), version)
			return nil
		case !errors.Is(err, store.ErrConflict) || n == tries:
			return err
		}
	}
}

// granted returns the paths of the mounts among ids. Ids of mounts that are gone are left over if a process was stopped
// while it unmounted; of those that are not known here the store is asked, since another process may have made them a moment ago.
func (k *kept) granted(ctx context.Context, ns namespace.Path, ids []string) (paths []string, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	if s := k.registry.space(ns); s != nil {
		s.mu.Lock()
		for path, m := range s.mounts {
			if slices.Contains(ids, m.id) {
				paths = append(paths, path)
			}
		}
		s.mu.Unlock()
	}
	if len(paths) > 0 { // which is reason enough
		slices.Sort(paths)
		return paths, nil
	}
	for record, err := range store.All(ctx, k.store, recordKey(mountsPrefix, ns, "")) {
		if err != nil {
			return nil, err
		}
		var m mountRecord
		if err := decode(record.Key, record.Value, &m); err != nil {
			return nil, err
		}
		if _, path, err := parseKey(mountsPrefix, record.Key); err == nil && slices.Contains(ids, m.ID) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// setGrant is Registry.Grant and Registry.Revoke for the entry of that UUID. The error wraps errReplaced if another one has its name by
// now, which is known here then.
func (k *kept) setGrant(ctx context.Context, ref namespace.Ref, id uuid.UUID, mount string, granted bool) error {
	return k.amend(ctx, ref, func(record *entryRecord, _ uint64) (bool, error) {
		if record.UUID != id {
			return false, errReplaced
		}
		if slices.Contains(record.Grants, mount) == granted {
			return false, nil
		}
		if granted {
			record.Grants = append(record.Grants, mount)
		} else {
			record.Grants = slices.DeleteFunc(record.Grants, func(id string) bool { return id == mount })
		}
		return true, nil
	})
}
