package managedkey

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Mount makes a mount at path in the namespace ns, with grants for the entries that allowed names, by name or UUID.
// If there is an error, nothing was made.
//
// A path obeys the rules of a namespace.Path that is not empty, such as "pki" or "transit/prod", and is unique within
// the namespace. The error wraps backend.ErrInvalidParams if ns or path is malformed, backend.ErrKeyExists if there is
// a mount at path, and backend.ErrKeyNotFound if there is no such entry in ns.
func (r *Registry) Mount(ctx context.Context, ns namespace.Path, path string, allowed ...string) (*Mount, error) {
	return r.CreateMount(ctx, MountSpec{Namespace: ns, Path: path, Allowed: allowed})
}

// OpenMount returns the mount that is at path in the namespace. The error wraps backend.ErrKeyNotFound if there is none.
func (r *Registry) OpenMount(ns namespace.Path, path string) (*Mount, error) {
	if s := r.space(ns); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if m := s.mounts[path]; m != nil {
			return m, nil
		}
	}
	return nil, fail("mount", namespace.Ref{Namespace: ns}, "", fmt.Errorf("no mount at path %.100q: %w", path, backend.ErrKeyNotFound))
}

// Unmount removes the mount and its grants. Handles that were given out through it stop at once. Unmounting again does
// nothing. The error wraps backend.ErrInvalidParams if m is nil or of another registry, or is that of the store:
// store.ErrConflict if another process has just moved or removed the mount.
func (r *Registry) Unmount(ctx context.Context, m *Mount) (err error) {
	if err := r.own("unmount", m); err != nil {
		return err
	}
	ctx, done, err := m.begin(ctx, "unmount", "")
	if err != nil {
		return err
	}
	defer done(&err)
	if r.kept == nil {
		m.remove()
		return nil
	}
	if err := r.kept.unmount(ctx, m); err != nil {
		return m.fail("unmount", "", "", err)
	}
	return nil
}

func (r *Registry) mount(ns namespace.Path, id, path string, info *mountInfo, allowed []string) (*Mount, error) {
	s := r.lockSpace(ns)
	m, err := s.mount(id, path, info, allowed)
	s.mu.Unlock()
	if err != nil {
		s.sweep() // it may have been made for this mount
		return nil, err
	}
	return m, nil
}

// mount makes a mount; mu is held.
func (s *space) mount(id, path string, info *mountInfo, allowed []string) (*Mount, error) {
	if s.mounts[path] != nil {
		return nil, fail("mount", namespace.Ref{Namespace: s.path}, "", errPathTaken(path))
	}
	m := &Mount{id: id, space: s}
	m.path.Store(&path)
	m.describe(info)
	for _, nameOrUUID := range allowed {
		e := s.resolve(nameOrUUID)
		if e == nil {
			return nil, fail("mount", namespace.Ref{Namespace: s.path, Name: nameOrUUID}, "", errAbsent)
		}
		m.sit(e).granted.Store(true)
	}
	if s.mounts == nil {
		s.mounts = make(map[string]*Mount)
	}
	s.mounts[path] = m
	return m, nil
}

func errPathTaken(path string) error {
	return fmt.Errorf("a mount at path %q: %w", path, backend.ErrKeyExists)
}

func validateMountPath(path string) error {
	if path == "" {
		return fmt.Errorf("%w: empty mount path", namespace.ErrInvalid)
	}
	return namespace.Path(path).Validate()
}

// own returns an error unless m is a mount of this registry.
func (r *Registry) own(op string, m *Mount) error {
	if m == nil || m.space.registry != r {
		return fail(op, namespace.Ref{}, "", fmt.Errorf("the mount is nil or of another registry: %w", backend.ErrInvalidParams))
	}
	return nil
}

// Grant lets the mount use a key of its namespace, by name or UUID. Only who holds the registry can grant: a mount can't
// help itself. The grant belongs to the entry that has the name now, and not to one that may have it later. Granting
// again does nothing.
//
// The error wraps backend.ErrKeyNotFound if there is no such entry, backend.ErrNotPermitted if the mount was closed, and
// backend.ErrInvalidParams if it is nil or of another registry.
func (r *Registry) Grant(ctx context.Context, m *Mount, nameOrUUID string) error {
	return r.setGrant(ctx, "grant", m, nameOrUUID, true)
}

// Revoke takes back the grant. Handles to the key that were given out through the mount stop at once, unless every mount
// may use it; those of other mounts go on. Should the mount get a grant for the same entry again, they work again.
// Revoking what was not granted does nothing. The error is as for [Registry.Grant].
func (r *Registry) Revoke(ctx context.Context, m *Mount, nameOrUUID string) error {
	return r.setGrant(ctx, "revoke", m, nameOrUUID, false)
}

func (r *Registry) setGrant(ctx context.Context, op string, m *Mount, nameOrUUID string, granted bool) (err error) {
	if err := r.own(op, m); err != nil {
		return err
	}
	ctx, done, err := m.begin(ctx, op, nameOrUUID)
	if err != nil {
		return err
	}
	defer done(&err)
	for n := 0; r.kept != nil; n++ {
		m.space.mu.Lock()
		e, closed := m.space.resolve(nameOrUUID), m.closed.Load()
		m.space.mu.Unlock()
		if closed || e == nil {
			return m.fail(op, nameOrUUID, "", m.absent())
		}
		err := r.kept.setGrant(ctx, e.ref(), e.id, m.id, granted)
		if errors.Is(err, errReplaced) && n < tries {
			continue // the name is another entry's, and the UUID nobody's
		}
		if err != nil {
			return m.fail(op, nameOrUUID, e.kind(), err)
		}
		return nil
	}
	m.space.mu.Lock()
	defer m.space.mu.Unlock()
	e := m.space.resolve(nameOrUUID)
	if m.closed.Load() || e == nil {
		return m.fail(op, nameOrUUID, "", m.absent())
	}
	if granted {
		m.sit(e).granted.Store(true)
	} else if s := m.seat(e); s != nil {
		s.granted.Store(false)
	}
	return nil
}

// Rename moves the mount to another path of the same namespace; its ID, grants and handles stay. The error wraps
// backend.ErrInvalidParams or backend.ErrKeyExists as for [Registry.Mount], and backend.ErrNotPermitted if the mount was
// closed.
func (r *Registry) Rename(ctx context.Context, m *Mount, path string) (err error) {
	if err := r.own("rename", m); err != nil {
		return err
	}
	ctx, done, err := r.begin(ctx, "rename", m.ref(""), func(op *Operation) {
		op.on(m)
		op.Options = "to " + path
	})
	if err != nil {
		return err
	}
	defer done(&err)
	if err := validateMountPath(path); err != nil {
		return m.fail("rename", "", "", invalidRef(err))
	}
	path = strings.Clone(path)
	if r.kept != nil {
		if err := r.kept.rename(ctx, m, path); err != nil {
			return m.fail("rename", "", "", err)
		}
		return nil
	}
	s := m.space
	s.mu.Lock()
	defer s.mu.Unlock()
	switch other := s.mounts[path]; {
	case m.closed.Load():
		return m.fail("rename", "", "", errUnmounted)
	case other != nil && other != m:
		return m.fail("rename", "", "", errPathTaken(path))
	}
	delete(s.mounts, m.Path())
	s.mounts[path] = m
	m.path.Store(&path)
	return nil
}
