package fakeaws

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// cli is the AWS command-line client, which is written in another language than the SDK of the backend.
type cli struct {
	t    *testing.T
	path string
	env  []string
}

func newCLI(t *testing.T, s *Server) cli {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "AWS_") })
	return cli{t, requires.Tool(t, "awscli", "aws"), append(env, "AWS_CONFIG_FILE="+none, "AWS_SHARED_CREDENTIALS_FILE="+none,
		"AWS_ACCESS_KEY_ID="+AccessKey, "AWS_SECRET_ACCESS_KEY="+SecretKey, "AWS_DEFAULT_REGION="+DefaultRegion,
		"AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1")}
}

// run runs a command of "aws kms" and returns the answer's members, or what it says of an error.
func (c cli) run(s *Server, args ...string) (map[string]any, string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.path, append([]string{"--endpoint-url", s.URL(), "--output", "json", "kms"}, args...)...)
	cmd.Env = c.env
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return nil, complaints.String()
	}
	answer := make(map[string]any)
	if out.Len() > 0 {
		require.NoError(c.t, json.Unmarshal(out.Bytes(), &answer))
	}
	return answer, ""
}

func (c cli) must(s *Server, args ...string) map[string]any {
	c.t.Helper()
	answer, complaint := c.run(s, args...)
	require.Empty(c.t, complaint, "%v", args)
	return answer
}

func (c cli) bytes(answer map[string]any, member string) []byte {
	c.t.Helper()
	out, err := base64.StdEncoding.DecodeString(answer[member].(string))
	require.NoError(c.t, err)
	return out
}

// file writes bytes to a file and returns how the client is told to read it.
func (c cli) file(content []byte) string {
	c.t.Helper()
	f, err := os.CreateTemp(c.t.TempDir(), "")
	require.NoError(c.t, err)
	_, err = f.Write(content)
	require.NoError(c.t, err)
	require.NoError(c.t, f.Close())
	return "fileb://" + f.Name()
}

// TestCommandLine: the stock command-line client makes, finds, disables and uses keys of the server.
func TestCommandLine(t *testing.T) {
	s := start(t, nil)
	c := newCLI(t, s)
	meta := c.must(s, "create-key", "--key-spec", "ECC_NIST_P256", "--key-usage", "SIGN_VERIFY", "--tags", "TagKey=a,TagValue=b")["KeyMetadata"].(map[string]any)
	arn := meta["Arn"].(string)
	assert.Equal(t, "Enabled", meta["KeyState"])
	c.must(s, "create-alias", "--alias-name", "alias/cli", "--target-key-id", arn)
	assert.Len(t, c.must(s, "list-aliases")["Aliases"], 2)

	digest := sha256.Sum256([]byte("message"))
	signed := c.must(s, "sign", "--key-id", "alias/cli", "--message", c.file(digest[:]), "--message-type", "DIGEST", "--signing-algorithm", "ECDSA_SHA_256")
	pub, err := x509.ParsePKIXPublicKey(c.bytes(c.must(s, "get-public-key", "--key-id", arn), "PublicKey"))
	require.NoError(t, err)
	assert.True(t, ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), digest[:], c.bytes(signed, "Signature")))

	c.must(s, "disable-key", "--key-id", arn)
	_, complaint := c.run(s, "sign", "--key-id", arn, "--message", c.file(digest[:]), "--message-type", "DIGEST", "--signing-algorithm", "ECDSA_SHA_256")
	assert.Contains(t, complaint, "DisabledException")

	symmetric := c.must(s, "create-key")["KeyMetadata"].(map[string]any)["KeyId"].(string)
	sealed := c.must(s, "encrypt", "--key-id", symmetric, "--plaintext", c.file([]byte("secret")), "--encryption-context", "a=b")
	opened := c.must(s, "decrypt", "--ciphertext-blob", c.file(c.bytes(sealed, "CiphertextBlob")), "--encryption-context", "a=b")
	assert.Equal(t, "secret", string(c.bytes(opened, "Plaintext")))
}

// TestCommandLineImport: key material that was encrypted to the server's key is what the key then has.
func TestCommandLineImport(t *testing.T) {
	s := start(t, nil)
	c := newCLI(t, s)
	secret := bytes.Repeat([]byte{3}, 32)
	made := c.must(s, "create-key", "--origin", "EXTERNAL", "--key-spec", "HMAC_256", "--key-usage", "GENERATE_VERIFY_MAC")["KeyMetadata"].(map[string]any)
	id := made["KeyId"].(string)
	assert.Equal(t, "PendingImport", made["KeyState"])
	to := c.must(s, "get-parameters-for-import", "--key-id", id, "--wrapping-algorithm", "RSAES_OAEP_SHA_256", "--wrapping-key-spec", "RSA_2048")
	pub, err := x509.ParsePKIXPublicKey(c.bytes(to, "PublicKey"))
	require.NoError(t, err)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub.(*rsa.PublicKey), secret, nil)
	require.NoError(t, err)
	c.must(s, "import-key-material", "--key-id", id, "--encrypted-key-material", c.file(wrapped), "--import-token", c.file(c.bytes(to, "ImportToken")),
		"--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE")
	mac := c.must(s, "generate-mac", "--key-id", id, "--message", c.file([]byte("message")), "--mac-algorithm", "HMAC_SHA_256")
	want := hmac.New(sha256.New, secret)
	want.Write([]byte("message"))
	assert.Equal(t, want.Sum(nil), c.bytes(mac, "Mac"))
}
