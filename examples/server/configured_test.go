package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const socket = `
connection "software" "soft" {}
listener "unix" {
  address     = "FOLDER/api"
  socket_mode = "0660"
}
listener "unix" {
  address          = "FOLDER/narrow"
  max_request_size = 10
  max_connections  = 5
}
policy "all" {
  path "*" { capabilities = ["create", "read", "update", "sudo"] }
}
auth "token" "operator" {
  token    = "file:FOLDER/token"
  policies = ["all"]
}
`

// over returns a client of a socket.
func (g *rig) over(name string) *http.Client {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", g.path(name))
	}}
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// put makes a key over a socket.
func (g *rig) put(socket, token string) int {
	g.Helper()
	r, err := http.NewRequest("POST", "http://socket/v1/sys/managed-keys/software/x", strings.NewReader(`{"key_name": "x", "key_type": "ED25519"}`))
	require.NoError(g, err)
	r.Header.Set("X-Vault-Token", token)
	resp, err := g.over(socket).Do(r)
	require.NoError(g, err)
	resp.Body.Close()
	return resp.StatusCode
}

// login returns what command lines keep when somebody logs in with a token.
func (g *rig) login(socket, token string) string {
	g.Helper()
	r, err := http.NewRequest("GET", "http://socket/v1/auth/token/lookup-self", nil)
	require.NoError(g, err)
	r.Header.Set("X-Vault-Token", token)
	resp, err := g.over(socket).Do(r)
	require.NoError(g, err)
	defer resp.Body.Close()
	var answer struct{ Data struct{ ID string } }
	require.NoError(g, json.NewDecoder(resp.Body).Decode(&answer))
	return answer.Data.ID
}

// TestSockets: listeners have modes and limits of their own; a socket that a killed server left is no hindrance.
func TestSockets(t *testing.T) {
	g := newRig(t)
	g.write("token", "open sesame")
	g.write("server.hcl", strings.ReplaceAll(socket, "FOLDER", g.folder))
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: g.path("api"), Net: "unix"})
	require.NoError(t, err)
	left.SetUnlinkOnClose(false)
	require.NoError(t, left.Close())
	g.start()
	g.wait("Listening on unix:", 2)
	info, err := os.Stat(g.path("api"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o660), info.Mode().Perm())
	info, err = os.Stat(g.path("narrow"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	assert.Equal(t, 413, g.put("narrow", "open sesame"))
	assert.Equal(t, 204, g.put("api", "open sesame"))
	assert.Equal(t, 403, g.put("api", "other"))
	assert.Equal(t, "open sesame", g.login("api", "open sesame"))
	resp, err := g.over("narrow").Get("http://socket/v1/sys/health")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 200, resp.StatusCode)
	assert.Error(t, run(t.Context(), flags{config: g.path("server.hcl")}, nil, io.Discard), "the socket of a server that lives is its own")

	g.write("token", "new") // the file is the same, what it refers to isn't
	g.hangup("msg=reloaded")
	assert.Equal(t, 403, g.put("api", "open sesame"))
	assert.Equal(t, 204, g.put("api", "new"))

	for name, text := range map[string]string{
		"listener":  strings.Replace(socket, "0660", "0666", 1),
		"audit":     socket + `audit "slog" {}`,
		"telemetry": socket + "telemetry { metrics = true }",
		"mount":     socket + `mount "kmip" "x" {}`,
		"store":     socket + `store "bolt" { path = "FOLDER/store" }`,
	} {
		g.write("server.hcl", strings.ReplaceAll(text, "FOLDER", g.folder))
		g.hangup("not reloaded")
		assert.Equal(t, 204, g.put("api", "new"), name)
	}
	assert.Equal(t, 3, g.count("takes a restart\""), "%q", g.output())
	require.NoError(t, g.end())
}

// TestDeniedIsAudited: who is not let in is in the audit log, and what was shown isn't.
func TestDeniedIsAudited(t *testing.T) {
	g := newRig(t)
	g.write("token", "open sesame")
	g.write("server.hcl", strings.ReplaceAll(socket+`audit "slog" {}`, "FOLDER", g.folder))
	g.start()
	g.wait("Listening on unix:", 2)
	assert.Equal(t, 403, g.put("api", "open salami"))
	g.wait("audit.type=denied", 1)
	assert.Equal(t, 1, g.count("audit.operation=update audit.options=\"the credentials were refused\" audit.error=ErrDenied audit.input=hmac-sha256:"), "%q", g.output())
	assert.Zero(t, g.count("salami"))
	require.NoError(t, g.end())
}

