package backend_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"strings"
	"testing"

	mldsax509 "filippo.io/mldsa/x509"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestPublicKeyRoundTrip checks the form of every kind of key that the contract knows, against the standard library
// where that has it.
func TestPublicKeyRoundTrip(t *testing.T) {
	keys := map[string]crypto.PublicKey{"secp256k1": secp256k1Public(t), "P-224": ecdsaKey(t, elliptic.P224()), "P-521": ecdsaKey(t, elliptic.P521())}
	for _, kind := range []string{"rsa", "ecdsa", "ed25519", "mldsa"} {
		keys[kind] = newSigner(t, kind).Public()
	}
	seen := map[[32]byte]string{}
	for kind, pub := range keys {
		der, err := backend.SubjectPublicKeyInfo(pub)
		require.NoError(t, err, kind)
		if kind != "secp256k1" {
			want, err := mldsax509.MarshalPKIXPublicKey(pub)
			require.NoError(t, err, kind)
			assert.Equal(t, want, der, kind)
		}
		parsed, err := backend.ParsePublicKey(der)
		require.NoError(t, err, kind)
		assert.True(t, parsed.(interface{ Equal(crypto.PublicKey) bool }).Equal(pub), kind)
		print, err := backend.Fingerprint(pub)
		require.NoError(t, err, kind)
		assert.Equal(t, sha256.Sum256(der), print, kind)
		assert.NotContains(t, seen, print)
		seen[print] = kind

		for _, bad := range [][]byte{der[1:], der[:len(der)-1], append(der[:len(der):len(der)], 0), append(der[:len(der):len(der)], der...)} {
			parsed, err := backend.ParsePublicKey(bad)
			assert.ErrorIs(t, err, backend.ErrInvalidParams, kind)
			assert.Nil(t, parsed)
		}
	}
	_, err := backend.ParsePublicKey(nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
}

// TestForeignPublicKeys checks what has a form but is no key of the contract, and what has none.
func TestForeignPublicKeys(t *testing.T) {
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(x25519.PublicKey())
	require.NoError(t, err)
	_, err = backend.ParsePublicKey(der)
	assert.ErrorIs(t, err, backend.ErrUnsupported)

	for name, spki := range map[string]string{
		"Ed448":           "3043300506032b6571033a00" + strings.Repeat("01", 57),
		"brainpoolP256r1": "305a301406072a8648ce3d020106092b2403030208010107034200" + "04" + strings.Repeat("01", 64),
		"SM2":             "3059301306072a8648ce3d020106082a811ccf5501822d03420004" + strings.Repeat("01", 64),
	} {
		_, err := backend.ParsePublicKey(unhex(t, spki))
		assert.ErrorIs(t, err, backend.ErrUnsupported, name)
	}
	for name, spki := range map[string]string{ // kinds that are known, with keys that are none
		"P-256 beside the curve": "3059301306072a8648ce3d020106082a8648ce3d03010703420004" + strings.Repeat("01", 64),
		"P-224 beside the curve": "304e301006072a8648ce3d020106052b81040021033a0004" + strings.Repeat("01", 56),
		"short Ed25519":          "3029300506032b6570032000" + strings.Repeat("01", 31),
	} {
		_, err := backend.ParsePublicKey(unhex(t, spki))
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
		assert.NotContains(t, err.Error(), "are no SubjectPublicKeyInfo", name)
	}

	custom := *elliptic.P256().Params() // a curve of its own, as brainpool in other modules is
	custom.Name = "custom"
	for name, bad := range map[string]crypto.PublicKey{
		"nil": nil, "text": "text", "a private key": newSigner(t, "rsa"), "nil *ecdsa.PublicKey": (*ecdsa.PublicKey)(nil),
		"no curve": new(ecdsa.PublicKey), "no point": &ecdsa.PublicKey{Curve: backend.Secp256k1()},
		//lint:ignore SA1019 a curve that crypto/ecdsa doesn't know
		"another curve": &ecdsa.PublicKey{Curve: &custom, X: custom.Gx, Y: custom.Gy},
	} {
		_, err := backend.Fingerprint(bad)
		assert.ErrorIs(t, err, backend.ErrUnsupported, name)
		_, err = backend.SubjectPublicKeyInfo(bad)
		assert.ErrorIs(t, err, backend.ErrUnsupported, name)
	}
	// crypto/ecdsa would compute with a curve that it doesn't know, and panic in FIPS 140-only mode.
	key, err := ecdsa.GenerateKey(&custom, rand.Reader)
	require.NoError(t, err)
	digest := make([]byte, 32)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest)
	require.NoError(t, err)
	err = backend.Verify(key.Public(), digest, signature, crypto.SHA256)
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	assert.ErrorContains(t, err, "ECDSA custom")
	caps := backend.Capabilities{Signatures: []backend.SignatureAlgorithm{ecdsaSHA256}}
	assert.Empty(t, caps.X509(key.Public()))
	assert.Empty(t, caps.TLS(key.Public()))
}

// TestP224 checks that such keys verify, and that Capabilities.X509 promises of them what crypto/x509 keeps.
func TestP224(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	assert.Equal(t, "ECDSA P-224", backend.Describe(key.Public()))
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA512} {
		digest := digestOf(h, "message")
		signature, err := ecdsa.SignASN1(rand.Reader, key, digest)
		require.NoError(t, err)
		assert.NoError(t, backend.Verify(key.Public(), digest, signature, h))
		digest[0] ^= 1
		assert.ErrorIs(t, backend.Verify(key.Public(), digest, signature, h), backend.ErrInvalidSignature)
	}
	caps := backend.Capabilities{Signatures: algorithms([]backend.Scheme{backend.ECDSA}, crypto.SHA224, crypto.SHA256, crypto.SHA384)}
	assert.Equal(t, []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384}, caps.X509(key.Public()))
	for _, alg := range caps.X509(key.Public()) {
		cert := selfSigned(t, key, alg)
		assert.Equal(t, alg, cert.SignatureAlgorithm)
		assert.NoError(t, cert.CheckSignatureFrom(cert))
	}
}
