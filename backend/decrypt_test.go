package backend_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

var oaepSHA256 = &rsa.OAEPOptions{Hash: crypto.SHA256}

// decrypter returns a handle that decrypts with an RSA key by the given capabilities, and a count of driver calls.
func decrypter(caps backend.Capabilities) (backend.DecryptOps, *rsa.PublicKey, *int) {
	key, calls := rsa2048(), new(int)
	if caps.Usages == 0 {
		caps.Usages = backend.UsageDecrypt
	}
	h := backend.NewHandle(backend.HandleConfig{ID: "k", Public: key.Public(), Capabilities: caps})
	return h.Decrypting(func(_ context.Context, req backend.DecryptRequest) ([]byte, error) {
		*calls++
		plain, err := key.Decrypt(nil, req.Ciphertext, &rsa.OAEPOptions{Hash: req.Hash, Label: req.Label})
		if err != nil {
			return nil, fmt.Errorf("padding byte 17 is wrong: %w: %w", backend.ErrDecryption, err)
		}
		return plain, nil
	}), &key.PublicKey, calls
}

func TestDecrypt(t *testing.T) {
	ops, pub, _ := decrypter(backend.Capabilities{OAEPHashes: []crypto.Hash{crypto.SHA256, crypto.SHA1}, OAEPLabels: true})
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
		for _, label := range [][]byte{nil, []byte("label")} {
			ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, pub, []byte("plain"), label)
			require.NoError(t, err)
			for _, mgf := range []crypto.Hash{0, hash} {
				plain, err := ops.Decrypt(nil, ciphertext, &rsa.OAEPOptions{Hash: hash, MGFHash: mgf, Label: label})
				require.NoError(t, err)
				assert.Equal(t, "plain", string(plain))
			}
		}
	}
}

// TestOneDecryptionError checks that no failed decryption can be told from another.
func TestOneDecryptionError(t *testing.T) {
	ops, pub, calls := decrypter(backend.Capabilities{OAEPHashes: []crypto.Hash{crypto.SHA256, crypto.SHA1}, OAEPLabels: true})
	good, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, pub, []byte("plain"), nil)
	require.NoError(t, err)
	flipped := append([]byte(nil), good...)
	flipped[100] ^= 1
	for name, test := range map[string]struct {
		ciphertext []byte
		opts       *rsa.OAEPOptions
	}{
		"flipped":     {flipped, oaepSHA256},
		"wrong label": {good, &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("x")}},
		"wrong hash":  {good, &rsa.OAEPOptions{Hash: crypto.SHA1}},
		"empty":       {nil, oaepSHA256},
		"short":       {good[:255], oaepSHA256},
		"long":        {append(good[:256:256], 0), oaepSHA256},
		"zero":        {make([]byte, 256), oaepSHA256},
		"above N":     {append([]byte{255, 255}, make([]byte, 254)...), oaepSHA256},
	} {
		_, err := ops.DecryptContext(t.Context(), test.ciphertext, test.opts)
		assert.Same(t, backend.ErrDecryption, err, name)
	}
	assert.Equal(t, 5, *calls, "a ciphertext of the wrong length is not sent")
}

func TestDecryptRefusedBeforeCall(t *testing.T) {
	for name, test := range map[string]struct {
		caps backend.Capabilities
		opts crypto.DecrypterOpts
		text string
	}{
		"nil":         {backend.Capabilities{OAEPHashes: []crypto.Hash{crypto.SHA256}}, nil, "takes *rsa.OAEPOptions"},
		"nil pointer": {backend.Capabilities{OAEPHashes: []crypto.Hash{crypto.SHA256}}, (*rsa.OAEPOptions)(nil), "takes *rsa.OAEPOptions"},
		//lint:ignore SA1019 that it is deprecated is why it is refused
		"PKCS1":   {backend.Capabilities{OAEPHashes: []crypto.Hash{crypto.SHA256}}, &rsa.PKCS1v15DecryptOptions{}, "takes *rsa.OAEPOptions"},
		"hash":    {backend.Capabilities{OAEPHashes: []crypto.Hash{crypto.SHA256}}, &rsa.OAEPOptions{Hash: crypto.SHA1}, "it takes [SHA-256]"},
		"no hash": {backend.Capabilities{OAEPHashes: []crypto.Hash{crypto.SHA256}}, &rsa.OAEPOptions{}, "it takes [SHA-256]"},
		"MGF":     {backend.Capabilities{OAEPHashes: []crypto.Hash{crypto.SHA256}}, &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA1}, "both must be the same"},
		"label":   {backend.Capabilities{OAEPHashes: []crypto.Hash{crypto.SHA256}}, &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("x")}, "no OAEP label"},
		"usage":   {backend.Capabilities{Usages: backend.UsageSign, OAEPHashes: []crypto.Hash{crypto.SHA256}}, oaepSHA256, "can't decrypt; its usages are sign"},
	} {
		t.Run(name, func(t *testing.T) {
			ops, _, calls := decrypter(test.caps)
			_, err := ops.Decrypt(nil, make([]byte, 256), test.opts)
			assert.ErrorIs(t, err, backend.ErrUnsupported)
			assert.ErrorContains(t, err, test.text)
			assert.Zero(t, *calls)
		})
	}
}

// TestRawRSA: the bare operation needs the capability, and the driver is told.
func TestRawRSA(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		calls := 0
		h := backend.NewHandle(backend.HandleConfig{ID: "k", Public: rsa2048().Public(),
			Capabilities: backend.Capabilities{Usages: backend.UsageDecrypt, RawRSA: allowed}})
		ops := h.Decrypting(func(_ context.Context, req backend.DecryptRequest) ([]byte, error) {
			calls++
			assert.True(t, req.Raw)
			return req.Ciphertext, nil
		})
		plain, err := ops.Decrypt(nil, make([]byte, 256), &backend.RawRSAOptions{})
		if !allowed {
			assert.ErrorIs(t, err, backend.ErrUnsupported)
			assert.Zero(t, calls)
			continue
		}
		require.NoError(t, err)
		assert.Len(t, plain, 256)
		_, err = ops.Decrypt(nil, make([]byte, 255), &backend.RawRSAOptions{})
		assert.Equal(t, backend.ErrDecryption, err)
		assert.Equal(t, 1, calls)
	}
}
