package awskms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"filippo.io/mldsa"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// newSecp256k1 returns a private key as crypto/ecdsa would have it.
func newSecp256k1(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := secp256k1.GeneratePrivateKey()
	require.NoError(t, err)
	return k.ToECDSA()
}

// TestImportSecp256k1: a key on the curve that crypto/x509 doesn't know is imported, and signs as what it is.
func TestImportSecp256k1(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, nil)
	private := newSecp256k1(t)
	key, err := b.Import(t.Context(), at(srv, Params{KMSKey: "alias/coin"}), private, nil)
	require.NoError(t, err)
	assert.True(t, private.PublicKey.Equal(key.Public()))
	digest := sha256.Sum256([]byte("message"))
	signature, err := key.(backend.Signer).SignContext(t.Context(), digest[:], crypto.SHA256)
	require.NoError(t, err)
	assert.NoError(t, backend.Verify(&private.PublicKey, digest[:], signature, crypto.SHA256))
	wrong := newSecp256k1(t)
	wrong.PublicKey = private.PublicKey
	_, err = b.Import(t.Context(), at(srv, Params{KMSKey: "alias/wrong"}), wrong, nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
}

// TestImportFits: what material is, its parameters need not say, and must not deny.
func TestImportFits(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, nil)
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	key, err := b.Import(t.Context(), at(srv, Params{KMSKey: "alias/p384"}), p384, nil)
	require.NoError(t, err)
	assert.Equal(t, "ECDSA P-384", key.Capabilities().Algorithm)
	_, err = b.Import(t.Context(), at(srv, Params{KMSKey: "alias/hmac", KeyType: HMAC, KeyBits: 224}), make([]byte, 100), nil)
	require.NoError(t, err, "an HMAC key may be longer than the hash")
	made := len(srv.States())

	mismatched := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	mismatched.PublicKey = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).PublicKey
	_, other, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	halves := append(bytes.Clone(other[:32]), make([]byte, 32)...)
	for name, test := range map[string]struct {
		p        Params
		material any
		want     error
	}{
		"another type":          {Params{KeyType: RSA}, p384, backend.ErrInvalidParams},
		"another curve":         {Params{KeyType: ECDSA, Curve: "P256"}, p384, backend.ErrInvalidParams},
		"a usage it can't have": {Params{KeyUsage: encrypts}, p384, backend.ErrInvalidParams},
		"P-224":                 {Params{}, must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)), backend.ErrUnsupported},
		"ML-DSA":                {Params{}, must(mldsa.GenerateKey(mldsa.MLDSA44())), backend.ErrUnsupported},
		"ML-KEM":                {Params{}, must(mlkem.GenerateKey768()), backend.ErrUnsupported},
		"halves of two keys":    {Params{}, mismatched, backend.ErrInvalidParams},
		"halves of Ed25519":     {Params{}, ed25519.PrivateKey(halves), backend.ErrInvalidParams},
		"no curve":              {Params{}, new(ecdsa.PrivateKey), backend.ErrInvalidParams},
		"no number":             {Params{}, &ecdsa.PrivateKey{PublicKey: p384.PublicKey}, backend.ErrInvalidParams},
		"secret without type":   {Params{}, make([]byte, 32), backend.ErrInvalidParams},
		"secret for RSA":        {Params{KeyType: RSA, KeyBits: 2048}, make([]byte, 256), backend.ErrInvalidParams},
		"short AES key":         {Params{KeyType: AES}, make([]byte, 16), backend.ErrInvalidParams},
		"long AES key":          {Params{KeyType: AES, KeyBits: 256}, make([]byte, 33), backend.ErrInvalidParams},
		"short HMAC key":        {Params{KeyType: HMAC, KeyBits: 512}, make([]byte, 63), backend.ErrInvalidParams},
		"long HMAC key":         {Params{KeyType: HMAC, KeyBits: 512}, make([]byte, 129), backend.ErrInvalidParams},
		"HMAC of which size":    {Params{KeyType: HMAC}, make([]byte, 40), backend.ErrInvalidParams},
		"a file name":           {Params{}, "key.pem", backend.ErrUnsupported},
	} {
		test.p.KMSKey = "alias/never"
		key, err := b.Import(t.Context(), at(srv, test.p), test.material, nil)
		assert.ErrorIs(t, err, test.want, name)
		assert.Nil(t, key)
	}
	assert.Len(t, srv.States(), made, "nothing was made")
}

