package managedkey

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
)

// TestSealedStoreIsRefused: a registry that was handed the engine of a sealed store would show no entries and write in the
// clear, so it does not open.
func TestSealedStoreIsRefused(t *testing.T) {
	engine := memory.New(nil)
	key, err := seal.Passphrase("correct horse battery staple", &seal.Argon2id{Time: 1, MemoryKiB: 64, Threads: 1})
	require.NoError(t, err)
	sealed, err := seal.Open(bg, engine, key, nil)
	require.NoError(t, err)
	defer sealed.Close()
	keys := software.New(nil)
	defer keys.Close()
	conns := []Connection{{Backend: keys}}
	_, err = Open(bg, engine, conns, nil)
	assert.ErrorIs(t, err, store.ErrForeign)
	assert.ErrorContains(t, err, "open it with seal.Open")
	r, err := Open(bg, sealed, conns, nil)
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

// TestManyGrantsInSealedStore: more entries than a transaction of a sealed store takes are granted, and the grants withdrawn again.
func TestManyGrantsInSealedStore(t *testing.T) {
	key, err := seal.Passphrase("correct horse battery staple", &seal.Argon2id{Time: 1, MemoryKiB: 64, Threads: 1})
	require.NoError(t, err)
	sealed, err := seal.Open(bg, memory.New(nil), key, nil)
	require.NoError(t, err)
	defer sealed.Close()
	keys := software.New(nil)
	defer keys.Close()
	r, err := Open(bg, sealed, []Connection{{Backend: keys}}, nil)
	require.NoError(t, err)
	defer r.Close()
	var names []string
	for i := range store.MaxOps + 5 {
		names = append(names, fmt.Sprint("key-", i))
	}
	createKeys(t, r, keys, "", names...)
	m, err := r.CreateMount(bg, MountSpec{Path: "pki", Type: "pki"})
	require.NoError(t, err)
	require.NoError(t, r.TuneMount(bg, m, MountChange{Allowed: names}))
	assert.Len(t, m.Allowed(), len(names))
	require.NoError(t, r.TuneMount(bg, m, MountChange{Allowed: []string{}}))
	assert.Empty(t, m.Allowed())
}
