package fakegcp

import (
	"context"
	"crypto/rsa"
	"strings"
	"testing"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a server with a key ring.
type fake struct {
	*Server
	ring string
}

// start starts a server and returns a client of it.
func start(t *testing.T, opts *Options) (fake, *kms.KeyManagementClient) {
	t.Helper()
	s, err := New(opts)
	require.NoError(t, err)
	client, err := kms.NewKeyManagementClient(t.Context(), s.ClientOptions()...)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, client.Close())
		assert.NoError(t, s.Close())
	})
	return fake{s, s.AddKeyRing("p", "eu", "ring")}, client
}

// add makes a key and returns the name of its version.
func (f fake) add(t *testing.T, a alg, level kmspb.ProtectionLevel) string {
	t.Helper()
	name, err := f.AddKey(f.ring, strings.ToLower(a.String()), a, level)
	require.NoError(t, err)
	return name
}

// noRetry switches the SDK's retries off.
var noRetry = gax.WithRetry(nil)

const ec = kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256

func digest(n int) *kmspb.Digest {
	return &kmspb.Digest{Digest: &kmspb.Digest_Sha256{Sha256: make([]byte, n)}}
}

// What the service refuses, the fake refuses with the same code.
func TestRefusals(t *testing.T) {
	s, client := start(t, nil)
	soft := kmspb.ProtectionLevel_SOFTWARE
	sign, mac, aes, gcm := s.add(t, ec, soft), s.add(t, kmspb.CryptoKeyVersion_HMAC_SHA256, soft),
		s.add(t, kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION, soft), s.add(t, kmspb.CryptoKeyVersion_AES_128_GCM, kmspb.ProtectionLevel_HSM)
	ed, mu := s.add(t, kmspb.CryptoKeyVersion_EC_SIGN_ED25519, soft), s.add(t, kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_44_EXTERNAL_MU, soft)
	outside := s.add(t, kmspb.CryptoKeyVersion_EC_SIGN_P384_SHA384, kmspb.ProtectionLevel_EXTERNAL)
	slh := s.add(t, kmspb.CryptoKeyVersion_PQ_SIGN_SLH_DSA_SHA2_128S, soft)
	key, _, _ := strings.Cut(aes, "/cryptoKeyVersions/")
	wrong := crc([]byte("something else"))
	ctx := t.Context()
	signs := func(req *kmspb.AsymmetricSignRequest) func() error {
		return func() error { _, err := client.AsymmetricSign(ctx, req, noRetry); return err }
	}
	public := func(name string, f kmspb.PublicKey_PublicKeyFormat) func() error {
		return func() error {
			_, err := client.GetPublicKey(ctx, &kmspb.GetPublicKeyRequest{Name: name, PublicKeyFormat: f}, noRetry)
			return err
		}
	}
	for what, test := range map[string]struct {
		call func() error
		want codes.Code
	}{
		"a malformed name":           {public("k", 0), codes.InvalidArgument},
		"an absent version":          {public(sign+"2", 0), codes.NotFound},
		"an absent key":              {public(strings.Replace(sign, "ec_sign", "absent", 1), 0), codes.NotFound},
		"a symmetric public key":     {public(mac, 0), codes.FailedPrecondition},
		"a classical key as PQC":     {public(sign, kmspb.PublicKey_NIST_PQC), codes.InvalidArgument},
		"a PQC key without a format": {public(mu, 0), codes.InvalidArgument},
		"SLH-DSA in PEM":             {public(slh, kmspb.PublicKey_PEM), codes.InvalidArgument},
		"a short digest":             {signs(&kmspb.AsymmetricSignRequest{Name: sign, Digest: digest(31)}), codes.InvalidArgument},
		"nothing to sign":            {signs(&kmspb.AsymmetricSignRequest{Name: sign}), codes.InvalidArgument},
		"a damaged digest":           {signs(&kmspb.AsymmetricSignRequest{Name: sign, Digest: digest(32), DigestCrc32C: wrong}), codes.InvalidArgument},
		"damaged data":               {signs(&kmspb.AsymmetricSignRequest{Name: ed, Data: []byte("d"), DataCrc32C: wrong}), codes.InvalidArgument},
		"a digest for Ed25519":       {signs(&kmspb.AsymmetricSignRequest{Name: ed, Digest: digest(32)}), codes.InvalidArgument},
		"data for external mu":       {signs(&kmspb.AsymmetricSignRequest{Name: mu, Data: []byte("d")}), codes.InvalidArgument},
		"a digest for outside":       {signs(&kmspb.AsymmetricSignRequest{Name: outside, Digest: digest(32)}), codes.InvalidArgument},
		"long data":                  {signs(&kmspb.AsymmetricSignRequest{Name: ed, Data: make([]byte, maxData+1)}), codes.InvalidArgument},
		"signing with a MAC key":     {signs(&kmspb.AsymmetricSignRequest{Name: mac, Digest: digest(32)}), codes.FailedPrecondition},
		"a long plaintext": {func() error {
			_, err := client.Encrypt(ctx, &kmspb.EncryptRequest{Name: key, Plaintext: make([]byte, maxData+1)}, noRetry)
			return err
		}, codes.InvalidArgument},
		"a plaintext and data too long for an HSM": {func() error {
			_, err := client.RawEncrypt(ctx, &kmspb.RawEncryptRequest{Name: gcm, Plaintext: make([]byte, maxHSM), AdditionalAuthenticatedData: []byte("d")}, noRetry)
			return err
		}, codes.InvalidArgument},
		"a nonce of the caller's": {func() error {
			_, err := client.RawEncrypt(ctx, &kmspb.RawEncryptRequest{Name: gcm, InitializationVector: make([]byte, 12)}, noRetry)
			return err
		}, codes.InvalidArgument},
		"no ciphertext": {func() error {
			_, err := client.Decrypt(ctx, &kmspb.DecryptRequest{Name: key, Ciphertext: make([]byte, 40)}, noRetry)
			return err
		}, codes.InvalidArgument},
		"a damaged plaintext": {func() error {
			_, err := client.Encrypt(ctx, &kmspb.EncryptRequest{Name: key, PlaintextCrc32C: wrong}, noRetry)
			return err
		}, codes.InvalidArgument},
		"few random bytes": {func() error {
			_, err := client.GenerateRandomBytes(ctx, &kmspb.GenerateRandomBytesRequest{Location: "projects/p/locations/eu", LengthBytes: 7, ProtectionLevel: kmspb.ProtectionLevel_HSM}, noRetry)
			return err
		}, codes.InvalidArgument},
		"random bytes of software": {func() error {
			_, err := client.GenerateRandomBytes(ctx, &kmspb.GenerateRandomBytesRequest{Location: "projects/p/locations/eu", LengthBytes: 8, ProtectionLevel: soft}, noRetry)
			return err
		}, codes.InvalidArgument},
		"an absent key ring": {func() error {
			_, err := client.GetKeyRing(ctx, &kmspb.GetKeyRingRequest{Name: s.ring + "2"}, noRetry)
			return err
		}, codes.NotFound},
		"an algorithm of another purpose": {func() error {
			_, err := client.CreateCryptoKey(ctx, &kmspb.CreateCryptoKeyRequest{Parent: s.ring, CryptoKeyId: "k", CryptoKey: &kmspb.CryptoKey{
				Purpose: kmspb.CryptoKey_MAC, VersionTemplate: &kmspb.CryptoKeyVersionTemplate{Algorithm: ec},
			}}, noRetry)
			return err
		}, codes.InvalidArgument},
		"a key that exists": {func() error {
			_, err := client.CreateCryptoKey(ctx, &kmspb.CreateCryptoKeyRequest{Parent: s.ring, CryptoKeyId: "hmac_sha256", CryptoKey: &kmspb.CryptoKey{
				Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT,
			}}, noRetry)
			return err
		}, codes.AlreadyExists},
	} {
		assert.Equal(t, test.want, status.Code(test.call()), what)
	}
}

