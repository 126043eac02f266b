package managedkey

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/namespace"
)

// late returns a program that hears everything, and makes another one that knows what is there by then and hears nothing more.
func late(t *testing.T) (a *site, b func() *site) {
	t.Helper()
	st, all := sites(t, 1)
	return all[0], func() *site { return join(t, deaf{st}, all[0].keys) }
}

// again deletes an entry and makes it again, with another UUID.
func again(t *testing.T, r *Registry, ref namespace.Ref) Entry {
	t.Helper()
	require.NoError(t, r.Delete(t.Context(), ref))
	entry := keptEntryOf(keptParams)
	entry.Ref = ref
	require.NoError(t, r.Create(t.Context(), entry))
	now, err := r.Entry(ref)
	require.NoError(t, err)
	return now
}

// TestGrantReplaced: a grant for a UUID is never one for another entry that has got the name, also where nobody has told yet that it has;
// one for a name is for the entry that has it.
func TestGrantReplaced(t *testing.T) {
	a, deafened := late(t)
	require.NoError(t, a.Create(t.Context(), keptEntryOf(keptParams)))
	mount, err := a.Mount(t.Context(), "team-a", "pki")
	require.NoError(t, err)
	old, err := a.Entry(keptRef)
	require.NoError(t, err)
	for what, grant := range map[string]func(b *site, m *Mount) error{
		"grant": func(b *site, m *Mount) error { return b.Grant(t.Context(), m, old.UUID) },
		"tune": func(b *site, m *Mount) error {
			return b.TuneMount(t.Context(), m, MountChange{Allowed: []string{old.UUID}})
		},
		"mount": func(b *site, _ *Mount) error {
			_, err := b.Mount(t.Context(), "team-a", "other", old.UUID)
			return err
		},
	} {
		b := deafened()
		theirs, err := b.OpenMount("team-a", "pki")
		require.NoError(t, err)
		now := again(t, a.Registry, keptRef)
		require.NotEqual(t, old.UUID, now.UUID)
		err = grant(b, theirs)
		if what == "mount" { // who tries again knows better
			assert.ErrorIs(t, err, store.ErrConflict, what)
		} else {
			assert.ErrorIs(t, err, backend.ErrKeyNotFound, what)
		}
		_, err = mount.Key(t.Context(), "ca")
		assert.ErrorIs(t, err, backend.ErrNotPermitted, what)
		_, err = a.OpenMount("team-a", "other")
		assert.ErrorIs(t, err, backend.ErrKeyNotFound, what)
		old = now
	}
	b := deafened()
	theirs, err := b.OpenMount("team-a", "pki")
	require.NoError(t, err)
	again(t, a.Registry, keptRef)
	require.NoError(t, b.Grant(t.Context(), theirs, "ca"))
	soon(t, "the new entry is granted", func() bool { return len(mount.Allowed()) == 1 })
	_, err = theirs.Key(t.Context(), "ca")
	assert.NoError(t, err)
}

// TestDeleteGranted: an entry isn't deleted while a mount has a grant for it that nobody has told of yet.
func TestDeleteGranted(t *testing.T) {
	a, deafened := late(t)
	require.NoError(t, a.Create(t.Context(), keptEntryOf(keptParams)))
	b := deafened()
	mount, err := a.Mount(t.Context(), "team-a", "pki", "ca")
	require.NoError(t, err)
	err = b.Delete(t.Context(), keptRef)
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
	assert.ErrorContains(t, err, "granted to the mounts pki")
	_, err = mount.Key(t.Context(), "ca")
	assert.NoError(t, err)
	require.NoError(t, a.Unmount(t.Context(), mount))
	assert.NoError(t, b.Delete(t.Context(), keptRef))
}

// TestTuneTakesAll: a mount that is to have no keys has none, also none that another process gave it a moment ago.
func TestTuneTakesAll(t *testing.T) {
	a, deafened := late(t)
	require.NoError(t, a.Create(t.Context(), keptEntryOf(keptParams)))
	mount, err := a.Mount(t.Context(), "team-a", "pki")
	require.NoError(t, err)
	b := deafened()
	theirs, err := b.OpenMount("team-a", "pki")
	require.NoError(t, err)
	require.NoError(t, a.Grant(t.Context(), mount, "ca"))
	key, err := mount.Key(t.Context(), "ca")
	require.NoError(t, err)
	require.NoError(t, b.TuneMount(t.Context(), theirs, MountChange{Allowed: []string{}}))
	assert.Empty(t, theirs.Allowed())
	soon(t, "the grant is taken", func() bool { return key.Permits(backend.UsageSign) != nil })
}
