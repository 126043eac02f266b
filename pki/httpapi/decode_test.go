package httpapi

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzPEM: bundles and keys are taken apart or refused, and no refusal shows what was sent.
func FuzzPEM(f *testing.F) {
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f, err)
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(f, err)
	f.Add(block("EC PRIVATE KEY", der))
	der, err = x509.MarshalPKCS8PrivateKey(key)
	require.NoError(f, err)
	f.Add(block("PRIVATE KEY", der))
	f.Add(block("CERTIFICATE", der) + block("X509 CRL", nil))
	f.Add("text\n" + block("CERTIFICATE", []byte{0x30, 0}) + "-----BEGIN CERTIFICATE-----\nAAAA")
	f.Add(strings.ReplaceAll(block("CERTIFICATE", der), "\n", `\n`))
	f.Fuzz(func(t *testing.T, text string) {
		if certs, err := certificates("f", text); err == nil && len(certs) == 0 || len(certs) > maxBundle {
			t.Errorf("%d certificates and no error", len(certs))
		}
		if key, err := privateKey("f", text); err == nil && key.Public() == nil {
			t.Error("a key without a public half")
		} else if err != nil && len(err.Error()) > 300 {
			t.Errorf("a long error: %v", err)
		}
	})
}

// TestAlgorithm: what of the asked hashes a kind of key has.
func TestAlgorithm(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	edKey, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for _, c := range []struct {
		key  any
		bits int
		pss  bool
		want x509.SignatureAlgorithm
		text string
	}{
		{rsaKey.Public(), 0, false, 0, ""},
		{rsaKey.Public(), 0, true, x509.SHA256WithRSAPSS, ""},
		{rsaKey.Public(), 384, true, x509.SHA384WithRSAPSS, ""},
		{rsaKey.Public(), 384, false, x509.SHA384WithRSA, ""},
		{ecKey.Public(), 512, false, x509.ECDSAWithSHA512, ""},
		{ecKey.Public(), 0, true, 0, "use_pss"},
		{edKey, 0, false, 0, ""},
		{edKey, 256, false, 0, "signature_bits"},
		{edKey, 0, true, 0, "use_pss"},
		{rsaKey.Public(), 160, false, 0, "signature_bits"},
	} {
		got, err := algorithm(c.key, c.bits, c.pss)
		if c.text != "" {
			assert.ErrorContains(t, err, c.text)
			continue
		}
		assert.NoError(t, err)
		assert.Equal(t, c.want, got)
	}
}

// TestSpan: times are shown as people write them.
func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{72 * time.Hour: "72h", 90 * time.Minute: "90m", 45 * time.Second: "45s", 0: "0s", 1500 * time.Millisecond: "1.5s"} {
		assert.Equal(t, want, span(d))
	}
}

// TestRoutes: no two routes have the same path, and each finds itself.
func TestRoutes(t *testing.T) {
	seen := make(map[string]bool)
	for _, group := range [][]route{rootRoutes, issuerRoutes, keyRoutes, roleRoutes, leafRoutes, certRoutes, crlRoutes, crlSignRoutes, responderRoutes, configRoutes, tidyRoutes} {
		for i := range group {
			r := &group[i]
			assert.False(t, seen[r.path], r.path)
			seen[r.path] = true
			assert.Same(t, r, routes().find(strings.NewReplacer(":", "x", "*", "y/").Replace(r.path), nil), r.path)
			assert.NotEmpty(t, r.allowed(), r.path)
		}
	}
	assert.Greater(t, len(seen), 60)
	for _, path := range []string{"", "/", "root/", "issuer", "issuer/a/b/c/d", "cert", "cert/1/raw/pem/x"} {
		assert.Nil(t, routes().find(path, nil), path)
	}
	var params []param
	routes().find("issuer/i/sign/r", &params)
	assert.ElementsMatch(t, []param{{"ref", "i"}, {"role", "r"}}, params)
}
