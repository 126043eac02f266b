package gcpckms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"filippo.io/mldsa"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// useOnce does once what a key does, and checks the result with software of another origin.
func useOnce(t *testing.T, alg Algorithm, key backend.Key) {
	t.Helper()
	ctx, caps := t.Context(), key.Capabilities()
	for _, a := range caps.Signatures {
		message := []byte("message of " + string(alg))
		var opts crypto.SignerOpts = a.Hash
		if a.Scheme == backend.RSAPSS {
			opts = &rsa.PSSOptions{Hash: a.Hash, SaltLength: rsa.PSSSaltLengthEqualsHash}
		}
		sig, err := key.(backend.MessageSigner).SignMessageContext(ctx, message, opts)
		require.NoError(t, err, "%s with %v", alg, a)
		in := message
		if a.Hash != 0 {
			in = digestOf(a.Hash, string(message))
		}
		assert.NoError(t, backend.Verify(key.Public(), in, sig, opts), "%s with %v", alg, a)
	}
	for _, h := range caps.OAEPHashes {
		ciphertext := must(rsa.EncryptOAEP(h.New(), rand.Reader, key.Public().(*rsa.PublicKey), []byte("plaintext"), nil))
		out, err := key.(backend.Decrypter).DecryptContext(ctx, ciphertext, &rsa.OAEPOptions{Hash: h})
		require.NoError(t, err, "%s with %v", alg, h)
		assert.Equal(t, "plaintext", string(out))
	}
	for _, mac := range caps.MACs {
		out, err := key.(backend.MAC).ComputeMAC(ctx, mac, []byte("message"))
		require.NoError(t, err, alg)
		assert.NoError(t, key.(backend.MAC).VerifyMAC(ctx, mac, []byte("message"), out))
	}
	if d, ok := key.(backend.Decapsulator); ok {
		shared, ciphertext := key.Public().(crypto.Encapsulator).Encapsulate()
		out, err := d.DecapsulateContext(ctx, ciphertext)
		require.NoError(t, err, alg)
		assert.Equal(t, shared, out)
	}
	if aead, ok := key.(backend.AEAD); ok {
		sealed, err := aead.Seal(ctx, []byte("plaintext"), []byte("ad"))
		require.NoError(t, err, alg)
		out, err := aead.Open(ctx, sealed, []byte("ad"))
		require.NoError(t, err, alg)
		assert.Equal(t, "plaintext", string(out))
	}
}

// A key that is kept outside of Google signs whole messages: what the service gets is the message and no digest.
func TestExternal(t *testing.T) {
	r := newRig(t, nil, nil)
	for _, level := range []ProtectionLevel{External, ExternalVPC} {
		p := r.add("ec-"+lower(Algorithm(level)), p256, level)
		key := r.open(p)
		var seen *kmspb.AsymmetricSignResponse
		r.server.Script.Add(fakecloud.Fault{Op: "AsymmetricSign", Corrupt: func(m proto.Message) {
			seen = proto.Clone(m).(*kmspb.AsymmetricSignResponse)
		}})
		for _, message := range []string{"message", "m"} {
			sig, err := key.(backend.MessageSigner).SignMessageContext(t.Context(), []byte(message), crypto.SHA256)
			require.NoError(t, err)
			assert.NoError(t, backend.Verify(key.Public(), digestOf(crypto.SHA256, message), sig, crypto.SHA256))
		}
		assert.True(t, seen.VerifiedDataCrc32C)
		calls := r.server.Log.Count("")
		_, err := signError(t.Context(), key)
		assert.ErrorIs(t, err, backend.ErrUnsupported, "a digest can't be signed")
		_, err = key.(backend.MessageSigner).SignMessageContext(t.Context(), make([]byte, maxData+1), crypto.SHA256)
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		_, err = key.(backend.MessageSigner).SignMessageContext(t.Context(), nil, crypto.SHA256)
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		assert.Equal(t, calls, r.server.Log.Count(""), "that is known without a call")

		// The key manager outside may be what is in trouble.
		r.server.Script.Add(fault("AsymmetricSign", status.New(codes.FailedPrecondition, "The EKM could not be reached.")))
		_, err = key.(backend.MessageSigner).SignMessageContext(t.Context(), []byte("m"), crypto.SHA256)
		assert.ErrorIs(t, err, backend.ErrUnavailable)
	}
	p := r.add("aes", "EXTERNAL_SYMMETRIC_ENCRYPTION", External)
	useOnce(t, p.Algorithm, r.open(p))
}

