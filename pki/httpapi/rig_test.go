package httpapi_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
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

// The tokens of every rig.
const (
	rootToken   = "mk.root-token-of-the-tests"
	issueToken  = "mk.issuer-token-of-the-tests" // update of pki/issue/*, and of pki/root without sudo
	signerToken = "mk.signer-token-of-the-tests" // update of everything in pki, without sudo
)

// syncBuffer is what was logged.
type syncBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// rig is a server with TLS on a real address, whose mounts of the type pki are authorities.
type rig struct {
	testing.TB
	keys   *managedkey.Registry
	soft   *software.Backend
	api    http.Handler
	url    string // of the API, without /v1
	pool   []byte // the certificate of its CA in PEM
	client *http.Client
	log    *syncBuffer
}

// newRig starts a server with a mount at "pki" that may use the keys "root" (P-384), "sub" (P-256) and "rsa". change, if it isn't nil,
// changes the options before.
func newRig(t testing.TB, change func(*pkihttp.Options), conns ...managedkey.Connection) *rig {
	return newRigOn(t, func(st store.Store) store.Store { return st }, change, conns...)
}

// newRigOn is newRig with authorities on another store, made of the registry's.
func newRigOn(t testing.TB, wrap func(store.Store) store.Store, change func(*pkihttp.Options), conns ...managedkey.Connection) *rig {
	t.Helper()
	g := &rig{TB: t, soft: software.New(nil), log: new(syncBuffer)}
	st := memory.New(nil)
	var err error
	g.keys, err = managedkey.Open(t.Context(), st, append(conns, managedkey.Connection{Backend: g.soft}), nil)
	require.NoError(t, err)
	logger := slog.New(slog.NewTextHandler(g.log, nil))
	opts := &pkihttp.Options{Logger: logger, Maintain: -1}
	if change != nil {
		change(opts)
	}
	engine, err := pkihttp.New(wrap(st), opts)
	require.NoError(t, err)
	tokens, err := httpapi.NewTokens(
		httpapi.Token{SHA256: httpapi.HashToken(rootToken), Accessor: "root", Name: "root", Policies: []string{httpapi.RootPolicy}},
		httpapi.Token{SHA256: httpapi.HashToken(issueToken), Accessor: "alice-id", Name: "alice", Policies: []string{"issue"}},
		httpapi.Token{SHA256: httpapi.HashToken(signerToken), Accessor: "bob-id", Name: "bob", Policies: []string{"sign"}})
	require.NoError(t, err)
	policies, err := httpapi.NewPolicies(httpapi.Policy{Name: "issue", Rules: []httpapi.Rule{
		{Path: "pki/issue/*", Capabilities: []string{"update"}}, {Path: "pki/root", Capabilities: []string{"delete"}},
		{Path: "pki/roles/*", Capabilities: []string{"update"}},
	}}, httpapi.Policy{Name: "sign", Rules: []httpapi.Rule{{Path: "pki/*", Capabilities: []string{"create", "read", "update", "delete", "list", "patch"}}}})
	require.NoError(t, err)
	api, err := httpapi.New(g.keys, &httpapi.Options{Authenticator: tokens, Authorizer: policies, Engines: map[string]httpapi.Engine{"pki": engine}, Logger: logger})
	require.NoError(t, err)
	g.api = api
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cert := serverCertificate(t)
	g.pool = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(g.pool)
	g.url = "https://" + listener.Addr().String()
	g.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	server := httpapi.NewServer(api, &tls.Config{Certificates: []tls.Certificate{cert}})
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		assert.NoError(t, server.Close())
		assert.Equal(t, http.ErrServerClosed, <-served)
		assert.NoError(t, api.Close())
		assert.NoError(t, g.keys.Close())
		assert.NoError(t, st.Close())
		assert.NoError(t, g.soft.Close())
		assert.NotContains(t, g.log.String(), "mk.", "no token is logged")
		assert.NotContains(t, g.log.String(), "PRIVATE KEY", "no private key is logged")
	})
	g.key("root", software.Params{KeyType: software.ECDSA, Curve: software.P384})
	g.key("sub", software.Params{KeyType: software.ECDSA, Curve: software.P256})
	g.key("rsa", software.Params{KeyType: software.RSA, KeyBits: 2048})
	g.mount("pki", "root", "sub", "rsa")
	return g
}

