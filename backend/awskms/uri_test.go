package awskms

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestParseURI: ARNs of keys and aliases, in every partition, with the connection of the scope and none of its key.
func TestParseURI(t *testing.T) {
	b, err := Connect(nil)
	require.NoError(t, err)
	defer b.Close()
	for _, arn := range []string{
		"arn:aws:kms:eu-central-1:111122223333:key/" + testID, "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/" + testMRK,
		"arn:aws-cn:kms:cn-north-1:111122223333:alias/team/issuing",
	} {
		got, err := b.ParseURI(arn, nil)
		require.NoError(t, err)
		assert.Equal(t, Params{KMSKey: arn}, got)
		assert.NoError(t, b.Matches(got))
	}
	const arn = "arn:aws:kms:eu-central-1:111122223333:alias/ca"
	scope := Params{KMSKey: "alias/other", KeyType: RSA, Region: "eu-central-1", Endpoint: "https://kms.example", AccessKey: "a", SecretKey: "b", SessionToken: "c"}
	got, err := b.ParseURI(arn, scope)
	require.NoError(t, err)
	assert.Equal(t, Params{KMSKey: arn, Endpoint: "https://kms.example", AccessKey: "a", SecretKey: "b", SessionToken: "c"}, got)
	_, err = b.ParseURI(arn, Params{Region: "eu-west-1"})
	assert.ErrorContains(t, err, "is an ARN of eu-central-1, but the scope is of eu-west-1")
	for _, bad := range []string{"alias/ca", testID, "arn:aws:s3:eu-central-1:111122223333:key/" + testID, "ARN:aws:kms:eu-central-1:111122223333:alias/ca", arn + " "} {
		_, err := b.ParseURI(bad, nil)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, bad)
	}
}

// TestMatches: a backend of New says which keys it can't reach.
func TestMatches(t *testing.T) {
	b, err := New(aws.Config{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}, nil)
	require.NoError(t, err)
	defer b.Close()
	assert.NoError(t, b.Matches(Params{KMSKey: "alias/ca"}))
	assert.NoError(t, b.Matches(Params{KMSKey: "arn:aws:kms:eu-central-1:111122223333:alias/ca"}))
	for says, p := range map[string]Params{
		"region: got eu-west-1": {KMSKey: "arn:aws:kms:eu-west-1:111122223333:alias/ca"},
		"region: got us-east-1": {KMSKey: "alias/ca", Region: "us-east-1"},
		"endpoint: is given":    {KMSKey: "alias/ca", Endpoint: "https://a"},
		"access_key: is given":  {KMSKey: "alias/ca", AccessKey: "a", SecretKey: "b"},
		"kms_key: is missing":   {},
	} {
		err := b.Matches(p)
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		assert.ErrorContains(t, err, says)
	}
}
