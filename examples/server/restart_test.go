package main

import (
	"fmt"
	"os"
	"testing"

	vault "github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// around is what every configuration of these tests has beside keys and a store.
const around = `
seal "passphrase" {
  passphrase = "file:%[1]s/pass"
  time       = 1
  memory_kib = 64
}
mount "pki" "team-a/pki" { allowed_managed_keys = ["ca"] }
audit "file" {
  path        = "%[1]s/audit.log"
  hmac_key    = "file:%[1]s/audit.key"
  fail_closed = true
}
telemetry { metrics = true }
listener "tcp" {
  address       = "127.0.0.1:0"
  tls_cert_file = "%[1]s/server.pem"
  tls_key_file  = "%[1]s/server.key"
}
listener "tcp" {
  address     = "127.0.0.1:00"
  tls_disable = true
}
policy "operator" {
  path "team-a/sys/*" { capabilities = ["create", "read", "update", "delete", "list"] }
}
auth "token" "ci" {
  token    = "file:%[1]s/token"
  policies = ["operator"]
}
`

// softFile is a software key in a file, which outlives the server as one on a token does.
const softFile = `
connection "software" "soft" {
  file       = "%[1]s/soft"
  passphrase = "file:%[1]s/pass"
  time       = 1
  memory_kib = 64
}
managed_key "software" "team-a/ca" {
  key_name           = "ca"
  key_type           = "ECDSA"
  curve              = "P256"
  allow_generate_key = true
}
`

// TestRestartWithToken: the key is on a PKCS#11 token, whose PIN is in a file.
func TestRestartWithToken(t *testing.T) {
	token := softhsm.Require(t)
	g := newRig(t)
	g.write("pin", token.PIN)
	g.restarts("pkcs11", fmt.Sprintf(`
store "bolt" { path = "%[1]s/store" }
kms_library "pkcs11" {
  name    = "hsm1"
  library = %[2]q
}
managed_key "pkcs11" "team-a/ca" {
  library            = "hsm1"
  token_label        = %[3]q
  pin                = "file:%[1]s/pin"
  key_label          = "ca"
  mechanism          = "0x1041"
  curve              = "P256"
  allow_generate_key = true
}
`, g.folder, token.Module, token.Label))
}

func TestRestartWithPostgres(t *testing.T) {
	server := postgrestest.Require(t)
	g := newRig(t)
	g.write("url", server.URL(server.Addr(), server.NewDatabase(t)))
	g.restarts("software", fmt.Sprintf("store \"postgres\" { url = \"file:%s/url\" }\n"+softFile, g.folder))
}

func TestRestartWithEtcd(t *testing.T) {
	cluster := etcdtest.Require(t, 1)
	g := newRig(t)
	g.restarts("software", fmt.Sprintf("store \"etcd\" { endpoints = [%[2]q] }\n"+softFile, g.folder, cluster.Addr(0)))
}

// restarts starts a server with keys and a store, signs with the key team-a/ca over TLS and without, as a stock client does, and finds
// everything again when it starts anew: what the file says, and what the client has made.
func (g *rig) restarts(kind, text string) {
	g.Helper()
	g.write("token", "open sesame")
	g.write("server.hcl", text+fmt.Sprintf(around, g.folder))
	at := "sys/managed-keys/" + kind
	var uuid any
	for turn := range 2 {
		g.mu.Lock()
		g.lines = nil
		g.mu.Unlock()
		g.start()
		g.wait("Listening on http://", 1)
		if turn == 0 {
			assert.Equal(g, 1, g.count("+ create team-a/ca"), "%q", g.output())
		} else {
			assert.Equal(g, 1, g.count("nothing to do"), "%q", g.output())
		}
		for _, c := range g.stock() {
			data, err := c.Logical().Read(at + "/ca")
			require.NoError(g, err)
			require.NotNil(g, data)
			if uuid == nil {
				uuid = data.Data["UUID"]
			}
			assert.Equal(g, uuid, data.Data["UUID"])
			_, err = c.Logical().Write(at+"/ca/test/sign", map[string]any{"hash_algorithm": "sha2-256"})
			require.NoError(g, err)
			mounts, err := c.Sys().ListMounts()
			require.NoError(g, err)
			assert.Equal(g, []string{"ca"}, mounts["pki/"].Config.AllowedManagedKeys)
			if turn == 1 || mounts["transit/"] != nil {
				assert.Equal(g, 24*3600, mounts["transit/"].Config.MaxLeaseTTL)
				assert.Equal(g, []string{"ca"}, mounts["transit/"].Config.AllowedManagedKeys)
				continue
			}
			require.NoError(g, c.Sys().Mount("transit", &vault.MountInput{Type: "transit", Config: vault.MountConfigInput{MaxLeaseTTL: "24h", AllowedManagedKeys: []string{"ca"}}}))
		}
		require.NoError(g, g.end())
	}
	data, err := os.ReadFile(g.path("audit.log"))
	require.NoError(g, err)
	assert.Contains(g, string(data), `"mount":"transit"`)
	assert.NotContains(g, string(data), "open sesame")
	assert.Zero(g, g.count("open sesame"))
}

// stock returns stock clients of the server's listeners, with TLS and without.
func (g *rig) stock() (all []*vault.Client) {
	g.Helper()
	var plain string
	for _, line := range g.output() {
		fmt.Sscanf(line, "Listening on http://%s", &plain)
	}
	for _, address := range []string{"https://" + g.address, "http://" + plain} {
		config := vault.DefaultConfig()
		require.NoError(g, config.Error)
		config.Address, config.MaxRetries = address, 0
		require.NoError(g, config.ConfigureTLS(&vault.TLSConfig{CACert: g.path("authority.pem")}))
		c, err := vault.NewClient(config)
		require.NoError(g, err)
		g.Cleanup(config.HttpClient.CloseIdleConnections)
		c.SetToken("open sesame")
		c.SetNamespace("team-a")
		all = append(all, c)
	}
	return all
}
