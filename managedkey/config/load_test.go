package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/namespace"
)

// server returns the configuration of the README, with files of the test in the place of those of a machine.
func server(t testing.TB) (text, folder string) {
	folder = t.TempDir()
	data, err := os.ReadFile("testdata/server.hcl")
	require.NoError(t, err)
	text = strings.NewReplacer("/run/secrets", folder, "/var/lib/managedkeys", folder, "/var/log/managedkeys", folder).Replace(string(data))
	for _, name := range []string{"kms", "seal", "ci-token", "audit"} {
		write(t, filepath.Join(folder, name), 0o600, "hunter2\n")
	}
	t.Setenv("KMS_ACCESS_KEY", "AKIAEXAMPLE")
	t.Setenv("HSM_PIN", "1234")
	return text, folder
}

// TestReadme loads the README's file and looks at what came of it.
func TestReadme(t *testing.T) {
	text, folder := server(t)
	path := write(t, filepath.Join(folder, "server.hcl"), 0o644, text)
	cfg, err := config.Load(path, builders)
	require.NoError(t, err)
	assert.Empty(t, cfg.Warnings)

	require.Len(t, cfg.Connections, 2)
	assert.Equal(t, "pkcs11", cfg.Connections[0].Type)
	assert.Equal(t, "hsm1", cfg.Connections[0].Name)
	assert.Equal(t, []namespace.Path{"team-a"}, cfg.Connections[1].Namespaces)
	require.Len(t, cfg.Keys, 2)
	assert.Equal(t, ref("team-a/issuing-ca"), cfg.Keys[0].Ref)
	require.Len(t, cfg.Mounts, 1)
	assert.Equal(t, "pki", cfg.Mounts[0].Path)
	assert.Equal(t, []string{"issuing-ca"}, cfg.Mounts[0].Allowed)
	assert.Equal(t, "bolt", cfg.Store.Type)
	assert.Equal(t, "passphrase", cfg.Seal.Type)
	assert.Equal(t, folder+"/audit.log", cfg.Audit[0].Path)
	assert.True(t, cfg.Telemetry.Metrics)
	assert.Equal(t, "/etc/managedkeys/clients.pem", cfg.Listeners[0].TLSClientCAFile)
	assert.Equal(t, config.Pos{File: path, Line: 47, Column: 1}, cfg.Listeners[0].Pos)
	require.Len(t, cfg.Policies, 1)
	assert.Equal(t, []string{"create", "delete", "list", "read", "update"}, cfg.Policies[0].Rules[0].Capabilities)
	assert.Equal(t, "sys/mounts/*", cfg.Policies[0].Rules[1].Pattern)
	assert.Equal(t, []string{"*.web.example.com"}, cfg.Auth[1].AllowedDNSSANs)
	token, err := cfg.Auth[0].Token.Resolve()
	require.NoError(t, err)
	assert.Equal(t, "hunter2", token)

	assert.NoError(t, cfg.CheckMountTypes("pki", "transit"))
	assert.ErrorContains(t, cfg.CheckMountTypes("pkix"), path+`:31:1: unknown type "pki" of a mount; did you mean "pkix"?`)
}

// TestVaultStanzas: files of the system that this one re-creates load unchanged, with strings for numbers and booleans.
func TestVaultStanzas(t *testing.T) {
	cfg := parse(t, `
kms_library "pkcs11" {
  name = "My.HSM"
  library = "/usr/lib/softhsm/libsofthsm2.so"
}
managed_key "pkcs11" "ca" {
  library = "my.hsm"
  slot = "1"
  pin = "1234"
  key_label = "ca"
  mechanism = 13
  key_bits = "2048"
  force_rw_session = "true"
  max_parallel = "1"
}
listener "tcp" {
  address = "127.0.0.1:8200"
  tls_disable = 1
  http_read_timeout = "30s"
  http_idle_timeout = 300
}`)
	assert.Equal(t, "my-hsm", cfg.Connections[0].Name)
	assert.True(t, cfg.Listeners[0].TLSDisable)
	assert.Equal(t, 30*time.Second, cfg.Listeners[0].ReadTimeout)
	assert.Equal(t, 5*time.Minute, cfg.Listeners[0].IdleTimeout)
}