// key makes a managed key in software.
func (g *rig) key(name string, params software.Params) {
	g.Helper()
	params.KeyName = name
	g.entry(name, g.soft, params)
}

// entry makes a managed key.
func (g *rig) entry(name string, b backend.Backend, params backend.Params) {
	g.Helper()
	require.NoError(g, g.keys.Create(g.Context(), managedkey.Entry{Ref: namespace.Ref{Name: name}, Backend: b, Params: params, AllowGenerateKey: true}))
}

// mount makes an authority that may use those keys.
func (g *rig) mount(path string, keys ...string) *managedkey.Mount {
	g.Helper()
	m, err := g.keys.CreateMount(g.Context(), managedkey.MountSpec{Path: path, Type: "pki", Allowed: keys})
	require.NoError(g, err)
	return m
}

// option sets an option of the mount "pki".
func (g *rig) option(name, value string) {
	g.Helper()
	g.must(204, "POST", "sys/mounts/pki/tune", map[string]any{"options": map[string]string{name: value}})
}

func serverCertificate(t testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "server"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// answer is what a request got.
type answer struct {
	testing.TB
	status   int
	header   http.Header
	body     []byte
	data     map[string]any
	errors   []string
	warnings []string
}

// do makes a request. body is nil, a string, or what is sent as JSON. header are names and values.
func (g *rig) do(method, path, token string, body any, header ...string) answer {
	g.Helper()
	var reader io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(body)
	case []byte:
		reader = bytes.NewReader(body)
	default:
		text, err := json.Marshal(body)
		require.NoError(g, err)
		reader = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(g.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, g.url+"/v1/"+path, reader)
	require.NoError(g, err)
	if token != "" {
		r.Header.Set("X-Vault-Token", token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := g.client.Do(r)
	require.NoError(g, err)
	defer resp.Body.Close()
	out := answer{TB: g.TB, status: resp.StatusCode, header: resp.Header}
	out.body, err = io.ReadAll(resp.Body)
	require.NoError(g, err)
	if resp.Header.Get("Content-Type") == "application/json" && method != http.MethodHead {
		var all struct {
			Data             map[string]any
			Errors, Warnings []string
		}
		require.NoError(g, json.Unmarshal(out.body, &all), "%s", out.body)
		out.data, out.errors, out.warnings = all.Data, all.Errors, all.Warnings
	}
	return out
}

// must is do as root; the answer must have that status.
func (g *rig) must(status int, method, path string, body any, header ...string) answer {
	g.Helper()
	a := g.do(method, path, rootToken, body, header...)
	require.Equal(g, status, a.status, "%s %s: %s", method, path, a.body)
	return a
}

// fields are the body of a request.
type fields map[string]any

// str returns a text of an answer's data.
func (a answer) str(name string) string {
	a.Helper()
	text, ok := a.data[name].(string)
	require.True(a, ok, "%s is %v in %s", name, a.data[name], a.body)
	return text
}

// cert returns the first certificate in a text of an answer's data.
func (a answer) cert(name string) *x509.Certificate {
	a.Helper()
	return parse(a, a.str(name))
}

func parse(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	require.NotNil(t, block, "%s", text)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}

// root makes the root "root" on the managed key of that name.
func (g *rig) root(key string, more ...any) answer {
	g.Helper()
	body := fields{"common_name": "Example Root", "organization": "Example", "country": "SE", "managed_key_name": key, "issuer_name": "root-" + key, "ttl": "87600h"}
	for i := 0; i < len(more); i += 2 {
		body[more[i].(string)] = more[i+1]
	}
	return g.must(200, "POST", "pki/root/generate/kms", body)
}

// csr returns a request for a new P-256 key in PEM, and the key.
func csr(t testing.TB, template *x509.CertificateRequest) (string, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), key
}
