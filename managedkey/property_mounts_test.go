package managedkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Mounts and grants of the property test, and what has to hold after each step.

func (w *world) someMount(t *rapid.T) *modelMount {
	if len(w.mounts) == 0 {
		t.Skip("no mount")
	}
	return rapid.SampledFrom(w.mounts).Draw(t, "mount")
}

func (w *world) newMount(t *rapid.T) {
	ns := rapid.SampledFrom(worldSpaces).Draw(t, "namespace")
	path := rapid.SampledFrom(worldPaths).Draw(t, "path")
	names := rapid.SliceOfN(rapid.SampledFrom(worldNames), 0, 2).Draw(t, "allowed")
	var want error
	grants := map[*modelEntry]bool{}
	for _, name := range names {
		m := w.entries[namespace.Ref{Namespace: ns, Name: name}]
		if m == nil {
			want = backend.ErrKeyNotFound
		}
		grants[m] = true
	}
	for _, other := range w.mounts {
		if !other.closed && other.mount.Namespace() == ns && other.path == path {
			want = backend.ErrKeyExists
		}
	}
	mount, err := w.registry.Mount(context.Background(), ns, path, names...)
	expect(t, err, want)
	if err == nil {
		w.mounts = append(w.mounts, &modelMount{mount: mount, path: path, grants: grants})
	}
}

func (w *world) rename(t *rapid.T) {
	m := w.someMount(t)
	path := rapid.SampledFrom(worldPaths).Draw(t, "path")
	var want error
	for _, other := range w.mounts {
		if other != m && !other.closed && other.mount.Namespace() == m.mount.Namespace() && other.path == path {
			want = backend.ErrKeyExists
		}
	}
	if m.closed {
		want = backend.ErrNotPermitted
	}
	expect(t, w.registry.Rename(bg, m.mount, path), want)
	if want == nil {
		m.path = path
	}
}

func (w *world) unmount(t *rapid.T) {
	m := w.someMount(t)
	expect(t, m.mount.Close(), nil)
	m.closed = true
	clear(m.grants)
}

// drawTarget draws a name or the UUID of any entry that ever was, and the entry of the mount's namespace that it means.
func (w *world) drawTarget(t *rapid.T, m *modelMount) (string, *modelEntry) {
	ns := m.mount.Namespace()
	if len(w.uuids) > 0 && rapid.Bool().Draw(t, "by uuid") {
		id := rapid.SampledFrom(w.uuids).Draw(t, "uuid")
		for _, e := range w.entries {
			if e.uuid == id && e.ref.Namespace == ns {
				return id, e
			}
		}
		return id, nil
	}
	name := rapid.SampledFrom(worldNames).Draw(t, "name")
	return name, w.entries[namespace.Ref{Namespace: ns, Name: name}]
}

func (w *world) setGrant(t *rapid.T, granted bool) {
	m := w.someMount(t)
	target, e := w.drawTarget(t, m)
	var err error
	if granted {
		err = w.registry.Grant(bg, m.mount, target)
	} else {
		err = w.registry.Revoke(bg, m.mount, target)
	}
	switch {
	case m.closed:
		expect(t, err, backend.ErrNotPermitted)
	case e == nil:
		expect(t, err, backend.ErrKeyNotFound)
	default:
		expect(t, err, nil)
		m.grants[e] = granted
	}
}

// seen notes that a look-up of e gave k.
func (w *world) seen(t *rapid.T, k *Key, e *modelEntry, m *modelMount) {
	there, _ := w.vault.get(e.label)
	if e.keyID == "" {
		e.keyID = there.ID()
	}
	if k.ID() != e.keyID || k.UUID() != e.uuid || k.Ref() != e.ref {
		t.Fatalf("look-up of %v gave the key %s of %v, want %s", e.ref, k.ID(), k.Ref(), e.keyID)
	}
	if rapid.Bool().Draw(t, "view") {
		k = k.WithContext(context.Background())
	}
	w.handles = append(w.handles, modelHandle{k, e.keyID, e, m})
}

