package azurekeyvault

import (
	"crypto"
	"crypto/rsa"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// change updates a version with the bare SDK.
func change(t *testing.T, client *azkeys.Client, name, version string, attrs azkeys.KeyAttributes) {
	t.Helper()
	_, err := client.UpdateKey(t.Context(), name, version, azkeys.UpdateKeyParameters{KeyAttributes: &attrs}, nil)
	require.NoError(t, err)
}

// TestRotation: a handle stays with its version, whatever becomes of the name; opening again shows the new one.
func TestRotation(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	client := sdkClient(t, r.srv, vaultURL)
	rotated := makeKey(t, client, "ec", p256())
	r.srv.Log.Clear()
	signature, err := r.ec.SignContext(t.Context(), r.digest[:], crypto.SHA256)
	require.NoError(t, err)
	require.NoError(t, backend.Verify(r.ec.Public(), r.digest[:], signature, crypto.SHA256))
	assert.NotContains(t, r.srv.Log.Requests("sign")[0].Key, rotated)
	key := open(t, r.b, Params{KeyName: "ec"})
	assert.Contains(t, key.ID(), rotated)
	assert.NotEqual(t, r.ec.Public(), key.Public())

	// A vault that answered with another version would not go unnoticed.
	r.srv.Script.Add(fakecloud.Fault{Op: "sign", Times: -1, Corrupt: set("kid", "https://test.vault.azure.net/keys/ec/"+rotated)})
	_, err = r.ec.SignContext(t.Context(), r.digest[:], crypto.SHA256)
	assert.ErrorIs(t, err, backend.ErrIntegrity)
}

// TestNewestEnabled: without a version, the newest that can be used is opened, and if there is none, the error says why.
func TestNewestEnabled(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	client := sdkClient(t, r.srv, vaultURL)
	newer := makeKey(t, client, "ec", p256())
	no, yes := false, true
	hour := time.Now().Add(time.Hour)
	past := time.Now().Add(-time.Hour)
	for name, attrs := range map[string]azkeys.KeyAttributes{
		"disabled": {Enabled: &no}, "expired": {Expires: &past}, "not yet valid": {NotBefore: &hour},
	} {
		change(t, client, "ec", newer, attrs)
		r.srv.Log.Clear()
		assert.Equal(t, r.ec.ID(), open(t, r.b, Params{KeyName: "ec"}).ID(), name)
		assert.Equal(t, 3, r.srv.Log.Count(""), "get, versions, get")
		_, err := r.b.Open(t.Context(), Params{KeyName: "ec", KeyVersion: newer})
		assert.ErrorIs(t, err, backend.ErrKeyDisabled, name)
		change(t, client, "ec", newer, azkeys.KeyAttributes{Enabled: &yes, Expires: &hour, NotBefore: &past})
		assert.Contains(t, open(t, r.b, Params{KeyName: "ec"}).ID(), newer)
	}
	first := r.ec.ID()[len(r.ec.ID())-32:]
	change(t, client, "ec", first, azkeys.KeyAttributes{Expires: &past})
	change(t, client, "ec", newer, azkeys.KeyAttributes{Enabled: &no})
	_, err := r.b.Open(t.Context(), Params{KeyName: "ec"})
	assert.ErrorIs(t, err, backend.ErrKeyDisabled)
	_, err = r.b.Open(t.Context(), Params{KeyName: "ec", KeyVersion: first})
	assert.ErrorIs(t, err, backend.ErrKeyDisabled)
	assert.ErrorContains(t, err, "expired at ")
}

// TestAmbiguousVersions: of two versions made in the same second neither is the newest, if the service doesn't say so.
func TestAmbiguousVersions(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	client := sdkClient(t, r.srv, vaultURL)
	makeKey(t, client, "ec", p256())
	change(t, client, "ec", makeKey(t, client, "ec", p256()), azkeys.KeyAttributes{Enabled: ptr(false)})
	r.srv.Script.Add(fakecloud.Fault{Op: "versions", Times: -1, Corrupt: func(a map[string]any) {
		for _, item := range a["value"].([]any) {
			item.(map[string]any)["attributes"].(map[string]any)["created"] = 1700000000
		}
	}})
	_, err := r.b.Open(t.Context(), Params{KeyName: "ec"})
	assert.ErrorIs(t, err, backend.ErrAmbiguousKey)
}

// TestStateChanges: what happens to a key after it was opened.
func TestStateChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	client := sdkClient(t, r.srv, vaultURL)
	version := r.ec.ID()[len(r.ec.ID())-32:]
	sign := func() error {
		_, err := r.ec.SignContext(t.Context(), r.digest[:], crypto.SHA256)
		return err
	}
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	change(t, client, "ec", version, azkeys.KeyAttributes{Enabled: ptr(false)})
	assert.ErrorIs(t, sign(), backend.ErrKeyDisabled)
	change(t, client, "ec", version, azkeys.KeyAttributes{Enabled: ptr(true), Expires: &past})
	assert.ErrorIs(t, sign(), backend.ErrKeyDisabled)
	change(t, client, "ec", version, azkeys.KeyAttributes{Expires: &future, NotBefore: &future})
	assert.ErrorIs(t, sign(), backend.ErrKeyDisabled)
	change(t, client, "ec", version, azkeys.KeyAttributes{NotBefore: &past})
	assert.NoError(t, sign())
	_, err := client.UpdateKey(t.Context(), "ec", version, azkeys.UpdateKeyParameters{KeyOps: []*azkeys.KeyOperation{ptr(azkeys.KeyOperationVerify)}}, nil)
	require.NoError(t, err)
	assert.ErrorIs(t, sign(), backend.ErrNotPermitted)
	_, err = client.DeleteKey(t.Context(), "ec", nil)
	require.NoError(t, err)
	assert.ErrorIs(t, sign(), backend.ErrKeyNotFound)
	_, err = client.RecoverDeletedKey(t.Context(), "ec", nil)
	require.NoError(t, err)
	_, err = r.b.Open(t.Context(), Params{KeyName: "ec", KeyVersion: zeros})
	assert.ErrorIs(t, err, backend.ErrKeyNotFound)
}

