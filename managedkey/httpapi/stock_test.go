package httpapi

import (
	"errors"
	"net/http/httptest"
	"testing"

	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey"
)

// stock is what the Go clients of Vault and of OpenBao have in common.
type stock interface {
	write(path string, data map[string]any) (map[string]any, error)
	read(path string) (map[string]any, error) // nil if there is nothing
	list(path string) ([]any, error)
	remove(path string) error
	mount(path, kind, description string, allowed []string) error
	tune(path, description string, allowed []string) error
	mounts() (map[string]string, error) // descriptions by path
	allowed(path string) ([]string, error)
	unmount(path string) error
	remount(from, to string) error
	health() (ready bool, version string, err error)
	self() (map[string]any, error)
	may(path string) ([]string, error)
	in(ns string) stock
	as(token string) stock
}

type vaultClient struct{ *vault.Client }

func newVault(t *testing.T, url string, pool []byte) stock {
	t.Helper()
	config := vault.DefaultConfig()
	require.NoError(t, config.Error)
	config.Address, config.MaxRetries = url, 0
	if pool != nil {
		require.NoError(t, config.ConfigureTLS(&vault.TLSConfig{CACertBytes: pool}))
	}
	c, err := vault.NewClient(config)
	require.NoError(t, err)
	t.Cleanup(config.HttpClient.CloseIdleConnections)
	c.SetToken(rootToken)
	return vaultClient{c}
}

func vaultData(s *vault.Secret, err error) (map[string]any, error) {
	if s == nil || err != nil {
		return nil, err
	}
	return s.Data, nil
}

func (c vaultClient) write(path string, data map[string]any) (map[string]any, error) {
	return vaultData(c.Logical().Write(path, data))
}
func (c vaultClient) read(path string) (map[string]any, error) {
	return vaultData(c.Logical().Read(path))
}
func (c vaultClient) list(path string) ([]any, error) {
	data, err := vaultData(c.Logical().List(path))
	keys, _ := data["keys"].([]any)
	return keys, err
}
func (c vaultClient) remove(path string) error { _, err := c.Logical().Delete(path); return err }
func (c vaultClient) mount(path, kind, description string, allowed []string) error {
	return c.Sys().Mount(path, &vault.MountInput{Type: kind, Description: description, Config: vault.MountConfigInput{AllowedManagedKeys: allowed}})
}
func (c vaultClient) tune(path, description string, allowed []string) error {
	longest := "8760h"
	return c.Sys().TuneMountAllowNil(path, vault.TuneMountConfigInput{Description: &description, AllowedManagedKeys: &allowed, MaxLeaseTTL: &longest})
}
func (c vaultClient) mounts() (map[string]string, error) {
	all, err := c.Sys().ListMounts()
	out := make(map[string]string)
	for path, m := range all {
		out[path] = m.Description
	}
	return out, err
}
func (c vaultClient) allowed(path string) ([]string, error) {
	m, err := c.Sys().GetMount(path)
	if err != nil {
		return nil, err
	}
	return m.Config.AllowedManagedKeys, nil
}
func (c vaultClient) unmount(path string) error     { return c.Sys().Unmount(path) }
func (c vaultClient) remount(from, to string) error { return c.Sys().Remount(from, to) }
func (c vaultClient) health() (bool, string, error) {
	h, err := c.Sys().Health()
	if err != nil {
		return false, "", err
	}
	return h.Initialized && !h.Sealed, h.Version, nil
}
func (c vaultClient) self() (map[string]any, error)     { return vaultData(c.Auth().Token().LookupSelf()) }
func (c vaultClient) may(path string) ([]string, error) { return c.Sys().CapabilitiesSelf(path) }
func (c vaultClient) in(ns string) stock                { return vaultClient{c.WithNamespace(ns)} }
func (c vaultClient) as(token string) stock {
	other, err := c.CloneWithHeaders()
	if err != nil {
		panic(err)
	}
	other.SetToken(token)
	return vaultClient{other}
}

type baoClient struct{ *bao.Client }

func newBao(t *testing.T, url string, pool []byte) stock {
	t.Helper()
	config := bao.DefaultConfig()
	require.NoError(t, config.Error)
	config.Address, config.MaxRetries = url, 0
	if pool != nil {
		require.NoError(t, config.ConfigureTLS(&bao.TLSConfig{CACertBytes: pool}))
	}
	c, err := bao.NewClient(config)
	require.NoError(t, err)
	t.Cleanup(config.HttpClient.CloseIdleConnections)
	c.SetToken(rootToken)
	return baoClient{c}
}

