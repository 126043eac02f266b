package fakeaws

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
)

// TestTink: Tink's client for AWS KMS, which others wrote, works with the server.
func TestTink(t *testing.T) {
	s := start(t, nil)
	arn := add(t, s, Key{Spec: "SYMMETRIC_DEFAULT"})
	other := add(t, s, Key{Spec: "SYMMETRIC_DEFAULT"})
	client, err := awskms.NewClientWithOptions(t.Context(), "aws-kms://", awskms.WithKMS(kms.NewFromConfig(s.Config())))
	require.NoError(t, err)
	aead, err := client.GetAEAD("aws-kms://" + arn)
	require.NoError(t, err)
	sealed, err := aead.Encrypt([]byte("plaintext"), []byte("data"))
	require.NoError(t, err)
	plaintext, err := aead.Decrypt(sealed, []byte("data"))
	require.NoError(t, err)
	assert.Equal(t, "plaintext", string(plaintext))
	_, err = aead.Decrypt(sealed, []byte("other data"))
	assert.ErrorContains(t, err, "InvalidCiphertextException")
	wrong, err := client.GetAEAD("aws-kms://" + other)
	require.NoError(t, err)
	_, err = wrong.Decrypt(sealed, []byte("data"))
	assert.ErrorContains(t, err, "IncorrectKeyException")
}
