package managedkey

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// TestCatchUpMoved: a program that hears of a move and of a rotation at once moves what became an older version too.
func TestCatchUpMoved(t *testing.T) {
	secret := func(name string) software.Params {
		return software.Params{KeyName: name, KeyType: software.AES, KeyBits: 256}
	}
	st, all := sites(t, 1)
	a := all[0]
	in := keptEntryOf(secret("ca"))
	in.Usages = backend.UsageEncrypt | backend.UsageDecrypt
	require.NoError(t, a.Create(t.Context(), in))
	first, err := a.Key(t.Context(), keptRef)
	require.NoError(t, err)
	b := join(t, frozen{st}, a.keys)
	one, err := b.Key(t.Context(), keptRef)
	require.NoError(t, err)

	_, err = a.keys.Generate(t.Context(), secret("new"), nil)
	require.NoError(t, err)
	in.Params = secret("new")
	require.NoError(t, a.Update(t.Context(), in))
	_, err = first.Seal(t.Context(), nil, nil)
	require.ErrorIs(t, err, backend.ErrKeyChanged)
	_, err = a.Rotate(t.Context(), keptRef, nil)
	require.NoError(t, err)
	moved, err := a.KeyVersion(t.Context(), keptRef, 1)
	require.NoError(t, err)
	ciphertext, err := moved.Seal(t.Context(), []byte("text"), nil)
	require.NoError(t, err)

	assert.ErrorIs(t, b.Update(t.Context(), in), store.ErrConflict) // and b reads the record
	soon(t, "b's version 1 is a's", func() bool {
		theirs, err := b.KeyVersion(t.Context(), keptRef, 1)
		if err != nil {
			return false
		}
		text, err := theirs.Open(t.Context(), ciphertext, nil)
		return err == nil && string(text) == "text"
	})
	_, err = one.Seal(t.Context(), nil, nil)
	assert.ErrorIs(t, err, backend.ErrKeyChanged, "as a's handle")
}

// TestRotateBehind: a program that has not heard yet where the key was moved, and rotates, records the place where it is.
func TestRotateBehind(t *testing.T) {
	st, all := sites(t, 1)
	a := all[0]
	copyOf(t, a.keys, newPrivate(t), "ca", "copy")
	require.NoError(t, a.Create(t.Context(), keptEntryOf(named("ca"))))
	b := join(t, frozen{st}, a.keys)
	_, err := b.Key(t.Context(), keptRef)
	require.NoError(t, err)
	in := keptEntryOf(named("copy"))
	in.Connection = "other"
	require.NoError(t, a.Update(t.Context(), in))
	_, err = b.Rotate(t.Context(), keptRef, nil)
	require.NoError(t, err)
	got, err := join(t, st, a.keys).Entry(keptRef)
	require.NoError(t, err)
	require.Len(t, got.Older, 1)
	assert.Equal(t, "other", got.Older[0].Connection)
	assert.Equal(t, "copy", got.Older[0].Params.(software.Params).KeyName)
	assert.Equal(t, "ca-v2", got.Params.(software.Params).KeyName)
}

// TestWrongPinSamePlace: an update that points an entry at another key, where there is none, is refused as in a registry
// without a store.
func TestWrongPinSamePlace(t *testing.T) {
	_, all := sites(t, 1)
	a := all[0]
	require.NoError(t, a.Create(t.Context(), keptEntryOf(keptParams)))
	key, err := a.Key(t.Context(), keptRef)
	require.NoError(t, err)
	in := keptEntryOf(keptParams)
	in.PublicKeySHA256 = fakeKey{"else"}.pin(t)
	assert.ErrorIs(t, a.Update(t.Context(), in), backend.ErrKeyChanged)
	assert.NoError(t, signs(key))
	again, err := a.Key(t.Context(), keptRef)
	require.NoError(t, err)
	assert.NoError(t, signs(again))
}

// TestPinOfSymmetric: when an entry is pointed at a key pair that took the place of a symmetric key, nobody goes on with the
// symmetric one.
func TestPinOfSymmetric(t *testing.T) {
	_, all := sites(t, 2)
	a, b := all[0], all[1]
	in := keptEntryOf(software.Params{KeyName: "ca"})
	_, err := a.keys.Generate(t.Context(), software.Params{KeyName: "ca", KeyType: software.AES, KeyBits: 256}, nil)
	require.NoError(t, err)
	require.NoError(t, a.Create(t.Context(), in))
	soon(t, "b sees the entry", func() bool { return len(b.List("team-a")) == 1 })
	for _, s := range all {
		key, err := s.Key(t.Context(), keptRef)
		require.NoError(t, err)
		require.Nil(t, key.Public())
	}
	private := newPrivate(t)
	_, err = a.keys.Import(t.Context(), software.Params{KeyName: "ca"}, private, &backend.ImportOptions{Replace: true})
	require.NoError(t, err)
	pin, err := backend.Fingerprint(private.Public())
	require.NoError(t, err)
	in.PublicKeySHA256 = pin[:]
	require.NoError(t, a.Update(t.Context(), in))
	for _, s := range all {
		soon(t, "the pin is known", func() bool { e, err := s.Entry(keptRef); return err == nil && len(e.PublicKeySHA256) > 0 })
		key, err := s.Key(t.Context(), keptRef)
		require.NoError(t, err)
		require.NotNil(t, key.Public())
		assert.NoError(t, signs(key))
	}
}

