package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/audit"
)

const signPath = "sys/managed-keys/software/ca/test/sign"

// configuration is a file that differs with turn: in its connection, in a token, and in a mount.
func (g *rig) configuration(turn int) string {
	return strings.NewReplacer("FOLDER", g.folder, "TURN", fmt.Sprint(turn), "STORE", fmt.Sprintf("s%d", turn%2), "HASH", hash(fmt.Sprintf("turn-%d", turn))).Replace(`
connection "software" "soft" {
  file       = "FOLDER/soft"
  passphrase = "file:FOLDER/pass"
  time       = 1
  memory_kib = 64
  threads    = 1
  store      = "STORE"
}
managed_key "software" "ca" {
  key_name           = "ca"
  key_type           = "ECDSA"
  curve              = "P256"
  allow_generate_key = true
}
mount "pki" "pki" {
  allowed_managed_keys = ["ca"]
  description          = "turn TURN"
}
store "bolt" { path = "FOLDER/store" }
audit "file" {
  path         = "FOLDER/audit.log"
  hmac_key     = "file:FOLDER/audit.key"
  fsync        = "never"
  rotate_bytes = 200000
  fail_closed  = true
}
audit "slog" { level = "debug" }
telemetry { metrics = true }
listener "tcp" {
  address            = "127.0.0.1:0"
  tls_cert_file      = "FOLDER/server.pem"
  tls_key_file       = "FOLDER/server.key"
  tls_client_ca_file = "FOLDER/authority.pem"
}
policy "signer" {
  path "sys/managed-keys/+/ca/test/sign" { capabilities = ["update"] }
}
policy "operator" {
  path "sys/metrics" { capabilities = ["read"] }
  path "sys/mounts/*" { capabilities = ["read"] }
}
auth "token" "app" {
  token_sha256 = "` + hash("app") + `"
  policies     = ["signer"]
}
auth "token" "turn" {
  token_sha256 = "HASH"
  policies     = ["operator"]
}
auth "cert" "web" {
  allowed_dns_sans = ["*.example"]
  policies         = ["signer"]
}
`)
}

// TestStorm: the file changes again and again under load, and no request notices.
func TestStorm(t *testing.T) {
	g := newRig(t)
	g.write("server.hcl", g.configuration(0))
	g.start()
	assert.Equal(t, 1, g.count("+ create ca"), "%q", g.output())

	web := g.issue("web", 1000)
	var stop atomic.Bool
	var signed atomic.Int64
	var load sync.WaitGroup
	for _, one := range []struct {
		client *http.Client
		token  string
	}{
		{g.client(true), "app"}, {g.client(false), "app"}, {g.client(true, web), ""}, {g.client(false, web), ""},
	} {
		load.Go(func() {
			for !stop.Load() {
				status, text, err := g.ask(one.client, "POST", signPath, one.token)
				if !assert.NoError(t, err) || !assert.Equal(t, 204, status, text) {
					return
				}
				signed.Add(1)
			}
		})
	}
	defer load.Wait()
	defer stop.Store(true)

	fresh, kept := g.client(false), g.client(true)
	const turns = 30
	for turn := 1; turn <= turns; turn++ {
		before := signed.Load()
		g.issue("server", int64(turn+2))
		if turn%10 == 5 { // what is wrong changes nothing, and says what it is
			g.write("server.hcl", strings.Replace(g.configuration(turn), "polic", "pollic", 1))
			g.hangup("not reloaded")
			assert.NotZero(t, g.count("did you mean"))
			status, text, err := g.ask(kept, "GET", "sys/mounts/pki", fmt.Sprintf("turn-%d", turn-1))
			require.NoError(t, err)
			assert.Equal(t, 200, status, text)
		}
		g.write("server.hcl", g.configuration(turn))
		g.hangup("msg=reloaded")
		for _, c := range []*http.Client{fresh, kept} { // a connection that was there before knows the new tokens too
			status, text, err := g.ask(c, "GET", "sys/mounts/pki", fmt.Sprintf("turn-%d", turn))
			require.NoError(t, err)
			require.Equal(t, 200, status, text)
			assert.Contains(t, text, fmt.Sprintf("turn %d", turn))
			status, text, err = g.ask(c, "GET", "sys/mounts/pki", fmt.Sprintf("turn-%d", turn-1))
			require.NoError(t, err)
			require.Equal(t, 403, status, text)
		}
		assert.Equal(t, int64(turn+2), g.serial(), "the certificate of the file")
		require.Eventually(t, func() bool { return signed.Load() >= before+4 || t.Failed() }, 30*time.Second, time.Millisecond)
	}
	for range 20 { // as fast as they come
		g.hangup("msg=reloaded")
	}
	stop.Store(true)
	load.Wait()

	token := fmt.Sprintf("turn-%d", turns)
	status, text, err := g.ask(kept, "GET", "sys/metrics", token)
	require.NoError(t, err)
	require.Equal(t, 200, status, text)
	assert.Regexp(t, `managedkeys_operation_duration_seconds_count\{[^}]*managedkeys_operation="test"[^}]*\} [1-9]`, text)
	assert.Regexp(t, `managedkeys_entries\{[^}]*\} 1\n`, text)
	assert.Contains(t, text, "go_goroutines ")
	for _, who := range []string{"", "app", "turn-1"} {
		status, _, err := g.ask(kept, "GET", "sys/metrics", who)
		require.NoError(t, err)
		assert.Equal(t, 403, status, who)
	}
	require.NoError(t, g.end())

	report, err := audit.VerifyFiles(backend.Secret("file:"+g.path("audit.key")), g.path("audit.log"))
	require.NoError(t, err)
	assert.Greater(t, report.Files, 1, "it was rotated")
	assert.Greater(t, int64(report.Lines), 2*signed.Load(), "a request and an outcome of each")
	assert.Empty(t, report.Open)
	assert.Zero(t, report.Lost)
	assert.NotZero(t, g.count("level=DEBUG msg=audit"))
	assert.NotZero(t, g.count("audit.actor=cert:web"))
	assert.NotZero(t, g.count("audit.actor=config"))
}

// serial returns the serial number of the certificate that a new connection is shown.
func (g *rig) serial() int64 {
	g.Helper()
	c := g.client(false).Transport.(*http.Transport).TLSClientConfig
	conn, err := tls.Dial("tcp", g.address, c)
	require.NoError(g, err)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}
