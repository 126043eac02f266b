package httpapi

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// stock is what the Go clients of Vault and of OpenBao have in common.
type stock interface {
	write(path string, data object) (object, error)
	read(path string, query map[string][]string) (object, error) // nil if there is nothing
	list(path string) ([]any, error)
	remove(path string) error
}

type vaultClient struct{ *vault.Client }

func vaultData(s *vault.Secret, err error) (object, error) {
	if s == nil || err != nil {
		return nil, err
	}
	return s.Data, nil
}

func (c vaultClient) write(path string, data object) (object, error) {
	return vaultData(c.Logical().Write(path, data))
}
func (c vaultClient) read(path string, query map[string][]string) (object, error) {
	return vaultData(c.Logical().ReadWithData(path, query))
}
func (c vaultClient) list(path string) ([]any, error) {
	data, err := vaultData(c.Logical().List(path))
	keys, _ := data["keys"].([]any)
	return keys, err
}
func (c vaultClient) remove(path string) error { _, err := c.Logical().Delete(path); return err }

type baoClient struct{ *bao.Client }

func baoData(s *bao.Secret, err error) (object, error) {
	if s == nil || err != nil {
		return nil, err
	}
	return s.Data, nil
}

func (c baoClient) write(path string, data object) (object, error) {
	return baoData(c.Logical().Write(path, data))
}
func (c baoClient) read(path string, query map[string][]string) (object, error) {
	return baoData(c.Logical().ReadWithData(path, query))
}
func (c baoClient) list(path string) ([]any, error) {
	data, err := baoData(c.Logical().List(path))
	keys, _ := data["keys"].([]any)
	return keys, err
}
func (c baoClient) remove(path string) error { _, err := c.Logical().Delete(path); return err }

// clients returns a client of each kind, which trusts the server's certificate.
func (g *rig) clients() map[string]stock {
	g.Helper()
	one := vault.DefaultConfig()
	require.NoError(g, one.Error)
	one.Address, one.MaxRetries = g.server.URL, 0
	require.NoError(g, one.ConfigureTLS(&vault.TLSConfig{CACertBytes: g.caPEM()}))
	v, err := vault.NewClient(one)
	require.NoError(g, err)
	v.SetToken(rootToken)
	other := bao.DefaultConfig()
	require.NoError(g, other.Error)
	other.Address, other.MaxRetries = g.server.URL, 0
	require.NoError(g, other.ConfigureTLS(&bao.TLSConfig{CACertBytes: g.caPEM()}))
	b, err := bao.NewClient(other)
	require.NoError(g, err)
	b.SetToken(rootToken)
	g.Cleanup(func() { one.HttpClient.CloseIdleConnections(); other.HttpClient.CloseIdleConnections() })
	return map[string]stock{"vault": vaultClient{v}, "bao": baoClient{b}}
}

// driver makes calls of a stock client that must succeed.
type driver struct {
	*testing.T
	stock
}

func (d driver) must(path string, data object) object {
	d.Helper()
	out, err := d.write("transit/"+path, data)
	require.NoError(d, err, path)
	return out
}

func (d driver) get(path string) object {
	d.Helper()
	out, err := d.read("transit/"+path, nil)
	require.NoError(d, err, path)
	require.NotNil(d, out, path)
	return out
}

// refused makes a call that must be refused with these words.
func (d driver) refused(path string, data object, text string) {
	d.Helper()
	_, err := d.write("transit/"+path, data)
	require.ErrorContains(d, err, text, path)
}

// only returns the single element of keys of an export.
func (d driver) only(path string) string {
	d.Helper()
	keys := d.get(path)["keys"].(object)
	require.Len(d, keys, 1)
	for _, key := range keys {
		return key.(string)
	}
	return ""
}

// TestStockClients has each client go through every route.
func TestStockClients(t *testing.T) {
	g := newRig(t, nil, func(o *Options) { o.AllowPKCS1v15 = true })
	tried := make(map[string]bool)
	for name, client := range g.clients() {
		t.Run(name, func(t *testing.T) {
			d := driver{t, client}
			driveKeys(d, name)
			driveCiphers(d, name)
			driveSignatures(d, name)
			driveMaterial(d, name)
			driveRest(d, name)
			tried[name] = true
		})
	}
	assert.Len(t, tried, 2)
}

// TestCurl is the shell's way to ask.
func TestCurl(t *testing.T) {
	requires.Tool(t, "curl", "curl")
	g := newRig(t, nil, nil)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, g.caPEM(), 0o600))
	curl := func(args ...string) string {
		t.Helper()
		base := []string{"-sS", "--fail-with-body", "--cacert", ca, "-H", "X-Vault-Token: " + rootToken}
		out, err := exec.CommandContext(t.Context(), "curl", append(base, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	url := g.url + "transit/"
	assert.Contains(t, curl("-X", "POST", url+"keys/k"), `"latest_version":1`)
	assert.Contains(t, curl("-d", `{"plaintext":"aGVsbG8="}`, url+"encrypt/k"), `"ciphertext":"vault:v1:`)
	assert.Contains(t, curl("-X", "PUT", "-d", `{"input":"aGVsbG8="}`, url+"hmac/k/sha2-512"), `"hmac":"vault:v1:`)
	assert.Contains(t, curl("-X", "LIST", url+"keys"), `"keys":["k"]`)
	assert.Contains(t, curl(url+"keys?list=true"), `"keys":["k"]`)
	assert.Contains(t, curl("-d", `{"input":"aGVsbG8="}`, url+"hash"), `"sum":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"`)
}
