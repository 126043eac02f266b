package interop

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	sigstore "github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

// place is where sigstore makes its keys.
const place = "gcpkms://projects/p-1/locations/eu/keyRings/sigstore/cryptoKeys/"

func start(t *testing.T) *fakegcp.Server {
	t.Helper()
	server, err := fakegcp.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	return server
}

// algorithms are those of sigstore, without RSA keys that differ in size only.
var algorithms = []string{
	sigstore.AlgorithmECDSAP256SHA256, sigstore.AlgorithmECDSAP384SHA384, sigstore.AlgorithmRSAPKCS1v152048SHA256,
	sigstore.AlgorithmRSAPSS2048SHA256, sigstore.AlgorithmRSAPSS4096SHA512,
}

// sigstore makes a key and signs with it; this repository's backend finds the key and signs too; each verifies what the other
// has signed.
func TestSigstore(t *testing.T) {
	server := start(t)
	ours, err := gcpckms.NewFromOptions(t.Context(), nil, server.ClientOptions()...)
	require.NoError(t, err)
	defer ours.Close()
	for _, alg := range algorithms {
		t.Run(alg, func(t *testing.T) {
			theirs, err := sigstore.LoadSignerVerifier(t.Context(), place+alg, server.ClientOptions()...)
			require.NoError(t, err)
			created, err := theirs.CreateKey(t.Context(), alg)
			require.NoError(t, err)
			params, err := gcpckms.ParseName(place + alg)
			require.NoError(t, err)
			key, err := ours.Open(t.Context(), params)
			require.NoError(t, err)
			assert.True(t, created.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()))

			message := []byte("message")
			signature, err := theirs.SignMessage(bytes.NewReader(message))
			require.NoError(t, err)
			a := key.Capabilities().Signatures[0]
			digest := a.Hash.New()
			digest.Write(message)
			var opts crypto.SignerOpts = a.Hash
			if a.Scheme == backend.RSAPSS {
				opts = &rsa.PSSOptions{Hash: a.Hash, SaltLength: rsa.PSSSaltLengthEqualsHash}
			}
			assert.NoError(t, backend.Verify(key.Public(), digest.Sum(nil), signature, opts))
			signature, err = key.(backend.Signer).SignContext(t.Context(), digest.Sum(nil), opts)
			require.NoError(t, err)
			assert.NoError(t, theirs.VerifySignature(bytes.NewReader(signature), bytes.NewReader(message)))
			assert.Error(t, theirs.VerifySignature(bytes.NewReader(signature), strings.NewReader("another message")))
		})
	}
}

// What the fake damages on purpose is damaged in sigstore's eyes too.
func TestSigstoreSeesDamage(t *testing.T) {
	server := start(t)
	signer, err := sigstore.LoadSignerVerifier(t.Context(), place+"key", server.ClientOptions()...)
	require.NoError(t, err)
	_, err = signer.CreateKey(t.Context(), sigstore.AlgorithmECDSAP256SHA256)
	require.NoError(t, err)
	for what, corrupt := range map[string]func(*kmspb.AsymmetricSignResponse){
		"signature": func(r *kmspb.AsymmetricSignResponse) { r.Signature[3] ^= 1 },
		"checksum":  func(r *kmspb.AsymmetricSignResponse) { r.SignatureCrc32C.Value++ },
		"verified":  func(r *kmspb.AsymmetricSignResponse) { r.VerifiedDigestCrc32C = false },
	} {
		server.Script.Add(fakecloud.Fault{Op: "AsymmetricSign", Corrupt: func(m proto.Message) { corrupt(m.(*kmspb.AsymmetricSignResponse)) }})
		_, err := signer.SignMessage(strings.NewReader("message"))
		assert.Error(t, err, what)
		_, err = signer.SignMessage(strings.NewReader("message"))
		assert.NoError(t, err, what)
	}
}

// sigstore looks for the newest enabled version in its own way.
func TestSigstoreFindsLatest(t *testing.T) {
	server := start(t)
	signer, err := sigstore.LoadSignerVerifier(t.Context(), place+"key", server.ClientOptions()...)
	require.NoError(t, err)
	first, err := signer.CreateKey(t.Context(), sigstore.AlgorithmECDSAP256SHA256)
	require.NoError(t, err)
	_, err = server.AddVersion(strings.TrimPrefix(place, "gcpkms://") + "key")
	require.NoError(t, err)
	again, err := sigstore.LoadSignerVerifier(t.Context(), place+"key", server.ClientOptions()...)
	require.NoError(t, err)
	second, err := again.PublicKey()
	require.NoError(t, err)
	assert.NotEqual(t, first, second)

	ours, err := gcpckms.NewFromOptions(t.Context(), nil, server.ClientOptions()...)
	require.NoError(t, err)
	defer ours.Close()
	params, err := gcpckms.ParseName(place + "key")
	require.NoError(t, err)
	params.CryptoKeyVersion = gcpckms.Latest
	key, err := ours.Open(t.Context(), params)
	require.NoError(t, err)
	assert.Equal(t, second, key.Public())
}