// TestImportFaults: an import that fails leaves no key, and one that is not known to have failed leaves one that the next
// import or RemoveOrphans removes.
func TestImportFaults(t *testing.T) {
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	other, err := x509.MarshalPKIXPublicKey(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).Public())
	require.NoError(t, err)
	for name, test := range map[string]struct {
		fault fakecloud.Fault
		want  error
	}{
		"parameters":         {fakecloud.Fault{Op: "GetParametersForImport", Error: busy}, backend.ErrUnavailable},
		"short token":        {fakecloud.Fault{Op: "GetParametersForImport", Corrupt: shorter("ImportToken")}, backend.ErrUnavailable},
		"no token":           {fakecloud.Fault{Op: "GetParametersForImport", Corrupt: without("ImportToken")}, backend.ErrIntegrity},
		"wrapping key":       {fakecloud.Fault{Op: "GetParametersForImport", Corrupt: set("PublicKey", other)}, backend.ErrIntegrity},
		"wrapping key, junk": {fakecloud.Fault{Op: "GetParametersForImport", Corrupt: shorter("PublicKey")}, backend.ErrIntegrity},
		"of another key":     {fakecloud.Fault{Op: "GetParametersForImport", Corrupt: set("KeyId", testID)}, backend.ErrIntegrity},
		"import":             {fakecloud.Fault{Op: "ImportKeyMaterial", Error: busy}, backend.ErrUnavailable},
		"import, done":       {fakecloud.Fault{Op: "ImportKeyMaterial", After: true, Error: busy}, backend.ErrUnavailable},
		"can't be decrypted": {fakecloud.Fault{Op: "ImportKeyMaterial", Error: &fakeaws.Error{Code: "InvalidCiphertextException"}}, backend.ErrIntegrity},
		"another public key": {fakecloud.Fault{Op: "GetPublicKey", Corrupt: set("PublicKey", other)}, backend.ErrIntegrity},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, nil)
			b := connect(t, once)
			p := at(srv, Params{KMSKey: "alias/imported"})
			srv.Script.Add(test.fault)
			key, err := b.Import(t.Context(), p, private, nil)
			assert.ErrorIs(t, err, test.want)
			assert.Nil(t, key)
			assert.Zero(t, srv.Script.Left())
			in, removed := enabled(srv)
			assert.Empty(t, in)
			assert.Len(t, removed, 1)
			key, err = b.Import(t.Context(), p, private, nil)
			require.NoError(t, err)
			assert.True(t, private.PublicKey.Equal(key.Public()))
		})
	}
}

// TestImportOrphan: an import that was interrupted is never gone on with, since its material may be another's.
func TestImportOrphan(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, once)
	p := at(srv, Params{KMSKey: "alias/imported"})
	srv.Script.Add(fakecloud.Fault{Op: "CreateAlias", Error: busy})
	first := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	_, err := b.Import(t.Context(), p, first, nil)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	in, _ := enabled(srv)
	require.Len(t, in, 1)
	generated := p
	generated.KeyType, generated.Curve = ECDSA, "P256"
	key, err := b.Generate(t.Context(), generated, nil)
	require.NoError(t, err)
	assert.NotEqual(t, in[0], key.ID(), "a key that was imported is no generated one")
	again := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	key, err = b.Import(t.Context(), p, again, &backend.ImportOptions{Replace: true})
	require.NoError(t, err)
	assert.True(t, again.PublicKey.Equal(key.Public()))

	stuck := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify, Created: time.Now().Add(-time.Hour), State: "PendingImport",
		Description: making + "alias/imported", Tags: map[string]string{tagAlias: "alias/imported"}})
	_, err = b.Import(t.Context(), p, first, &backend.ImportOptions{Replace: true})
	require.NoError(t, err)
	_, removed := enabled(srv)
	assert.Equal(t, []string{stuck}, removed)
}

// TestWrapping: key material leaves encrypted only, by the algorithm that the service takes for its kind.
func TestWrapping(t *testing.T) {
	to, err := newRSA(4096)
	require.NoError(t, err)
	secret := &material{bytes: random(32)}
	wrapped, err := secret.encryptTo(&to.PublicKey)
	require.NoError(t, err)
	assert.Len(t, wrapped, 512)
	plain, err := rsa.DecryptOAEP(sha256.New(), nil, to, wrapped, nil)
	require.NoError(t, err)
	assert.Equal(t, secret.bytes, plain)

	private, _, err := newMaterial(Params{}, must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)))
	require.NoError(t, err)
	wrapped, err = private.encryptTo(&to.PublicKey)
	require.NoError(t, err)
	assert.False(t, bytes.Contains(wrapped, private.bytes[40:60]))
	again, err := private.encryptTo(&to.PublicKey)
	require.NoError(t, err)
	assert.NotEqual(t, wrapped, again)
	assert.Equal(t, "RSAES_OAEP_SHA_256", string(secret.algorithm()))
	assert.Equal(t, "RSA_AES_KEY_WRAP_SHA_256", string(private.algorithm()))
}
