package managedkey

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/namespace"
)

// registries runs a test without a store, and with one that another program follows.
func registries(t *testing.T, run func(t *testing.T, r, other *Registry, b backend.Backend)) {
	t.Run("without a store", func(t *testing.T) {
		b := software.New(nil)
		defer b.Close()
		r := NewRegistry()
		run(t, r, r, b)
	})
	t.Run("with a store", func(t *testing.T) {
		_, all := sites(t, 2)
		run(t, all[0].Registry, all[1].Registry, all[0].keys)
	})
}

func createKeys(t *testing.T, r *Registry, b backend.Backend, ns namespace.Path, names ...string) {
	t.Helper()
	for _, name := range names {
		require.NoError(t, r.Create(bg, Entry{Ref: namespace.Ref{Namespace: ns, Name: name}, Backend: b, AllowGenerateKey: true,
			Params: software.Params{KeyName: name, KeyType: software.ECDSA, Curve: software.P256}}))
	}
}

// TestCreateMount: what a mount says about itself is kept, seen by others, and follows it when it moves.
func TestCreateMount(t *testing.T) {
	registries(t, func(t *testing.T, r, other *Registry, b backend.Backend) {
		createKeys(t, r, b, "team-a", "ca", "web")
		options := map[string]string{"version": "2"}
		m, err := r.CreateMount(bg, MountSpec{Namespace: "team-a", Path: "pki/prod", Type: "pki", Description: "Issues", Options: options, Allowed: []string{"web", "ca", "web"}})
		require.NoError(t, err)
		options["version"] = "changed by the caller"
		_, err = r.CreateMount(bg, MountSpec{Namespace: "team-a", Path: "pki/prod", Type: "transit"})
		require.ErrorIs(t, err, backend.ErrKeyExists)
		_, err = r.Mount(bg, "team-a", "a")
		require.NoError(t, err)

		there := func(path string) *Mount {
			var found *Mount
			soon(t, path, func() bool {
				found, err = other.OpenMount("team-a", path)
				return err == nil && len(found.Allowed()) == 2
			})
			return found
		}
		seen := there("pki/prod")
		assert.Equal(t, m.ID(), seen.ID())
		assert.Equal(t, "pki", seen.Type())
		assert.Equal(t, "Issues", seen.Description())
		assert.Equal(t, map[string]string{"version": "2"}, seen.Options())
		assert.Equal(t, []string{"ca", "web"}, seen.Allowed())

		require.NoError(t, r.Rename(bg, m, "pki/old"))
		seen = there("pki/old")
		assert.Equal(t, "pki", seen.Type())
		assert.Equal(t, []string{"ca", "web"}, seen.Allowed())
		var paths []string
		for _, m := range r.Mounts("team-a") {
			paths = append(paths, m.Path())
		}
		assert.Equal(t, []string{"a", "pki/old"}, paths)
		assert.Empty(t, r.Mounts("team-b"))
	})
}

func TestCreateMountRefusals(t *testing.T) {
	r := NewRegistry()
	for name, spec := range map[string]MountSpec{
		"Namespace":   {Namespace: "A", Path: "pki"},
		"empty":       {Path: ""},
		"Type":        {Path: "pki", Type: "P K I"},
		"Description": {Path: "pki", Description: strings.Repeat("x", MaxMountDescription+1)},
		"UTF-8":       {Path: "pki", Description: "\xff"},
		"Options":     {Path: "pki", Options: map[string]string{"../": "x"}},
		"value":       {Path: "pki", Options: map[string]string{"a": strings.Repeat("x", MaxMountOption+1)}},
	} {
		_, err := r.CreateMount(bg, spec)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
	}
	_, err := r.CreateMount(bg, MountSpec{Path: "pki", Allowed: []string{"none"}})
	require.ErrorIs(t, err, backend.ErrKeyNotFound)
	assert.Empty(t, r.Mounts(""), "nothing was made")
}

