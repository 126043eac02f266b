package awskms

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestValidate: each field that makes no sense is named, with what it takes.
func TestValidate(t *testing.T) {
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/" + testID
	good := []Params{
		{KMSKey: testID}, {KMSKey: arn}, {KMSKey: arn, Region: "eu-central-1"}, {KMSKey: "alias/a", Region: "us-gov-west-1"},
		{KMSKey: "alias/a", KeyType: RSA, KeyBits: 3072, KeyUsage: "ENCRYPT_DECRYPT"}, {KMSKey: "alias/a", KeyUsage: "KEY_AGREEMENT"},
		{KMSKey: "alias/a", KeyType: ECDSA, Curve: "SECP256K1"}, {KMSKey: "alias/a", KeyType: MLKEM, ParameterSet: 768},
		{KMSKey: "alias/a", AccessKey: "env:A", SecretKey: "file:/b", SessionToken: "c"}, {KMSKey: "alias/a", Endpoint: "http://127.0.0.1:4566"},
	}
	for _, p := range good {
		assert.NoError(t, p.Validate(), "%+v", p)
		assert.Equal(t, Type, p.BackendType())
	}
	for says, p := range map[string]Params{
		"kms_key: is missing":                               {},
		"region: got \"us-west-2\"":                         {KMSKey: arn, Region: "us-west-2"},
		"region: \"evil.example\"":                          {KMSKey: "alias/a", Region: "evil.example"},
		"region: \"europe\"":                                {KMSKey: "alias/a", Region: "europe"},
		"key_type: got \"DSA\"; it takes RSA, ECDSA":        {KMSKey: "alias/a", KeyType: "DSA"},
		"key_bits: got \"1024\"; with key_type RSA":         {KMSKey: "alias/a", KeyType: RSA, KeyBits: 1024},
		"key_bits: got \"2048\"; key_type ECDSA takes none": {KMSKey: "alias/a", KeyType: ECDSA, KeyBits: 2048},
		"key_bits: got \"128\"; with key_type AES":          {KMSKey: "alias/a", KeyType: AES, KeyBits: 128},
		"key_bits: is given without key_type":               {KMSKey: "alias/a", KeyBits: 2048},
		"curve: got \"P224\"; with key_type ECDSA":          {KMSKey: "alias/a", KeyType: ECDSA, Curve: "P224"},
		"curve: is given without key_type":                  {KMSKey: "alias/a", Curve: "P256"},
		"curve: got \"P256\"; key_type RSA takes none":      {KMSKey: "alias/a", KeyType: RSA, Curve: "P256"},
		"parameter_set: got \"512\"; with key_type ML-KEM":  {KMSKey: "alias/a", KeyType: MLKEM, ParameterSet: 512},
		"parameter_set: is given without key_type":          {KMSKey: "alias/a", ParameterSet: 44},
		"key_usage: got \"sign\"; it takes SIGN_VERIFY":     {KMSKey: "alias/a", KeyUsage: "sign"},
		"key_usage: got \"KEY_AGREEMENT\"; with key_type":   {KMSKey: "alias/a", KeyType: RSA, KeyUsage: "KEY_AGREEMENT"},
		"access_key, secret_key: one is given":              {KMSKey: "alias/a", SecretKey: "hush"},
		"session_token: is given without":                   {KMSKey: "alias/a", SessionToken: "hush"},
		"endpoint: \"ftp://host\"":                          {KMSKey: "alias/a", Endpoint: "ftp://host"},
		"endpoint: \"https:\"":                              {KMSKey: "alias/a", Endpoint: "https://"},
		"endpoint: \"https://u:xxxxx@host\"":                {KMSKey: "alias/a", Endpoint: "https://u:hush@host"},
		"endpoint: \"redacted\"":                            {KMSKey: "alias/a", Endpoint: "https://u:hush@ho st"},
		"endpoint: \"https://host?x=y\"":                    {KMSKey: "alias/a", Endpoint: "https://host?x=y"},
	} {
		err := p.Validate()
		assert.ErrorIs(t, err, backend.ErrInvalidParams, says)
		assert.ErrorContains(t, err, "awskms: "+says)
		assert.NotContains(t, fmt.Sprint(err), "hush")
	}
}

