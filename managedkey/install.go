package managedkey

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/namespace"
)

// put makes memory what a record says, unless it knows a newer one.
func (k *kept) put(record store.Record) error {
	if strings.HasPrefix(record.Key, mountsPrefix) {
		ns, path, err := parseKey(mountsPrefix, record.Key)
		if err != nil {
			return err
		}
		var m mountRecord
		if err := decode(record.Key, record.Value, &m); err != nil {
			return err
		}
		return k.installMount(ns, path, &m, record.Version)
	}
	if strings.HasPrefix(record.Key, namespacesPrefix) {
		return k.putNamespace(record)
	}
	ns, name, err := parseKey(entriesPrefix, record.Key)
	if err != nil {
		return err
	}
	ref := namespace.Ref{Namespace: ns, Name: name}
	var e entryRecord
	if err := decode(record.Key, record.Value, &e); err != nil {
		return err
	}
	moves, err := k.install(ref, &e, record.Version)
	k.insist(moves)
	return err
}

// putNamespace notes a namespace that was made.
func (k *kept) putNamespace(record store.Record) error {
	ns, name, err := parseKey(namespacesPrefix, record.Key)
	if err == nil && (name != madeName || ns == namespace.Root) {
		err = fmt.Errorf("the record %.100q has no place here: %w", record.Key, store.ErrCorrupt)
	}
	if err == nil {
		err = decode(record.Key, record.Value, new(namespaceRecord))
	}
	if err == nil && !k.outdated(record.Key, record.Version) {
		k.registry.makeSpace(ns, record.Version)
	}
	return err
}

// remove takes out of memory what a record stood for that was deleted at a revision.
func (k *kept) remove(key string, revision uint64) {
	if ns, path, err := parseKey(mountsPrefix, key); err == nil {
		if s := k.registry.space(ns); s != nil {
			s.mu.Lock()
			if m := s.mounts[path]; m != nil && m.version <= revision {
				m.shut()
			}
			s.mu.Unlock()
			s.sweep()
		}
		return
	}
	if ns, _, err := parseKey(namespacesPrefix, key); err == nil {
		k.registry.unmake(ns, revision)
		return
	}
	ns, name, err := parseKey(entriesPrefix, key)
	if err != nil {
		return
	}
	if s := k.registry.space(ns); s != nil {
		s.mu.Lock()
		if e := s.byName(name); e != nil && e.kept.version <= revision {
			e.drop()
		}
		s.mu.Unlock()
		s.sweep()
	}
}

// removed is remove for what this process deleted itself: the watch may still bring what was there before.
func (k *kept) removed(key string, revision uint64) {
	k.mu.Lock()
	k.gone[key] = revision
	k.mu.Unlock()
	k.remove(key, revision)
}

// outdated reports whether this process has deleted a record since that version.
func (k *kept) outdated(key string, version uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.gone[key] >= version
}

// install makes an entry what its record says, unless memory knows a newer one. It returns what remains to be done, where
// keys that are open have to move to another place.
func (k *kept) install(ref namespace.Ref, record *entryRecord, version uint64) ([]*relocation, error) {
	conns := k.conns.Load()
	in, err := record.entry(ref, *conns)
	if err != nil {
		return nil, err
	}
	next, err := newState(in)
	if err != nil {
		return nil, fmt.Errorf("the record of %s: %w", ref, err)
	}
	first, past, err := newLineage(in, next)
	if err != nil {
		return nil, fmt.Errorf("the record of %s: %w", ref, err)
	}
	if k.outdated(entryKey(ref), version) {
		return nil, nil
	}
	s := k.registry.lockSpace(ref.Namespace)
	if k.conns.Load() != conns { // what was made is of a backend that may be closed soon
		s.mu.Unlock()
		return k.install(ref, record, version)
	}
	defer s.mu.Unlock()
	e := s.byName(ref.Name)
	if e != nil && e.kept.version >= version {
		return nil, nil
	}
	if e != nil && (e.id != record.UUID || e.number() < first || int(e.number()) > in.KeyVersion) {
		e.drop()
		e = nil
	}
	var moves []*relocation
	if e == nil {
		e = s.add(ref.Name, record.UUID, next, func(e *entry) { e.inherit(first, past, in) })
	} else {
		moves = e.catchUp(in, next, first, past)
	}
	e.kept.version, e.kept.connection, e.kept.grants = version, record.Connection, record.Grants
	for _, m := range s.mounts {
		m.follow(e)
	}
	for _, move := range moves {
		move.version = version
	}
	return moves, nil
}

// catchUp makes the entry's versions those of in, whose newest is next and whose older ones are past, from first on;
// space.mu is held. It returns which open keys have to be moved.
func (e *entry) catchUp(in *Entry, next *state, first uint32, past []*state) (moves []*relocation) {
	for int(e.number()) < in.KeyVersion {
		i := int(e.number() - first) // of the version that becomes an older one
		newest := *next
		if i+1 < len(past) {
			newest.backend, newest.params, newest.pin = past[i+1].backend, past[i+1].params, past[i+1].pin
		}
		// Where its key was opened, which need not be where the record has it by now: accept finds out.
		now := e.state.Load()
		e.succeed(&newest, exactParams(now.backend, now.params, now.key), in.Older[i].Connection)
	}
	e.trim(first)
	e.kept.asked = nil
	if e.accept(next) {
		e.kept.asked = next
		moves = append(moves, newRelocation(e, next))
	}
	if len(past) == 0 {
		return moves
	}
	l := &lineage{first, slices.Clone(e.lineage.Load().older)}
	for i := range l.older {
		o := &l.older[i]
		o.connection, o.asked = in.Older[i].Connection, nil
		if o.entry.accept(past[i]) {
			o.asked = past[i]
			moves = append(moves, newRelocation(o.entry, past[i]))
		}
	}
	e.lineage.Store(l)
	return moves
}

