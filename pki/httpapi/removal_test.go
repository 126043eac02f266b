package httpapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/pki"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// TestRemoval: what an authority has in the store goes with its mount, and nothing of another one; what a process that has died has
// left goes when another one starts.
func TestRemoval(t *testing.T) {
	var st store.Store
	g := newRigOn(t, func(s store.Store) store.Store { st = s; return s }, func(o *pkihttp.Options) { o.Maintain = time.Hour })
	below := func(prefix string) (n int) {
		for record, err := range store.All(t.Context(), st, prefix) {
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(record.Key, prefix))
			n++
		}
		return n
	}
	other := g.mount("other", "sub")
	m, err := g.keys.OpenMount("", "pki")
	require.NoError(t, err)
	g.root("root")
	g.must(200, "POST", "other/root/generate/kms", fields{"common_name": "Other", "managed_key_name": "sub"})
	for _, path := range []string{"pki", "other"} {
		g.must(200, "POST", path+"/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
		serial := g.must(200, "POST", path+"/issue/web", fields{"common_name": "a.example", "ttl": "1h"}).str("serial_number")
		g.must(200, "POST", path+"/revoke", fields{"serial_number": serial})
		g.must(200, "GET", path+"/crl/rotate", nil)
	}
	kept := below("pki/" + other.ID() + "/")
	assert.Greater(t, below("pki/"+m.ID()+"/"), 10)
	g.must(204, "DELETE", "sys/mounts/pki", nil)
	require.Eventually(t, func() bool { return below("pki/"+m.ID()+"/") == 0 }, 30*time.Second, time.Millisecond)
	assert.Equal(t, kept, below("pki/"+other.ID()+"/"))
	g.must(200, "GET", "other/crl/rotate", nil)

	dead := uuid.NewString()
	for _, key := range []string{"pki/" + dead + "/certs/x", "pki-removed/" + dead} {
		_, err := st.Apply(t.Context(), store.Op{Key: key, Value: []byte("{}")})
		require.NoError(t, err)
	}
	g.mount("pki")
	g.must(404, "LIST", "pki/roles", nil) // there are none; the engine is opened
	require.Eventually(t, func() bool { return below("pki/"+dead+"/") == 0 }, 30*time.Second, time.Millisecond)

	n, err := pki.RemoveMount(t.Context(), st, other.ID())
	assert.NoError(t, err)
	assert.GreaterOrEqual(t, n, kept)
	_, err = pki.RemoveMount(t.Context(), st, "other")
	assert.Error(t, err)
	n, err = pki.FinishRemovals(t.Context(), st)
	assert.NoError(t, err)
	assert.Zero(t, n)
}