// TestConfiguredRefusals: what can't be served is said, and nothing is left behind.
func TestConfiguredRefusals(t *testing.T) {
	g := newRig(t)
	g.write("token", "open sesame")
	for text, want := range map[string]string{
		`connection "software" "soft" {}`:                                       "the configuration has no listener",
		strings.Replace(socket, "FOLDER/token", "FOLDER/none", 1):               "server.hcl:16:3: ",
		strings.ReplaceAll(socket, "FOLDER/api", "FOLDER/none/api"):             "server.hcl:3:1: listen unix",
		socket + "telemetry { traces = true }":                                  "this server has no exporter of traces",
		socket + `mount "pkx" "x" {}`:                                           `did you mean "pki"?`,
		socket + "audit \"file\" {\n path = \"FOLDER/a\"\n hmac_key = \"x\"\n}": "server.hcl:19:1: audit: ",
		strings.ReplaceAll(socket, `"all"`, `"root"`):                           `policy "root"`,
		socket + "listener \"tcp\" {\n address = \"127.0.0.1:0\"\n tls_cert_file = \"FOLDER/none\"\n tls_key_file = \"FOLDER/none\"\n}": "server.hcl:19:1: open ",
	} {
		g.write("server.hcl", strings.ReplaceAll(text, "FOLDER", g.folder))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // one that is served ends without an error
		err := run(ctx, flags{config: g.path("server.hcl")}, nil, io.Discard)
		cancel()
		if assert.Error(t, err, text) {
			assert.Contains(t, err.Error(), want)
			assert.NotContains(t, err.Error(), "open sesame")
		}
	}
	assert.Error(t, run(t.Context(), flags{config: g.path("server.hcl"), dev: true}, nil, io.Discard))
	assert.Error(t, run(t.Context(), flags{config: g.path("nothing.hcl")}, nil, io.Discard))
}

// TestAuthorities: an identity with an authority of its own takes no other's certificates, and a listener that requires its own
// lets nobody else in; once the file has no such authority, connections that were made before are refused too.
func TestAuthorities(t *testing.T) {
	g, other := newRig(t), newRig(t)
	text := strings.NewReplacer("FOLDER", g.folder, "OTHER", other.folder).Replace(`
connection "software" "soft" {}
listener "tcp" {
  address            = "127.0.0.1:0"
  tls_cert_file      = "FOLDER/server.pem"
  tls_key_file       = "FOLDER/server.key"
  tls_min_version    = "tls13"
  tls_client_ca_file = "FOLDER/authority.pem"
}
policy "reader" {
  path "sys/mounts" { capabilities = ["read"] }
}
auth "cert" "partner" {
  ca_file              = "OTHER/authority.pem"
  allowed_common_names = ["a*"]
  policies             = ["reader"]
}
`)
	g.write("server.hcl", text)
	g.start()
	partner := g.client(true, other.issue("alice", 7))
	ask := func(c *http.Client) int {
		status, _, err := g.ask(c, "GET", "sys/mounts", "")
		require.NoError(t, err)
		return status
	}
	assert.Equal(t, 200, ask(partner))
	assert.Equal(t, 403, ask(g.client(true, other.issue("bob", 8))), "the name")
	assert.Equal(t, 403, ask(g.client(true, g.issue("alice", 7))), "the authority")
	assert.Equal(t, 403, ask(g.client(true)))

	g.write("server.hcl", strings.ReplaceAll(text, other.folder, g.folder))
	g.hangup("msg=reloaded")
	assert.Equal(t, 403, ask(partner))
	assert.Equal(t, 200, ask(g.client(true, g.issue("alice", 7))))

	g.write("server.hcl", strings.Replace(text, "tls_min_version ", "tls_require_and_verify_client_cert = true\ntls_min_version ", 1))
	g.hangup("msg=reloaded")
	_, _, err := g.ask(g.client(true, other.issue("alice", 9)), "GET", "sys/mounts", "")
	assert.ErrorContains(t, err, "tls: ")
	assert.Equal(t, 403, ask(g.client(true, g.issue("alice", 9))))
	require.NoError(t, g.end())
}

func TestLike(t *testing.T) {
	for pattern, values := range map[string]map[string]bool{
		"a":                 {"a": true, "ab": false, "": false},
		"*":                 {"": true, "a": true},
		"*.web.example.com": {"a.web.example.com": true, "a.b.web.example.com": true, "web.example.com": false, "a.web.example.com.evil": false},
		"a*a":               {"aa": true, "aba": true, "a": false},
		"a*b*c":             {"abc": true, "axbxc": true, "acb": false, "ac": false},
		"spiffe://x/*/y":    {"spiffe://x/1/y": true, "spiffe://x//y": true, "spiffe://x/y": false},
	} {
		for value, want := range values {
			assert.Equal(t, want, like(pattern, value), "%s %s", pattern, value)
		}
	}
}

// TestRoots: a file of authorities has some.
func TestRoots(t *testing.T) {
	g := newRig(t)
	_, err := readRoots(g.path("server.key"), x509.NewCertPool())
	assert.ErrorContains(t, err, "has no certificate in PEM")
	g.write("bad.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})))
	_, err = readRoots(g.path("bad.pem"), x509.NewCertPool())
	assert.ErrorContains(t, err, "bad.pem: ")
	all, err := readRoots(g.path("authority.pem"), x509.NewCertPool())
	require.NoError(t, err)
	assert.True(t, all[string(g.authority.Raw)])
}