func baoData(s *bao.Secret, err error) (map[string]any, error) {
	if s == nil || err != nil {
		return nil, err
	}
	return s.Data, nil
}

func (c baoClient) write(path string, data map[string]any) (map[string]any, error) {
	return baoData(c.Logical().Write(path, data))
}
func (c baoClient) read(path string) (map[string]any, error) { return baoData(c.Logical().Read(path)) }
func (c baoClient) list(path string) ([]any, error) {
	data, err := baoData(c.Logical().List(path))
	keys, _ := data["keys"].([]any)
	return keys, err
}
func (c baoClient) remove(path string) error { _, err := c.Logical().Delete(path); return err }

// OpenBao's client has no field for the keys of a mount: it has external keys. They are set as any client can.
func (c baoClient) mount(path, kind, description string, allowed []string) error {
	err := c.Sys().Mount(path, &bao.MountInput{Type: kind, Description: description})
	if err == nil && allowed != nil {
		_, err = c.write("sys/mounts/"+path+"/tune", map[string]any{"allowed_managed_keys": allowed})
	}
	return err
}
func (c baoClient) tune(path, description string, allowed []string) error {
	err := c.Sys().TuneMount(path, bao.MountConfigInput{Description: &description, MaxLeaseTTL: "8760h"})
	if err == nil {
		_, err = c.write("sys/mounts/"+path+"/tune", map[string]any{"allowed_managed_keys": allowed})
	}
	return err
}
func (c baoClient) mounts() (map[string]string, error) {
	all, err := c.Sys().ListMounts()
	out := make(map[string]string)
	for path, m := range all {
		out[path] = m.Description
	}
	return out, err
}
func (c baoClient) allowed(path string) ([]string, error) {
	data, err := c.read("sys/mounts/" + path + "/tune")
	if err == nil && data == nil {
		err = errors.New("no such mount")
	}
	var out []string
	all, _ := data["allowed_managed_keys"].([]any)
	for _, name := range all {
		out = append(out, name.(string))
	}
	return out, err
}
func (c baoClient) unmount(path string) error     { return c.Sys().Unmount(path) }
func (c baoClient) remount(from, to string) error { return c.Sys().Remount(from, to) }
func (c baoClient) health() (bool, string, error) {
	h, err := c.Sys().Health()
	if err != nil {
		return false, "", err
	}
	return h.Initialized && !h.Sealed, h.Version, nil
}
func (c baoClient) self() (map[string]any, error)     { return baoData(c.Auth().Token().LookupSelf()) }
func (c baoClient) may(path string) ([]string, error) { return c.Sys().CapabilitiesSelf(path) }
func (c baoClient) in(ns string) stock                { return baoClient{c.WithNamespace(ns)} }
func (c baoClient) as(token string) stock {
	other, err := c.CloneWithHeaders()
	if err != nil {
		panic(err)
	}
	other.SetToken(token)
	return baoClient{other}
}

// TestStockClients drives a server over TCP and TLS with the clients that there are, for every type of key.
func TestStockClients(t *testing.T) {
	for kind, make := range kinds {
		t.Run(kind, func(t *testing.T) {
			b, fields := make(t)
			fields["allow_generate_key"] = "true"
			var conns []managedkey.Connection
			if b != nil {
				t.Cleanup(func() { b.Close() })
				conns = []managedkey.Connection{{Backend: b}}
			}
			g := newRig(t, nil, conns...)
			secure := httptest.NewTLSServer(g.api)
			t.Cleanup(secure.Close)
			pool := pemOf(secure.Certificate())
			for name, c := range map[string]stock{
				"vault-tcp": newVault(t, g.url, nil), "vault-tls": newVault(t, secure.URL, pool),
				"bao-tcp": newBao(t, g.url, nil), "bao-tls": newBao(t, secure.URL, pool),
			} {
				t.Run(name, func(t *testing.T) { driveKeys(t, kind, c, fields) })
			}
		})
	}
}

