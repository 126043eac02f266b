package azurekeyvault

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLoad: there is one vault, and it is well, until the backend is closed.
func TestLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	load := r.b.Load()
	require.Len(t, load, 1)
	assert.Equal(t, vaultURL, load[0].Connection)
	assert.False(t, load[0].Down)
	assert.Zero(t, load[0].Busy+load[0].Waiting)
	require.NoError(t, r.b.Close())
	assert.Nil(t, r.b.Load())
}
