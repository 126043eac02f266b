package gcpckms

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	"google.golang.org/api/option"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

// connecting returns a backend that finds credentials itself, for a service with a P-256 key, whose parameters it returns.
func connecting(t *testing.T, opts *Options) (*fakegcp.Server, *Backend, Params) {
	t.Helper()
	server := newServer(t, nil)
	if opts == nil {
		opts = new(Options)
	}
	opts.ClientOptions = append(server.Transport(), opts.ClientOptions...)
	b, err := Connect(opts)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.Close()) })
	return server, b, addKey(t, server, "ec", p256, Software)
}

// write returns a function that writes files to a directory of the test.
func write(t *testing.T) func(string, []byte) (string, error) {
	dir := t.TempDir()
	return func(name string, data []byte) (string, error) {
		path := filepath.Join(dir, name)
		return path, os.WriteFile(path, data, 0o600)
	}
}

// Each kind of credential, from each place that one can stand in, makes signatures on a service that checks tokens.
func TestCredentials(t *testing.T) {
	for _, kind := range []string{fakegcp.Account, fakegcp.Federation, fakegcp.Impersonate} {
		for place, put := range map[string]func(t *testing.T, p *Params, text, path string){
			"path":                           func(_ *testing.T, p *Params, _, path string) { p.Credentials = backend.Secret(path) },
			"JSON":                           func(_ *testing.T, p *Params, text, _ string) { p.Credentials = backend.Secret(text) },
			"a file reference":               func(_ *testing.T, p *Params, _, path string) { p.Credentials = backend.Secret("file:" + path) },
			"a variable with JSON":           func(t *testing.T, p *Params, text, _ string) { t.Setenv("CRED", text); p.Credentials = "env:CRED" },
			"a variable with a path":         func(t *testing.T, p *Params, _, path string) { t.Setenv("CRED", path); p.Credentials = "env:CRED" },
			"GOOGLE_CREDENTIALS with JSON":   func(t *testing.T, _ *Params, text, _ string) { t.Setenv(envCredentials, text) },
			"GOOGLE_CREDENTIALS with a path": func(t *testing.T, _ *Params, _, path string) { t.Setenv(envCredentials, path) },
			"GOOGLE_APPLICATION_CREDENTIALS": func(t *testing.T, _ *Params, _, path string) { t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path) },
		} {
			t.Run(kind+" by "+place, func(t *testing.T) {
				noEnvironment(t)
				server, b, p := connecting(t, nil)
				text := must(server.Credentials(kind, write(t)))
				put(t, &p, string(text), must(write(t)("credential.json", text)))
				assert.Zero(t, server.Log.Count(""), "nothing is dialled before Open")
				key, err := b.Open(t.Context(), p)
				require.NoError(t, err)
				signs(t, key)
				assert.NotZero(t, server.Issued(kind))
			})
		}
	}
}

