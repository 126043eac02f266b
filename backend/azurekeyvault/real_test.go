//go:build real

package azurekeyvault

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"os"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestReal does with a key in Azure all that the key can do, and compares it with software. It changes nothing: the key
// must exist and is only used. It runs with
//
//	MANAGEDKEYS_REAL_AZURE=https://myvault.vault.azure.net/keys/name go test -tags real -run Real ./backend/azurekeyvault
//
// and the credential that azidentity.DefaultAzureCredential finds. It makes at most 40 requests, which cost less than
// 0.001 US dollars in a vault; a Managed HSM costs some dollars an hour whether or not it is used.
func TestReal(t *testing.T) {
	id := azkeys.ID(os.Getenv("MANAGEDKEYS_REAL_AZURE"))
	at, err := parseKID(&id)
	require.NoError(t, err, "MANAGEDKEYS_REAL_AZURE is the identifier of a key, with or without a version")
	vault, _, _ := strings.Cut(string(id), "/keys/")
	cred, err := azidentity.NewDefaultAzureCredential(nil)
	require.NoError(t, err)
	b, err := New(cred, vault, nil)
	require.NoError(t, err)
	defer b.Close()
	require.NoError(t, b.Ping(t.Context()))
	key := open(t, b, Params{KeyName: at.name, KeyVersion: at.version})
	caps := key.Capabilities()
	t.Logf("%s: %s, %s", key.ID(), caps.Algorithm, caps.Usages)
	ctx := t.Context()
	for _, a := range caps.Signatures {
		h := a.Hash.New()
		h.Write([]byte("message"))
		var opts crypto.SignerOpts = a.Hash
		if a.Scheme == backend.RSAPSS {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.Hash}
		}
		_, err := key.(backend.Signer).SignContext(ctx, h.Sum(nil), opts) // which verifies it
		assert.NoError(t, err, a.String())
	}
	for _, h := range caps.OAEPHashes {
		hash := sha256.New()
		if h == crypto.SHA1 {
			hash = sha1.New()
		}
		sealed, err := rsa.EncryptOAEP(hash, rand.Reader, key.Public().(*rsa.PublicKey), []byte("plaintext"), nil)
		require.NoError(t, err)
		plaintext, err := key.(backend.Decrypter).DecryptContext(ctx, sealed, &rsa.OAEPOptions{Hash: h})
		assert.NoError(t, err, h.String())
		assert.Equal(t, "plaintext", string(plaintext))
		sealed[100] ^= 1
		_, err = key.(backend.Decrypter).DecryptContext(ctx, sealed, &rsa.OAEPOptions{Hash: h})
		assert.Equal(t, backend.ErrDecryption, err)
	}
	if w, ok := key.(backend.Wrapper); ok && caps.Usages.Has(backend.UsageWrap|backend.UsageUnwrap) {
		for _, n := range []int{16, 21} {
			wrapped, err := w.WrapKey(ctx, make([]byte, n))
			require.NoError(t, err)
			material, err := w.UnwrapKey(ctx, wrapped)
			require.NoError(t, err)
			assert.Equal(t, make([]byte, n), material)
		}
	}
	if s, ok := key.(backend.AEAD); ok && caps.Usages.Has(backend.UsageEncrypt|backend.UsageDecrypt) {
		for _, n := range []int{0, 1, 5000} {
			sealed, err := s.Seal(ctx, make([]byte, n), []byte("ad"))
			require.NoError(t, err, "%d bytes", n)
			plaintext, err := s.Open(ctx, sealed, []byte("ad"))
			require.NoError(t, err)
			assert.Len(t, plaintext, n)
			_, err = s.Open(ctx, sealed, []byte("other"))
			assert.Equal(t, backend.ErrDecryption, err)
		}
	}
	for _, alg := range caps.MACs {
		for _, n := range []int{0, 1, 32, 5000} { // whether the service takes messages that are no digests is seen here
			mac, err := key.(backend.MAC).ComputeMAC(ctx, alg, make([]byte, n))
			require.NoError(t, err, "%s of %d bytes", alg, n)
			assert.Len(t, mac, alg.Hash().Size())
		}
	}
	if caps.MaxRandom > 0 {
		_, err := key.(backend.Random).GenerateRandom(ctx, caps.MaxRandom)
		assert.NoError(t, err)
		_, err = key.(backend.Attester).Attest(ctx)
		assert.NoError(t, err)
	}
	_, err = b.Open(ctx, Params{KeyName: at.name + "-absent"})
	assert.ErrorIs(t, err, backend.ErrKeyNotFound)
	_, err = b.Open(ctx, Params{KeyName: at.name, KeyVersion: zeros})
	assert.ErrorIs(t, err, backend.ErrKeyNotFound)
}
