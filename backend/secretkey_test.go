package backend_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// secretKey has every operation of a symmetric key. Its cipher is a tag of the additional data before the plaintext.
type secretKey struct {
	*backend.Handle
	backend.AEADOps
	backend.MACOps
	backend.RandomOps
	backend.WrapOps
}

var (
	_ backend.AEAD    = secretKey{}
	_ backend.MAC     = secretKey{}
	_ backend.Random  = secretKey{}
	_ backend.Wrapper = secretKey{}
)

func newSecretKey(caps backend.Capabilities, calls *int) secretKey {
	h := backend.NewHandle(backend.HandleConfig{ID: "k", Capabilities: caps})
	open := func(data, aad []byte) ([]byte, error) {
		plain, ok := bytes.CutPrefix(data, append([]byte("sealed"), aad...))
		if !ok {
			return nil, fmt.Errorf("tag byte 3 differs: %w: %w", backend.ErrDecryption, errors.New("cause"))
		}
		return plain, nil
	}
	return secretKey{h,
		h.AEAD(func(_ context.Context, data, aad []byte) ([]byte, error) {
			*calls++
			return append(append([]byte("sealed"), aad...), data...), nil
		}, func(_ context.Context, data, aad []byte) ([]byte, error) {
			*calls++
			return open(data, aad)
		}),
		h.MAC(func(_ context.Context, _ backend.MACAlgorithm, message []byte) ([]byte, error) {
			*calls++
			mac := hmac.New(sha256.New, []byte("key"))
			mac.Write(message)
			return mac.Sum(nil), nil
		}),
		h.Random(func(_ context.Context, n int) ([]byte, error) {
			*calls++
			return make([]byte, n), nil
		}),
		h.Wrapping(func(_ context.Context, data []byte) ([]byte, error) {
			*calls++
			return append([]byte("sealed"), data...), nil
		}, func(_ context.Context, data []byte) ([]byte, error) {
			*calls++
			return open(data, nil)
		}),
	}
}

const symmetric = backend.UsageEncrypt | backend.UsageDecrypt | backend.UsageMAC | backend.UsageWrap | backend.UsageUnwrap | backend.UsageGenerateRandom

func TestSecretKey(t *testing.T) {
	var calls int
	key := newSecretKey(backend.Capabilities{Usages: symmetric, MACs: []backend.MACAlgorithm{backend.HMACSHA256}, MaxRandom: 8,
		MinPlaintext: 2, MaxPlaintext: 5, MinMessage: 3, MaxMessage: 7}, &calls)
	ctx := t.Context()
	assert.Nil(t, key.Public())

	sealed, err := key.Seal(ctx, []byte("plain"), []byte("aad"))
	require.NoError(t, err)
	plain, err := key.Open(ctx, sealed, []byte("aad"))
	require.NoError(t, err)
	assert.Equal(t, "plain", string(plain))
	_, err = key.Open(ctx, sealed, []byte("other"))
	assert.Same(t, backend.ErrDecryption, err)

	wrapped, err := key.WrapKey(ctx, []byte("key"))
	require.NoError(t, err)
	unwrapped, err := key.UnwrapKey(ctx, wrapped)
	require.NoError(t, err)
	assert.Equal(t, "key", string(unwrapped))
	_, err = key.UnwrapKey(ctx, []byte("junk"))
	assert.Same(t, backend.ErrDecryption, err)

	mac, err := key.ComputeMAC(ctx, backend.HMACSHA256, []byte("message"))
	require.NoError(t, err)
	assert.NoError(t, key.VerifyMAC(ctx, backend.HMACSHA256, []byte("message"), mac))
	for _, wrong := range [][]byte{nil, mac[:31], append(mac[:32:32], 0), make([]byte, 32)} {
		assert.ErrorIs(t, key.VerifyMAC(ctx, backend.HMACSHA256, []byte("message"), wrong), backend.ErrInvalidSignature)
	}

	random, err := key.GenerateRandom(ctx, 8)
	require.NoError(t, err)
	assert.Len(t, random, 8)

	calls = 0
	for name, test := range map[string]struct {
		err  error
		want error
	}{
		"MAC algorithm":   {second(key.ComputeMAC(ctx, backend.HMACSHA512, nil)), backend.ErrUnsupported},
		"VerifyMAC":       {key.VerifyMAC(ctx, "junk", nil, nil), backend.ErrUnsupported},
		"long message":    {second(key.ComputeMAC(ctx, backend.HMACSHA256, make([]byte, 8))), backend.ErrInvalidParams},
		"short message":   {second(key.ComputeMAC(ctx, backend.HMACSHA256, make([]byte, 2))), backend.ErrInvalidParams},
		"short plaintext": {second(key.Seal(ctx, make([]byte, 1), nil)), backend.ErrInvalidParams},
		"long plaintext":  {second(key.Seal(ctx, make([]byte, 6), nil)), backend.ErrInvalidParams},
		"no random bytes": {second(key.GenerateRandom(ctx, 0)), backend.ErrInvalidParams},
		"negative random": {second(key.GenerateRandom(ctx, -1)), backend.ErrInvalidParams},
		"too much random": {second(key.GenerateRandom(ctx, 9)), backend.ErrInvalidParams},
	} {
		assert.ErrorIs(t, test.err, test.want, name)
	}
	assert.Zero(t, calls, "refused before any call")
}

func second[T any](_ T, err error) error { return err }

func TestSecretKeyUsages(t *testing.T) {
	ctx := t.Context()
	for _, usage := range []backend.Usage{backend.UsageEncrypt, backend.UsageDecrypt, backend.UsageMAC, backend.UsageWrap, backend.UsageUnwrap, backend.UsageGenerateRandom} {
		t.Run(usage.String(), func(t *testing.T) {
			var calls int
			key := newSecretKey(backend.Capabilities{Usages: symmetric &^ usage, MACs: []backend.MACAlgorithm{backend.HMACSHA256}, MaxRandom: 8}, &calls)
			for needs, err := range map[backend.Usage]error{
				backend.UsageEncrypt:        second(key.Seal(ctx, nil, nil)),
				backend.UsageDecrypt:        second(key.Open(ctx, []byte("sealed"), nil)),
				backend.UsageMAC:            second(key.ComputeMAC(ctx, backend.HMACSHA256, nil)),
				backend.UsageWrap:           second(key.WrapKey(ctx, nil)),
				backend.UsageUnwrap:         second(key.UnwrapKey(ctx, []byte("sealed"))),
				backend.UsageGenerateRandom: second(key.GenerateRandom(ctx, 1)),
			} {
				if needs == usage {
					assert.ErrorIs(t, err, backend.ErrUnsupported)
					assert.ErrorContains(t, err, "can't "+usage.String())
				} else {
					assert.NoError(t, err, needs)
				}
			}
			assert.Equal(t, 5, calls)
		})
	}
}
