package managedkey

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestKeyForUnknown: a version whose public key nobody has seen yet is opened to see whether it is the one.
func TestKeyForUnknown(t *testing.T) {
	r, c := NewRegistry(), newClient(newVault("a", "b", "c", "d"))
	in := entryOf(c, "team-a/d", 0)
	in.Params = params{Label: "d"}
	for i, label := range []string{"a", "b", "c"} {
		in.Older = append(in.Older, OlderVersion{Version: i + 1, Backend: c, Params: params{Label: label}})
	}
	mustCreate(t, r, in)
	m := mustMount(t, r, "team-a", "pki", "d")
	for i, id := range []string{"a#1", "b#2", "c#3", "d#4"} {
		k, err := m.KeyFor(t.Context(), "d", fakeKey{id}.Public())
		require.NoError(t, err, id)
		assert.Equal(t, i+1, k.Version())
	}
	_, err := m.KeyFor(t.Context(), "d", fakeKey{"else"}.Public())
	check(t, err, backend.ErrKeyChanged)

	in.Ref = ref("team-a/e")
	in.Older[0].Params = params{Label: "absent"}
	mustCreate(t, r, in)
	require.NoError(t, r.Grant(t.Context(), m, "e"))
	_, err = m.KeyFor(t.Context(), "e", fakeKey{"c#3"}.Public())
	require.NoError(t, err)
	_, err = m.KeyFor(t.Context(), "e", fakeKey{"a#1"}.Public())
	check(t, err, backend.ErrKeyNotFound, "version 1")
}

// TestKeyVersionGenerates: only the newest version is generated when it is asked for.
func TestKeyVersionGenerates(t *testing.T) {
	r, c := NewRegistry(), newClient(newVault())
	in := Entry{Ref: ref("team-a/ca"), Backend: c, Params: params{Label: "new"}, AllowGenerateKey: true}
	in.Older = []OlderVersion{{Version: 1, Backend: c, Params: params{Label: "old"}}}
	mustCreate(t, r, in)
	_, err := r.KeyVersion(t.Context(), in.Ref, 1)
	check(t, err, backend.ErrKeyNotFound)
	two, err := r.KeyVersion(t.Context(), in.Ref, 2)
	require.NoError(t, err)
	signsAs(t, two, "new#1")
}

// TestRotateBackSymmetric: a symmetric key that an older version has is not taken for a next one.
func TestRotateBackSymmetric(t *testing.T) {
	r, c, _ := rotating(t, "sym")
	_, err := r.Rotate(t.Context(), ref("team-a/ca"), nil)
	require.NoError(t, err)
	_, err = r.Rotate(t.Context(), ref("team-a/ca"), &RotateOptions{Params: params{Label: "sym"}})
	check(t, err, backend.ErrKeyExists, "version 1 already")

	in := entryOf(c, "team-a/old", 0)
	in.Params, in.Older = params{Label: "sym-v2"}, []OlderVersion{{Version: 1, Backend: c, Params: params{Label: "sym"}}}
	mustCreate(t, r, in)
	_, err = r.Rotate(t.Context(), ref("team-a/old"), &RotateOptions{Params: params{Label: "sym"}})
	check(t, err, backend.ErrKeyExists, "version 1 already")
	assert.Equal(t, 2, mustKey(t, r, "team-a/old").Version())
}
