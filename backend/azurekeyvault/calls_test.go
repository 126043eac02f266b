package azurekeyvault

import (
	"crypto"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestOneRequest: opening is one request and a signature is one; the first of all has one more, the challenge, and fetches
// the token.
func TestOneRequest(t *testing.T) {
	srv := newFake(t, nil)
	makeKey(t, sdkClient(t, srv, vaultURL), "k", p256())
	b := newBackendAt(t, srv, vaultURL, nil)
	srv.Log.Clear()
	key := open(t, b, Params{KeyName: "k"}).(backend.Signer)
	assert.Equal(t, 1, srv.Log.Count("challenge"))
	assert.Equal(t, 1, srv.Log.Count("token"))
	assert.Equal(t, 1, srv.Log.Count("get"))
	srv.Log.Clear()
	digest := sha256.Sum256([]byte("message"))
	const n = 50
	for range n {
		signature, err := key.SignContext(t.Context(), digest[:], crypto.SHA256)
		require.NoError(t, err)
		require.NoError(t, backend.Verify(key.Public(), digest[:], signature, crypto.SHA256))
	}
	assert.Equal(t, n, srv.Log.Count("sign"))
	assert.Equal(t, n, srv.Log.Count(""), "requests of all kinds")
}
