package httpapi

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/transit"
)

// below returns the records under a prefix.
func (g *rig) below(prefix string) (keys []string) {
	g.Helper()
	for record, err := range store.All(g.Context(), g.store, prefix) {
		require.NoError(g, err)
		keys = append(keys, strings.TrimPrefix(record.Key, prefix))
	}
	return keys
}

// TestRemoval: the keys of a mount are in the store no longer than the mount, and those of others stay; what a process that has died has
// left goes when another one starts.
func TestRemoval(t *testing.T) {
	g := newRig(t, nil, nil)
	_, err := g.keys.CreateMount(t.Context(), managedkey.MountSpec{Path: "second", Type: "transit", Options: map[string]string{SoftwareOption: "true"}})
	require.NoError(t, err)
	of := map[string]string{}
	for _, path := range []string{"transit", "second"} {
		m, err := g.keys.OpenMount("", path)
		require.NoError(t, err)
		of[path] = "transit/" + m.ID() + "/"
		assert.Equal(t, 200, g.do("POST", path+"/keys/one", rootToken, map[string]any{}).status)
		g.do("POST", path+"/config/keys", rootToken, map[string]any{"disable_upsert": true})
		assert.Equal(t, []string{"keys/one", "settings"}, g.below(of[path]))
	}
	dead := uuid.NewString()
	for _, key := range []string{"transit/" + dead + "/keys/x", "transit-removed/" + dead} {
		_, err := g.store.Apply(t.Context(), store.Op{Key: key, Value: []byte("{}")})
		require.NoError(t, err)
	}
	assert.Equal(t, 204, g.do("DELETE", "sys/mounts/transit", rootToken, nil).status)
	require.Eventually(t, func() bool { return len(g.below(of["transit"])) == 0 }, 30*time.Second, time.Millisecond)
	assert.Equal(t, []string{"keys/one", "settings"}, g.below(of["second"]))

	require.Len(t, g.below("transit/"+dead+"/"), 1)
	_, err = g.keys.CreateMount(t.Context(), managedkey.MountSpec{Path: "third", Type: "transit"})
	require.NoError(t, err)
	assert.Equal(t, 404, g.do("GET", "third/keys/none", rootToken, nil).status) // which has the engine opened
	require.Eventually(t, func() bool { return len(g.below("transit/"+dead+"/")) == 0 }, 30*time.Second, time.Millisecond)

	m, err := g.keys.OpenMount("", "second")
	require.NoError(t, err)
	n, err := transit.RemoveMount(t.Context(), g.store, m.ID())
	assert.NoError(t, err)
	assert.Equal(t, 2, n)
	_, err = transit.RemoveMount(t.Context(), g.store, "")
	assert.Error(t, err)
	n, err = transit.FinishRemovals(t.Context(), g.store)
	assert.NoError(t, err)
	assert.Zero(t, n)
}
