package awskms

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	tink "github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
)

// TestTink: what Tink encrypted can be decrypted here, and the other way round, with additional data and without.
func TestTink(t *testing.T) {
	srv := serve(t, nil)
	arn := add(t, srv, fakeaws.Key{Spec: "SYMMETRIC_DEFAULT"})
	ours := open[backend.AEAD](t, connect(t, nil), at(srv, Params{KMSKey: arn}))
	client, err := tink.NewClientWithOptions(t.Context(), "aws-kms://", tink.WithKMS(kms.NewFromConfig(srv.Config())),
		tink.WithEncryptionContextName(tink.AssociatedData))
	require.NoError(t, err)
	theirs, err := client.GetAEAD("aws-kms://" + arn)
	require.NoError(t, err)
	for _, ad := range [][]byte{nil, {}, []byte("row 17"), random(1000)} {
		sealed, err := theirs.Encrypt([]byte("plaintext"), ad)
		require.NoError(t, err)
		out, err := ours.Open(t.Context(), sealed, ad)
		require.NoError(t, err)
		assert.Equal(t, "plaintext", string(out))
		sealed, err = ours.Seal(t.Context(), []byte("plaintext"), ad)
		require.NoError(t, err)
		out, err = theirs.Decrypt(sealed, ad)
		require.NoError(t, err)
		assert.Equal(t, "plaintext", string(out))
	}
}
