package backend_test

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/mlkem"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// openingKey is what a driver would write for a key that decapsulates.
type openingKey struct {
	*backend.Handle
	backend.DecapsulateOps
}

var _ backend.Decapsulator = openingKey{}

func decapsulateWith(pub crypto.PublicKey, usages backend.Usage, fn backend.DecapsulateFunc) openingKey {
	h := backend.NewHandle(backend.HandleConfig{ID: "k", Public: pub,
		Capabilities: backend.Capabilities{Algorithm: "KEM", Usages: usages}})
	return openingKey{h, h.Decapsulating(fn)}
}

func TestDecapsulation(t *testing.T) {
	small, err := mlkem.GenerateKey768()
	require.NoError(t, err)
	large, err := mlkem.GenerateKey1024()
	require.NoError(t, err)
	for name, private := range map[string]crypto.Decapsulator{"768": small, "1024": large} {
		t.Run(name, func(t *testing.T) {
			public := private.Encapsulator()
			calls := 0
			key := decapsulateWith(public, backend.UsageDerive, func(_ context.Context, c []byte) ([]byte, error) {
				calls++
				return private.Decapsulate(c)
			})
			shared, ciphertext := public.Encapsulate()
			got, err := key.Decapsulate(ciphertext)
			require.NoError(t, err)
			assert.Equal(t, shared, got)
			assert.Equal(t, public, key.Encapsulator())
			for _, bad := range [][]byte{nil, ciphertext[1:], append([]byte{0}, ciphertext...)} {
				_, err := key.Decapsulate(bad)
				assert.Equal(t, backend.ErrDecryption, err)
			}
			assert.Equal(t, 1, calls, "a wrong length was known before the call")

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			view, ok := backend.WithContext(ctx, key).(crypto.Decapsulator)
			require.True(t, ok)
			_, err = view.Decapsulate(ciphertext)
			assert.ErrorIs(t, err, context.Canceled)
			_, signs := view.(crypto.Signer)
			assert.False(t, signs)
		})
	}
}

func TestDecapsulationRefused(t *testing.T) {
	private, err := mlkem.GenerateKey768()
	require.NoError(t, err)
	shared, ciphertext := private.Encapsulator().Encapsulate()
	short := func(context.Context, []byte) ([]byte, error) { return shared[1:], nil }
	_, err = decapsulateWith(private.Encapsulator(), backend.UsageDerive, short).Decapsulate(ciphertext)
	assert.ErrorIs(t, err, backend.ErrUnavailable, "a shared key that is too short")
	_, err = decapsulateWith(private.Encapsulator(), backend.UsageSign, short).Decapsulate(ciphertext)
	assert.ErrorIs(t, err, backend.ErrUnsupported, "without the usage")
	key := decapsulateWith(newECDH(t, ecdh.P256()).PublicKey(), backend.UsageDerive, short)
	_, err = key.Decapsulate(ciphertext)
	assert.ErrorIs(t, err, backend.ErrUnsupported, "with a key of another kind")
	assert.Nil(t, key.Encapsulator())
}

// TestPublicKeyMLKEM: the form of RFC 9935, Section 4, there and back.
func TestPublicKeyMLKEM(t *testing.T) {
	small, err := mlkem.GenerateKey768()
	require.NoError(t, err)
	large, err := mlkem.GenerateKey1024()
	require.NoError(t, err)
	for _, test := range []struct {
		public crypto.PublicKey
		raw    []byte
		prefix string // of the examples in RFC 9935, Appendix C.2
		name   string
	}{
		{small.EncapsulationKey(), small.EncapsulationKey().Bytes(), "308204b2300b0609608648016503040402038204a100", "ML-KEM-768"},
		{large.EncapsulationKey(), large.EncapsulationKey().Bytes(), "30820632300b06096086480165030404030382062100", "ML-KEM-1024"},
	} {
		der, err := backend.SubjectPublicKeyInfo(test.public)
		require.NoError(t, err)
		assert.Equal(t, test.prefix+hex.EncodeToString(test.raw), hex.EncodeToString(der))
		parsed, err := backend.ParsePublicKey(der)
		require.NoError(t, err)
		assert.IsType(t, test.public, parsed)
		again, err := backend.SubjectPublicKeyInfo(parsed)
		require.NoError(t, err)
		assert.Equal(t, der, again)
		assert.Equal(t, test.name, backend.Describe(test.public))
		_, err = backend.ParsePublicKey(append(der[:len(der):len(der)], 0))
		assert.ErrorIs(t, err, backend.ErrInvalidParams)

		other := append([]byte(nil), der...)
		other[len(test.prefix)/2-6] = 1 // ML-KEM-512
		_, err = backend.ParsePublicKey(other)
		assert.ErrorIs(t, err, backend.ErrUnsupported)
		other[len(test.prefix)/2-6] = 5 - der[len(test.prefix)/2-6] // the other set, whose keys have another length
		_, err = backend.ParsePublicKey(other)
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
	}
	for _, none := range []crypto.PublicKey{(*mlkem.EncapsulationKey768)(nil), (*mlkem.EncapsulationKey1024)(nil)} {
		_, err := backend.SubjectPublicKeyInfo(none)
		assert.ErrorIs(t, err, backend.ErrUnsupported)
	}
}
