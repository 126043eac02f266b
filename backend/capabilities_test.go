package backend_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// algorithms returns every combination of the schemes and hashes.
func algorithms(schemes []backend.Scheme, hashes ...crypto.Hash) []backend.SignatureAlgorithm {
	var algs []backend.SignatureAlgorithm
	for _, s := range schemes {
		for _, h := range hashes {
			algs = append(algs, backend.SignatureAlgorithm{Scheme: s, Hash: h})
		}
	}
	return algs
}

func ecdsaKey(t *testing.T, curve elliptic.Curve) crypto.PublicKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key.Public()
}

func TestDerivedAlgorithms(t *testing.T) {
	sha2 := []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}
	both := algorithms([]backend.Scheme{backend.RSAPSS, backend.RSAPKCS1v15}, sha2...)
	ec := algorithms([]backend.Scheme{backend.ECDSA}, sha2...)
	anyEC := []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512}
	for name, test := range map[string]struct {
		pub  crypto.PublicKey
		algs []backend.SignatureAlgorithm
		x509 []x509.SignatureAlgorithm
		tls  []tls.SignatureScheme
	}{
		"RSA": {newSigner(t, "rsa").Public(), both,
			[]x509.SignatureAlgorithm{x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS, x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA},
			[]tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512, tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512}},
		"one RSA algorithm, as a cloud key has": {newSigner(t, "rsa").Public(),
			[]backend.SignatureAlgorithm{{Scheme: backend.RSAPSS, Hash: crypto.SHA512, Salt: backend.SaltEqualsHash}},
			[]x509.SignatureAlgorithm{x509.SHA512WithRSAPSS}, []tls.SignatureScheme{tls.PSSWithSHA512}},
		"P-256":     {ecdsaKey(t, elliptic.P256()), ec, anyEC, []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}},
		"P-384":     {ecdsaKey(t, elliptic.P384()), ec, anyEC, []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}},
		"P-521":     {ecdsaKey(t, elliptic.P521()), ec, anyEC, []tls.SignatureScheme{tls.ECDSAWithP521AndSHA512}},
		"P-224":     {ecdsaKey(t, elliptic.P224()), ec, anyEC, nil},
		"Ed25519":   {newSigner(t, "ed25519").Public(), []backend.SignatureAlgorithm{pureEd25519}, []x509.SignatureAlgorithm{x509.PureEd25519}, []tls.SignatureScheme{tls.Ed25519}},
		"ML-DSA":    {newSigner(t, "mldsa").Public(), []backend.SignatureAlgorithm{pureMLDSA}, mldsa44X509, mldsa44TLS},
		"secp256k1": {secp256k1Public(t), ec, nil, nil},
		"nothing":   {newSigner(t, "rsa").Public(), nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			caps := backend.Capabilities{Signatures: test.algs}
			assert.Equal(t, test.x509, caps.X509(test.pub))
			assert.Equal(t, test.tls, caps.TLS(test.pub))
		})
	}
	onlySHA256 := backend.Capabilities{Signatures: []backend.SignatureAlgorithm{ecdsaSHA256}}
	assert.Empty(t, onlySHA256.TLS(ecdsaKey(t, elliptic.P384())), "RFC 8446 ties the curve to its hash")
	caps := backend.Capabilities{Signatures: both}
	assert.Equal(t, sha2, caps.Hashes())
	assert.False(t, caps.SignsMessages())
	assert.True(t, backend.Capabilities{Signatures: []backend.SignatureAlgorithm{pureEd25519}}.SignsMessages())
	assert.Empty(t, backend.Capabilities{Signatures: []backend.SignatureAlgorithm{pureEd25519}}.Hashes())
	_, ok := caps.Signature(backend.ECDSA, crypto.SHA256)
	assert.False(t, ok)
}

func TestNames(t *testing.T) {
	assert.Equal(t, "RSA PSS with SHA-256", pssSHA256.String())
	assert.Equal(t, "ML-DSA", pureMLDSA.String())
	assert.Equal(t, "Scheme(0)", backend.Scheme(0).String())
	assert.Equal(t, "Scheme(99)", backend.Scheme(99).String())
	for kind, want := range map[string]string{"rsa": "RSA-2048", "ecdsa": "ECDSA P-256", "ed25519": "Ed25519", "mldsa": "ML-DSA-44"} {
		assert.Equal(t, want, backend.Describe(newSigner(t, kind).Public()))
	}
	assert.Equal(t, "<nil>", backend.Describe(nil))
	assert.Equal(t, crypto.SHA3_512, backend.HMACSHA3_512.Hash())
	assert.Zero(t, backend.AESCMAC.Hash())
}

func TestECDSASignature(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		digest := sha256.Sum256([]byte("message"))
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		require.NoError(t, err)
		n := (curve.Params().BitSize + 7) / 8
		raw := append(r.FillBytes(make([]byte, n)), s.FillBytes(make([]byte, n))...)
		der, err := backend.ECDSASignature(&key.PublicKey, raw)
		require.NoError(t, err)
		assert.True(t, ecdsa.VerifyASN1(&key.PublicKey, digest[:], der))
		for _, bad := range [][]byte{nil, raw[1:], append(raw, 0), der} {
			_, err := backend.ECDSASignature(&key.PublicKey, bad)
			assert.ErrorIs(t, err, backend.ErrUnavailable)
		}
	}
	// A leading zero must not be lost and a leading one bit not be taken for a sign (X.690, Section 8.3).
	key := &ecdsa.PublicKey{Curve: elliptic.P256()}
	raw := make([]byte, 64)
	raw[31], raw[32] = 1, 0x80
	der, err := backend.ECDSASignature(key, raw)
	require.NoError(t, err)
	want := append([]byte{0x30, 0x26, 0x02, 0x01, 0x01, 0x02, 0x21, 0x00, 0x80}, make([]byte, 31)...)
	assert.Equal(t, want, der)
	assert.Equal(t, 256, new(big.Int).SetBytes(raw[32:]).BitLen())
}

func TestParamsAs(t *testing.T) {
	p, err := backend.ParamsAs[fakeParams](fakeParams{Name: "a"})
	require.NoError(t, err)
	assert.Equal(t, "a", p.Name)
	for _, bad := range []backend.Params{nil, &fakeParams{Name: "a"}, fakeParams{}, otherParams{}} {
		_, err := backend.ParamsAs[fakeParams](bad)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, "%T", bad)
	}
}

type fakeParams struct{ Name string }

func (fakeParams) BackendType() string { return "fake" }
func (p fakeParams) Validate() error {
	if p.Name == "" {
		return backend.ErrInvalidParams
	}
	return nil
}

type otherParams struct{ fakeParams }