// accept makes next the entry's state; space.mu is held. It reports whether the entry's open key must first be opened at its
// new place: then the policy alone is next's, and the key stays where it is.
func (e *entry) accept(next *state) (moves bool) {
	now, fresh := e.state.Load(), *next
	other := next.pin != nil && matches(next.pin, now.pin) != nil && (now.pin != nil || now.key != nil) // another key, on purpose
	if fresh.pin == nil {
		fresh.pin = now.pin
	}
	switch {
	case !other && (now.sameLocation(next) || now.key != nil && now.exactly(next)):
		fresh.version, fresh.key, fresh.bound = now.version, now.key, now.bound
	case other || now.key == nil:
		fresh.version = now.version + 1
	default:
		fresh = *now
		fresh.keepPolicy(next)
		moves = true
	}
	e.put(&fresh)
	return moves
}

// exactly reports whether next only says more exactly which key is open.
func (s *state) exactly(next *state) bool {
	return sameBackend(s.backend, next.backend) && reflect.DeepEqual(exactParams(s.backend, s.params, s.key), next.params)
}

// relocation is the move of an entry's open key to another place, which version of the record asks for.
type relocation struct {
	entry   *entry
	next    *state
	number  uint32 // of the version that moves
	version uint64 // 0 for a move that another relocation insists on
}

func newRelocation(e *entry, next *state) *relocation {
	return &relocation{entry: e, next: next, number: e.number()}
}

// wanted returns an error if the key is to go elsewhere by now, or is an older version's; space.mu is held.
func (m *relocation) wanted() error {
	if err := m.entry.stillNewest(int(m.number)); err != nil || m.entry.kept == nil {
		return err
	}
	if asked := m.entry.asked(); asked == nil || asked.elsewhere(m.next) {
		return errMoved
	}
	return nil
}

// asked returns where a version has to move to; space.mu is held. nil means nowhere.
func (e *entry) asked() *state {
	newest := e.space.byID(e.id)
	if newest == nil || newest == e {
		return e.kept.asked
	}
	l := newest.lineage.Load()
	if l == nil {
		return nil
	}
	if i := int(e.number()) - int(l.first); i >= 0 && i < len(l.older) {
		return l.older[i].asked
	}
	return nil
}

// try opens the key at its new place and has the entry's handles go on there.
func (m *relocation) try(ctx context.Context) error {
	next := *m.next
	return m.entry.update(ctx, &next, m.wanted, true)
}

// current reports whether nothing else was asked for since.
func (m *relocation) current() bool {
	s := m.entry.space
	s.mu.Lock()
	defer s.mu.Unlock()
	return !m.entry.state.Load().is(deleted) && m.entry.kept.version == m.version
}

// insist makes the moves in the background.
func (k *kept) insist(moves []*relocation) {
	for _, move := range moves {
		k.background(func() { move.insist(k) })
	}
}

// insist tries until it has worked, something else is asked for, or the registry is closed. Until then the key is used where
// it was.
func (m *relocation) insist(k *kept) {
	pause := patience
	for m.current() && k.ctx.Err() == nil {
		err := m.try(k.ctx)
		if err == nil || errors.Is(err, errDeleted) || errors.Is(err, errAbsent) || errors.Is(err, store.ErrConflict) {
			return
		}
		k.log.Warn("managedkey: a key could not be opened at its new place", "key", m.entry.ref().String(), "error", err)
		select {
		case <-k.ctx.Done():
		case <-time.After(pause):
			pause = min(2*pause, time.Minute)
		}
	}
}

// installMount makes a mount what its record says, unless memory knows a newer one.
func (k *kept) installMount(ns namespace.Path, path string, record *mountRecord, version uint64) error {
	id, info := record.ID, record.info()
	err := validateMountPath(path)
	if err == nil {
		err = info.validate()
	}
	if err != nil {
		return fmt.Errorf("the record of mount %q: %w: %w", path, err, store.ErrCorrupt)
	}
	if k.outdated(recordKey(mountsPrefix, ns, path), version) {
		return nil
	}
	s := k.registry.lockSpace(ns)
	defer s.mu.Unlock()
	if at := s.mounts[path]; at != nil {
		if at.version >= version {
			return nil
		}
		if at.id == id {
			at.version = version
			at.describe(info)
			return nil
		}
		at.shut()
	}
	for old, m := range s.mounts {
		if m.id != id {
			continue
		}
		if m.version < version {
			delete(s.mounts, old)
			s.mounts[path] = m
			m.path.Store(&path)
			m.describe(info)
			m.version = version
		}
		return nil
	}
	m, err := s.mount(id, path, info, nil)
	if err != nil {
		return err
	}
	m.version = version
	for e := range s.names.all {
		m.follow(e)
	}
	return nil
}

// follow makes the mount's grant for an entry what the entry's record says; space.mu is held.
func (m *Mount) follow(e *entry) {
	if slices.Contains(e.kept.grants, m.id) {
		m.sit(e).granted.Store(true)
	} else if s := m.seat(e); s != nil {
		s.granted.Store(false)
	}
}
