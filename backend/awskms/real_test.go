//go:build real

package awskms

import (
	"crypto"
	"crypto/sha256"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestRealService opens and uses one key of the real service, which must be Enabled:
//
//	MANAGEDKEYS_REAL_AWS=alias/mine AWS_PROFILE=me go test -tags real -run TestRealService ./backend/awskms
//
// It makes about ten requests and no key: at the prices of 2026, $0.15 for 10,000 requests with asymmetric keys, that is less
// than a tenth of a cent. The key itself costs $1 a month. Credentials and Region are found as [Connect] does.
func TestRealService(t *testing.T) {
	name := os.Getenv("MANAGEDKEYS_REAL_AWS")
	require.NotEmpty(t, name, "MANAGEDKEYS_REAL_AWS must name a key")
	b, err := Connect(&Options{CheckPermissions: true})
	require.NoError(t, err)
	defer b.Close()
	ctx := t.Context()
	key, err := b.Open(ctx, Params{KMSKey: name})
	require.NoError(t, err)
	t.Logf("%s is %s and can %s", key.ID(), key.Capabilities().Algorithm, key.Capabilities().Usages)
	again, err := b.Open(ctx, Params{KMSKey: key.ID()})
	require.NoError(t, err)
	assert.Equal(t, key.ID(), again.ID())
	if signer, ok := key.(backend.MessageSigner); ok {
		for _, a := range key.Capabilities().Signatures {
			var opts crypto.SignerOpts = a.Hash
			signature, err := signer.SignMessageContext(ctx, []byte("message"), opts)
			require.NoError(t, err, a)
			in := []byte("message")
			if a.Hash != 0 {
				hash := a.Hash.New()
				hash.Write(in)
				in = hash.Sum(nil)
			}
			assert.NoError(t, backend.Verify(key.Public(), in, signature, opts))
		}
	}
	if aead, ok := key.(backend.AEAD); ok {
		sealed, err := aead.Seal(ctx, []byte("plaintext"), []byte("data"))
		require.NoError(t, err)
		out, err := aead.Open(ctx, sealed, []byte("data"))
		require.NoError(t, err)
		assert.Equal(t, "plaintext", string(out))
		_, err = aead.Open(ctx, sealed, []byte("other data"))
		assert.Equal(t, backend.ErrDecryption, err)
	}
	if mac, ok := key.(backend.MAC); ok {
		for _, alg := range key.Capabilities().MACs {
			_, err := mac.ComputeMAC(ctx, alg, []byte("message"))
			assert.NoError(t, err)
		}
	}
	if wrapper, ok := key.(backend.Wrapper); ok {
		secret := sha256.Sum256([]byte("a key"))
		wrapped, err := wrapper.WrapKey(ctx, secret[:])
		require.NoError(t, err)
		out, err := wrapper.UnwrapKey(ctx, wrapped)
		require.NoError(t, err)
		assert.Equal(t, secret[:], out)
	}
	_, err = b.Open(ctx, Params{KMSKey: "alias/managedkeys-no-such-alias"})
	assert.ErrorIs(t, err, backend.ErrKeyNotFound)
}
