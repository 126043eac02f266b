package removal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

var errCrash = errors.New("crash")

// crashing is a store that fails after so many transactions.
type crashing struct {
	store.Store
	left atomic.Int64
}

func (s *crashing) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	if s.left.Add(-1) < 0 {
		return 0, errCrash
	}
	return s.Store.Apply(ctx, ops...)
}

func fill(t *testing.T, st store.Store, prefix string, n int) {
	t.Helper()
	var ops []store.Op
	for i := range n {
		ops = append(ops, store.Op{Key: fmt.Sprintf("%s%05d/x", prefix, i), Value: []byte("v"), Expect: store.Any})
		if len(ops) == store.MaxOps || i == n-1 {
			_, err := st.Apply(t.Context(), ops...)
			require.NoError(t, err)
			ops = nil
		}
	}
}

func count(t *testing.T, st store.Store, prefix string) (n int) {
	t.Helper()
	for _, err := range store.All(t.Context(), st, prefix) {
		require.NoError(t, err)
		n++
	}
	return n
}

// TestMount: everything of one mount goes, over several pages, and nothing else.
func TestMount(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	gone, kept := uuid.NewString(), uuid.NewString()
	fill(t, st, "pki/"+gone+"/", 2*store.MaxPage+30)
	fill(t, st, "pki/"+kept+"/", 60)
	fill(t, st, "transit/"+gone+"/", 3)
	n, err := Mount(t.Context(), st, "pki", gone, time.Now())
	require.NoError(t, err)
	assert.Equal(t, 2*store.MaxPage+30, n)
	assert.Zero(t, count(t, st, "pki/"+gone+"/"))
	assert.Equal(t, 60, count(t, st, "pki/"+kept+"/"))
	assert.Equal(t, 3, count(t, st, "transit/"+gone+"/"))
	for _, id := range []string{"", "x", "..", kept + "/certs", strings.ToUpper(kept) + "x", "{" + kept + "}"} {
		n, err := Mount(t.Context(), st, "pki", id, time.Now())
		assert.ErrorIs(t, err, backend.ErrInvalidParams, id)
		assert.Zero(t, n)
	}
	assert.Equal(t, 60, count(t, st, "pki/"+kept+"/"))
}

// narrow is a store that takes fewer ops than others, as a sealed one does.
type narrow struct{ store.Store }

func (s narrow) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	if len(ops) >= store.MaxOps {
		return 0, store.ErrTooLarge
	}
	return s.Store.Apply(ctx, ops...)
}

// TestSealed: everything of a mount goes from a store that takes fewer ops.
func TestSealed(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	gone := uuid.NewString()
	fill(t, st, "pki/"+gone+"/", 2*store.MaxOps+1)
	n, err := Mount(t.Context(), narrow{st}, "pki", gone, time.Now())
	require.NoError(t, err)
	assert.Equal(t, 2*store.MaxOps+1, n)
	assert.Zero(t, count(t, st, "pki/"+gone+"/"))
}

// TestCrash: wherever it ends, somebody goes on with it.
func TestCrash(t *testing.T) {
	for _, after := range []int{1, 2, 7, 21, 24} {
		st := memory.New(nil)
		gone, kept := uuid.NewString(), uuid.NewString()
		fill(t, st, "pki/"+gone+"/", store.MaxPage+200)
		fill(t, st, "pki/"+kept+"/", 7)
		dying := &crashing{Store: st}
		dying.left.Store(int64(after))
		n, err := Mount(t.Context(), dying, "pki", gone, time.Now())
		assert.ErrorIs(t, err, errCrash)
		assert.Equal(t, atOnce*(after-1), n)
		more, err := Finish(t.Context(), st, "pki", time.Now())
		require.NoError(t, err)
		assert.Equal(t, store.MaxPage+200, n+more)
		assert.Zero(t, count(t, st, "pki/"+gone+"/"))
		assert.Equal(t, 7, count(t, st, "pki/"+kept+"/"))
		st.Close()
	}
}

// TestLinger: what was written late goes too, until the removal is forgotten.
func TestLinger(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	gone, other, now := uuid.NewString(), uuid.NewString(), time.Now()
	for _, id := range []string{gone, other} {
		_, err := Mount(t.Context(), st, "pki", id, now)
		require.NoError(t, err)
		fill(t, st, "pki/"+id+"/", 1)
	}
	n, err := Finish(t.Context(), st, "pki", now.Add(Linger/2))
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	fill(t, st, "pki/"+gone+"/", 1)
	assert.Equal(t, 2, count(t, st, "pki-removed/"))
	n, err = Finish(t.Context(), st, "pki", now.Add(Linger+time.Minute))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Zero(t, count(t, st, ""))

	_, err = st.Apply(t.Context(), store.Op{Key: "pki-removed/" + gone, Value: []byte("?")}, store.Op{Key: "pki-removed/a", Value: []byte("{}")})
	require.NoError(t, err)
	fill(t, st, "pki/"+gone+"/", 1)
	_, err = Finish(t.Context(), st, "pki", now)
	assert.ErrorIs(t, err, store.ErrCorrupt)
	assert.Equal(t, 1, count(t, st, "pki/"))
}

func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &crashing{Store: memory.New(nil)}
		st.left.Store(3)
		defer st.Close()
		id := uuid.NewString()
		fill(t, st, "pki/"+id+"/", 70)
		_, err := Mount(t.Context(), st, "pki", id, time.Now())
		require.ErrorIs(t, err, errCrash)
		ctx, cancel := context.WithCancel(t.Context())
		var told []error
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Keep(ctx, st, "pki", time.Now, func(err error) { told = append(told, err) })
		}()
		synctest.Wait()
		require.Len(t, told, 1)
		assert.ErrorIs(t, told[0], errCrash)
		st.left.Store(100)
		time.Sleep(2 * Linger)
		synctest.Wait()
		assert.Len(t, told, 1)
		assert.Zero(t, count(t, st.Store, ""))
		cancel()
		<-ended
	})
}
