package fakeaws

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// TestAliases: an alias is made once, moves between keys of one kind, and goes.
func TestAliases(t *testing.T) {
	s := start(t, nil)
	first := add(t, s, Key{Spec: "RSA_2048", Usage: "ENCRYPT_DECRYPT"})
	second := add(t, s, Key{Spec: "RSA_2048", Usage: "ENCRYPT_DECRYPT"})
	alias := func(op, name, target string) string {
		_, code := s.do(t, op, map[string]any{"AliasName": name, "TargetKeyId": target})
		return code
	}
	assert.Equal(t, "NotFoundException", alias("UpdateAlias", "alias/a", first))
	assert.Empty(t, alias("CreateAlias", "alias/a", first))
	assert.Equal(t, "AlreadyExistsException", alias("CreateAlias", "alias/a", second))
	assert.Empty(t, alias("UpdateAlias", "alias/a", second))
	meta := s.must(t, "DescribeKey", map[string]any{"KeyId": "alias/a"})["KeyMetadata"].(map[string]any)
	assert.Equal(t, second, meta["Arn"])
	for _, k := range []Key{{Spec: "RSA_2048", Usage: "SIGN_VERIFY"}, {Spec: "SYMMETRIC_DEFAULT"}} {
		assert.Equal(t, "ValidationException", alias("UpdateAlias", "alias/a", add(t, s, k)))
	}
	assert.Equal(t, "NotFoundException", alias("CreateAlias", "alias/b", "1234abcd-12ab-34cd-56ef-1234567890ab"))
	assert.Equal(t, "ValidationException", alias("CreateAlias", "alias/aws/mine", first))
	assert.Equal(t, "InvalidAliasNameException", alias("CreateAlias", "alias/a b", first))
	_, code := s.do(t, "DeleteAlias", map[string]any{"AliasName": "alias/a"})
	assert.Empty(t, code)
	_, code = s.do(t, "DeleteAlias", map[string]any{"AliasName": "alias/a"})
	assert.Equal(t, "NotFoundException", code)
}

// TestLifeOfAKey: states follow each other as they do at the service.
func TestLifeOfAKey(t *testing.T) {
	s := start(t, nil)
	meta := s.must(t, "CreateKey", map[string]any{"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC", "MultiRegion": true,
		"Tags": []tag{{"a", "b"}}, "Policy": "mine", "Description": "d"})["KeyMetadata"].(map[string]any)
	arn := meta["Arn"].(string)
	mac := map[string]any{"KeyId": arn, "Message": []byte("m"), "MacAlgorithm": "HMAC_SHA_256"}
	use := func() string { _, code := s.do(t, "GenerateMac", mac); return code }
	byKey := map[string]any{"KeyId": arn}
	assert.Empty(t, use())
	s.must(t, "DisableKey", byKey)
	assert.Equal(t, "DisabledException", use())
	s.must(t, "EnableKey", byKey)
	assert.Empty(t, use())
	s.must(t, "ScheduleKeyDeletion", byKey)
	assert.Equal(t, "KMSInvalidStateException", use())
	for _, op := range []string{"ScheduleKeyDeletion", "EnableKey", "UpdateKeyDescription", "ReplicateKey"} {
		_, code := s.do(t, op, byKey)
		assert.Equal(t, "KMSInvalidStateException", code, op)
	}
	s.must(t, "CancelKeyDeletion", byKey)
	assert.Equal(t, "DisabledException", use())
	s.must(t, "EnableKey", byKey)
	s.must(t, "UpdateKeyDescription", map[string]any{"KeyId": arn, "Description": "e"})
	assert.Equal(t, "e", s.must(t, "DescribeKey", byKey)["KeyMetadata"].(map[string]any)["Description"])
	assert.Equal(t, "mine", s.must(t, "GetKeyPolicy", byKey)["Policy"])
	assert.Len(t, s.must(t, "ListResourceTags", byKey)["Tags"], 1)
	replica := s.must(t, "ReplicateKey", map[string]any{"KeyId": arn, "ReplicaRegion": "us-west-2"})["ReplicaKeyMetadata"].(map[string]any)
	assert.Equal(t, meta["KeyId"], replica["KeyId"])
	_, code := s.do(t, "ReplicateKey", map[string]any{"KeyId": arn, "ReplicaRegion": "us-west-2"})
	assert.Equal(t, "AlreadyExistsException", code)
	s.Deny("GenerateMac")
	assert.Equal(t, "AccessDeniedException", use())
	mac["GrantTokens"] = []any{s.must(t, "CreateGrant", byKey)["GrantToken"]}
	assert.Empty(t, use())
}

// TestImport: key material comes in by the algorithm of its kind, with its token, and only once.
func TestImport(t *testing.T) {
	s := start(t, nil)
	meta := s.must(t, "CreateKey", map[string]any{"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY", "Origin": "EXTERNAL"})["KeyMetadata"].(map[string]any)
	arn := meta["Arn"].(string)
	assert.Equal(t, "PendingImport", meta["KeyState"])
	_, code := s.do(t, "GetPublicKey", map[string]any{"KeyId": arn})
	assert.Equal(t, "KMSInvalidStateException", code)
	for _, bad := range [][2]string{{"RSAES_PKCS1_V1_5", "RSA_2048"}, {"RSA_AES_KEY_WRAP_SHA_256", "RSA_1024"}} {
		_, code = s.do(t, "GetParametersForImport", map[string]any{"KeyId": arn, "WrappingAlgorithm": bad[0], "WrappingKeySpec": bad[1]})
		assert.Equal(t, "ValidationException", code)
	}
	put := func(curve elliptic.Curve, spoil func(in map[string]any)) string {
		to := s.must(t, "GetParametersForImport", map[string]any{"KeyId": arn, "WrappingAlgorithm": "RSA_AES_KEY_WRAP_SHA_256", "WrappingKeySpec": "RSA_2048"})
		pub, err := x509.ParsePKIXPublicKey(member(t, to, "PublicKey"))
		require.NoError(t, err)
		private, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		der, err := x509.MarshalPKCS8PrivateKey(private)
		require.NoError(t, err)
		aes := make([]byte, 32)
		rand.Read(aes)
		head, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub.(*rsa.PublicKey), aes, nil)
		require.NoError(t, err)
		wrapper, err := kwp.NewKWP(aes)
		require.NoError(t, err)
		tail, err := wrapper.Wrap(der)
		require.NoError(t, err)
		in := map[string]any{"KeyId": arn, "EncryptedKeyMaterial": append(head, tail...), "ImportToken": member(t, to, "ImportToken"), "ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": 4e9}
		spoil(in)
		_, code := s.do(t, "ImportKeyMaterial", in)
		return code
	}
	assert.Equal(t, "InvalidImportTokenException", put(elliptic.P256(), func(in map[string]any) { in["ImportToken"] = []byte("another") }))
	assert.Equal(t, "InvalidCiphertextException", put(elliptic.P256(), func(in map[string]any) { in["EncryptedKeyMaterial"] = make([]byte, 300) }))
	assert.Equal(t, "IncorrectKeyMaterialException", put(elliptic.P384(), func(map[string]any) {}))
	assert.Empty(t, put(elliptic.P256(), func(map[string]any) {}))
	assert.Equal(t, "IncorrectKeyMaterialException", put(elliptic.P256(), func(map[string]any) {}), "another key's material")
	meta = s.must(t, "DescribeKey", map[string]any{"KeyId": arn})["KeyMetadata"].(map[string]any)
	assert.Equal(t, "Enabled", meta["KeyState"])
	assert.InDelta(t, 4e9, meta["ValidTo"], 1)
}
