package all_test

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/config/all"
	"github.com/managedkeys/managedkeys/namespace"
)

var (
	bg  = context.Background()
	key = namespace.Ref{Namespace: "team-a", Name: "ca"}
)

// start makes a configuration so.
func start(t *testing.T, text string) *config.System {
	t.Helper()
	cfg, err := config.Parse("test.hcl", []byte(text), all.Builders())
	require.NoError(t, err)
	sys, err := cfg.Open(bg, nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, sys.Close()) })
	_, err = sys.Reload(bg, cfg)
	require.NoError(t, err)
	return sys
}

// signs makes the key and a signature with it.
func signs(t *testing.T, sys *config.System) {
	t.Helper()
	signer, err := sys.Registry().Signer(bg, key)
	require.NoError(t, err)
	_, err = signer.Sign(nil, make([]byte, 32), crypto.SHA256)
	require.NoError(t, err)
}

// TestPKCS11: a token, by a stanza as Vault has it, and by a connection.
func TestPKCS11(t *testing.T) {
	token := softhsm.Require(t)
	for _, stanza := range []string{
		fmt.Sprintf("kms_library \"pkcs11\" {\n name = \"HSM.1\"\n library = %q\n}\n", token.Module),
		fmt.Sprintf("connection \"pkcs11\" \"hsm\" {\n name = \"hsm.1\"\n library = %q\n max_sessions = 4\n call_timeout = \"20s\"\n}\n", token.Module),
	} {
		sys := start(t, stanza+fmt.Sprintf(`managed_key "pkcs11" "team-a/ca" {
  library = "hsm.1"
  token_label = %q
  pin = %q
  key_label = "ca"
  mechanism = "CKM_ECDSA"
  curve = "P256"
  allow_generate_key = true
}`, token.Label, token.PIN))
		signs(t, sys)
	}
}

// TestAWS: where and as whom is said by the connection, and which key by the entry. A reload with another rate drops nothing.
func TestAWS(t *testing.T) {
	service, err := fakeaws.New(nil)
	require.NoError(t, err)
	defer service.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(fakeaws.SecretKey+"\n"), 0o600))
	text := func(rate int) string {
		return fmt.Sprintf(`connection "awskms" "prod" {
  region = "eu-central-1"
  endpoint = %q
  access_key = %q
  secret_key = "file:%s"
  rate = %d
  max_in_flight = 8
}
managed_key "awskms" "team-a/ca" {
  kms_key = "alias/ca"
  key_type = "ECDSA"
  curve = "P256"
  allow_generate_key = true
}`, service.URL(), fakeaws.AccessKey, secret, rate)
	}
	sys := start(t, text(500))
	signs(t, sys)
	was := sys.Backend("prod")
	next, err := config.Parse("test.hcl", []byte(text(600)), all.Builders())
	require.NoError(t, err)
	plan, err := sys.Reload(bg, next)
	require.NoError(t, err)
	assert.True(t, plan.Empty())
	assert.NotSame(t, was, sys.Backend("prod"))
	signs(t, sys)
}

