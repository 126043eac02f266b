package managedkey

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
)

func TestHasMount(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	kept, err := Open(t.Context(), st, nil, nil)
	require.NoError(t, err)
	other, err := Open(t.Context(), st, nil, nil)
	require.NoError(t, err)
	defer other.Close()
	plain := NewRegistry()
	for name, where := range map[string]struct{ makes, asked *Registry }{"in memory": {plain, plain}, "kept": {kept, kept}, "of another process": {other, kept}} {
		t.Run(name, func(t *testing.T) {
			var mounts []*Mount
			for n, ns := range []namespace.Path{"", "a", "a/b"} {
				m, err := where.makes.Mount(t.Context(), ns, fmt.Sprintf("%s-%d", name[:2], n))
				require.NoError(t, err)
				mounts = append(mounts, m)
			}
			has := func(m *Mount) bool {
				ok, err := where.asked.HasMount(t.Context(), m.ID())
				require.NoError(t, err)
				return ok
			}
			for _, m := range mounts {
				assert.True(t, has(m), "at once")
			}
			require.NoError(t, where.makes.Rename(t.Context(), mounts[1], "moved-"+name[:2]))
			require.NoError(t, where.makes.Unmount(t.Context(), mounts[2]))
			assert.True(t, has(mounts[0]))
			assert.True(t, has(mounts[1]))
			assert.False(t, has(mounts[2]))
			ok, err := where.asked.HasMount(t.Context(), "")
			assert.NoError(t, err)
			assert.False(t, ok)
		})
	}
	require.NoError(t, kept.Close())
	_, err = kept.HasMount(t.Context(), "x")
	assert.Error(t, err, "closed")
}

// paging is a store with small pages, between which something happens.
type paging struct {
	store.Store
	between func(after string)
}

func (s *paging) List(ctx context.Context, prefix, after string, limit int) (store.Page, error) {
	if s.between != nil && prefix == mountsPrefix {
		s.between(after)
		limit = 2
	}
	return s.Store.List(ctx, prefix, after, limit)
}

// TestHasMountMoved: a mount that is moved from a page that was not read yet to one that was is there all the same.
func TestHasMountMoved(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	slow := &paging{Store: st}
	r, err := Open(t.Context(), slow, nil, nil)
	require.NoError(t, err)
	defer r.Close()
	for _, path := range []string{"b", "c", "d", "e"} {
		_, err := r.Mount(t.Context(), "", path)
		require.NoError(t, err)
	}
	last, err := r.OpenMount("", "e")
	require.NoError(t, err)
	moves := 0
	slow.between = func(after string) {
		if after != "" && moves == 0 {
			moves++
			require.NoError(t, r.Rename(t.Context(), last, "a"))
		}
	}
	ok, err := r.HasMount(t.Context(), last.ID())
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, 1, moves)

	slow.between = func(string) { // without an end
		moves++
		require.NoError(t, r.Rename(t.Context(), last, fmt.Sprintf("x%d", moves)))
	}
	_, err = r.HasMount(t.Context(), "none")
	assert.ErrorIs(t, err, store.ErrConflict)
}
