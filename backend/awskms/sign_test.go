package awskms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
)

// TestMessageRepresentative: mu is what FIPS 204 says: a signature of it is one of the message, for every set and context.
func TestMessageRepresentative(t *testing.T) {
	for _, set := range []mldsa.Parameters{mldsa.MLDSA44(), mldsa.MLDSA65(), mldsa.MLDSA87()} {
		private, err := mldsa.GenerateKey(set)
		require.NoError(t, err)
		tr := publicKeyHash(private.PublicKey())
		for _, context := range []string{"", "x", strings.Repeat("c", 255)} {
			for _, message := range [][]byte{nil, []byte("message"), make([]byte, 5000)} {
				signature, err := private.Sign(nil, messageRepresentative(tr, context, message), mldsacrypto.MLDSAMu)
				require.NoError(t, err)
				assert.NoError(t, mldsa.Verify(private.PublicKey(), message, signature, &mldsa.Options{Context: context}))
			}
		}
		assert.NotEqual(t, messageRepresentative(tr, "a", []byte("b")), messageRepresentative(tr, "", []byte("ab")))
	}
}

// TestMessageTypes: what is sent is the digest, the message or mu.
func TestMessageTypes(t *testing.T) {
	private, err := mldsa.GenerateKey(mldsa.MLDSA44())
	require.NoError(t, err)
	k := &key{arn: "arn", public: private.PublicKey(), tr: publicKeyHash(private.PublicKey())}
	long := make([]byte, maxData+1)
	for name, test := range map[string]struct {
		req       backend.SignRequest
		kind      types.MessageType
		algorithm types.SigningAlgorithmSpec
		length    int
	}{
		"digest":         {backend.SignRequest{Scheme: backend.ECDSA, Hash: crypto.SHA256, Digest: long[:32]}, types.MessageTypeDigest, types.SigningAlgorithmSpecEcdsaSha256, 32},
		"PSS":            {backend.SignRequest{Scheme: backend.RSAPSS, Hash: crypto.SHA512, Digest: long[:64]}, types.MessageTypeDigest, types.SigningAlgorithmSpecRsassaPssSha512, 64},
		"Ed25519":        {backend.SignRequest{Scheme: backend.Ed25519, Message: long[:maxData]}, types.MessageTypeRaw, types.SigningAlgorithmSpecEd25519Sha512, maxData},
		"ML-DSA":         {backend.SignRequest{Scheme: backend.MLDSA, Message: long[:maxData]}, types.MessageTypeRaw, types.SigningAlgorithmSpecMlDsaShake256, maxData},
		"ML-DSA, long":   {backend.SignRequest{Scheme: backend.MLDSA, Message: long}, types.MessageTypeExternalMu, types.SigningAlgorithmSpecMlDsaShake256, 64},
		"ML-DSA, empty":  {backend.SignRequest{Scheme: backend.MLDSA}, types.MessageTypeExternalMu, types.SigningAlgorithmSpecMlDsaShake256, 64},
		"ML-DSA context": {backend.SignRequest{Scheme: backend.MLDSA, Message: long[:1], Context: "c"}, types.MessageTypeExternalMu, types.SigningAlgorithmSpecMlDsaShake256, 64},
	} {
		in := k.signInput(test.req)
		assert.Equal(t, test.kind, in.MessageType, name)
		assert.Equal(t, test.algorithm, in.SigningAlgorithm, name)
		assert.Len(t, in.Message, test.length, name)
	}
}