// TestOpens: connections that make no call when they are opened.
func TestOpens(t *testing.T) {
	google, err := json.Marshal(map[string]string{"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "google.json")
	require.NoError(t, os.WriteFile(file, google, 0o600))
	for name, c := range map[string]struct{ kind, args string }{
		"azure":        {"azurekeyvault", `attempt_timeout = "5s"`},
		"azure vault":  {"azurekeyvault", "vault_url = \"https://team-a.vault.azure.net\"\n tenant_id = \"t\"\n client_id = \"c\"\n client_secret = \"s\""},
		"azure found":  {"azurekeyvault", `vault_url = "https://team-a.vault.azure.net"`},
		"google":       {"gcpckms", `regional_endpoints = true`},
		"google file":  {"gcpckms", fmt.Sprintf("credentials = %q\n endpoint = \"127.0.0.1:1\"", file)},
		"google JSON":  {"gcpckms", fmt.Sprintf("credentials = \"file:%s\"\n quota_project = \"p\"", file)},
		"aws":          {"awskms", "use_fips = true\n profile = \"x\"\n tags = { team = \"a\" }"},
		"software":     {"software", `store = "x"`},
		"aws temporal": {"awskms", "access_key = \"a\"\n secret_key = \"b\"\n session_token = \"c\""},
	} {
		t.Run(name, func(t *testing.T) {
			sys := start(t, fmt.Sprintf("connection %q \"x\" {\n %s\n}\n", c.kind, c.args))
			assert.Equal(t, c.kind, sys.Backend("x").Type())
		})
	}
}

// TestRefused: arguments that contradict one another are found when the file is read.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		`connection "awskms" "x" { access_key = "a" }`:                                                            "belong together",
		`connection "awskms" "x" { endpoint = "localhost" }`:                                                      "it takes a URL",
		`connection "awskms" "x" { retry_budget = 2 }`:                                                            "RetryBudget",
		`connection "azurekeyvault" "x" { client_id = "a" }`:                                                      "take vault_url",
		"connection \"azurekeyvault\" \"x\" {\n vault_url = \"https://a.vault.azure.net\"\n tenant_id = \"a\"\n}": "belong together",
		"connection \"gcpckms\" \"x\" {\n credentials = \"{}\"\n regional_endpoints = true\n}":                    "regional_endpoints with credentials",
		"connection \"pkcs11\" \"x\" {\n library = \"/x\"\n max_sessions = -1\n}":                                 "value",
		`connection "software" "x" { time = 1 }`:                                                                  "for a file",
		`connection "replicated" "x" { places = ["a"] }`:                                                          "two or more",
		`store "bolt" {}`:                 "required",
		`store "etcd" { endpoints = [] }`: "one at least",
		"store \"etcd\" {\n endpoints = [\"a\"]\n username = \"u\"\n}":       "belong together",
		"store \"etcd\" {\n endpoints = [\"a\"]\n tls_cert_file = \"/c\"\n}": "belong together",
	} {
		_, err := config.Parse("test.hcl", []byte(text), all.Builders())
		assert.ErrorIs(t, err, backend.ErrInvalidParams, text)
		assert.ErrorContains(t, err, want)
	}
}

// TestStores: an entry is there again when the program starts again, whatever the store.
func TestStores(t *testing.T) {
	server := postgrestest.Require(t)
	cluster := etcdtest.Require(t, 1)
	for name, stanza := range map[string]string{
		"bolt":     fmt.Sprintf("store \"bolt\" {\n path = %q\n history = 100\n}\n", filepath.Join(t.TempDir(), "store")),
		"postgres": fmt.Sprintf("store \"postgres\" {\n url = %q\n table = \"keys\"\n}\n", server.URL(server.Addr(), server.NewDatabase(t))),
		"etcd":     fmt.Sprintf("store \"etcd\" {\n endpoints = [%q]\n prefix = \"/mine/\"\n}\n", cluster.Addr(0)),
	} {
		t.Run(name, func(t *testing.T) {
			text := stanza + "connection \"software\" \"soft\" {}\nmanaged_key \"software\" \"team-a/ca\" { key_name = \"ca\" }\n"
			first := start(t, text)
			made, err := first.Registry().Entry(key)
			require.NoError(t, err)
			require.NoError(t, first.Close())
			again, err := start(t, text).Registry().Entry(key)
			require.NoError(t, err)
			assert.Equal(t, made.UUID, again.UUID)
		})
	}
}

// TestEtcdTLS: files that are no certificates are told of.
func TestEtcdTLS(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk.pem")
	require.NoError(t, os.WriteFile(junk, []byte("junk"), 0o600))
	for _, e := range []all.Etcd{
		{Endpoints: []string{"127.0.0.1:1"}, TLSCAFile: junk},
		{Endpoints: []string{"127.0.0.1:1"}, TLSCAFile: "/does/not/exist"},
		{Endpoints: []string{"127.0.0.1:1"}, TLSCertFile: junk, TLSKeyFile: junk},
		{Endpoints: []string{"127.0.0.1:1"}, Username: "u", Password: "env:NO_SUCH_VARIABLE"},
	} {
		_, err := e.Open(bg)
		assert.ErrorIs(t, err, backend.ErrCredentials)
	}
}

// TestTypes: there is a builder for each backend and store of the project.
func TestTypes(t *testing.T) {
	b := all.Builders()
	assert.Equal(t, []string{"awskms", "azurekeyvault", "gcpckms", "pkcs11", "replicated", "software"}, slices.Sorted(maps.Keys(b.Backends)))
	assert.Equal(t, []string{"bolt", "etcd", "memory", "postgres"}, slices.Sorted(maps.Keys(b.Stores)))
}
