package azurekeyvault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"testing"

	"filippo.io/mldsa"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/managedkeys/managedkeys/backend"
)

// TestSecretKeyForms: what a symmetric key gives is what software gives with the same key.
func TestSecretKeyForms(t *testing.T) {
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, hsmURL, nil)
	ctx := t.Context()
	secret := make([]byte, 32)
	rand.Read(secret)
	imported := func(name, ops string) *octKey {
		key, err := b.Import(ctx, Params{KeyName: name, KeyOps: ops, KeyType: OctHSM}, secret, nil)
		require.NoError(t, err)
		return key.(*octKey)
	}
	key, mac := imported("aes", ""), imported("hmac", "sign")

	block, err := aes.NewCipher(secret)
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	sealed, err := key.Seal(ctx, []byte("plaintext"), []byte("ad"))
	require.NoError(t, err)
	plaintext, err := gcm.Open(nil, sealed[:12], sealed[12:], []byte("ad"))
	require.NoError(t, err)
	assert.Equal(t, "plaintext", string(plaintext))
	nonce := make([]byte, 12)
	out, err := key.Open(ctx, gcm.Seal(slices.Clone(nonce), nonce, []byte("from software"), nil), nil)
	require.NoError(t, err)
	assert.Equal(t, "from software", string(out))

	wrapper, err := kwp.NewKWP(secret)
	require.NoError(t, err)
	wrapped, err := key.WrapKey(ctx, secret[:20])
	require.NoError(t, err)
	material, err := wrapper.Unwrap(wrapped)
	require.NoError(t, err)
	assert.Equal(t, secret[:20], material)
	wrapped, err = wrapper.Wrap(secret)
	require.NoError(t, err)
	material, err = key.UnwrapKey(ctx, wrapped)
	require.NoError(t, err)
	assert.Equal(t, secret, material)

	tag, err := mac.ComputeMAC(ctx, backend.HMACSHA256, []byte("message"))
	require.NoError(t, err)
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("message"))
	assert.Equal(t, h.Sum(nil), tag)

	// What can't be is refused before any request.
	srv.Log.Clear()
	for _, n := range []int{0, 15, 8193} {
		_, err := key.WrapKey(ctx, make([]byte, n))
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
	}
	for _, wrong := range [][]byte{nil, make([]byte, 27)} {
		_, err := key.Open(ctx, wrong, nil)
		assert.Equal(t, backend.ErrDecryption, err)
		_, err = key.UnwrapKey(ctx, wrong)
		assert.Equal(t, backend.ErrDecryption, err)
	}
	_, err = mac.Seal(ctx, []byte("x"), nil)
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	_, err = key.ComputeMAC(ctx, backend.HMACSHA256, []byte("x"))
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	assert.Zero(t, srv.Log.Count(""))
}

// TestKeyBits: the length of a symmetric key is that of its tag, or as parameters say.
func TestKeyBits(t *testing.T) {
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, hsmURL, nil)
	_, err := b.Generate(t.Context(), Params{KeyName: "tagged", KeyType: OctHSM, KeyBits: 192}, nil)
	require.NoError(t, err)
	assert.Equal(t, "AES-192", open(t, b, Params{KeyName: "tagged"}).Capabilities().Algorithm)
	_, err = b.Open(t.Context(), Params{KeyName: "tagged", KeyType: OctHSM, KeyBits: 256})
	assert.ErrorIs(t, err, backend.ErrInvalidParams)

	makeKey(t, sdkClient(t, srv, hsmURL), "plain", octParams(128, nil))
	wrong := open(t, b, Params{KeyName: "plain"}).(*octKey)
	assert.Equal(t, "AES-256", wrong.Capabilities().Algorithm)
	_, err = wrong.Seal(t.Context(), []byte("x"), nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams, "the service says so")
	right := open(t, b, Params{KeyName: "plain", KeyType: OctHSM, KeyBits: 128}).(*octKey)
	_, err = right.Seal(t.Context(), []byte("x"), nil)
	assert.NoError(t, err)
}