// A version that is enabled and gives no public key all the same is an error, and not waited for without end.
func TestNoPublicKey(t *testing.T) {
	r := newRig(t, nil, nil)
	for level, want := range map[ProtectionLevel]error{Software: backend.ErrKeyDisabled, External: backend.ErrUnavailable} {
		p := r.add(lower(Algorithm(level)), p256, level)
		f := fault("GetPublicKey", status.New(codes.FailedPrecondition, "not now"))
		f.Times = 2
		r.server.Script.Add(f)
		_, err := r.b.Open(t.Context(), p)
		assert.ErrorIs(t, err, want)
		assert.ErrorContains(t, err, "not now")
		assert.Zero(t, r.server.Script.Left())
		f.Times = 1
		r.server.Script.Add(f)
		signs(t, messages{r.open(p).(backend.MessageSigner)})
	}
}

// messages signs digests of "message" by signing the message.
type messages struct{ backend.MessageSigner }

func (m messages) SignContext(ctx context.Context, _ []byte, opts crypto.SignerOpts) ([]byte, error) {
	return m.SignMessageContext(ctx, []byte("message"), opts)
}

// The message representative is computed here, so that messages may have any length and a context.
func TestExternalMu(t *testing.T) {
	r := newRig(t, nil, nil)
	key := r.open(r.add("mu", "PQ_SIGN_ML_DSA_65_EXTERNAL_MU", Software))
	long := bytes.Repeat([]byte("long"), maxData)
	for _, opts := range []*mldsa.Options{{}, {Context: "context"}} {
		sig, err := key.(backend.Signer).SignContext(t.Context(), long, opts)
		require.NoError(t, err)
		assert.NoError(t, mldsa.Verify(key.Public().(*mldsa.PublicKey), long, sig, opts))
	}
	plain := r.open(r.add("plain", "PQ_SIGN_ML_DSA_65", Software))
	_, err := plain.(backend.Signer).SignContext(t.Context(), long, crypto.Hash(0))
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
	_, err = plain.(backend.Signer).SignContext(t.Context(), nil, &mldsa.Options{Context: "context"})
	assert.ErrorIs(t, err, backend.ErrUnsupported)
}

// The DigestInfo that is made here is the one of crypto/rsa.
func TestDigestInfo(t *testing.T) {
	private := must(rsa.GenerateKey(rand.Reader, 2048))
	for _, h := range pkcs1Hashes {
		digest := digestOf(h, "message")
		info, err := digestInfo(h, digest)
		require.NoError(t, err)
		sig := must(rsa.SignPKCS1v15(rand.Reader, private, 0, info))
		assert.NoError(t, rsa.VerifyPKCS1v15(&private.PublicKey, h, digest, sig), h)
	}
	_, err := digestInfo(crypto.MD5, make([]byte, 16))
	assert.ErrorIs(t, err, backend.ErrUnsupported)
}

// Keys of algorithms that can't be used are refused when they are opened, with the reason.
func TestUnsupportedKeys(t *testing.T) {
	r := newRig(t, nil, nil)
	for alg, reason := range map[Algorithm]string{"PQ_SIGN_SLH_DSA_SHA2_128S": "SLH-DSA", "AES_256_CBC": "authenticate"} {
		p := r.add(lower(alg), alg, Software)
		p.Algorithm = ""
		_, err := r.b.Open(t.Context(), p)
		assert.ErrorIs(t, err, backend.ErrUnsupported)
		assert.ErrorContains(t, err, reason)
	}
	p := r.add("future", "HMAC_SHA256", Software)
	require.NoError(t, r.server.Change(name(p), func(v *kmspb.CryptoKeyVersion) { v.Algorithm = 9999 }))
	_, err := r.b.Open(t.Context(), p)
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	assert.ErrorContains(t, err, "9999")
}