// TestTuneMount: the set of keys becomes exactly the one that is asked for, or nothing changes.
func TestTuneMount(t *testing.T) {
	registries(t, func(t *testing.T, r, other *Registry, b backend.Backend) {
		createKeys(t, r, b, "", "a", "b", "c")
		m, err := r.CreateMount(bg, MountSpec{Path: "pki", Type: "pki", Description: "old", Options: map[string]string{"x": "1"}, Allowed: []string{"a", "b"}})
		require.NoError(t, err)
		key, err := m.Key(bg, "a")
		require.NoError(t, err)

		text := "new"
		require.NoError(t, r.TuneMount(bg, m, MountChange{Description: &text, Allowed: []string{"b", "c"}}))
		soon(t, "the change", func() bool {
			seen, err := other.OpenMount("", "pki")
			return err == nil && seen.Description() == "new" && fmt.Sprint(seen.Allowed()) == "[b c]" && seen.Options()["x"] == "1"
		})
		require.ErrorIs(t, signs(key), backend.ErrNotPermitted)

		require.ErrorIs(t, r.TuneMount(bg, m, MountChange{Description: new(string), Allowed: []string{"a", "none"}}), backend.ErrKeyNotFound)
		assert.Equal(t, "new", m.Description(), "nothing changes")
		assert.Equal(t, []string{"b", "c"}, m.Allowed())

		require.NoError(t, r.TuneMount(bg, m, MountChange{Options: map[string]string{}, Allowed: []string{}}))
		assert.Empty(t, m.Options())
		assert.Empty(t, m.Allowed())
		require.NoError(t, r.Delete(bg, namespace.Ref{Name: "a"}), "no grant is left")

		require.NoError(t, r.Unmount(bg, m))
		require.ErrorIs(t, r.TuneMount(bg, m, MountChange{Allowed: []string{"b"}}), backend.ErrNotPermitted)
		require.ErrorIs(t, r.TuneMount(bg, nil, MountChange{}), backend.ErrInvalidParams)
	})
}

// TestTuneMountType: a mount without a type can be given one, once, and stays the mount that it is.
func TestTuneMountType(t *testing.T) {
	registries(t, func(t *testing.T, r, other *Registry, b backend.Backend) {
		createKeys(t, r, b, "team-a", "a")
		m, err := r.Mount(bg, "team-a", "pki", "a")
		require.NoError(t, err)
		require.ErrorIs(t, r.TuneMount(bg, m, MountChange{Type: "No good"}), backend.ErrInvalidParams)
		require.NoError(t, r.TuneMount(bg, m, MountChange{Type: "pki"}))
		require.NoError(t, r.TuneMount(bg, m, MountChange{Type: "pki"}))
		err = r.TuneMount(bg, m, MountChange{Type: "transit"})
		require.ErrorIs(t, err, backend.ErrInvalidParams)
		assert.ErrorContains(t, err, `the mount has the type "pki", which can't change`)
		assert.Equal(t, "pki", m.Type())
		soon(t, "the type", func() bool {
			seen, err := other.OpenMount("team-a", "pki")
			return err == nil && seen.Type() == "pki" && seen.ID() == m.ID() && len(seen.Allowed()) == 1
		})
	})
}

// TestTuneMountManyKeys: more grants than a store takes in one commit.
func TestTuneMountManyKeys(t *testing.T) {
	_, all := sites(t, 2)
	var names []string
	for i := range 120 {
		names = append(names, fmt.Sprintf("key-%03d", i))
	}
	createKeys(t, all[0].Registry, all[0].keys, "", names...)
	m, err := all[0].CreateMount(bg, MountSpec{Path: "pki", Allowed: names[:70]})
	require.NoError(t, err)
	assert.Equal(t, names[:70], m.Allowed())
	text := "half"
	require.NoError(t, all[0].TuneMount(bg, m, MountChange{Allowed: names[60:], Description: &text}))
	assert.Equal(t, names[60:], m.Allowed())
	soon(t, "all grants", func() bool {
		seen, err := all[1].OpenMount("", "pki")
		return err == nil && len(seen.Allowed()) == 60 && seen.Description() == "half"
	})
}

// TestTuneMountTogether: programs that change one mount at once don't undo what the others changed.
func TestTuneMountTogether(t *testing.T) {
	_, all := sites(t, 2)
	createKeys(t, all[0].Registry, all[0].keys, "", "a")
	_, err := all[0].CreateMount(bg, MountSpec{Path: "pki", Type: "pki"})
	require.NoError(t, err)
	soon(t, "the mount and the key", func() bool {
		_, err := all[1].OpenMount("", "pki")
		return err == nil && len(all[1].List("")) == 1
	})
	var running sync.WaitGroup
	change := func(r *Registry, c MountChange) {
		m, err := r.OpenMount("", "pki")
		if assert.NoError(t, err) {
			assert.NoError(t, r.TuneMount(bg, m, c))
		}
	}
	for i := range 20 {
		text := fmt.Sprint(i)
		running.Go(func() { change(all[0].Registry, MountChange{Description: &text}) })
		running.Go(func() { change(all[1].Registry, MountChange{Options: map[string]string{"n": text}}) })
		running.Go(func() { change(all[i%2].Registry, MountChange{Allowed: []string{"a"}}) })
	}
	running.Wait()
	for _, r := range all {
		soon(t, "all three", func() bool {
			m, err := r.OpenMount("", "pki")
			return err == nil && m.Description() != "" && m.Options()["n"] != "" && len(m.Allowed()) == 1
		})
	}
}