// TestAttest: the statement is the service's, and its certificates verify it.
func TestAttest(t *testing.T) {
	srv := newFake(t, nil)
	makeKey(t, sdkClient(t, srv, hsmURL), "k", ecParams("EC-HSM", "P-256"))
	b := newBackendAt(t, srv, hsmURL, nil)
	key := open(t, b, Params{KeyName: "k"}).(backend.Attester)
	srv.Log.Clear()
	a, err := key.Attest(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, srv.Log.Count(""))
	assert.Equal(t, AttestationFormat, a.Format)
	require.Len(t, a.Certificates, 1)
	cert, err := x509.ParseCertificate(a.Certificates[0])
	require.NoError(t, err)
	var statement struct{ PrivateKeyAttestation, PublicKeyAttestation string }
	require.NoError(t, json.Unmarshal(a.Statement, &statement))
	signed, err := base64.RawURLEncoding.DecodeString(statement.PublicKeyAttestation)
	require.NoError(t, err)
	private, err := base64.RawURLEncoding.DecodeString(statement.PrivateKeyAttestation)
	require.NoError(t, err)
	digest := sha256.Sum256(signed)
	assert.True(t, ecdsa.VerifyASN1(cert.PublicKey.(*ecdsa.PublicKey), digest[:], private[:len(private)-len(signed)]))
	assert.Contains(t, string(signed), key.ID())
	require.NoError(t, b.Close())
	_, err = key.Attest(t.Context())
	assert.ErrorIs(t, err, backend.ErrClosed)
}

// TestImportRefused: material that is none, or doesn't fit, leaves nothing behind.
func TestImportRefused(t *testing.T) {
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, vaultURL, nil)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	rsaKey, err := pooled(5)(2048)
	require.NoError(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ml, err := mldsa.GenerateKey(mldsa.MLDSA44())
	require.NoError(t, err)
	mixed := *ec
	mixed.PublicKey = other.PublicKey
	wrong := &rsa.PrivateKey{PublicKey: rsaKey.PublicKey, D: new(big.Int).Add(rsaKey.D, big.NewInt(2)), Primes: rsaKey.Primes}
	one, err := secp256k1.GeneratePrivateKey()
	require.NoError(t, err)
	two, err := secp256k1.GeneratePrivateKey()
	require.NoError(t, err)
	secp := one.ToECDSA()
	secp.PublicKey = *two.PubKey().ToECDSA()
	for name, c := range map[string]struct {
		p        Params
		material any
		want     error
	}{
		"Ed25519":          {Params{}, ed, backend.ErrUnsupported},
		"ML-DSA":           {Params{}, ml, backend.ErrUnsupported},
		"P-224":            {Params{}, p224, backend.ErrUnsupported},
		"a string":         {Params{}, "secret", backend.ErrUnsupported},
		"17 bytes":         {Params{KeyType: OctHSM}, make([]byte, 17), backend.ErrInvalidParams},
		"two halves":       {Params{}, &mixed, backend.ErrInvalidParams},
		"two halves, too":  {Params{}, secp, backend.ErrInvalidParams},
		"wrong exponent":   {Params{}, wrong, backend.ErrInvalidParams},
		"EC as RSA":        {Params{KeyType: RSA}, ec, backend.ErrInvalidParams},
		"other curve":      {Params{KeyType: EC, Curve: P384}, ec, backend.ErrInvalidParams},
		"other size":       {Params{KeyType: RSA, KeyBits: 4096}, rsaKey, backend.ErrInvalidParams},
		"with a version":   {Params{KeyVersion: zeros}, ec, backend.ErrInvalidParams},
		"wrong operations": {Params{KeyType: EC, KeyOps: "decrypt"}, ec, backend.ErrInvalidParams},
	} {
		c.p.KeyName = "k"
		_, err := b.Import(t.Context(), c.p, c.material, nil)
		assert.True(t, errors.Is(err, c.want), "%s: %v", name, err)
	}
	assert.Zero(t, srv.Log.Count(""), "requests were made")
	_, err = b.Import(t.Context(), Params{KeyName: "k", KeyType: OctHSM}, make([]byte, 32), nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams, "no vault has such keys, as the service says")
	// The type follows from where the key goes.
	key, err := b.Import(t.Context(), Params{KeyName: "soft"}, ec, nil)
	require.NoError(t, err)
	assert.NoError(t, Params{KeyName: "soft", KeyType: EC}.match(description{kind: Params{KeyType: EC, Curve: P256}}))
	open(t, b, Params{KeyName: "soft", KeyType: EC, Curve: P256})
	hsm := newBackendAt(t, srv, hsmURL, nil)
	inHSM, err := hsm.Import(t.Context(), Params{KeyName: "hard"}, ec, nil)
	require.NoError(t, err)
	assert.Equal(t, key.Public(), inHSM.Public())
	open(t, hsm, Params{KeyName: "hard", KeyType: ECHSM})
}
