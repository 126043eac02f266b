package httpapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
)

func TestMain(m *testing.M) {
	for _, name := range os.Environ() { // what would tell stock clients where to go
		if strings.HasPrefix(name, "VAULT_") || strings.HasPrefix(name, "BAO_") {
			key, _, _ := strings.Cut(name, "=")
			os.Unsetenv(key)
		}
	}
	goleak.VerifyTestMain(m)
}

const (
	rootToken = "mk.root-token-of-the-tests"
	userToken = "mk.user-token-of-the-tests" // may encrypt with keys that there are, and sign
)

// rig is a server with TLS on a real address. Its mounts are transit, which allows software keys, and managed, which doesn't.
type rig struct {
	*testing.T
	keys     *managedkey.Registry
	software *software.Backend
	store    store.Store
	server   *httptest.Server
	url      string // of the API
}

// newRig starts a server, which has the connections more as well. hsm may be nil; change may be nil.
func newRig(t *testing.T, hsm *softhsm.Token, change func(*Options), more ...managedkey.Connection) *rig {
	t.Helper()
	g := &rig{T: t, software: software.New(nil), store: memory.New(nil)}
	conns := []managedkey.Connection{{Backend: g.software}}
	if hsm != nil {
		token, err := pkcs11.New(pkcs11.Library{Name: "hsm", Path: hsm.Module})
		require.NoError(t, err)
		more = append(more, managedkey.Connection{Name: "hsm", Backend: token})
	}
	conns = append(conns, more...)
	var err error
	g.keys, err = managedkey.Open(t.Context(), g.store, conns, nil)
	require.NoError(t, err)
	tokens, err := httpapi.NewTokens(
		httpapi.Token{SHA256: httpapi.HashToken(rootToken), Policies: []string{httpapi.RootPolicy}},
		httpapi.Token{SHA256: httpapi.HashToken(userToken), Policies: []string{"user"}})
	require.NoError(t, err)
	policies, err := httpapi.NewPolicies(httpapi.Policy{Name: "user", Rules: []httpapi.Rule{
		{Path: "transit/encrypt/*", Capabilities: []string{"update"}}, {Path: "transit/sign/*", Capabilities: []string{"update"}}}})
	require.NoError(t, err)
	softKeys := software.New(nil)
	opts := &Options{Software: softKeys, AllowUnsealed: true}
	if change != nil {
		change(opts)
	}
	api, err := httpapi.New(g.keys, &httpapi.Options{Authenticator: tokens, Authorizer: policies,
		Engines: map[string]httpapi.Engine{"transit": New(g.store, opts)}, Logger: slog.New(slog.DiscardHandler), Limits: httpapi.Limits{Body: 8 << 20}})
	require.NoError(t, err)
	g.server = httptest.NewUnstartedServer(nil)
	g.server.Config = httpapi.NewServer(api, nil)
	g.server.EnableHTTP2 = true
	g.server.StartTLS()
	g.url = g.server.URL + "/v1/"
	t.Cleanup(func() {
		g.server.Close()
		assert.NoError(t, api.Close())
		assert.NoError(t, g.keys.Close())
		assert.NoError(t, g.store.Close())
		assert.NoError(t, g.software.Close())
		assert.NoError(t, softKeys.Close())
		for _, c := range more {
			assert.NoError(t, c.Backend.Close())
		}
	})
	_, err = g.keys.CreateMount(t.Context(), managedkey.MountSpec{Path: "transit", Type: "transit", Options: map[string]string{SoftwareOption: "true"}})
	require.NoError(t, err)
	_, err = g.keys.CreateMount(t.Context(), managedkey.MountSpec{Path: "managed", Type: "transit"})
	require.NoError(t, err)
	return g
}

// caPEM returns the certificate of the server.
func (g *rig) caPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.server.Certificate().Raw})
}

const everything = backend.UsageSign | backend.UsageVerify | backend.UsageEncrypt | backend.UsageDecrypt | backend.UsageMAC | backend.UsageDerive | backend.UsageGenerateRandom

// managed makes a managed key that all mounts may use.
func (g *rig) managed(name string, params software.Params) {
	g.Helper()
	params.KeyName = name
	err := g.keys.Create(g.Context(), managedkey.Entry{Ref: namespace.Ref{Name: name}, Backend: g.software, Params: params, AllowGenerateKey: true, AnyMount: true, Usages: everything})
	require.NoError(g, err)
}

// answer is what a request got.
type answer struct {
	status   int
	header   http.Header
	text     string
	data     map[string]any
	errors   []string
	warnings []string
}

// do makes a request; body is JSON, or anything that has a form in JSON, or nil.
func (g *rig) do(method, path, token string, body any) answer {
	g.Helper()
	var reader io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(body)
	default:
		encoded, err := json.Marshal(body)
		require.NoError(g, err)
		reader = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, g.url+path, reader)
	require.NoError(g, err)
	r.Header.Set("X-Vault-Token", token)
	resp, err := g.server.Client().Do(r)
	require.NoError(g, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(g, err)
	out := answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if len(text) > 0 {
		var all struct {
			Data     map[string]any
			Errors   []string
			Warnings []string
		}
		require.NoError(g, json.Unmarshal(text, &all), "%s", text)
		out.data, out.errors, out.warnings = all.Data, all.Errors, all.Warnings
	}
	return out
}

// post is do for root's POST to the mount transit, which must be answered with that status.
func (g *rig) post(status int, path string, body any) answer {
	g.Helper()
	a := g.do("POST", "transit/"+path, rootToken, body)
	require.Equal(g, status, a.status, "%s: %s", path, a.text)
	return a
}

func (g *rig) get(status int, path string) answer {
	g.Helper()
	a := g.do("GET", "transit/"+path, rootToken, nil)
	require.Equal(g, status, a.status, "%s: %s", path, a.text)
	return a
}

// results returns the results of a batch.
func (a answer) results(t *testing.T) (all []map[string]any) {
	t.Helper()
	list, ok := a.data["batch_results"].([]any)
	require.True(t, ok, a.text)
	for _, one := range list {
		all = append(all, one.(map[string]any))
	}
	return all
}

type object = map[string]any

// b64 is how data is sent.
func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
