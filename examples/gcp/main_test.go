package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

// The program runs against an emulator as it does against the service.
func TestRun(t *testing.T) {
	server, err := fakegcp.New(&fakegcp.Options{Insecure: true})
	require.NoError(t, err)
	defer server.Close()
	t.Setenv("KMS_EMULATOR_HOST", server.Addr())
	ring := server.AddKeyRing("p-1", "europe-west3", "tls")
	for id, alg := range map[string]kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm{
		"ec": kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256, "rsa": kmspb.CryptoKeyVersion_RSA_SIGN_PSS_2048_SHA256,
		"ed": kmspb.CryptoKeyVersion_EC_SIGN_ED25519, "mac": kmspb.CryptoKeyVersion_HMAC_SHA256,
	} {
		_, err = server.AddKey(ring, id, alg, kmspb.ProtectionLevel_SOFTWARE)
		require.NoError(t, err)
		var out bytes.Buffer
		err = run(t.Context(), &out, []string{ring + "/cryptoKeys/" + id, "www.example.com"})
		if id == "mac" {
			assert.ErrorContains(t, err, "doesn't sign")
			continue
		}
		require.NoError(t, err, id)
		block, _ := pem.Decode(out.Bytes())
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		require.NoError(t, err)
		assert.NoError(t, csr.CheckSignature())
		assert.Equal(t, []string{"www.example.com"}, csr.DNSNames)
	}
	assert.Error(t, run(t.Context(), nil, nil))
	assert.ErrorIs(t, run(t.Context(), nil, []string{"k", "www.example.com"}), backend.ErrInvalidParams)
	assert.ErrorIs(t, run(t.Context(), nil, []string{ring + "/cryptoKeys/absent", "www.example.com"}), backend.ErrKeyNotFound)
}