// The limits of an HSM are known without a call.
func TestAdditionalDataLimits(t *testing.T) {
	r := newRig(t, nil, nil)
	for _, alg := range []Algorithm{"GOOGLE_SYMMETRIC_ENCRYPTION", "AES_256_GCM"} {
		soft := r.open(r.add(lower(alg), alg, Software)).(backend.AEAD)
		hard := r.open(r.add(lower(alg)+"-hsm", alg, HSM)).(backend.AEAD)
		calls := r.server.Log.Count("")
		_, err := soft.Seal(t.Context(), nil, make([]byte, maxData+1))
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		_, err = hard.Seal(t.Context(), make([]byte, maxHSM-hsmRoom), make([]byte, hsmRoom+1))
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		assert.Equal(t, calls, r.server.Log.Count(""))
		_, err = soft.Seal(t.Context(), make([]byte, maxData), make([]byte, maxData))
		assert.NoError(t, err)
		_, err = hard.Seal(t.Context(), make([]byte, maxHSM-hsmRoom), make([]byte, hsmRoom))
		assert.NoError(t, err)
	}
}

// An answer that has the project's id where its number was asked for is taken, and the key then has that name.
func TestProjectNumber(t *testing.T) {
	r := newRig(t, nil, nil)
	ring := r.server.AddKeyRing("123456789012", testRegion, testRing)
	_, err := r.server.AddKey(ring, "ec", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256, kmspb.ProtectionLevel_SOFTWARE)
	require.NoError(t, err)
	r.add("ec", p256, Software) // the fake doesn't know that both are one project: this one answers for signatures
	p := r.params("ec", p256)
	p.Project = "123456789012"
	r.server.Script.Add(fakecloud.Fault{Op: "GetPublicKey", Corrupt: func(m proto.Message) {
		m.(*kmspb.PublicKey).Name = name(r.params("ec", p256))
	}})
	key := r.open(p)
	assert.Equal(t, name(r.params("ec", p256)), key.ID())
	_, err = signError(t.Context(), key)
	assert.ErrorIs(t, err, backend.ErrKeyChanged, "here these are two keys, and the signature is checked")
	assert.Equal(t, key.ID(), r.server.Log.Requests("AsymmetricSign")[0].Key)
}

// The HSM's statement comes with its certificates; keys in software have none.
func TestAttest(t *testing.T) {
	r := newRig(t, nil, quick)
	for _, alg := range []Algorithm{p256, "HMAC_SHA256", "AES_256_GCM", "RSA_DECRYPT_OAEP_2048_SHA1", "RSA_DECRYPT_OAEP_2048_SHA256"} {
		_, soft := r.open(r.add("soft-"+lower(alg), alg, Software)).(backend.Attester)
		assert.False(t, soft, alg)
		p := r.add("hard-"+lower(alg), alg, HSM)
		a, hard := r.open(p).(backend.Attester)
		require.True(t, hard, alg)
		statement, err := a.Attest(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "CAVIUM_V2_COMPRESSED", statement.Format)
		assert.Contains(t, string(statement.Statement), a.ID())
		assert.Len(t, statement.Certificates, 1)
		require.NoError(t, r.server.Change(name(p), func(v *kmspb.CryptoKeyVersion) {
			v.Attestation.CertChains.GoogleCardCerts = []string{"not a certificate"}
		}))
		_, err = a.Attest(t.Context())
		assert.ErrorIs(t, err, backend.ErrIntegrity)
		require.NoError(t, r.server.Change(name(p), func(v *kmspb.CryptoKeyVersion) { v.Attestation = nil }))
		_, err = a.Attest(t.Context())
		assert.ErrorIs(t, err, backend.ErrUnsupported)
	}
}

// Fewer random bytes than the service gives at least are cut from more.
func TestFewRandomBytes(t *testing.T) {
	r := newRig(t, nil, nil)
	key := r.open(r.add("ec", p256, Software)).(backend.Random)
	for n := 1; n <= minRandom+1; n++ {
		out, err := key.GenerateRandom(t.Context(), n)
		require.NoError(t, err)
		assert.Len(t, out, n)
	}
	assert.Equal(t, "projects/p-1/locations/europe-west3", r.server.Log.Requests("GenerateRandomBytes")[0].Key)
}
