package managedkey

import (
	"crypto/ecdsa"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestVersionsInAStorm: whatever several programs do to an entry at the same time, a version has one key everywhere and forever, handles
// keep theirs and go on, and in the end all programs agree.
func TestVersionsInAStorm(t *testing.T) {
	st, all := sites(t, 3)
	require.NoError(t, all[0].Create(t.Context(), keptEntryOf(keptParams)))
	var keys sync.Map // of versions
	same := func(k *Key) bool {
		first, _ := keys.LoadOrStore(k.Version(), k.Public())
		return assert.True(t, k.Public().(*ecdsa.PublicKey).Equal(first), "version %d is another key", k.Version()) && assert.NoError(t, signs(k))
	}
	for _, s := range all {
		soon(t, "all see the entry", func() bool { return len(s.List("team-a")) == 1 })
		k, err := s.Key(t.Context(), keptRef)
		require.NoError(t, err)
		require.True(t, same(k))
	}
	expected := func(err error) bool {
		return err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, backend.ErrKeyExists)
	}
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for i, s := range all {
		mount, err := s.Mount(t.Context(), "team-a", []string{"a", "b", "c"}[i], "ca")
		require.NoError(t, err)
		readers.Go(func() {
			var held []*Key
			for {
				select {
				case <-stop:
					return
				default:
				}
				k, err := mount.Key(bg, "ca")
				if !assert.NoError(t, err) || !same(k) {
					return
				}
				held = append(held, k)
				old := held[rand.IntN(len(held))]
				if !same(old) {
					return
				}
				again, err := s.KeyVersion(bg, keptRef, old.Version())
				if !assert.NoError(t, err) || !same(again) {
					return
				}
				if again, err = mount.KeyFor(bg, "ca", old.Public()); !assert.NoError(t, err) || !assert.Equal(t, old.Version(), again.Version()) {
					return
				}
			}
		})
		writers.Go(func() {
			for range 40 {
				var err error
				switch rand.IntN(3) {
				case 0:
					_, err = s.Rotate(bg, keptRef, nil)
				case 1:
					var in Entry
					if in, err = s.Entry(keptRef); err == nil {
						in.Connection, in.Backend, in.Older = []string{"software", "other"}[rand.IntN(2)], nil, nil
						err = s.Update(bg, in)
					}
				case 2:
					if err = s.Revoke(bg, mount, "none"); errors.Is(err, backend.ErrKeyNotFound) {
						err = s.Grant(bg, mount, "ca")
					}
				}
				assert.True(t, expected(err), "%v", err)
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	record, err := st.Get(t.Context(), recordKey(entriesPrefix, keptRef.Namespace, keptRef.Name))
	require.NoError(t, err)
	var want Entry
	for _, s := range all {
		soon(t, "all have the entry that the store has", func() bool {
			got, err := s.Entry(keptRef)
			if err != nil || got.Version != record.Version {
				return false
			}
			if want.Version == 0 {
				want = got
			}
			return got.KeyVersion == want.KeyVersion
		})
	}
	for _, s := range all {
		for n := 1; n <= want.KeyVersion; n++ {
			k, err := s.KeyVersion(t.Context(), keptRef, n)
			require.NoError(t, err)
			require.True(t, same(k))
		}
	}
}
