package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey/config"
)

const pinned = `kms_library "pkcs11" {
  name = "hsm"
  library = "/usr/lib/softhsm/libsofthsm2.so"
}
managed_key "pkcs11" "ca" {
  library = "hsm"
  slot = "1"
  key_label = "ca"
  mechanism = "0x1041"
  pin = "%s"
}
`

// TestUnreadableSecrets are found when the file is read, wherever they stand.
func TestUnreadableSecrets(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a key's":        {fmt.Sprintf(pinned, "file:/does/not/exist"), `test.hcl:10:3: argument "pin": backend: secret:`},
		"a variable":     {fmt.Sprintf(pinned, "env:NO_SUCH_VARIABLE"), `test.hcl:10:3: argument "pin": backend: secret: environment variable "NO_SUCH_VARIABLE" is not set or empty`},
		"a relative":     {fmt.Sprintf(pinned, "file:pin"), `test.hcl:10:3: argument "pin" refers to "pin"; a path begins with a slash`},
		"a connection's": {`connection "awskms" "x" { ` + "\n" + `access_key = "env:NO_SUCH_VARIABLE"` + "\n" + `secret_key = "x"` + "\n}", "test.hcl:2:1: argument \""},
		"a store's":      {`store "postgres" { url = "env:NO_SUCH_VARIABLE" }`, "test.hcl:1:20: argument \""},
		"a seal's":       {`seal "passphrase" { passphrase = "file:/does/not/exist" }`, "test.hcl:1:21: argument \""},
		"an audit log's": {"audit \"slog\" {\nhmac_key = \"file:/does/not/exist\"\n}", "test.hcl:2:1: argument \""},
		"a token":        {"auth \"token\" \"x\" {\ntoken = \"file:/does/not/exist\"\npolicies = [\"p\"]\n}", "test.hcl:2:1: argument \""},
		"an empty one":   {"auth \"token\" \"x\" {\ntoken = \"\"\npolicies = [\"p\"]\n}", `test.hcl:2:1: argument "token" is empty`},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Contains(t, refusal(t, "test.hcl", c.text).Error(), c.want)
		})
	}
}

// TestFilesThatAreNone: pipes and devices, whether configurations, secrets or certificates, are refused when files are loaded, and not waited
// for. Symbolic links to files, as Kubernetes has them, are followed.
func TestFilesThatAreNone(t *testing.T) {
	folder := t.TempDir()
	pipe, link := filepath.Join(folder, "pipe"), filepath.Join(folder, "link")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.NoError(t, os.Symlink(pipe, link))
	listener := "listener \"tcp\" {\n address = \"127.0.0.1:1\"\n tls_cert_file = %q\n tls_key_file = %q\n tls_client_ca_file = %q\n}"
	for name, c := range map[string]struct{ text, want string }{
		"a key's":        {fmt.Sprintf(pinned, "file:"+pipe), `test.hcl:10:3: argument "pin": backend: secret: credentials refused or missing: "` + pipe + `" is a pipe; it takes a regular file`},
		"through a link": {fmt.Sprintf(pinned, "file:"+link), `"` + link + `" is a pipe`},
		"a device":       {`store "postgres" { url = "file:/dev/zero" }`, `test.hcl:1:20: argument "url": backend: secret: credentials refused or missing: "/dev/zero" is a device`},
		"another device": {`seal "passphrase" { passphrase = "file:/dev/null" }`, `argument "passphrase"`},
		"a certificate":  {fmt.Sprintf(listener, pipe, "/none", "/none"), `test.hcl:3:2: argument "tls_cert_file": "` + pipe + `" is a pipe`},
		"a TLS key":      {fmt.Sprintf(listener, "/none", link, "/none"), `test.hcl:4:2: argument "tls_key_file": "` + link + `" is a pipe`},
		"authorities":    {fmt.Sprintf(listener, "/none", "/none", "/dev/zero"), `test.hcl:5:2: argument "tls_client_ca_file": "/dev/zero" is a device`},
		"an authority":   {"auth \"cert\" \"x\" {\n ca_file = " + fmt.Sprintf("%q", pipe) + "\n policies = [\"p\"]\n}", `test.hcl:2:2: argument "ca_file": "` + pipe + `" is a pipe`},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Contains(t, refusal(t, "test.hcl", c.text).Error(), c.want)
		})
	}
	for _, path := range []string{pipe, link, "/dev/zero"} {
		_, err := config.Load(path, builders)
		assert.ErrorContains(t, err, `config: "`+path+`" is a `)
	}
	require.NoError(t, os.Symlink(pipe, filepath.Join(folder, "some.hcl")))
	_, err := config.Load(folder, builders)
	assert.ErrorContains(t, err, `some.hcl" is a pipe`)

	mounted := t.TempDir()
	write(t, filepath.Join(mounted, "pin"), 0o600, "hunter2")
	write(t, filepath.Join(mounted, "server"), 0o600, fmt.Sprintf(pinned, "file:"+filepath.Join(folder, "secret")))
	require.NoError(t, os.Symlink(filepath.Join(mounted, "pin"), filepath.Join(folder, "secret")))
	require.NoError(t, os.Remove(filepath.Join(folder, "some.hcl")))
	require.NoError(t, os.Symlink(filepath.Join(mounted, "server"), filepath.Join(folder, "some.hcl")))
	_, err = config.Load(folder, builders)
	require.NoError(t, err)
}

