package httpapi

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// exportOf returns the one key of an export.
func (g *rig) exportOf(path string) string {
	g.Helper()
	keys := g.get(200, "export/"+path).data["keys"].(object)
	require.Len(g, keys, 1)
	return keys["1"].(string)
}

// TestExportForms: what exports look like is what scripts parse.
func TestExportForms(t *testing.T) {
	g := newRig(t, nil, nil)
	for _, kind := range []string{"ed25519", "ecdsa-p256", "rsa-2048", "aes256-gcm96"} {
		g.post(200, "keys/"+kind, object{"type": kind, "exportable": true})
	}
	g.post(200, "keys/hmac", object{"type": "hmac", "key_size": 64, "exportable": true})

	shown := g.get(200, "keys/ed25519").data["keys"].(object)["1"].(object)["public_key"].(string)
	for _, form := range []string{"", "?format=raw"} {
		assert.Equal(t, shown, g.exportOf("public-key/ed25519"+form), "as the key is read")
	}
	bare, err := base64.StdEncoding.DecodeString(shown)
	require.NoError(t, err)
	der, err := base64.StdEncoding.DecodeString(g.exportOf("public-key/ed25519?format=der"))
	require.NoError(t, err)
	public, err := x509.ParsePKIXPublicKey(der)
	require.NoError(t, err)
	assert.Equal(t, ed25519.PublicKey(bare), public)
	private, err := base64.StdEncoding.DecodeString(g.exportOf("signing-key/ed25519"))
	require.NoError(t, err)
	assert.Equal(t, ed25519.PublicKey(bare), ed25519.PrivateKey(private).Public())

	for path, kind := range map[string]string{
		"public-key/ed25519?format=pem": "PUBLIC KEY", "signing-key/ed25519?format=pem": "PRIVATE KEY",
		"public-key/ecdsa-p256": "PUBLIC KEY", "signing-key/ecdsa-p256": "EC PRIVATE KEY", "signing-key/ecdsa-p256?format=pem": "PRIVATE KEY",
		"public-key/rsa-2048": "PUBLIC KEY", "encryption-key/rsa-2048": "RSA PRIVATE KEY", "signing-key/rsa-2048?format=pem": "PRIVATE KEY",
	} {
		text := g.exportOf(path)
		assert.True(t, strings.HasPrefix(text, "-----BEGIN "+kind+"-----\n"), "%s: %s", path, text)
		assert.Equal(t, strings.Contains(path, "rsa"), strings.HasSuffix(text, "\n"), "%s: those of RSA alone end with a line feed", path)
		if strings.HasSuffix(path, "pem") {
			block, _ := pem.Decode([]byte(text))
			assert.Equal(t, base64.StdEncoding.EncodeToString(block.Bytes), g.exportOf(strings.Replace(path, "pem", "der", 1)), path)
		}
	}
	for _, path := range []string{"public-key/rsa-2048?format=raw", "encryption-key/aes256-gcm96?format=der", "hmac-key/hmac?format=pem",
		"public-key/ed25519?format=jwk", "public-key/ed25519?format=der&format=pem"} {
		assert.Contains(t, g.get(400, "export/"+path).errors[0], "format", path)
	}
	assert.Equal(t, g.exportOf("encryption-key/aes256-gcm96"), g.exportOf("encryption-key/aes256-gcm96?format=raw"))
}

// TestVersionsThatCanBeUsed: reading a key shows no version that min_decryption_version has left behind.
func TestVersionsThatCanBeUsed(t *testing.T) {
	g := newRig(t, nil, nil)
	g.post(200, "keys/k", nil)
	g.post(200, "keys/k/rotate", nil)
	g.post(200, "keys/k/rotate", nil)
	assert.Len(t, g.get(200, "keys/k").data["keys"], 3)
	assert.Len(t, g.post(200, "keys/k/config", object{"min_decryption_version": 2}).data["keys"], 2)
	assert.NotContains(t, g.get(200, "keys/k").data["keys"], "1")
	g.post(200, "keys/k/config", object{"min_decryption_version": 1})
	assert.Len(t, g.get(200, "keys/k").data["keys"], 3)
}
