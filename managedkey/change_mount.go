package managedkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/namespace"
)

// Mounts in a store. Their grants stand in the entries' records: to change some at once is one commit of several records.

// grants are the entries whose grants are to change. The UUID tells an entry from one that has its name later.
type grants map[namespace.Ref]grant

type grant struct {
	entry   uuid.UUID
	granted bool
}

// regrant returns what changes the grants of one entry. If there is nothing to change, ok is false. The error wraps errReplaced as for
// setGrant.
func (k *kept) regrant(ctx context.Context, ref namespace.Ref, id string, to grant) (r regranted, ok bool, err error) {
	granted := to.granted
	record, version, err := k.get(ctx, ref)
	if err == nil && record.UUID != to.entry {
		moves, _ := k.install(ref, record, version)
		k.insist(moves)
		err = errReplaced
	}
	if err != nil {
		return r, false, fmt.Errorf("key %s: %w", ref, err)
	}
	if slices.Contains(record.Grants, id) == granted {
		return r, false, nil
	}
	if granted {
		record.Grants = append(record.Grants, id)
	} else {
		record.Grants = slices.DeleteFunc(record.Grants, func(g string) bool { return g == id })
	}
	return regranted{ref, record, store.Op{Key: entryKey(ref), Value: encode(record), Expect: store.Expect(version)}}, true, nil
}

// regranted is an entry whose grants are to change, and how.
type regranted struct {
	ref    namespace.Ref
	record *entryRecord
	op     store.Op
}

// mount is Registry.CreateMount: the mount and its grants, in one commit if a store takes so many.
func (k *kept) mount(ctx context.Context, ns namespace.Path, id, path string, info *mountInfo, allowed []string) (*Mount, error) {
	refs := make(grants, len(allowed))
	for _, nameOrUUID := range allowed {
		e := k.resolve(ns, nameOrUUID)
		if e == nil {
			return nil, fail("mount", namespace.Ref{Namespace: ns, Name: nameOrUUID}, "", errAbsent)
		}
		refs[e.ref()] = grant{e.id, true}
	}
	key, record := recordKey(mountsPrefix, ns, path), newMountRecord(id, info)
	version, err := k.regrantAll(ctx, id, refs, &store.Op{Key: key, Value: encode(record), Expect: store.Absent}, func(version uint64) error {
		return k.installMount(ns, path, &record, version)
	})
	var conflict *store.ConflictError
	if errors.As(err, &conflict) && conflict.Key == key {
		err = fmt.Errorf("%w: %w", errPathTaken(path), err)
	}
	if err != nil && version != 0 { // nothing is to be left of it
		if version, undo := k.apply(context.WithoutCancel(ctx), store.Op{Kind: store.Delete, Key: key, Expect: store.Expect(version)}); undo == nil {
			k.removed(key, version)
		}
	}
	if err != nil {
		return nil, fail("mount", namespace.Ref{Namespace: ns}, "", err)
	}
	return k.registry.OpenMount(ns, path)
}

// tune is Registry.TuneMount.
func (k *kept) tune(ctx context.Context, m *Mount, change MountChange) error {
	select {
	case k.tuning <- struct{}{}:
		defer func() { <-k.tuning }()
	case <-ctx.Done():
		return backend.ContextError(ctx)
	}
	s := m.space
	if change.Allowed != nil {
		if err := k.refreshGrants(ctx, m); err != nil {
			return err
		}
	}
	for n := 0; ; n++ {
		s.mu.Lock()
		path, version, closed, now := m.Path(), m.version, m.closed.Load(), m.about()
		add, drop, err := m.difference(change.Allowed)
		refs := make(grants, len(add)+len(drop))
		for _, e := range add {
			refs[e.ref()] = grant{e.id, true}
		}
		for _, e := range drop {
			refs[e.ref()] = grant{e.id, false}
		}
		s.mu.Unlock()
		if closed {
			return errUnmounted
		}
		if err != nil {
			return err
		}
		info, err := now.with(change)
		if err != nil {
			return err
		}
		key, record := recordKey(mountsPrefix, s.path, path), newMountRecord(m.id, info)
		op := &store.Op{Key: key, Value: encode(record), Expect: store.Expect(version)}
		if now.equal(record.info()) {
			op = nil
		}
		_, err = k.regrantAll(ctx, m.id, refs, op, func(version uint64) error { return k.installMount(s.path, path, &record, version) })
		if errors.Is(err, errReplaced) && n < tries {
			continue
		}
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) || conflict.Key != key || n == tries {
			return err
		}
		if err := k.refreshMount(ctx, s.path, path, key); err != nil {
			return err
		}
	}
}