// TestMoveHeardOnTheWay: a program that learns where a key was moved from a record that it changes itself moves it too.
func TestMoveHeardOnTheWay(t *testing.T) {
	for name, change := range map[string]func(r *Registry, m *Mount) error{
		"grant":  func(r *Registry, m *Mount) error { return r.Grant(bg, m, "ca") },
		"rotate": func(r *Registry, _ *Mount) error { _, err := r.Rotate(bg, keptRef, nil); return err },
		"trim":   func(r *Registry, _ *Mount) error { return r.Trim(bg, keptRef, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			st, all := sites(t, 1)
			a := all[0]
			require.NoError(t, a.Create(bg, keptEntryOf(keptParams)))
			b := join(t, frozen{st}, a.keys)
			m, err := b.Mount(bg, "team-a", "pki")
			require.NoError(t, err)
			key, err := b.Key(bg, keptRef)
			require.NoError(t, err)
			in := keptEntryOf(keptParams)
			in.Connection = "other"
			require.NoError(t, a.Update(bg, in))
			require.NoError(t, change(b.Registry, m))
			require.NoError(t, b.keys.Close())
			soon(t, "b's handle goes on at the new place", func() bool { return signs(key) == nil })
		})
	}
}

// TestUpdateBehindKeepsOlder: an update that leaves older versions as they are takes back no move of them that its program has
// not heard of.
func TestUpdateBehindKeepsOlder(t *testing.T) {
	st, all := sites(t, 1)
	a := all[0]
	copyOf(t, a.keys, newPrivate(t), "ca", "copy")
	require.NoError(t, a.Create(t.Context(), keptEntryOf(named("ca"))))
	_, err := a.Rotate(t.Context(), keptRef, nil)
	require.NoError(t, err)
	b := join(t, frozen{st}, a.keys)
	in, err := a.Entry(keptRef)
	require.NoError(t, err)
	in.Older[0].Params = named("copy")
	require.NoError(t, a.Update(t.Context(), in))
	in, err = b.Entry(keptRef)
	require.NoError(t, err)
	in.Older, in.Version, in.Usages = nil, 0, backend.UsageSign
	require.NoError(t, b.Update(t.Context(), in))
	for _, r := range []*Registry{b.Registry, join(t, st, a.keys).Registry} {
		got, err := r.Entry(keptRef)
		require.NoError(t, err)
		assert.Equal(t, backend.UsageSign, got.Usages)
		assert.Equal(t, "copy", got.Older[0].Params.(software.Params).KeyName)
	}
}

// TestOlderOnAbsentConnection: a program that lacks the connection of an older version reads, changes and trims the entry.
func TestOlderOnAbsentConnection(t *testing.T) {
	st, all := sites(t, 1)
	a := all[0]
	in := keptEntryOf(keptParams)
	in.Connection = "other"
	require.NoError(t, a.Create(t.Context(), in))
	_, err := a.Rotate(t.Context(), keptRef, &RotateOptions{Params: named("next"), Connection: "software"})
	require.NoError(t, err)
	b, err := Open(t.Context(), st, []Connection{{Backend: a.keys}}, nil)
	require.NoError(t, err)
	defer b.Close()
	entry, err := b.Entry(keptRef)
	require.NoError(t, err)
	entry.MinDecryptionVersion = 2
	require.NoError(t, b.Update(t.Context(), entry))
	soon(t, "a hears of it", func() bool { e, err := a.Entry(keptRef); return err == nil && e.MinDecryptionVersion == 2 })
	got, err := a.Entry(keptRef)
	require.NoError(t, err)
	assert.Equal(t, keptParams, got.Older[0].Params, "it is what it was")
	assert.Equal(t, "other", got.Older[0].Connection)
	require.NoError(t, b.Trim(t.Context(), keptRef, 2))
}

// TestUpdateOfPendingMove: versions that are on their way to a connection go elsewhere together, as they would from there.
func TestUpdateOfPendingMove(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	keys := software.New(nil)
	defer keys.Close()
	var programs []*Registry
	var gone *place
	for range 2 {
		var conns []Connection
		for _, name := range []string{"old", "new", "third"} {
			p := &place{Backend: keys.Share()}
			defer p.Close()
			conns = append(conns, Connection{Name: name, Backend: p})
		}
		gone = conns[1].Backend.(*place)
		r, err := Open(t.Context(), st, conns, nil)
		require.NoError(t, err)
		defer r.Close()
		programs = append(programs, r)
	}
	a, b := programs[0], programs[1]
	in := keptEntryOf(keptParams)
	in.Connection = "old"
	require.NoError(t, a.Create(t.Context(), in))
	_, err := a.Rotate(t.Context(), keptRef, nil)
	require.NoError(t, err)
	soon(t, "b has both versions", func() bool {
		one, err := b.KeyVersion(t.Context(), keptRef, 1)
		if err != nil || signs(one) != nil {
			return false
		}
		two, err := b.Key(t.Context(), keptRef)
		return err == nil && two.Version() == 2
	})
	gone.away.Store(true)
	in.Params, in.Connection = named("ca-v2"), "new"
	require.NoError(t, a.Update(t.Context(), in))
	soon(t, "b has heard, and tried", func() bool { return gone.lost.Load() > 0 })
	in.Connection = "third"
	require.NoError(t, b.Update(t.Context(), in))
	got, err := b.Entry(keptRef)
	require.NoError(t, err)
	assert.Equal(t, "third", got.Connection)
	assert.Equal(t, "third", got.Older[0].Connection)
}
