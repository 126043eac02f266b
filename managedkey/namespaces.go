package managedkey

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/namespace"
)

// A namespace need not be made: it is there while it has an entry or a mount. CreateNamespace makes one that is there without.

// namespacesPrefix is where a store keeps the namespaces that were made: registry/namespaces/team-a/:/made.
const (
	namespacesPrefix = registryPrefix + "namespaces/"
	madeName         = "made"
)

// namespaceRecord is a namespace in a store.
type namespaceRecord struct {
	Format int `json:"format"`
}

func namespaceKey(ns namespace.Path) string { return recordKey(namespacesPrefix, ns, madeName) }

// CreateNamespace makes a namespace, so that [Registry.Namespaces] has it although it has nothing in it. The error wraps
// backend.ErrInvalidParams if ns is malformed or the root, and backend.ErrKeyExists if it was made before.
func (r *Registry) CreateNamespace(ctx context.Context, ns namespace.Path) (err error) {
	ref := namespace.Ref{Namespace: ns}
	ctx, done, err := r.begin(ctx, "create_namespace", ref, nil)
	if err != nil {
		return err
	}
	defer done(&err)
	if ctx.Err() != nil {
		return fail("create namespace", ref, "", backend.ContextError(ctx))
	}
	if err := ns.Validate(); err != nil {
		return fail("create namespace", ref, "", invalidRef(err))
	}
	if ns == namespace.Root {
		return fail("create namespace", ref, "", fmt.Errorf("the root is always there: %w", backend.ErrInvalidParams))
	}
	taken := fmt.Errorf("a namespace of that path: %w", backend.ErrKeyExists)
	if r.kept == nil {
		if !r.makeSpace(ns, 0) {
			return fail("create namespace", ref, "", taken)
		}
		return nil
	}
	version, err := r.kept.apply(ctx, store.Op{Key: namespaceKey(ns), Value: encode(namespaceRecord{recordFormat}), Expect: store.Absent})
	if errors.Is(err, store.ErrConflict) {
		err = fmt.Errorf("%w: %w", taken, err)
	}
	if err != nil {
		return fail("create namespace", ref, "", err)
	}
	r.makeSpace(ns, version)
	return nil
}

// makeSpace notes that a namespace was made, at a version of its record; it reports whether that was news.
func (r *Registry) makeSpace(ns namespace.Path, version uint64) bool {
	s := r.lockSpace(ns)
	defer s.mu.Unlock()
	news := !s.made
	s.made, s.madeVersion = true, max(s.madeVersion, version)
	return news
}

// DeleteNamespace takes away a namespace that was made. It need not have been made: then nothing happens.
//
// The error wraps backend.ErrNotPermitted if there are entries, mounts or namespaces in it: whoever deletes a namespace is not to
// delete keys by the way.
func (r *Registry) DeleteNamespace(ctx context.Context, ns namespace.Path) (err error) {
	ref := namespace.Ref{Namespace: ns}
	ctx, done, err := r.begin(ctx, "delete_namespace", ref, nil)
	if err != nil {
		return err
	}
	defer done(&err)
	if ctx.Err() != nil {
		return fail("delete namespace", ref, "", backend.ContextError(ctx))
	}
	if err := ns.Validate(); err != nil {
		return fail("delete namespace", ref, "", invalidRef(err))
	}
	for _, other := range r.Namespaces(ns) {
		return fail("delete namespace", ref, "", fmt.Errorf("it has the namespace %q in it: %w", other, backend.ErrNotPermitted))
	}
	s := r.space(ns)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	entries, mounts, made, version := s.names.live, len(s.mounts), s.made, s.madeVersion
	if entries == 0 && mounts == 0 && r.kept == nil {
		s.made = false
	}
	s.mu.Unlock()
	if entries > 0 || mounts > 0 {
		return fail("delete namespace", ref, "", fmt.Errorf("it has %d entries and %d mounts: %w", entries, mounts, backend.ErrNotPermitted))
	}
	if r.kept != nil && made {
		key := namespaceKey(ns)
		version, err := r.kept.apply(ctx, store.Op{Kind: store.Delete, Key: key, Expect: store.Expect(version)})
		if err != nil {
			return fail("delete namespace", ref, "", err)
		}
		r.kept.removed(key, version)
	}
	s.sweep()
	return nil
}

// unmake is what follows when the record of a namespace was deleted at a revision.
func (r *Registry) unmake(ns namespace.Path, revision uint64) {
	s := r.space(ns)
	if s == nil {
		return
	}
	s.mu.Lock()
	if s.madeVersion <= revision {
		s.made = false
	}
	s.mu.Unlock()
	s.sweep()
}

// Namespaces returns the namespaces below ns, at any depth, that were made or have entries or mounts, in the order of
// namespace.Path.Compare. It takes time in proportion to all namespaces that there are.
func (r *Registry) Namespaces(ns namespace.Path) []namespace.Path {
	var out []namespace.Path
	r.mu.Lock()
	for s := range r.spaces.all {
		if s.path != ns && ns.Contains(s.path) {
			out = append(out, s.path)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(out, namespace.Path.Compare)
	return out
}