// A key version goes through its states, and is used in one of them only.
func TestStates(t *testing.T) {
	s, client := start(t, &Options{GenerationReads: 2})
	created, err := client.CreateCryptoKey(t.Context(), &kmspb.CreateCryptoKeyRequest{Parent: s.ring, CryptoKeyId: "k", CryptoKey: &kmspb.CryptoKey{
		Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN, VersionTemplate: &kmspb.CryptoKeyVersionTemplate{Algorithm: ec},
	}})
	require.NoError(t, err)
	name := created.Name + "/cryptoKeyVersions/1"
	read := func() kmspb.CryptoKeyVersion_CryptoKeyVersionState {
		v, err := client.GetCryptoKeyVersion(t.Context(), &kmspb.GetCryptoKeyVersionRequest{Name: name})
		require.NoError(t, err)
		return v.State
	}
	_, err = client.AsymmetricSign(t.Context(), &kmspb.AsymmetricSignRequest{Name: name, Digest: digest(32)}, noRetry)
	assert.Equal(t, codes.FailedPrecondition, status.Code(err))
	assert.Equal(t, kmspb.CryptoKeyVersion_PENDING_GENERATION, read())
	assert.Equal(t, kmspb.CryptoKeyVersion_PENDING_GENERATION, read())
	assert.Equal(t, kmspb.CryptoKeyVersion_ENABLED, read())
	signed, err := client.AsymmetricSign(t.Context(), &kmspb.AsymmetricSignRequest{Name: name, Digest: digest(32)})
	require.NoError(t, err)
	assert.False(t, signed.VerifiedDigestCrc32C, "there was no checksum to verify")
	_, err = client.DestroyCryptoKeyVersion(t.Context(), &kmspb.DestroyCryptoKeyVersionRequest{Name: name})
	require.NoError(t, err)
	assert.Equal(t, kmspb.CryptoKeyVersion_DESTROY_SCHEDULED, read())
	_, err = client.DestroyCryptoKeyVersion(t.Context(), &kmspb.DestroyCryptoKeyVersionRequest{Name: name}, noRetry)
	assert.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.NoError(t, s.Change(name, func(v *kmspb.CryptoKeyVersion) { v.State = kmspb.CryptoKeyVersion_DISABLED }))
	_, err = client.GetPublicKey(t.Context(), &kmspb.GetPublicKeyRequest{Name: name}, noRetry)
	assert.Equal(t, codes.FailedPrecondition, status.Code(err))
	assert.ErrorContains(t, err, "DISABLED")
}

