//go:build real

package gcpckms

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestReal uses a key of the real service that exists, once with each thing that it can do:
//
//	MANAGEDKEYS_REAL_GCP=projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1 \
//		go test -tags real -run '^TestReal$' ./backend/gcpckms
//
// Credentials are found as everywhere (GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login). It makes at
// most 20 calls and no key; at the service's list price of $0.03 to $0.15 for 10,000 calls that is less than $0.001.
func TestReal(t *testing.T) {
	id := os.Getenv("MANAGEDKEYS_REAL_GCP")
	require.NotEmpty(t, id, "MANAGEDKEYS_REAL_GCP must have the resource name of a key version")
	p, err := ParseName(id)
	require.NoError(t, err)
	b, err := Connect(nil)
	require.NoError(t, err)
	defer b.Close()
	key, err := b.Open(t.Context(), p)
	require.NoError(t, err)
	t.Logf("%s: %+v", key.ID(), key.Capabilities())
	useOnce(t, Algorithm(key.Capabilities().Algorithm), key)
	if a, ok := key.(backend.Attester); ok {
		statement, err := a.Attest(t.Context())
		require.NoError(t, err)
		t.Logf("attestation: %s, %d bytes, %d certificates", statement.Format, len(statement.Statement), len(statement.Certificates))
	}
	require.NoError(t, b.Ping(t.Context()))
}
