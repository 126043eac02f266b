package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

func play(t *testing.T, f flags) (string, error) {
	t.Helper()
	var out strings.Builder
	err := run(t.Context(), f, &out)
	return out.String(), err
}

// checkStory checks that every step was told.
func checkStory(t *testing.T, story string) {
	t.Helper()
	for _, step := range []string{
		"root certificate", "intermediate certificate", "leaf certificate", "TLS handshake", `server said "hello"`,
		"signed", "vault:v1:", "valid; of a changed text: invalid", "encrypted", `"the card number"`, "denied to team-b:", "denied to transit:",
	} {
		assert.Contains(t, story, step)
	}
}

func TestStory(t *testing.T) {
	story, err := play(t, flags{})
	require.NoError(t, err)
	checkStory(t, story)
	assert.Contains(t, story, "software keys in memory")
}

func TestStoryOnFakes(t *testing.T) {
	for cloud, name := range map[string]string{"aws": "AWS KMS", "azure": "Azure Key Vault", "gcp": "Google Cloud KMS"} {
		t.Run(cloud, func(t *testing.T) {
			story, err := play(t, flags{fake: cloud})
			require.NoError(t, err)
			checkStory(t, story)
			assert.Contains(t, story, "a fake of "+name)
		})
	}
}

func TestStoryOnTokens(t *testing.T) {
	token := softhsm.Require(t)
	for range 2 { // the second time the keys are there
		story, err := play(t, flags{module: token.Module, token: token.Label, pin: backend.Secret(token.PIN)})
		require.NoError(t, err)
		checkStory(t, story)
		assert.NotContains(t, story, token.PIN)
	}
}

// newCSR returns a request in PEM for www.example.com.
func newCSR(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "www.example.com"}, DNSNames: []string{"www.example.com"}}, key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key
}

func readPEM(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	block, rest := pem.Decode(data)
	require.NotNil(t, block)
	require.Empty(t, rest)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}

func TestCSR(t *testing.T) {
	dir, csr, key := filepath.Join(t.TempDir(), "made", "here"), filepath.Join(t.TempDir(), "req.pem"), newKey(t, elliptic.P256())
	require.NoError(t, os.WriteFile(csr, newCSR(t, key), 0o600))
	story, err := play(t, flags{csr: csr, out: dir})
	require.NoError(t, err)
	assert.Contains(t, story, "DNS:www.example.com")

	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(readPEM(t, filepath.Join(dir, "root.pem")))
	intermediates.AddCert(readPEM(t, filepath.Join(dir, "intermediate.pem")))
	leaf := readPEM(t, filepath.Join(dir, "leaf.pem"))
	assert.True(t, key.PublicKey.Equal(leaf.PublicKey))
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: "www.example.com"})
	require.NoError(t, err)
	assert.Len(t, chains[0], 3)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	assert.True(t, slices.Equal([]string{"crl.pem", "intermediate.pem", "leaf.pem", "root.pem"}, names), "%v", names)
}

// TestOpenSSL is the main job on real input: a request made by OpenSSL, signed by CAs on a token, verified by OpenSSL.
func TestOpenSSL(t *testing.T) {
	requires.Tool(t, "openssl", "openssl")
	token := softhsm.Require(t)
	dir := t.TempDir()
	openssl := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "openssl %v: %s", args, out)
		return string(out)
	}
	openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "req.pem",
		"-subj", "/CN=www.example.com", "-addext", "subjectAltName=DNS:www.example.com,IP:192.0.2.1")
	_, err := play(t, flags{module: token.Module, token: token.Label, pin: backend.Secret(token.PIN), csr: filepath.Join(dir, "req.pem"), out: dir})
	require.NoError(t, err)
	assert.Contains(t, openssl("verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "intermediate.pem", "leaf.pem"), "leaf.pem: OK")
	assert.Contains(t, openssl("verify", "-crl_check_all", "-CRLfile", "crl.pem", "-CAfile", "root.pem", "-untrusted", "intermediate.pem", "leaf.pem"), "leaf.pem: OK")
	assert.Contains(t, openssl("crl", "-in", "crl.pem", "-CAfile", "intermediate.pem", "-verify", "-noout"), "verify OK")
}

// TestBadInput checks that each mistake is a clear error and that nothing is written.
func TestBadInput(t *testing.T) {
	token := softhsm.Require(t)
	in := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(in, name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	good := newCSR(t, newKey(t, elliptic.P256()))
	block, _ := pem.Decode(good)
	broken := slices.Clone(block.Bytes)
	broken[len(broken)-1] ^= 1
	const wrongPIN = "0000-wrong"
	for name, test := range map[string]struct {
		flags flags
		text  string
	}{
		"csr without out":  {flags{csr: "x"}, "together"},
		"out without csr":  {flags{out: "x"}, "together"},
		"stray argument":   {flags{rest: []string{"x"}}, "no other arguments"},
		"both tokens":      {flags{softhsm: true, module: token.Module}, "give one of"},
		"token and fake":   {flags{softhsm: true, fake: "aws"}, "give one of"},
		"unknown fake":     {flags{fake: "ibm"}, "aws, azure or gcp"},
		"token alone":      {flags{token: "x"}, "go with -pkcs11-module"},
		"module alone":     {flags{module: token.Module}, "-token LABEL and -pin PIN"},
		"no such file":     {flags{csr: filepath.Join(in, "absent")}, "no such file"},
		"empty CSR":        {flags{csr: file("empty", nil)}, "0 bytes"},
		"text":             {flags{csr: file("text", []byte("hello"))}, "neither DER nor PEM"},
		"broken signature": {flags{csr: file("broken", broken)}, "signature"},
		"P-224 key":        {flags{csr: file("p224", newCSR(t, newKey(t, elliptic.P224())))}, "P-224"},
		"missing module":   {flags{module: filepath.Join(in, "absent.so"), token: "t", pin: "p"}, "absent.so"},
		"no module":        {flags{module: file("module.so", []byte("text")), token: "t", pin: "p"}, "module.so"},
		"missing token":    {flags{module: token.Module, token: "absent", pin: "p"}, "absent"},
		"wrong PIN":        {flags{module: token.Module, token: token.Label, pin: wrongPIN}, "CKR_PIN_INCORRECT"},
		"unset PIN":        {flags{module: token.Module, token: token.Label, pin: "env:MANAGEDKEYS_UNSET"}, "MANAGEDKEYS_UNSET"},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			if test.flags.csr != "" && test.flags.csr != "x" {
				test.flags.out = out
			}
			_, err := play(t, test.flags)
			require.Error(t, err)
			assert.ErrorContains(t, err, test.text)
			assert.NotContains(t, err.Error(), wrongPIN)
			assert.NoFileExists(t, out)
			assert.NoDirExists(t, out)
		})
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out strings.Builder
	assert.ErrorIs(t, run(ctx, flags{}, &out), context.Canceled)
}