// TestJSON: JSON has the same schema, and strings in it are taken as they are.
func TestJSON(t *testing.T) {
	cfg, err := config.Parse("test.json", []byte(`{
  "connection": {"software": {"soft": {"//": "a comment"}}},
  "managed_key": {"software": {
    "team-a/ca": {"key_name": "${ca}", "usages": ["sign"], "version": {"1": {"key_name": "%{older"}}},
    "team-a/other": {"key_name": "other", "any_mount": "true"}}},
  "mount": [{"pki": {"team-a/pki": {"allowed_managed_keys": ["ca"]}}}],
  "policy": {"p": {"path": {"sys/*": {"capabilities": ["read"]}}}},
  "telemetry": {"metrics": true}
}`), builders)
	require.NoError(t, err)
	require.Len(t, cfg.Keys, 2)
	sys := start(t, cfg)
	e, err := sys.Registry().Entry(ref("team-a/ca"))
	require.NoError(t, err)
	assert.Equal(t, 2, e.KeyVersion)
	assert.True(t, cfg.Telemetry.Metrics)
	assert.Equal(t, 4, cfg.Keys[0].Pos.Line)
}

// TestFolder: the files of a folder are one configuration.
func TestFolder(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "a.hcl"), 0o600, soft)
	write(t, filepath.Join(folder, "b.json"), 0o600, `{"managed_key": {"software": {"x": {"key_name": "x"}}}}`)
	write(t, filepath.Join(folder, ".hidden.hcl"), 0o600, "nonsense")
	write(t, filepath.Join(folder, "notes.txt"), 0o600, "nonsense")
	cfg, err := config.Load(folder, builders)
	require.NoError(t, err)
	assert.Len(t, cfg.Keys, 1)

	write(t, filepath.Join(folder, "c.hcl"), 0o600, `managed_key "software" "x" { key_name = "y" }`)
	_, err = config.Load(folder, builders)
	require.ErrorContains(t, err, folder+`/c.hcl:1:1: managed_key "x" is defined twice; the first one is at `+folder+"/b.json:1:")

	_, err = config.Load(t.TempDir(), builders)
	assert.ErrorContains(t, err, "0 files")
	_, err = config.Load(filepath.Join(folder, "absent"), builders)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// TestWithoutBuilders: the structure is checked, and nothing can be opened.
func TestWithoutBuilders(t *testing.T) {
	cfg, err := config.Parse("test.hcl", []byte(`connection "mine" "x" { what = "ever" }
managed_key "mine" "a" { some = "field" }`), nil)
	require.NoError(t, err)
	_, err = cfg.Open(bg, nil)
	assert.ErrorContains(t, err, "without builders")
	_, err = config.Parse("test.hcl", []byte(`managed_key "mine" "a" { connection = "x" }`), nil)
	assert.ErrorContains(t, err, `test.hcl:1:26: unknown connection "x"; there are none`)
}

// TestNamespaces: a label has the namespace in it, or an argument has, and declared ones are all that there are.
func TestNamespaces(t *testing.T) {
	cfg := parse(t, soft+`
namespace "root" {}
namespace "team-a" {}
mount "transit" "transit/prod" { namespace = "root" }
mount "transit" "team-a/transit/" {}
managed_key "software" "k" {
  namespace = "team-a"
  key_name = "k"
}`)
	assert.Equal(t, "transit/prod", cfg.Mounts[0].Path)
	assert.Equal(t, namespace.Root, cfg.Mounts[0].Namespace)
	assert.Equal(t, "transit", cfg.Mounts[1].Path)
	assert.Equal(t, ref("team-a/k"), cfg.Keys[0].Ref)
	e := refusal(t, "test.hcl", `namespace "team-a" {}`+"\n"+`mount "pki" "taem-a/pki" {}`)
	assert.Contains(t, e.Error(), `test.hcl:2:1: unknown namespace "taem-a"; did you mean "team-a"?`)
}
