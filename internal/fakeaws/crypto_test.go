package fakeaws

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha3"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"testing"

	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// member returns a member of an answer that is bytes.
func member(t *testing.T, answer map[string]any, name string) []byte {
	t.Helper()
	require.Contains(t, answer, name)
	out, err := base64.StdEncoding.DecodeString(answer[name].(string))
	require.NoError(t, err)
	return out
}

// must sends a request that has to succeed.
func (s *Server) must(t *testing.T, op string, members map[string]any) map[string]any {
	t.Helper()
	answer, code := s.do(t, op, members)
	require.Empty(t, code, op)
	return answer
}

// TestSymmetric: a ciphertext says which key it is of, and is good for its own encryption context alone.
func TestSymmetric(t *testing.T) {
	s := start(t, nil)
	arn := add(t, s, Key{Spec: "SYMMETRIC_DEFAULT"})
	other := add(t, s, Key{Spec: "SYMMETRIC_DEFAULT"})
	ec := map[string]string{"a": "b", "c": "d"}
	blob := member(t, s.must(t, "Encrypt", map[string]any{"KeyId": arn, "Plaintext": []byte("plaintext"), "EncryptionContext": ec}), "CiphertextBlob")
	for _, key := range []any{arn, nil} {
		in := map[string]any{"CiphertextBlob": blob, "EncryptionContext": ec}
		if key != nil {
			in["KeyId"] = key
		}
		answer := s.must(t, "Decrypt", in)
		assert.Equal(t, "plaintext", string(member(t, answer, "Plaintext")))
		assert.Equal(t, arn, answer["KeyId"])
	}
	for code, in := range map[string]map[string]any{
		"IncorrectKeyException":      {"KeyId": other, "CiphertextBlob": blob, "EncryptionContext": ec},
		"InvalidCiphertextException": {"KeyId": arn, "CiphertextBlob": blob, "EncryptionContext": map[string]string{"a": "bc", "": "d"}},
		"ValidationException":        {"KeyId": arn, "CiphertextBlob": []byte{}},
		"InvalidKeyUsageException":   {"KeyId": arn, "CiphertextBlob": blob, "EncryptionAlgorithm": "RSAES_OAEP_SHA_1"},
	} {
		_, got := s.do(t, "Decrypt", in)
		assert.Equal(t, code, got)
	}
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		_, code := s.do(t, "Decrypt", map[string]any{"KeyId": arn, "CiphertextBlob": bad, "EncryptionContext": ec})
		assert.Contains(t, []string{"InvalidCiphertextException", "IncorrectKeyException"}, code)
	}
	assert.NotEqual(t, canonical(map[string]string{"a": "bc"}), canonical(map[string]string{"ab": "c"}))
}

// TestPublicKeyOperations: what the server does with a private key is what Go does with the public one.
func TestPublicKeyOperations(t *testing.T) {
	s := start(t, nil)
	public := func(arn string) []byte {
		return member(t, s.must(t, "GetPublicKey", map[string]any{"KeyId": arn}), "PublicKey")
	}

	oaep := add(t, s, Key{Spec: "RSA_2048", Usage: "ENCRYPT_DECRYPT"})
	pub, err := x509.ParsePKIXPublicKey(public(oaep))
	require.NoError(t, err)
	ciphertext, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, pub.(*rsa.PublicKey), []byte("plaintext"), nil)
	require.NoError(t, err)
	in := map[string]any{"KeyId": oaep, "CiphertextBlob": ciphertext, "EncryptionAlgorithm": "RSAES_OAEP_SHA_1"}
	assert.Equal(t, "plaintext", string(member(t, s.must(t, "Decrypt", in), "Plaintext")))
	in["EncryptionAlgorithm"] = "RSAES_OAEP_SHA_256"
	_, code := s.do(t, "Decrypt", in)
	assert.Equal(t, "InvalidCiphertextException", code)
	sealed := member(t, s.must(t, "Encrypt", map[string]any{"KeyId": oaep, "Plaintext": []byte("x"), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}), "CiphertextBlob")
	in["CiphertextBlob"] = sealed
	assert.Equal(t, "x", string(member(t, s.must(t, "Decrypt", in), "Plaintext")))

	agrees := add(t, s, Key{Spec: "ECC_NIST_P384", Usage: "KEY_AGREEMENT"})
	pub, err = x509.ParsePKIXPublicKey(public(agrees))
	require.NoError(t, err)
	own, err := pub.(*ecdsa.PublicKey).ECDH()
	require.NoError(t, err)
	peer, err := ecdh.P384().GenerateKey(rand.Reader)
	require.NoError(t, err)
	want, err := peer.ECDH(own)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(peer.PublicKey())
	require.NoError(t, err)
	in = map[string]any{"KeyId": agrees, "PublicKey": der, "KeyAgreementAlgorithm": "ECDH"}
	assert.Equal(t, want, member(t, s.must(t, "DeriveSharedSecret", in), "SharedSecret"))
	for _, bad := range [][]byte{nil, der[1:], public(oaep)} {
		in["PublicKey"] = bad
		_, code = s.do(t, "DeriveSharedSecret", in)
		assert.Equal(t, "ValidationException", code)
	}

	kem := add(t, s, Key{Spec: "ML_KEM_768"})
	var info publicKeyInfo
	_, err = asn1.Unmarshal(public(kem), &info)
	require.NoError(t, err)
	encapsulator, err := mlkem.NewEncapsulationKey768(info.PublicKey.Bytes)
	require.NoError(t, err)
	want, capsule := encapsulator.Encapsulate()
	in = map[string]any{"KeyId": kem, "SharedSecretCiphertextBlob": capsule, "EncapsulationAlgorithm": "ML_KEM"}
	assert.Equal(t, want, member(t, s.must(t, "Decapsulate", in), "SharedSecret"))
	answer := s.must(t, "Encapsulate", map[string]any{"KeyId": kem, "EncapsulationAlgorithm": "ML_KEM"})
	in["SharedSecretCiphertextBlob"] = member(t, answer, "SharedSecretCiphertextBlob")
	assert.Equal(t, member(t, answer, "SharedSecret"), member(t, s.must(t, "Decapsulate", in), "SharedSecret"))
	in["SharedSecretCiphertextBlob"] = capsule[1:]
	_, code = s.do(t, "Decapsulate", in)
	assert.Equal(t, "InvalidCiphertextException", code)
}

// TestExternalMu: a signature of mu is one of the message that mu stands for.
func TestExternalMu(t *testing.T) {
	s := start(t, nil)
	arn := add(t, s, Key{Spec: "ML_DSA_87"})
	parsed, err := mldsax509.ParsePKIXPublicKey(member(t, s.must(t, "GetPublicKey", map[string]any{"KeyId": arn}), "PublicKey"))
	require.NoError(t, err)
	pub := parsed.(*mldsa.PublicKey)
	// FIPS 204, Algorithms 2, 6 and 7.
	tr := sha3.SumSHAKE256(pub.Bytes(), 64)
	mu := sha3.SumSHAKE256(append(append(tr, 0, 3), "ctxmessage"...), 64)
	signature := member(t, s.must(t, "Sign", map[string]any{"KeyId": arn, "Message": mu, "MessageType": "EXTERNAL_MU", "SigningAlgorithm": "ML_DSA_SHAKE_256"}), "Signature")
	assert.NoError(t, mldsa.Verify(pub, []byte("message"), signature, &mldsa.Options{Context: "ctx"}))
	assert.Error(t, mldsa.Verify(pub, mu, signature, nil), "mu is not the message")
}
