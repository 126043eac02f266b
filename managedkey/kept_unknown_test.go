package managedkey

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// forgetful is a store that makes a change and loses the answer, or loses the change.
type forgetful struct {
	store.Store
	loses atomic.Int32 // what it does to the next change
}

const (
	losesAnswer = iota + 1
	losesChange
)

func (f *forgetful) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	switch f.loses.Swap(0) {
	case losesAnswer:
		if _, err := f.Store.Apply(ctx, ops...); err != nil {
			return 0, err
		}
		return 0, store.ErrUnknownOutcome
	case losesChange:
		return 0, store.ErrUnknownOutcome
	}
	return f.Store.Apply(ctx, ops...)
}

// deaf is a store whose watch says nothing.
type deaf struct{ store.Store }

func (d deaf) Watch(ctx context.Context, _ string, _ uint64) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		<-ctx.Done()
		yield(store.Event{}, ctx.Err())
	}
}

// TestLostAnswers: a change whose answer was lost is acknowledged, and holds at once, if it happened, and is refused and has
// no effect if it did not.
func TestLostAnswers(t *testing.T) {
	in := keptEntryOf(keptParams)
	verifies := in
	verifies.Usages = backend.UsageVerify
	for name, c := range map[string]struct {
		change func(r *Registry, m *Mount) error
		stops  error // what a handle of the mount says when the change was made; nil if it goes on
	}{
		"update":  {func(r *Registry, _ *Mount) error { return r.Update(bg, verifies) }, backend.ErrNotPermitted},
		"revoke":  {func(r *Registry, m *Mount) error { return r.Revoke(bg, m, "ca") }, backend.ErrNotPermitted},
		"rename":  {func(r *Registry, m *Mount) error { return r.Rename(bg, m, "pki/moved") }, nil},
		"unmount": {func(r *Registry, m *Mount) error { return r.Unmount(bg, m) }, backend.ErrNotPermitted},
	} {
		t.Run(name, func(t *testing.T) {
			st, all := sites(t, 1)
			f := &forgetful{Store: st}
			a := join(t, deaf{f}, all[0].keys)
			require.NoError(t, a.Create(bg, in))
			m, err := a.Mount(bg, "team-a", "pki", "ca")
			require.NoError(t, err)
			key, err := m.Key(bg, "ca")
			require.NoError(t, err)

			f.loses.Store(losesChange)
			assert.ErrorIs(t, c.change(a.Registry, m), store.ErrUnknownOutcome)
			assert.NoError(t, signs(key))
			assert.Equal(t, "pki", m.Path())
			f.loses.Store(losesAnswer)
			require.NoError(t, c.change(a.Registry, m))
			assert.ErrorIs(t, signs(key), c.stops)
			_, err = a.OpenMount("team-a", "pki")
			if name == "rename" || name == "unmount" {
				assert.ErrorIs(t, err, backend.ErrKeyNotFound)
			} else {
				assert.NoError(t, err)
			}
		})
	}
}

// TestLostAnswerOfDelete: an entry that was deleted, although the answer was lost, is gone at once, and one that is made in
// its place is there.
func TestLostAnswerOfDelete(t *testing.T) {
	st, all := sites(t, 1)
	f := &forgetful{Store: st}
	a := join(t, deaf{f}, all[0].keys)
	in := keptEntryOf(keptParams)
	f.loses.Store(losesAnswer)
	require.NoError(t, a.Create(bg, in))
	key, err := a.Key(bg, keptRef)
	require.NoError(t, err)
	f.loses.Store(losesChange)
	assert.ErrorIs(t, a.Delete(bg, keptRef), store.ErrUnknownOutcome)
	assert.NoError(t, signs(key))
	f.loses.Store(losesAnswer)
	require.NoError(t, a.Delete(bg, keptRef))
	assert.ErrorIs(t, signs(key), backend.ErrKeyNotFound)
	require.NoError(t, a.Create(bg, in))
	assert.Len(t, a.List("team-a"), 1)
}

// TestLostAnswersUnderWay: whatever is lost, all programs end with what the store has.
func TestLostAnswersUnderWay(t *testing.T) {
	st, all := sites(t, 2)
	f := &forgetful{Store: st}
	a := join(t, f, all[0].keys)
	for n := range 27 {
		f.loses.Store(int32(n % 3))
		err := a.Create(bg, keptEntryOf(keptParams))
		require.True(t, err == nil || errors.Is(err, store.ErrUnknownOutcome), "%v", err)
		f.loses.Store(int32(n / 3 % 3))
		gone := a.Delete(bg, keptRef)
		require.True(t, gone == nil || errors.Is(gone, store.ErrUnknownOutcome) || err != nil && errors.Is(gone, backend.ErrKeyNotFound), "%v", gone)
		if gone != nil && err == nil {
			require.NoError(t, a.Delete(bg, keptRef))
		}
	}
	f.loses.Store(0) // of a change that was not made
	in := keptEntryOf(software.Params{KeyName: "last", KeyType: software.ECDSA, Curve: software.P256})
	require.NoError(t, a.Create(bg, in))
	want, err := a.Entry(keptRef)
	require.NoError(t, err)
	for _, s := range all {
		soon(t, "the last entry is seen", func() bool { got, err := s.Entry(keptRef); return err == nil && got.UUID == want.UUID })
	}
}