// TestDecodeParams: the fields are those of the managed-keys API, numbers and booleans may be strings, secrets don't show, and
// what is unknown is refused.
func TestDecodeParams(t *testing.T) {
	want := Params{KMSKey: "alias/a", KeyType: RSA, KeyBits: 3072, MultiRegion: true, KeyUsage: signVerify, Region: "eu-west-1",
		AccessKey: "AKIA", SecretKey: "hush", SessionToken: "hush too", Endpoint: "https://kms.example"}
	p, err := (*Backend)(nil).DecodeParams([]byte(`{"kms_key":"alias/a","key_type":"rsa","key_bits":"3072","multi_region":"true","key_usage":"SIGN_VERIFY",
		"region":"eu-west-1","access_key":"AKIA","secret_key":"hush","session_token":"hush too","endpoint":"https://kms.example"}`))
	require.NoError(t, err)
	assert.Equal(t, want, p)
	out, err := json.Marshal(p)
	require.NoError(t, err)
	assert.JSONEq(t, `{"kms_key":"alias/a","key_type":"RSA","key_bits":3072,"multi_region":true,"key_usage":"SIGN_VERIFY","region":"eu-west-1",
		"access_key":"redacted","secret_key":"redacted","session_token":"redacted","endpoint":"https://kms.example"}`, string(out))
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		assert.NotContains(t, fmt.Sprintf(format, p), "hush")
	}
	sealed, err := backend.EncodeParams(want)
	require.NoError(t, err)
	again, err := (*Backend)(nil).DecodeParams(sealed)
	require.NoError(t, err)
	assert.Equal(t, want, again)
	p, err = (*Backend)(nil).DecodeParams([]byte(`{"kms_key":"alias/a","key_type":"Ml-Dsa","parameter_set":65,"multi_region":false}`))
	require.NoError(t, err)
	assert.Equal(t, Params{KMSKey: "alias/a", KeyType: MLDSA, ParameterSet: 65}, p)
	for _, bad := range []string{`{"kms_key":"alias/a","usage":"sign"}`, `{"key_bits":"many"}`, `{"multi_region":"perhaps"}`, `[]`, `{"kms_key":1}`, `{`,
		`{"kms_key":"a"}`, `{"kms_key":"alias/a","key_type":"DSA"}`} {
		_, err := (*Backend)(nil).DecodeParams([]byte(bad))
		assert.ErrorIs(t, err, backend.ErrInvalidParams, bad)
	}
}

// TestSpecs: each kind of key is made as the key spec that it is.
func TestSpecs(t *testing.T) {
	seen := make(map[string]bool)
	for _, k := range kinds {
		s, usage, err := k.p.specFor()
		require.NoError(t, err, k.Name)
		assert.Equal(t, k.spec, string(s.name))
		assert.Equal(t, k.usage, usage)
		assert.NoError(t, k.p.match(s, usage))
		seen[k.spec] = true
	}
	assert.Len(t, seen, len(specs), "kinds that no test has")
	s, _, err := Params{KeyType: AES}.specFor()
	require.NoError(t, err)
	assert.Equal(t, "SYMMETRIC_DEFAULT", string(s.name))
	for says, p := range map[string]Params{
		"key_type: is missing":                                {},
		"key_bits: is missing":                                {KeyType: RSA},
		"curve: is missing":                                   {KeyType: ECDSA},
		"parameter_set: is missing":                           {KeyType: MLDSA},
		"key_usage: got KEY_AGREEMENT, which curve SECP256K1": {KeyType: ECDSA, Curve: "SECP256K1", KeyUsage: agreement},
	} {
		_, _, err := p.specFor()
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		assert.ErrorContains(t, err, says)
	}
}

// FuzzParams: no JSON makes Params that panic when they are checked, and what is taken is written and read again.
func FuzzParams(f *testing.F) {
	f.Add([]byte(`{"kms_key":"alias/a","key_type":"RSA","key_bits":"2048","multi_region":true}`))
	f.Add([]byte(`{"kms_key":"1234abcd-12ab-34cd-56ef-1234567890ab","endpoint":"https://a"}`))
	f.Add([]byte(`{"kms_key":"alias/a","region":"eu-west-1","access_key":"a","secret_key":"b"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := (*Backend)(nil).DecodeParams(data)
		if err != nil {
			assert.ErrorIs(t, err, backend.ErrInvalidParams)
			return
		}
		out, err := backend.EncodeParams(p)
		require.NoError(t, err)
		again, err := (*Backend)(nil).DecodeParams(out)
		require.NoError(t, err)
		assert.Equal(t, p, again)
	})
}
