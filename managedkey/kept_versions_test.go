package managedkey

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestKeptVersions: a version that one program makes is every program's newest; handles keep their keys; and a program that
// starts later finds all versions.
func TestKeptVersions(t *testing.T) {
	st, all := sites(t, 2)
	a, b := all[0], all[1]
	require.NoError(t, a.Create(t.Context(), keptEntryOf(keptParams)))
	soon(t, "b sees the entry", func() bool { return len(b.List("team-a")) == 1 })
	one, err := b.Key(t.Context(), keptRef)
	require.NoError(t, err)
	two, err := a.Rotate(t.Context(), keptRef, nil)
	require.NoError(t, err)
	assert.Equal(t, 2, two.Version())
	assert.NotEqual(t, one.Public(), two.Public())
	newest := func(s *site, version int) func() bool {
		return func() bool {
			k, err := s.Key(t.Context(), keptRef)
			return err == nil && k.Version() == version && signs(k) == nil
		}
	}
	soon(t, "b has version 2", newest(b, 2))
	assert.NoError(t, signs(one))
	assert.Equal(t, 1, one.Version())
	three, err := b.Rotate(t.Context(), keptRef, nil)
	require.NoError(t, err)
	soon(t, "a has version 3", newest(a, 3))
	assert.NoError(t, signs(two))

	late := join(t, st, b.keys)
	for i, want := range []*Key{one, two, three} {
		got, err := late.KeyVersion(t.Context(), keptRef, i+1)
		require.NoError(t, err)
		assert.Equal(t, want.Public(), got.Public())
		require.NoError(t, signs(got))
	}
	entry, err := late.Entry(keptRef)
	require.NoError(t, err)
	require.Len(t, entry.Older, 2)
	assert.Equal(t, "software", entry.Older[1].Connection)
	assert.Equal(t, "ca-v2", entry.Older[1].Params.(software.Params).KeyName)

	entry.MinEncryptionVersion = 2
	require.NoError(t, late.Update(t.Context(), entry))
	soon(t, "version 1 signs no more", func() bool { return errors.Is(signs(one), backend.ErrNotPermitted) })
	assert.NoError(t, signs(two))
	entry.Version, entry.MinDecryptionVersion = 0, 2
	require.NoError(t, late.Update(t.Context(), entry))
	assert.ErrorIs(t, a.Trim(t.Context(), keptRef, 3), backend.ErrInvalidParams)
	require.NoError(t, a.Trim(t.Context(), keptRef, 2))
	for _, s := range []*site{a, b, late} {
		soon(t, "version 1 is gone", func() bool {
			_, err := s.KeyVersion(t.Context(), keptRef, 1)
			return errors.Is(err, backend.ErrKeyNotFound)
		})
	}
	assert.ErrorIs(t, signs(one), backend.ErrKeyNotFound)
	assert.NoError(t, signs(two))
	entry.KeyVersion, entry.Version = 3, 0
	assert.ErrorIs(t, late.Update(t.Context(), entry), backend.ErrInvalidParams, "a list of versions that is out of date")
}

// TestKeptRotateAtOnce: of programs that rotate at the same time, each either adds a version or is told that it didn't, and all
// end with the same versions.
func TestKeptRotateAtOnce(t *testing.T) {
	_, all := sites(t, 3)
	require.NoError(t, all[0].Create(t.Context(), keptEntryOf(keptParams)))
	var held []*Key
	for _, s := range all {
		soon(t, "all see the entry", func() bool { return len(s.List("team-a")) == 1 })
		k, err := s.Key(t.Context(), keptRef)
		require.NoError(t, err)
		held = append(held, k)
	}
	var wg sync.WaitGroup
	var made atomic.Int32
	for _, s := range all {
		wg.Go(func() {
			for range 8 {
				k, err := s.Rotate(t.Context(), keptRef, nil)
				if err == nil {
					made.Add(1)
					assert.NoError(t, signs(k))
					continue
				}
				assert.True(t, errors.Is(err, store.ErrConflict) || errors.Is(err, backend.ErrKeyExists), "%v", err)
			}
		})
	}
	wg.Wait()
	require.Positive(t, made.Load())
	for i, s := range all {
		soon(t, "all have all versions", func() bool {
			entry, err := s.Entry(keptRef)
			return err == nil && entry.KeyVersion == 1+int(made.Load())
		})
		assert.NoError(t, signs(held[i]))
	}
	for n := 1; n <= 1+int(made.Load()); n++ {
		first, err := all[0].KeyVersion(t.Context(), keptRef, n)
		require.NoError(t, err)
		for _, s := range all[1:] {
			other, err := s.KeyVersion(t.Context(), keptRef, n)
			require.NoError(t, err)
			assert.Equal(t, first.Public(), other.Public(), "version %d", n)
		}
	}
}

