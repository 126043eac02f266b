package httpapi_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"testing"

	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stock is what the Go clients of Vault and of OpenBao have in common.
type stock interface {
	write(path string, data map[string]any) (out map[string]any, warnings []string, err error)
	patch(path string, data map[string]any) (map[string]any, error)
	read(path string) (map[string]any, error) // nil if there is nothing
	raw(path string) ([]byte, error)
	list(path string) ([]any, error)
	remove(path string) error
}

type vaultClient struct{ *vault.Client }

func (g *rig) vault() stock {
	config := vault.DefaultConfig()
	require.NoError(g, config.Error)
	config.Address, config.MaxRetries = g.url, 0
	require.NoError(g, config.ConfigureTLS(&vault.TLSConfig{CACertBytes: g.pool}))
	c, err := vault.NewClient(config)
	require.NoError(g, err)
	g.Cleanup(config.HttpClient.CloseIdleConnections)
	c.SetToken(rootToken)
	return vaultClient{c}
}

func (c vaultClient) write(path string, data map[string]any) (map[string]any, []string, error) {
	s, err := c.Logical().Write(path, data)
	if s == nil {
		return nil, nil, err
	}
	return s.Data, s.Warnings, err
}
func (c vaultClient) patch(path string, data map[string]any) (map[string]any, error) {
	s, err := c.Logical().JSONMergePatch(context.Background(), path, data)
	if s == nil {
		return nil, err
	}
	return s.Data, err
}
func (c vaultClient) read(path string) (map[string]any, error) {
	s, err := c.Logical().Read(path)
	if s == nil {
		return nil, err
	}
	return s.Data, err
}
func (c vaultClient) raw(path string) ([]byte, error) {
	resp, err := c.Logical().ReadRaw(path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
func (c vaultClient) list(path string) ([]any, error) {
	s, err := c.Logical().List(path)
	if s == nil {
		return nil, err
	}
	keys, _ := s.Data["keys"].([]any)
	return keys, err
}
func (c vaultClient) remove(path string) error { _, err := c.Logical().Delete(path); return err }

type baoClient struct{ *bao.Client }

func (g *rig) bao() stock {
	config := bao.DefaultConfig()
	require.NoError(g, config.Error)
	config.Address, config.MaxRetries = g.url, 0
	require.NoError(g, config.ConfigureTLS(&bao.TLSConfig{CACertBytes: g.pool}))
	c, err := bao.NewClient(config)
	require.NoError(g, err)
	g.Cleanup(config.HttpClient.CloseIdleConnections)
	c.SetToken(rootToken)
	return baoClient{c}
}

func (c baoClient) write(path string, data map[string]any) (map[string]any, []string, error) {
	s, err := c.Logical().Write(path, data)
	if s == nil {
		return nil, nil, err
	}
	return s.Data, s.Warnings, err
}
func (c baoClient) patch(path string, data map[string]any) (map[string]any, error) {
	s, err := c.Logical().JSONMergePatch(context.Background(), path, data)
	if s == nil {
		return nil, err
	}
	return s.Data, err
}
func (c baoClient) read(path string) (map[string]any, error) {
	s, err := c.Logical().Read(path)
	if s == nil {
		return nil, err
	}
	return s.Data, err
}
func (c baoClient) raw(path string) ([]byte, error) {
	resp, err := c.Logical().ReadRaw(path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
func (c baoClient) list(path string) ([]any, error) {
	s, err := c.Logical().List(path)
	if s == nil {
		return nil, err
	}
	keys, _ := s.Data["keys"].([]any)
	return keys, err
}
func (c baoClient) remove(path string) error { _, err := c.Logical().Delete(path); return err }

// TestStockClients: the Go clients of Vault and OpenBao do what their users do, with TLS: root, intermediate from another mount, role,
// issue, sign, revoke, CRL.
func TestStockClients(t *testing.T) {
	for name, client := range map[string]func(*rig) stock{"vault": (*rig).vault, "openbao": (*rig).bao} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, nil)
			g.mount("sub", "sub")
			useStock(t, client(g))
		})
	}
}

