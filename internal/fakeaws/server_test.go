package fakeaws

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// TestLimits: what the service refuses, this one refuses, with the service's code.
func TestLimits(t *testing.T) {
	s := start(t, nil)
	p256 := add(t, s, Key{Spec: "ECC_NIST_P256", Usage: "SIGN_VERIFY", Alias: "alias/p256"})
	ed := add(t, s, Key{Spec: "ECC_NIST_EDWARDS25519"})
	mldsa := add(t, s, Key{Spec: "ML_DSA_44"})
	aes := add(t, s, Key{Spec: "SYMMETRIC_DEFAULT"})
	hmac := add(t, s, Key{Spec: "HMAC_256"})
	disabled := add(t, s, Key{Spec: "ECC_NIST_P256", Usage: "SIGN_VERIFY", State: "Disabled"})
	pending := add(t, s, Key{Spec: "ECC_NIST_P256", Usage: "SIGN_VERIFY", State: "PendingDeletion"})
	b := func(n int) []byte { return bytes.Repeat([]byte{7}, n) }
	for name, test := range map[string]struct {
		op   string
		in   map[string]any
		code string
	}{
		"digest":               {"Sign", map[string]any{"KeyId": p256, "Message": b(32), "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}, ""},
		"by alias":             {"Sign", map[string]any{"KeyId": "alias/p256", "Message": b(100), "SigningAlgorithm": "ECDSA_SHA_256"}, ""},
		"short digest":         {"Sign", map[string]any{"KeyId": p256, "Message": b(31), "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}, "ValidationException"},
		"long message":         {"Sign", map[string]any{"KeyId": ed, "Message": b(4097), "SigningAlgorithm": "ED25519_SHA_512"}, "ValidationException"},
		"no message":           {"Sign", map[string]any{"KeyId": ed, "Message": b(0), "SigningAlgorithm": "ED25519_SHA_512"}, "ValidationException"},
		"Ed25519 with DIGEST":  {"Sign", map[string]any{"KeyId": ed, "Message": b(64), "MessageType": "DIGEST", "SigningAlgorithm": "ED25519_SHA_512"}, "ValidationException"},
		"ML-DSA with DIGEST":   {"Sign", map[string]any{"KeyId": mldsa, "Message": b(64), "MessageType": "DIGEST", "SigningAlgorithm": "ML_DSA_SHAKE_256"}, "ValidationException"},
		"short mu":             {"Sign", map[string]any{"KeyId": mldsa, "Message": b(63), "MessageType": "EXTERNAL_MU", "SigningAlgorithm": "ML_DSA_SHAKE_256"}, "ValidationException"},
		"another algorithm":    {"Sign", map[string]any{"KeyId": p256, "Message": b(48), "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_384"}, "InvalidKeyUsageException"},
		"another usage":        {"Encrypt", map[string]any{"KeyId": p256, "Plaintext": b(1)}, "InvalidKeyUsageException"},
		"disabled":             {"Sign", map[string]any{"KeyId": disabled, "Message": b(32), "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}, "DisabledException"},
		"public key, disabled": {"GetPublicKey", map[string]any{"KeyId": disabled}, ""},
		"pending deletion":     {"GetPublicKey", map[string]any{"KeyId": pending}, "KMSInvalidStateException"},
		"symmetric public key": {"GetPublicKey", map[string]any{"KeyId": aes}, "UnsupportedOperationException"},
		"long plaintext":       {"Encrypt", map[string]any{"KeyId": aes, "Plaintext": b(4097)}, "ValidationException"},
		"long ciphertext":      {"Decrypt", map[string]any{"KeyId": aes, "CiphertextBlob": b(6145)}, "ValidationException"},
		"no ciphertext":        {"Decrypt", map[string]any{"KeyId": aes, "CiphertextBlob": b(60)}, "InvalidCiphertextException"},
		"long context":         {"Encrypt", map[string]any{"KeyId": aes, "Plaintext": b(1), "EncryptionContext": map[string]string{"a": strings.Repeat("b", 8192)}}, "ValidationException"},
		"long MAC message":     {"GenerateMac", map[string]any{"KeyId": hmac, "Message": b(4097), "MacAlgorithm": "HMAC_SHA_256"}, "ValidationException"},
		"too many bytes":       {"GenerateRandom", map[string]any{"NumberOfBytes": 1025}, "ValidationException"},
		"dry run":              {"Sign", map[string]any{"KeyId": p256, "Message": b(32), "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256", "DryRun": true}, "DryRunOperationException"},
		"no such key":          {"DescribeKey", map[string]any{"KeyId": "alias/none"}, "NotFoundException"},
		"another Region's":     {"DescribeKey", map[string]any{"KeyId": strings.Replace(p256, DefaultRegion, "us-west-2", 1)}, "NotFoundException"},
		"another account's":    {"DescribeKey", map[string]any{"KeyId": strings.Replace(p256, Account, "999999999999", 1)}, "AccessDeniedException"},
		"malformed ARN":        {"DescribeKey", map[string]any{"KeyId": "arn:aws:s3:::bucket"}, "InvalidArnException"},
		"no key":               {"DescribeKey", map[string]any{}, "ValidationException"},
		"unknown operation":    {"Divine", map[string]any{}, "UnknownOperationException"},
		"bad spec":             {"CreateKey", map[string]any{"KeySpec": "RSA_1024", "KeyUsage": "SIGN_VERIFY"}, "ValidationException"},
		"bad alias":            {"CreateAlias", map[string]any{"AliasName": "p256", "TargetKeyId": p256}, "ValidationException"},
		"alias in use":         {"CreateAlias", map[string]any{"AliasName": "alias/p256", "TargetKeyId": p256}, "AlreadyExistsException"},
		"alias of the deleted": {"CreateAlias", map[string]any{"AliasName": "alias/x", "TargetKeyId": pending}, "KMSInvalidStateException"},
		"reserved tag":         {"CreateKey", map[string]any{"Tags": []tag{{"aws:x", "y"}}}, "TagException"},
		"short window":         {"ScheduleKeyDeletion", map[string]any{"KeyId": hmac, "PendingWindowInDays": 3}, "ValidationException"},
		"import into own":      {"GetParametersForImport", map[string]any{"KeyId": hmac, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}, "UnsupportedOperationException"},
	} {
		t.Run(name, func(t *testing.T) {
			_, code := s.do(t, test.op, test.in)
			assert.Equal(t, test.code, code)
		})
	}
}

// TestVerify: each algorithm verifies what it signed, and nothing else.
func TestVerify(t *testing.T) {
	s := start(t, nil)
	for spec, algorithms := range signing {
		if spec == "RSA_3072" || spec == "RSA_4096" {
			continue
		}
		arn := add(t, s, Key{Spec: spec, Usage: "SIGN_VERIFY"})
		for _, algorithm := range algorithms {
			message, kind := []byte("message"), "RAW"
			if algorithm == "ED25519_PH_SHA_512" {
				message, kind = bytes.Repeat([]byte{1}, 64), "DIGEST"
			}
			in := map[string]any{"KeyId": arn, "Message": message, "MessageType": kind, "SigningAlgorithm": algorithm}
			out, code := s.do(t, "Sign", in)
			require.Empty(t, code, algorithm)
			in["Signature"] = out["Signature"]
			out, code = s.do(t, "Verify", in)
			require.Empty(t, code, algorithm)
			assert.Equal(t, true, out["SignatureValid"])
			in["Message"] = bytes.Repeat([]byte{2}, 64)
			_, code = s.do(t, "Verify", in)
			assert.Equal(t, "KMSInvalidSignatureException", code, algorithm)
		}
	}
}

// TestFaults: each fault in both orders: what was asked for is done, or it isn't.
func TestFaults(t *testing.T) {
	s := start(t, nil)
	busy := &Error{Status: http.StatusServiceUnavailable, Code: "DependencyTimeoutException"}
	for _, after := range []bool{false, true} {
		before := len(s.States())
		s.Script.Add(fakecloud.Fault{Op: "CreateKey", After: after, Error: busy})
		_, code := s.do(t, "CreateKey", map[string]any{})
		assert.Equal(t, busy.Code, code)
		assert.Equal(t, after, len(s.States()) > before)
	}
	s.Script.Add(fakecloud.Fault{Op: "GenerateRandom", Corrupt: func(answer map[string]any) { answer["Plaintext"] = []byte{1} }})
	out, code := s.do(t, "GenerateRandom", map[string]any{"NumberOfBytes": 16})
	assert.Empty(t, code)
	assert.Equal(t, "AQ==", out["Plaintext"])
	assert.Zero(t, s.Script.Left())
	s.Deny("GenerateRandom")
	_, code = s.do(t, "GenerateRandom", map[string]any{"NumberOfBytes": 16})
	assert.Equal(t, "AccessDeniedException", code)
	_, code = s.do(t, "GenerateRandom", map[string]any{"NumberOfBytes": 16, "GrantTokens": []string{s.Grant()}})
	assert.Empty(t, code)
	s.Allow("GenerateRandom")
	_, code = s.do(t, "GenerateRandom", map[string]any{"NumberOfBytes": 16})
	assert.Empty(t, code)
	assert.Equal(t, 4, s.Log.Count("GenerateRandom"))
}

// TestPages: lists come in pages, and hold everything once.
func TestPages(t *testing.T) {
	s := start(t, &Options{PageSize: 2})
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		add(t, s, Key{Spec: "HMAC_256", Alias: "alias/" + name, Created: time.Now()})
	}
	for op, member := range map[string]string{"ListKeys": "Keys", "ListAliases": "Aliases"} {
		seen, marker := 0, ""
		for pages := 0; ; pages++ {
			require.Less(t, pages, 10)
			in := map[string]any{"Limit": 100}
			if marker != "" {
				in["Marker"] = marker
			}
			out, code := s.do(t, op, in)
			require.Empty(t, code)
			seen += len(out[member].([]any))
			if out["Truncated"] == false {
				break
			}
			marker = out["NextMarker"].(string)
		}
		assert.GreaterOrEqual(t, seen, 5, op)
	}
	_, code := s.do(t, "ListKeys", map[string]any{"Marker": "nowhere"})
	assert.Equal(t, "InvalidMarkerException", code)
}