// frozen is a store whose watches tell nothing.
type frozen struct{ store.Store }

func (f frozen) Watch(ctx context.Context, _ string, _ uint64) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		<-ctx.Done()
		yield(store.Event{}, ctx.Err())
	}
}

// TestKeptUpdateBehind: an update that was made of an entry before another program rotated it doesn't point the new version at
// the old key.
func TestKeptUpdateBehind(t *testing.T) {
	st, all := sites(t, 1)
	a := all[0]
	require.NoError(t, a.Create(t.Context(), keptEntryOf(keptParams)))
	_, err := a.Key(t.Context(), keptRef)
	require.NoError(t, err)
	b := join(t, frozen{st}, a.keys)
	before, err := b.Entry(keptRef)
	require.NoError(t, err)
	_, err = a.Rotate(t.Context(), keptRef, nil)
	require.NoError(t, err)
	before.Version, before.KeyVersion, before.Usages = 0, 0, backend.UsageVerify
	assert.ErrorIs(t, b.Update(t.Context(), before), store.ErrConflict)
	entry, err := a.Entry(keptRef)
	require.NoError(t, err)
	assert.Equal(t, "ca-v2", entry.Params.(software.Params).KeyName)
	assert.Equal(t, backend.UsageDefault, entry.Usages)

	opened, err := b.Key(t.Context(), keptRef)
	require.NoError(t, err)
	assert.Equal(t, 2, opened.Version(), "b has read the record meanwhile")

	behind := join(t, frozen{st}, a.keys)
	_, err = a.Rotate(t.Context(), keptRef, nil)
	require.NoError(t, err)
	adopt := &RotateOptions{Params: software.Params{KeyName: "x", KeyType: software.ECDSA, Curve: software.P256}}
	_, err = behind.Rotate(t.Context(), keptRef, adopt)
	assert.ErrorIs(t, err, store.ErrConflict)
	last, err := behind.Rotate(t.Context(), keptRef, adopt)
	require.NoError(t, err, "the second time it knows")
	assert.Equal(t, 4, last.Version())
}

// TestKeptVersionMoves: an older version whose place changes takes its handles along in every program.
func TestKeptVersionMoves(t *testing.T) {
	_, all := sites(t, 2)
	a, b := all[0], all[1]
	require.NoError(t, a.Create(t.Context(), keptEntryOf(keptParams)))
	one, err := a.Key(t.Context(), keptRef)
	require.NoError(t, err)
	_, err = a.Rotate(t.Context(), keptRef, nil)
	require.NoError(t, err)
	soon(t, "b has version 2", func() bool { e, err := b.Entry(keptRef); return err == nil && e.KeyVersion == 2 })
	theirs, err := b.KeyVersion(t.Context(), keptRef, 1)
	require.NoError(t, err)
	entry, err := a.Entry(keptRef)
	require.NoError(t, err)
	entry.Connection, entry.Backend, entry.Older = "other", nil, nil
	require.NoError(t, a.Update(t.Context(), entry))
	for _, s := range all {
		soon(t, "all versions are on the other connection", func() bool {
			e, err := s.Entry(keptRef)
			return err == nil && e.Connection == "other" && e.Older[0].Connection == "other"
		})
	}
	require.NoError(t, signs(one))
	require.NoError(t, a.keys.Close())
	soon(t, "b's handle of version 1 goes on", func() bool { return signs(theirs) == nil })
}
