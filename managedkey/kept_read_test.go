package managedkey

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestEntryFitsItsVersion: what Entry returns is what the record of its Version says, however fast others change it. Else
// an Update that names the version would undo a change that its caller never saw.
func TestEntryFitsItsVersion(t *testing.T) {
	_, all := sites(t, 2)
	a, b := all[0], all[1]
	in := keptEntryOf(keptParams)
	require.NoError(t, a.Create(bg, in))
	soon(t, "b sees the entry", func() bool { return len(b.List("team-a")) == 1 })
	stop := make(chan struct{})
	var readers sync.WaitGroup
	seen := make([]map[uint64]backend.Usage, 2)
	for i, s := range all {
		seen[i] = make(map[uint64]backend.Usage)
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				e, err := s.Entry(keptRef)
				if before, ok := seen[i][e.Version]; err != nil || ok && before != e.Usages {
					t.Errorf("version %d has usages %v, and had %v; error %v", e.Version, e.Usages, before, err)
					return
				}
				seen[i][e.Version] = e.Usages
			}
		})
	}
	for range 150 {
		for _, in.Usages = range []backend.Usage{backend.UsageVerify, backend.UsageDefault} {
			require.NoError(t, a.Update(bg, in))
		}
	}
	close(stop)
	readers.Wait()
	for version, usages := range seen[1] {
		if mine, ok := seen[0][version]; ok {
			assert.Equal(t, mine, usages, "version %d", version)
		}
	}
}

// TestEntriesAppear: look-ups, which take no lock, find entries that the watch makes as a whole.
func TestEntriesAppear(t *testing.T) {
	_, all := sites(t, 2)
	for range 20 {
		require.NoError(t, all[0].Create(bg, keptEntryOf(keptParams)))
		soon(t, "the entry is seen with its version, and can be used", func() bool {
			e, err := all[1].Entry(keptRef)
			if err != nil {
				return false
			}
			assert.NotZero(t, e.Version)
			assert.Equal(t, "software", e.Connection)
			_, err = all[1].Key(bg, keptRef)
			return err == nil
		})
		require.NoError(t, all[1].Delete(bg, keptRef))
		soon(t, "it is gone", func() bool { return len(all[0].List("team-a")) == 0 })
	}
}