func TestMountAt(t *testing.T) {
	r := NewRegistry()
	mustMount(t, r, "", "pki")
	mustMount(t, r, "", "pki/prod/eu")
	mustMount(t, r, "team-a", "transit")
	for path, want := range map[string][2]string{
		"pki":                 {"pki", ""},
		"pki/issue/web":       {"pki", "issue/web"},
		"pki/prod":            {"pki", "prod"},
		"pki/prod/eu/crl":     {"pki/prod/eu", "crl"},
		"pki/prod/europe":     {"pki", "prod/europe"},
		"pkix":                {},
		"":                    {},
		"/":                   {},
		"transit":             {},
		"pki/prod/eu/":        {"pki/prod/eu", ""},
		"pki/prod/eu/a//b/..": {"pki/prod/eu", "a//b/.."},
	} {
		m, rest := r.MountAt("", path)
		var got [2]string
		if m != nil {
			got = [2]string{m.Path(), rest}
		}
		assert.Equal(t, want, got, path)
	}
	m, _ := r.MountAt("none", "pki")
	assert.Nil(t, m)
}

// TestNamespaces: a namespace that was made stays without anything in it, and is not taken away with something in it.
func TestNamespaces(t *testing.T) {
	registries(t, func(t *testing.T, r, other *Registry, b backend.Backend) {
		require.NoError(t, r.CreateNamespace(bg, "team-a/x"))
		require.ErrorIs(t, r.CreateNamespace(bg, "team-a/x"), backend.ErrKeyExists)
		require.ErrorIs(t, r.CreateNamespace(bg, ""), backend.ErrInvalidParams)
		require.ErrorIs(t, r.CreateNamespace(bg, "sys"), backend.ErrInvalidParams)
		createKeys(t, r, b, "team-b", "ca")
		soon(t, "both", func() bool { return fmt.Sprint(other.Namespaces("")) == "[team-a/x team-b]" })
		assert.Equal(t, []namespace.Path{"team-a/x"}, r.Namespaces("team-a"))
		assert.Empty(t, r.Namespaces("team-a/x"))

		createKeys(t, r, b, "team-a/x", "ca")
		require.ErrorIs(t, r.DeleteNamespace(bg, "team-a/x"), backend.ErrNotPermitted)
		require.ErrorIs(t, r.DeleteNamespace(bg, "team-a"), backend.ErrNotPermitted, "there is one below")
		require.NoError(t, r.Delete(bg, namespace.Ref{Namespace: "team-a/x", Name: "ca"}))
		assert.Len(t, r.Namespaces(""), 2, "it was made, and so it stays")
		require.NoError(t, r.DeleteNamespace(bg, "team-a/x"))
		require.NoError(t, r.DeleteNamespace(bg, "team-a/x"), "again")
		soon(t, "that it is gone", func() bool { return fmt.Sprint(other.Namespaces("")) == "[team-b]" })
		require.NoError(t, r.Delete(bg, namespace.Ref{Namespace: "team-b", Name: "ca"}))
		soon(t, "that it is gone too", func() bool { return len(other.Namespaces("")) == 0 })
		require.NoError(t, r.CreateNamespace(bg, "team-a/x"), "made again")
	})
}

// TestMountsAreKept: a program that starts later has mounts and namespaces as they are.
func TestMountsAreKept(t *testing.T) {
	st, all := sites(t, 1)
	require.NoError(t, all[0].CreateNamespace(bg, "empty"))
	_, err := all[0].CreateMount(bg, MountSpec{Namespace: "team-a", Path: "pki", Type: "pki", Options: map[string]string{"a": "b"}})
	require.NoError(t, err)
	late := join(t, st, all[0].keys)
	m, err := late.OpenMount("team-a", "pki")
	require.NoError(t, err)
	assert.Equal(t, "pki", m.Type())
	assert.Equal(t, map[string]string{"a": "b"}, m.Options())
	assert.Equal(t, []namespace.Path{"empty", "team-a"}, late.Namespaces(""))
}
