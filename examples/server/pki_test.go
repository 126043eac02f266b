package main

import (
	"crypto/x509"
	"encoding/pem"
	"testing"

	vault "github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPKI: a mount is a certificate authority, on a managed key, or on one in software if the mount allows that.
func TestPKI(t *testing.T) {
	address, token, _ := start(t, flags{})
	config := vault.DefaultConfig()
	config.Address, config.MaxRetries = "http://"+address, 0
	c, err := vault.NewClient(config)
	require.NoError(t, err)
	defer config.HttpClient.CloseIdleConnections()
	c.SetToken(token)
	write := func(path string, data map[string]any) (map[string]any, error) {
		s, err := c.Logical().Write(path, data)
		if s == nil {
			return nil, err
		}
		return s.Data, err
	}
	_, err = write("sys/managed-keys/software/ca", map[string]any{"key_name": "ca", "key_type": "ECDSA", "curve": "P256", "allow_generate_key": true})
	require.NoError(t, err)
	require.NoError(t, c.Sys().Mount("pki", &vault.MountInput{Type: "pki", Config: vault.MountConfigInput{AllowedManagedKeys: []string{"ca"}}}))
	root, err := write("pki/root/generate/kms", map[string]any{"common_name": "Example Root", "managed_key_name": "ca"})
	require.NoError(t, err)
	_, err = write("pki/roles/web", map[string]any{"allow_any_name": true, "key_type": "ec"})
	require.NoError(t, err)
	issued, err := write("pki/issue/web", map[string]any{"common_name": "www.example.com"})
	require.NoError(t, err)
	var certs []*x509.Certificate
	for _, text := range []any{issued["certificate"], root["certificate"]} {
		block, _ := pem.Decode([]byte(text.(string)))
		cert, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		certs = append(certs, cert)
	}
	require.NoError(t, certs[0].CheckSignatureFrom(certs[1]))

	_, err = write("pki/root/generate/internal", map[string]any{"common_name": "Soft"})
	assert.ErrorContains(t, err, "software_keys")
	require.NoError(t, c.Sys().Mount("soft", &vault.MountInput{Type: "pki", Options: map[string]string{"software_keys": "true"}}))
	for kind, bits := range map[string]int{"rsa": 3072, "ec": 384, "ed25519": 0} {
		_, err = write("soft/root/generate/internal", map[string]any{"common_name": "Soft " + kind, "key_type": kind, "key_bits": bits})
		require.NoError(t, err)
	}
	out, err := write("soft/root/generate/exported", map[string]any{"common_name": "Soft"})
	require.NoError(t, err)
	assert.Contains(t, out["private_key"], "PRIVATE KEY")
	_, err = write("pki/root/generate/exported", map[string]any{"common_name": "Soft"})
	assert.ErrorContains(t, err, "software_keys")
	require.NoError(t, c.Sys().Unmount("pki"))
}