// TestRefusedBeforeTheCall: options and lengths that the service can't honour cost no request.
func TestRefusedBeforeTheCall(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, nil)
	of := func(spec, usage string) Params {
		return at(srv, Params{KMSKey: add(t, srv, fakeaws.Key{Spec: spec, Usage: usage})})
	}
	ed := open[backend.MessageSigner](t, b, of("ECC_NIST_EDWARDS25519", signVerify))
	rsaKey := open[backend.MessageSigner](t, b, of("RSA_2048", signVerify))
	p256 := open[backend.MessageSigner](t, b, of("ECC_NIST_P256", signVerify))
	aes := open[backend.AEAD](t, b, of("SYMMETRIC_DEFAULT", encrypts))
	hmac := open[backend.MAC](t, b, of("HMAC_256", macs))
	oaep := open[backend.Decrypter](t, b, of("RSA_2048", encrypts))
	srv.Log.Clear()
	ctx := t.Context()
	sign := func(k backend.Signer, n int, opts crypto.SignerOpts) error {
		return second(k.SignContext(ctx, make([]byte, n), opts))
	}
	for name, test := range map[string]struct {
		err, want error
	}{
		"Ed25519ph":             {sign(ed, 64, &ed25519.Options{Hash: crypto.SHA512}), backend.ErrUnsupported},
		"Ed25519 with context":  {sign(ed, 4, &ed25519.Options{Context: "c"}), backend.ErrUnsupported},
		"Ed25519 of nothing":    {sign(ed, 0, crypto.Hash(0)), backend.ErrInvalidParams},
		"Ed25519 of 4097 bytes": {sign(ed, 4097, crypto.Hash(0)), backend.ErrInvalidParams},
		"another salt":          {sign(rsaKey, 32, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 20}), backend.ErrUnsupported},
		"SHA-1":                 {sign(rsaKey, 20, crypto.SHA1), backend.ErrUnsupported},
		"short digest":          {sign(rsaKey, 31, crypto.SHA256), backend.ErrInvalidParams},
		"another hash":          {sign(p256, 48, crypto.SHA384), backend.ErrUnsupported},
		"empty plaintext":       {second(aes.Seal(ctx, nil, nil)), backend.ErrInvalidParams},
		"long plaintext":        {second(aes.Seal(ctx, make([]byte, 4097), nil)), backend.ErrInvalidParams},
		"long additional data":  {second(aes.Seal(ctx, []byte("a"), make([]byte, maxAdditionalData+1))), backend.ErrInvalidParams},
		"no ciphertext":         {second(aes.Open(ctx, nil, nil)), backend.ErrDecryption},
		"long ciphertext":       {second(aes.Open(ctx, make([]byte, 6145), nil)), backend.ErrDecryption},
		"empty MAC message":     {second(hmac.ComputeMAC(ctx, backend.HMACSHA256, nil)), backend.ErrInvalidParams},
		"another MAC":           {second(hmac.ComputeMAC(ctx, backend.HMACSHA512, []byte("a"))), backend.ErrUnsupported},
		"OAEP label":            {second(oaep.DecryptContext(ctx, make([]byte, 256), &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("l")})), backend.ErrUnsupported},
		"OAEP with SHA-512":     {second(oaep.DecryptContext(ctx, make([]byte, 256), &rsa.OAEPOptions{Hash: crypto.SHA512})), backend.ErrUnsupported},
		"long material":         {second(oaep.(backend.Wrapper).WrapKey(ctx, make([]byte, 191))), backend.ErrInvalidParams},
		"wrapped, wrong length": {second(oaep.(backend.Wrapper).UnwrapKey(ctx, make([]byte, 255))), backend.ErrDecryption},
		"too many random bytes": {second(hmac.(backend.Random).GenerateRandom(ctx, 1025)), backend.ErrInvalidParams},
	} {
		assert.ErrorIs(t, test.err, test.want, name)
	}
	assert.Zero(t, srv.Log.Count(""))
	// The longest additional data that it says it takes.
	ad := make([]byte, maxAdditionalData)
	sealed, err := aes.Seal(ctx, []byte("a"), ad)
	require.NoError(t, err)
	out, err := aes.Open(ctx, sealed, ad)
	require.NoError(t, err)
	assert.Equal(t, "a", string(out))
}

// FuzzECDSASignature: what is taken is the one encoding of two numbers in range.
func FuzzECDSASignature(f *testing.F) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f, err)
	good, err := private.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Add([]byte{0x30, 7, 2, 2, 0, 1, 2, 1, 1})
	f.Add([]byte{0x30, 6, 2, 1, 0xff, 2, 1, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if !isECDSASignature(&private.PublicKey, data) {
			return
		}
		var rs struct{ R, S *big.Int }
		rest, err := asn1.Unmarshal(data, &rs)
		require.NoError(t, err)
		assert.Empty(t, rest)
		again, err := asn1.Marshal(rs)
		require.NoError(t, err)
		assert.Equal(t, data, again)
		assert.True(t, rs.R.Sign() > 0 && rs.S.Sign() > 0 && rs.R.BitLen() <= 256)
	})
}
