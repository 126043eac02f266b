package managedkey

import (
	"context"
	"crypto"
	"crypto/hpke"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/namespace"
)

// kem returns a registry with an ML-KEM key that may be used, and one of ECDSA.
func kem(t *testing.T, usages backend.Usage) (*Registry, namespace.Ref, namespace.Ref) {
	t.Helper()
	keys, store := NewRegistry(), software.New(nil)
	t.Cleanup(func() { store.Close() })
	refs := []namespace.Ref{{Name: "kem"}, {Name: "ec"}}
	for i, p := range []software.Params{
		{KeyName: "kem", KeyType: software.MLKEM, ParameterSet: 768},
		{KeyName: "ec", KeyType: software.ECDSA, Curve: software.P256},
	} {
		require.NoError(t, keys.Create(t.Context(), Entry{
			Ref: refs[i], AllowGenerateKey: true, Usages: usages, Backend: store, Params: p,
		}))
	}
	return keys, refs[0], refs[1]
}

// TestDecapsulator: a managed key opens what was encapsulated to it, through crypto/hpke too, under the policy of its entry.
func TestDecapsulator(t *testing.T) {
	keys, ref, ec := kem(t, backend.UsageDerive)
	d, err := keys.Decapsulator(t.Context(), ref)
	require.NoError(t, err)
	shared, ciphertext := d.Encapsulator().Encapsulate()
	got, err := d.Decapsulate(ciphertext)
	require.NoError(t, err)
	assert.Equal(t, shared, got)
	got, err = d.(interface {
		DecapsulateContext(context.Context, []byte) ([]byte, error)
	}).DecapsulateContext(t.Context(), ciphertext)
	require.NoError(t, err)
	assert.Equal(t, shared, got)

	private, err := hpke.NewMLKEMPrivateKey(d)
	require.NoError(t, err)
	sealed, err := hpke.Seal(private.PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), nil, []byte("message"))
	require.NoError(t, err)
	opened, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), nil, sealed)
	require.NoError(t, err)
	assert.Equal(t, "message", string(opened))

	_, err = d.Decapsulate(ciphertext[1:])
	assert.ErrorIs(t, err, backend.ErrDecryption)
	_, isSigner := d.(crypto.Signer)
	assert.False(t, isSigner, "a decapsulator that signs")
	_, err = keys.Decapsulator(t.Context(), ec)
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	_, err = keys.Signer(t.Context(), ref)
	assert.ErrorIs(t, err, backend.ErrNotPermitted)

	key, err := keys.Key(t.Context(), ref)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = key.WithContext(ctx).Decapsulate(ciphertext)
	assert.ErrorIs(t, err, context.Canceled)
	require.NoError(t, keys.Delete(t.Context(), ref))
	_, err = d.Decapsulate(ciphertext)
	assert.ErrorIs(t, err, backend.ErrKeyNotFound)
}

// TestDecapsulatorOfMount: a mount gets one for a key that it was granted, and none once the grant is revoked.
func TestDecapsulatorOfMount(t *testing.T) {
	keys, ref, _ := kem(t, backend.UsageDerive)
	mount, err := keys.Mount(t.Context(), "", "transit", ref.Name)
	require.NoError(t, err)
	d, err := mount.Decapsulator(t.Context(), ref.Name)
	require.NoError(t, err)
	_, ciphertext := d.Encapsulator().Encapsulate()
	_, err = d.Decapsulate(ciphertext)
	require.NoError(t, err)
	require.NoError(t, keys.Revoke(t.Context(), mount, ref.Name))
	_, err = d.Decapsulate(ciphertext)
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
}

// TestDecapsulatorNeedsUsage: derive is among the usages that an entry has to name.
func TestDecapsulatorNeedsUsage(t *testing.T) {
	keys, ref, _ := kem(t, 0)
	_, err := keys.Decapsulator(t.Context(), ref)
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
	_, err = Decapsulator(t.Context(), ref)
	assert.ErrorIs(t, err, backend.ErrKeyNotFound, "of the default registry")
}