// refreshGrants reads the entries anew that the mount has a grant for: what it shall not have any more may be one that another process
// gave it a moment ago.
func (k *kept) refreshGrants(ctx context.Context, m *Mount) error {
	id := []byte(m.id)
	for record, err := range store.All(ctx, k.store, recordKey(entriesPrefix, m.space.path, "")) {
		if err == nil && bytes.Contains(record.Value, id) {
			err = k.put(record)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refreshMount reads the record of a mount anew, which another process has changed.
func (k *kept) refreshMount(ctx context.Context, ns namespace.Path, path, key string) error {
	got, err := k.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return errUnmounted
	}
	if err != nil {
		return err
	}
	var record mountRecord
	if err := decode(key, got.Value, &record); err != nil {
		return err
	}
	return k.installMount(ns, path, &record, got.Version)
}

// regrantAll gives and takes the grants of a mount together with op, if there is one, in as few commits as the store takes, grants
// that are taken first. installed is called once op is in the store, with the version that is returned as well; it is 0 if op was
// not made. An error after the first commit says what was done.
func (k *kept) regrantAll(ctx context.Context, id string, refs grants, op *store.Op, installed func(uint64) error) (made uint64, err error) {
	left := make([]namespace.Ref, 0, len(refs))
	for ref := range refs {
		left = append(left, ref)
	}
	slices.SortFunc(left, func(a, b namespace.Ref) int {
		if refs[a].granted != refs[b].granted {
			if refs[b].granted {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	done, total, conflicts := 0, len(left), 0
	for op != nil || len(left) > 0 {
		var group []regranted
		var ops []store.Op
		if op != nil {
			ops = append(ops, *op)
		}
		taken, size := 0, 0
		for _, ref := range left {
			r, ok, err := k.regrant(ctx, ref, id, refs[ref])
			if err != nil {
				return made, partly(done, total, err)
			}
			if ok && (len(ops) == maxOps || len(ops) > 0 && size+len(r.op.Value) > store.MaxApply/2) {
				break
			}
			if taken++; ok {
				group, ops, size = append(group, r), append(ops, r.op), size+len(r.op.Value)
			}
		}
		if len(ops) > 0 {
			version, err := k.apply(ctx, ops...)
			var conflict *store.ConflictError
			if errors.As(err, &conflict) && (op == nil || conflict.Key != op.Key) && conflicts < tries {
				conflicts++ // another process changed one of the entries
				continue
			}
			if err != nil {
				return made, partly(done, total, err)
			}
			if op != nil {
				made, op = version, nil
				if err := installed(version); err != nil {
					return made, err
				}
			}
			for _, r := range group {
				moves, err := k.install(r.ref, r.record, version)
				if err != nil {
					return made, partly(done, total, err)
				}
				k.insist(moves)
			}
		}
		left, done = left[taken:], done+taken
	}
	return made, nil
}

// partly says how far a change has come, if it has.
func partly(done, total int, err error) error {
	if done == 0 {
		return err
	}
	return fmt.Errorf("%d of %d keys were changed, and then: %w", done, total, err)
}

func (k *kept) resolve(ns namespace.Path, nameOrUUID string) *entry {
	s := k.registry.space(ns)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resolve(nameOrUUID)
}

// rename is Registry.Rename.
func (k *kept) rename(ctx context.Context, m *Mount, path string) error {
	s := m.space
	s.mu.Lock()
	from, version, closed, info := m.Path(), m.version, m.closed.Load(), m.about()
	s.mu.Unlock()
	if closed {
		return errUnmounted
	}
	if from == path {
		return nil
	}
	old, key := recordKey(mountsPrefix, s.path, from), recordKey(mountsPrefix, s.path, path)
	record := newMountRecord(m.id, info)
	version, err := k.apply(ctx,
		store.Op{Kind: store.Delete, Key: old, Expect: store.Expect(version)},
		store.Op{Key: key, Value: encode(record), Expect: store.Absent})
	var conflict *store.ConflictError
	if errors.As(err, &conflict) && conflict.Key == key {
		return fmt.Errorf("%w: %w", errPathTaken(path), err)
	}
	if err != nil {
		return err
	}
	if err := k.installMount(s.path, strings.Clone(path), &record, version); err != nil {
		return err
	}
	k.removed(old, version)
	return nil
}

// unmount is Registry.Unmount. The mount's grants are taken out of the entries afterwards: without the mount they mean nothing.
func (k *kept) unmount(ctx context.Context, m *Mount) error {
	s := m.space
	s.mu.Lock()
	path, version, closed := m.Path(), m.version, m.closed.Load()
	refs := make(grants)
	for seat := range m.seats.all {
		if seat.granted.Load() {
			refs[seat.entry.ref()] = grant{seat.entry.id, false}
		}
	}
	s.mu.Unlock()
	if closed {
		return nil
	}
	key := recordKey(mountsPrefix, s.path, path)
	// Another process may have moved the mount just now: then this is not its record any more, and the caller must know.
	version, err := k.apply(ctx, store.Op{Kind: store.Delete, Key: key, Expect: store.Expect(version)})
	if err != nil {
		return err
	}
	k.removed(key, version)
	for ref, to := range refs {
		err := k.setGrant(ctx, ref, to.entry, m.id, false)
		if err != nil && !errors.Is(err, backend.ErrKeyNotFound) && !errors.Is(err, errReplaced) {
			return err
		}
	}
	return nil
}