func (w *world) lookupMount(t *rapid.T) {
	m := w.someMount(t)
	target, e := w.drawTarget(t, m)
	k, err := m.mount.Key(context.Background(), target)
	switch {
	case m.closed:
		expect(t, err, backend.ErrNotPermitted)
	case e == nil:
		expect(t, err, backend.ErrKeyNotFound)
	case !m.grants[e] && !e.any:
		expect(t, err, backend.ErrNotPermitted)
	default:
		expect(t, err, nil)
		w.seen(t, k, e, m)
	}
}

// allows returns the error that the model expects of a use of h.
func (h modelHandle) allows(u backend.Usage) error {
	switch {
	case h.entry.deleted:
		return backend.ErrKeyNotFound
	case h.mount != nil && (h.mount.closed || !h.mount.grants[h.entry] && !h.entry.any):
		return backend.ErrNotPermitted
	case h.entry.keyID != h.keyID:
		return backend.ErrKeyChanged
	case !h.entry.usages.Has(u):
		return backend.ErrNotPermitted
	}
	return nil
}

// check compares the whole registry with the model and tries every operation on every handle that ever was given out.
func (w *world) check(t *rapid.T) {
	for _, h := range w.handles {
		usages := backend.Usage(0)
		for _, op := range operations {
			out, err := op.run(h.key)
			want := h.allows(op.usage)
			if want != nil {
				if !errors.Is(err, want) || len(out) > 0 && op.usage != backend.UsageVerify && op.usage != backend.UsageMAC {
					t.Fatalf("%s with %v by %s gave %q, %v; want %v", op.name, h.entry.ref, h.via(), out, err, want)
				}
				continue
			}
			usages |= op.usage
			if err != nil || !strings.HasPrefix(string(out), h.keyID+" ") {
				t.Fatalf("%s with %v by %s gave %q, %v; want a result of %s", op.name, h.entry.ref, h.via(), out, err, h.keyID)
			}
			// The key's label begins with the namespace that it was made for.
			if ns, _, _ := strings.Cut(string(out), "|"); h.mount != nil && ns != string(h.mount.mount.Namespace()) {
				t.Fatalf("a mount of %q used the key %q", h.mount.mount.Namespace(), out)
			}
		}
		for _, u := range []backend.Usage{0, backend.UsageSign, backend.UsageSign | backend.UsageMAC, allUsages} {
			if err, want := h.key.Permits(u), h.allows(u); want == nil && err != nil || !errors.Is(err, want) {
				t.Fatalf("%v by %s permits %s: %v, want %v", h.entry.ref, h.via(), u, err, want)
			}
		}
		if got := h.key.Capabilities().Usages; got != usages {
			t.Fatalf("%v by %s has usages %v, want %v", h.entry.ref, h.via(), got, usages)
		}
	}
	w.checkState(t)
}

func (h modelHandle) via() string {
	if h.mount == nil {
		return "the registry"
	}
	return "mount " + h.mount.path
}

func (w *world) checkState(t *rapid.T) {
	for _, ns := range worldSpaces {
		var names []string
		for _, name := range worldNames {
			r := namespace.Ref{Namespace: ns, Name: name}
			m := w.entries[r]
			got, err := w.registry.Entry(r)
			if m == nil {
				expect(t, err, backend.ErrKeyNotFound)
				continue
			}
			names = append(names, name)
			want := w.entry(m)
			if want.UUID, want.KeyVersion = m.uuid, 1; m.keyID != "" {
				want.PublicKeySHA256 = fakeKey{m.keyID}.pin(t)
			}
			if !bytes.Equal(got.PublicKeySHA256, want.PublicKeySHA256) || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("entry is %v, want %v", got, want)
			}
		}
		if got := w.registry.List(ns); !slices.Equal(got, names) {
			t.Fatalf("namespace %q lists %v, want %v", ns, got, names)
		}
	}
	for _, m := range w.mounts {
		var names []string
		for e, granted := range m.grants {
			if granted {
				names = append(names, e.ref.Name)
			}
		}
		slices.Sort(names)
		if got := m.mount.Allowed(); !slices.Equal(got, names) || m.mount.Path() != m.path {
			t.Fatalf("mount %s of %q allows %v, want %v", m.mount.Path(), m.mount.Namespace(), got, names)
		}
	}
}