// A machine's own identity, and none at all, in a process of their own: the SDK asks once in a process whether it runs on
// Google's machines.
func TestMachineIdentity(t *testing.T) {
	if os.Getenv("GCPCKMS_CHILD") != "" {
		server, b, p := connecting(t, nil)
		os.Setenv("GCE_METADATA_HOST", server.MetadataHost())
		key, err := b.Open(t.Context(), p)
		require.NoError(t, err)
		signs(t, key)
		assert.NotZero(t, server.Issued(fakegcp.Instance))
		fmt.Println("signed by the machine")
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMachineIdentity$", "-test.v")
	cmd.Env = []string{"GCPCKMS_CHILD=1", "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), "signed by the machine")
}

// Credentials that can't be used are ErrCredentials, and what they hold is not shown.
func TestBadCredentials(t *testing.T) {
	noEnvironment(t)
	const secret = "gcpckms-test-secret"
	file := func(content string) backend.Secret {
		return backend.Secret(must(write(t)("credential.json", []byte(content))))
	}
	for name, cred := range map[string]backend.Secret{
		"no such file":     "/absent/credential.json",
		"no such variable": "env:GCPCKMS_ABSENT",
		"no JSON":          file(secret),
		"half JSON":        `{"type":"service_account","private_key":"` + secret,
		"no type":          `{"private_key":"` + secret + `"}`,
		"an unknown type":  backend.Secret(`{"type":"` + strings.Repeat("x", 1000) + `","private_key":"` + secret + `"}`),
		"no private key":   backend.Secret(testCredentials),
		"a long file":      file(strings.Repeat(" ", maxCredentials+1)),
		"an empty file":    file(" "),
		"a directory":      backend.Secret(t.TempDir()),
	} {
		t.Run(name, func(t *testing.T) {
			server, b, p := connecting(t, nil)
			p.Credentials = cred
			key, err := b.Open(t.Context(), p)
			assert.ErrorIs(t, err, backend.ErrCredentials)
			assert.Nil(t, key)
			if err != nil {
				assert.NotContains(t, err.Error(), secret)
			}
			assert.Zero(t, server.Log.Count(""))
		})
	}
}

// Tokens that the service refuses, and identities that can't be exchanged for any, are ErrCredentials.
func TestRefusedTokens(t *testing.T) {
	noEnvironment(t)
	r := newRig(t, nil, nil)
	key := r.open(r.add("ec", p256, Software))
	r.server.Revoke()
	_, err := signError(t.Context(), key)
	assert.ErrorIs(t, err, backend.ErrCredentials)
	assert.ErrorContains(t, err, "UNAUTHENTICATED")

	b, err := NewFromOptions(t.Context(), nil, append(r.server.Transport(), option.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "expired"})))...)
	require.NoError(t, err)
	defer b.Close()
	_, err = b.Open(t.Context(), r.params("ec", p256))
	assert.ErrorIs(t, err, backend.ErrCredentials)

	server, c, p := connecting(t, nil)
	text := must(server.Credentials(fakegcp.Federation, func(_ string, _ []byte) (string, error) {
		return write(t)("subject", []byte("a token of somebody else"))
	}))
	p.Credentials = backend.Secret(text)
	_, err = c.Open(t.Context(), p)
	assert.ErrorIs(t, err, backend.ErrCredentials)
	assert.Zero(t, server.Issued(fakegcp.Federation))
}

// Entries with equal credentials share a connection, and others don't.
func TestSharedConnections(t *testing.T) {
	noEnvironment(t)
	server, b, p := connecting(t, nil)
	account := backend.Secret(must(server.Credentials(fakegcp.Account, write(t))))
	federated := backend.Secret(must(server.Credentials(fakegcp.Federation, write(t))))
	addKey(t, server, "other", "HMAC_SHA256", Software)
	for _, id := range []string{"ec", "other", "ec"} {
		p := testParams(id, "")
		p.Credentials = account
		_, err := b.Open(t.Context(), p)
		require.NoError(t, err)
	}
	assert.Len(t, b.conns.Clients(), 1)
	p.Credentials = federated
	_, err := b.Open(t.Context(), p)
	require.NoError(t, err)
	assert.Len(t, b.conns.Clients(), 2)
	require.NoError(t, b.Ping(t.Context()))
}

// The quota project goes with each call, whichever way it was given.
func TestQuotaProject(t *testing.T) {
	noEnvironment(t)
	server, b, p := connecting(t, &Options{QuotaProject: "payer-1"})
	p.Credentials = backend.Secret(must(server.Credentials(fakegcp.Account, write(t))))
	_, err := b.Open(t.Context(), p)
	require.NoError(t, err)
	assert.Equal(t, []string{"payer-1"}, server.Metadata("GetPublicKey").Get("x-goog-user-project"))

	server, b, p = connecting(t, nil)
	var cred map[string]any
	require.NoError(t, json.Unmarshal(must(server.Credentials(fakegcp.Account, write(t))), &cred))
	cred["quota_project_id"] = "payer-2"
	p.Credentials = backend.Secret(must(json.Marshal(cred)))
	_, err = b.Open(t.Context(), p)
	require.NoError(t, err)
	assert.Equal(t, []string{"payer-2"}, server.Metadata("GetPublicKey").Get("x-goog-user-project"))
}