// driveKeys creates, reads, lists, tests, grants and deletes a key.
func driveKeys(t *testing.T, kind string, c stock, fields map[string]any) {
	at := "sys/managed-keys/" + kind
	none, err := c.list(at)
	require.NoError(t, err)
	assert.Empty(t, none)
	gone, err := c.read(at + "/stock")
	require.NoError(t, err)
	assert.Nil(t, gone)

	_, err = c.write(at+"/stock", fields)
	require.NoError(t, err)
	data, err := c.read(at + "/stock")
	require.NoError(t, err)
	for name, want := range fields {
		switch name {
		case "pin":
			assert.Equal(t, "redacted", data[name])
		case "mechanism", "slot", "allow_generate_key", "key_type": // have several forms
			assert.Contains(t, data, name)
		default:
			assert.Equal(t, want, data[name], name)
		}
	}
	keys, err := c.list(at)
	require.NoError(t, err)
	assert.Equal(t, []any{"stock"}, keys)
	_, err = c.write(at+"/stock/test/sign", map[string]any{"hash_algorithm": "sha2-256"})
	require.NoError(t, err)

	// What was read can be sent back.
	data["any_mount"] = true
	_, err = c.write(at+"/stock", data)
	require.NoError(t, err)
	again, err := c.read(at + "/stock")
	require.NoError(t, err)
	assert.Equal(t, data["UUID"], again["UUID"])
	assert.Equal(t, true, again["any_mount"])
	_, err = c.write(at+"/stock/test/sign", nil)
	require.NoError(t, err)

	require.NoError(t, c.mount("pki", "pki", "first", []string{"stock"}))
	require.ErrorContains(t, c.remove(at+"/stock"), "pki")
	require.NoError(t, c.tune("pki", "second", []string{"stock"}))
	allowed, err := c.allowed("pki")
	require.NoError(t, err)
	assert.Equal(t, []string{"stock"}, allowed)
	mounts, err := c.mounts()
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"pki/": "second"}, mounts)
	require.NoError(t, c.unmount("pki"))
	_, err = c.allowed("pki")
	require.Error(t, err)
	require.NoError(t, c.remove(at+"/stock"))
	gone, err = c.read(at + "/stock")
	require.NoError(t, err)
	assert.Nil(t, gone)
}

// TestStockClientsElsewhere: namespaces, tokens and policies, and what clients ask besides.
func TestStockClientsElsewhere(t *testing.T) {
	for name, open := range map[string]func(*testing.T, string, []byte) stock{"vault": newVault, "bao": newBao} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, func(o *Options) { o.Version = "1.21.0" })
			c := open(t, g.url, nil)
			ready, version, err := c.health()
			require.NoError(t, err)
			assert.True(t, ready)
			assert.Equal(t, "1.21.0", version)
			self, err := c.self()
			require.NoError(t, err)
			assert.Equal(t, "root", self["accessor"])
			assert.Equal(t, "", self["id"], "no token")

			fields := map[string]any{"key_name": "ca", "key_type": "ECDSA", "curve": "P256", "allow_generate_key": true}
			at := "sys/managed-keys/software/ca"
			data, err := c.write("sys/namespaces/team-a", nil)
			require.NoError(t, err)
			assert.Equal(t, "team-a/", data["path"])
			_, err = c.in("team-a").write(at, fields)
			require.NoError(t, err)
			found, err := c.read("team-a/" + at)
			require.NoError(t, err)
			assert.Equal(t, "ca", found["name"])
			found, err = c.read(at)
			require.NoError(t, err)
			assert.Nil(t, found, "the root has no such key")
			found, err = c.as(teamToken).in("team-a").read(at)
			require.NoError(t, err)
			assert.Equal(t, "ca", found["name"])

			for token, ns := range map[string]string{"wrong": "", oldToken: "", teamToken: "", nobodyToken: "team-a", readerToken: "team-a"} {
				_, err = c.as(token).in(ns).read(at)
				assert.ErrorContains(t, err, "permission denied", token)
			}
			_, err = c.write(at, fields)
			require.NoError(t, err)
			found, err = c.as(readerToken).read(at)
			require.NoError(t, err)
			assert.Equal(t, "ca", found["name"])
			_, err = c.as(readerToken).write(at, fields)
			assert.ErrorContains(t, err, "permission denied", "the policy is to read")
			require.ErrorContains(t, c.as(readerToken).remove(at), "permission denied")
			may, err := c.as(readerToken).may(at)
			require.NoError(t, err)
			assert.Equal(t, []string{"read"}, may)
			may, err = c.may(at)
			require.NoError(t, err)
			assert.Equal(t, []string{"root"}, may)

			require.NoError(t, c.mount("signer", "signer", "", []string{"ca"}))
			require.NoError(t, c.remount("signer", "moved"))
			data, err = c.write("moved/sign/ca", map[string]any{"input": "text"})
			require.NoError(t, err)
			assert.NotEmpty(t, data["signature"])
			data, err = c.read("sys/internal/ui/mounts/moved/sign/ca")
			require.NoError(t, err)
			assert.Equal(t, "moved/", data["path"])
			require.NoError(t, c.in("team-a").mount("signer", "signer", "", nil))
			data, err = c.read("sys/internal/ui/mounts/team-a/signer/x")
			require.NoError(t, err)
			assert.Equal(t, "team-a/signer/", data["path"])
		})
	}
}