func useStock(t *testing.T, c stock) {
	write := func(path string, data map[string]any) map[string]any {
		t.Helper()
		out, _, err := c.write(path, data)
		require.NoError(t, err, path)
		return out
	}
	one := func(data map[string]any, name string) *x509.Certificate { return parse(t, data[name].(string)) }
	nothing, err := c.read("pki/roles/web")
	require.NoError(t, err)
	assert.Nil(t, nothing)
	root := one(write("pki/root/generate/kms", map[string]any{"common_name": "Root", "managed_key_name": "root", "ttl": "8760h"}), "certificate")
	write("pki/config/urls", map[string]any{"issuing_certificates": []string{"http://pki.example/ca"}, "crl_distribution_points": "http://pki.example/crl"})
	request := write("sub/intermediate/generate/kms", map[string]any{"common_name": "Sub", "managed_key_name": "sub"})
	signed := write("pki/root/sign-intermediate", map[string]any{"csr": request["csr"], "common_name": "Sub", "ttl": "4000h", "format": "pem_bundle"})
	imported := write("sub/intermediate/set-signed", map[string]any{"certificate": signed["certificate"]})
	require.Len(t, imported["imported_issuers"], 1)
	sub := one(signed, "certificate")
	require.NoError(t, sub.CheckSignatureFrom(root))
	assert.Equal(t, []string{"http://pki.example/crl"}, sub.CRLDistributionPoints)

	write("sub/roles/web", map[string]any{"allowed_domains": []string{"example.com"}, "allow_subdomains": true, "key_type": "ec", "ttl": "24h"})
	changed, err := c.patch("sub/roles/web", map[string]any{"max_ttl": "48h"})
	require.NoError(t, err)
	assert.Equal(t, true, changed["allow_subdomains"], "it stays")
	role, err := c.read("sub/roles/web")
	require.NoError(t, err)
	assert.Equal(t, changed, role)
	keys, err := c.list("sub/roles")
	require.NoError(t, err)
	assert.Equal(t, []any{"web"}, keys)
	issued := write("sub/issue/web", map[string]any{"common_name": "www.example.com"})
	text, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example.com"}})
	leaf := one(write("sub/sign/web", map[string]any{"csr": text, "ttl": "1h"}), "certificate")
	assert.Equal(t, []string{"a.example.com"}, leaf.DNSNames)
	_, _, err = c.write("sub/issue/web", map[string]any{"common_name": "www.example.net"})
	assert.ErrorContains(t, err, "allowed_domains")
	assert.ErrorContains(t, err, "Code: 400")

	write("sub/revoke", map[string]any{"serial_number": issued["serial_number"]})
	der, err := c.raw("sub/crl")
	require.NoError(t, err)
	crl, err := x509.ParseRevocationList(der)
	require.NoError(t, err)
	require.NoError(t, crl.CheckSignatureFrom(sub))
	require.Len(t, crl.RevokedCertificateEntries, 1)
	issuers, err := c.list("sub/issuers")
	require.NoError(t, err)
	assert.Equal(t, imported["imported_issuers"], issuers)
	out, err := c.patch("sub/issuer/default", map[string]any{"issuer_name": "first", "leaf_not_after_behavior": "truncate"})
	require.NoError(t, err)
	assert.Equal(t, "truncate", out["leaf_not_after_behavior"])
	write("sub/config/issuers", map[string]any{"default": "first"})
	rotated, err := c.read("sub/crl/rotate")
	require.NoError(t, err)
	assert.Equal(t, true, rotated["success"])
	require.NoError(t, c.remove("sub/roles/web"))
	require.NoError(t, c.remove("sub/roles/web"), "what isn't there is gone as well")
}