// TestKeyOps: what a key is not for is refused before any request.
func TestKeyOps(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	client := sdkClient(t, r.srv, vaultURL)
	makeKey(t, client, "signs", rsaParams(azkeys.KeyTypeRSA, 2048, signs))
	makeKey(t, client, "decrypts", rsaParams(azkeys.KeyTypeRSA, 2048, decrypt))
	makeKey(t, client, "unwraps", rsaParams(azkeys.KeyTypeRSA, 2048, unwrap))
	signing := open(t, r.b, Params{KeyName: "signs"}).(*rsaKey)
	decrypting := open(t, r.b, Params{KeyName: "decrypts"}).(*rsaKey)
	unwrapping := open(t, r.b, Params{KeyName: "unwraps"}).(*rsaKey)
	r.srv.Log.Clear()
	_, err := decrypting.SignContext(t.Context(), r.digest[:], crypto.SHA256)
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	_, err = signing.DecryptContext(t.Context(), make([]byte, 256), &rsa.OAEPOptions{Hash: crypto.SHA256})
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	_, err = signing.UnwrapKey(t.Context(), make([]byte, 256))
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	wrapped, err := unwrapping.WrapKey(t.Context(), make([]byte, 32))
	require.NoError(t, err)
	assert.Zero(t, r.srv.Log.Count(""), "requests were made")

	// What is allowed is done with the operation that the key has.
	_, err = unwrapping.DecryptContext(t.Context(), wrapped, &rsa.OAEPOptions{Hash: crypto.SHA256})
	require.NoError(t, err)
	_, err = unwrapping.UnwrapKey(t.Context(), wrapped)
	require.NoError(t, err)
	assert.Equal(t, []int{2, 2}, []int{r.srv.Log.Count("unwrapkey"), r.srv.Log.Count("")})
	wrapped, err = decrypting.WrapKey(t.Context(), make([]byte, 32))
	require.NoError(t, err)
	_, err = decrypting.UnwrapKey(t.Context(), wrapped)
	require.NoError(t, err)
	assert.Equal(t, 1, r.srv.Log.Count("decrypt"))

	// Permissions are told apart from key_ops.
	r.srv.Deny("unwrapkey")
	_, err = unwrapping.DecryptContext(t.Context(), wrapped, &rsa.OAEPOptions{Hash: crypto.SHA256})
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
}

// TestLargestRSA: the largest keys that there are.
func TestLargestRSA(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	client := sdkClient(t, r.srv, vaultURL)
	makeKey(t, client, "larger", rsaParams(azkeys.KeyTypeRSA, 3072, nil))
	assert.Equal(t, "RSA-3072", open(t, r.b, Params{KeyName: "larger"}).Capabilities().Algorithm)
	makeKey(t, client, "large", rsaParams(azkeys.KeyTypeRSA, 4096, nil))
	key := open(t, r.b, Params{KeyName: "large", KeyType: RSA, KeyBits: 4096}).(*rsaKey)
	assert.Equal(t, "RSA-4096", key.Capabilities().Algorithm)
	opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA512}
	signature, err := key.SignMessageContext(t.Context(), []byte("message"), opts)
	require.NoError(t, err)
	digest := crypto.SHA512.New()
	digest.Write([]byte("message"))
	require.NoError(t, backend.Verify(key.Public(), digest.Sum(nil), signature, opts))
}

// TestNamesHaveNoCase: a key is the same however its name is written.
func TestNamesHaveNoCase(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	key := open(t, r.b, Params{KeyName: "EC"}).(backend.Signer)
	assert.Equal(t, r.ec.ID(), key.ID())
	_, err := key.SignContext(t.Context(), r.digest[:], crypto.SHA256)
	require.NoError(t, err)
}
