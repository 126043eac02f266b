package managedkey

import (
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