// A ciphertext is decrypted by the version that made it, whichever is primary.
func TestPrimary(t *testing.T) {
	s, client := start(t, nil)
	first := s.add(t, kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION, kmspb.ProtectionLevel_SOFTWARE)
	key, _, _ := strings.Cut(first, "/cryptoKeyVersions/")
	encrypted, err := client.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: key, Plaintext: []byte("p")})
	require.NoError(t, err)
	assert.Equal(t, first, encrypted.Name)
	second, err := s.AddVersion(key)
	require.NoError(t, err)
	_, err = client.UpdateCryptoKeyPrimaryVersion(t.Context(), &kmspb.UpdateCryptoKeyPrimaryVersionRequest{Name: key, CryptoKeyVersionId: "2"})
	require.NoError(t, err)
	decrypted, err := client.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: key, Ciphertext: encrypted.Ciphertext})
	require.NoError(t, err)
	assert.False(t, decrypted.UsedPrimary)
	encrypted, err = client.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: key, Plaintext: []byte("p")})
	require.NoError(t, err)
	assert.Equal(t, second, encrypted.Name)
}

// Faults happen in both orders, and the log has every request that was authenticated.
func TestFaults(t *testing.T) {
	s, client := start(t, nil)
	create := func(id string) error {
		_, err := client.CreateCryptoKey(t.Context(), &kmspb.CreateCryptoKeyRequest{Parent: s.ring, CryptoKeyId: id, CryptoKey: &kmspb.CryptoKey{
			Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT,
		}}, noRetry)
		return err
	}
	down := status.New(codes.Unavailable, "down")
	s.Script.Add(fakecloud.Fault{Op: "CreateCryptoKey", Error: down}, fakecloud.Fault{Op: "CreateCryptoKey", Error: down, After: true},
		fakecloud.Fault{Op: "CreateCryptoKey", Drop: true}, fakecloud.Fault{Op: "CreateCryptoKey", Drop: true, After: true},
		fakecloud.Fault{Op: "CreateCryptoKey", Corrupt: Raw("\xff")},
		fakecloud.Fault{Op: "CreateCryptoKey", Corrupt: func(m proto.Message) { m.(*kmspb.CryptoKey).Name = "other" }})
	for _, test := range []struct {
		id    string
		fails bool
		made  int
	}{{"error", true, 0}, {"error-after", true, 1}, {"drop", true, 0}, {"drop-after", true, 1}, {"raw", true, 1}, {"corrupt", false, 1}} {
		err := create(test.id)
		assert.Equal(t, test.fails, err != nil, "%s: %v", test.id, err)
		assert.Equal(t, test.made, s.Versions(s.ring+"/cryptoKeys/"+test.id), test.id)
	}
	assert.Zero(t, s.Script.Left())
	assert.Equal(t, 6, s.Log.Count("CreateCryptoKey"))
	assert.Equal(t, s.ring, s.Log.Requests("")[0].Key)
	assert.NotEmpty(t, s.Log.Requests("")[0].ID)

	s.Script.Add(fakecloud.Fault{Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := client.GetKeyRing(ctx, &kmspb.GetKeyRingRequest{Name: s.ring}, noRetry)
	assert.Error(t, err)
	s.DropConnections()
	_, err = client.GetKeyRing(t.Context(), &kmspb.GetKeyRingRequest{Name: s.ring})
	assert.NoError(t, err)
	assert.Equal(t, []string{"name=projects%2Fp%2Flocations%2Feu%2FkeyRings%2Fring"}, s.Metadata("GetKeyRing").Get("x-goog-request-params"))
}

// RSA keys share primes but no modulus.
func TestRSAKeys(t *testing.T) {
	var f rsaFactory
	f.sizes = make(map[int]*primes)
	seen := make(map[string]bool)
	for range 8 {
		key, err := f.generate(2048)
		require.NoError(t, err)
		require.NoError(t, key.Validate())
		assert.Equal(t, 2048, key.N.BitLen())
		assert.False(t, seen[key.N.String()])
		seen[key.N.String()] = true
		signature, err := rsa.SignPKCS1v15(nil, key, 0, []byte("data"))
		require.NoError(t, err)
		assert.NoError(t, rsa.VerifyPKCS1v15(&key.PublicKey, 0, []byte("data"), signature))
	}
	assert.Less(t, len(f.sizes[2048].known), 16)
}