// TestSecretsInFiles: a secret that stands in a file is not for everyone.
func TestSecretsInFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.hcl")
	plain := fmt.Sprintf(pinned, "hunter2")
	cfg, err := config.Load(write(t, path, 0o600, plain), builders)
	require.NoError(t, err)
	assert.Empty(t, cfg.Warnings)

	cfg, err = config.Load(write(t, path, 0o640, plain), builders)
	require.NoError(t, err)
	require.Len(t, cfg.Warnings, 1)
	assert.Contains(t, cfg.Warnings[0].String(), path+`:10:3: argument "pin" has a secret in a file that its group can read`)

	_, err = config.Load(write(t, path, 0o644, plain), builders)
	require.ErrorContains(t, err, path+`:10:3: argument "pin" has a secret in a file that everyone can read`)
	assert.NotContains(t, err.Error(), "hunter2")

	secret := write(t, filepath.Join(t.TempDir(), "pin"), 0o644, "hunter2")
	cfg, err = config.Load(write(t, path, 0o644, fmt.Sprintf(pinned, "file:"+secret)), builders)
	require.NoError(t, err)
	require.Len(t, cfg.Warnings, 1)
	assert.Contains(t, cfg.Warnings[0].String(), "which everyone can read")
}

// TestNothingShowsSecrets: neither the configuration, nor what is wrong with it, nor a plan.
func TestNothingShowsSecrets(t *testing.T) {
	text := `
connection "awskms" "aws" {
  access_key = "hunter2"
  secret_key = "hunter2"
}
store "postgres" { url = "postgres://a:hunter2@b/c" }
seal "passphrase" { passphrase = "hunter2" }
audit "slog" { hmac_key = "hunter2" }
auth "token" "x" {
  token = "hunter2"
  policies = ["p"]
}
policy "p" {}
` + fmt.Sprintf(pinned, "hunter2")
	cfg := parse(t, "%s", text)
	data, err := json.Marshal(cfg)
	require.NoError(t, err)
	shown := string(data)
	for _, v := range []any{cfg, *cfg, cfg.Connections[0], *cfg.Connections[0], cfg.Keys, *cfg.Keys[0], *cfg.Store, *cfg.Seal, cfg.Seal, *cfg.Audit[0], *cfg.Auth[0]} {
		shown += fmt.Sprintf("%v %+v %#v %s\n", v, v, v, v)
	}
	assert.NotContains(t, shown, "hunter2")

	for _, wrong := range []string{
		`pin = hunter2`, `pin = ["hunter2"]`, `pin = "${hunter2}"`, `pin = "%{hunter2"`, `pin = "hunter2`, `pin = "\hunter2"`, `pin = hunter2("x")`, `pin = <<hunter2`,
		"key_label = \"x\"\n pin = \"hunter2\"\n pin = \"hunter2\"", `pin = "hunter2"` + "\n unknown = 1", `pin = { hunter2 = "hunter2" }`, `pin = 'hunter2'`,
	} {
		e := refusal(t, "test.hcl", soft+"managed_key \"pkcs11\" \"ca\" {\n library = \"hsm\"\n "+wrong+"\n}")
		assert.NotContains(t, e.Error(), "hunter2", wrong)
	}
}

// TestPlanShowsNoSecret: a secret that changes is told of, and not shown.
func TestPlanShowsNoSecret(t *testing.T) {
	sys := start(t, parse(t, pinned, "1234"))
	plan, err := parse(t, pinned, "5678").Plan(bg, sys.Registry())
	require.NoError(t, err)
	assert.Equal(t, lines("~ move ca", "    pin: changed, not shown", "0 to add, 1 to change, 0 to remove"), plan.String())
}
