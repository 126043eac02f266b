package httpapi

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
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

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
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

// The tokens of every rig, and who has them.
const (
	rootToken   = "mk.root-token-of-the-tests"
	teamToken   = "mk.team-a-token-of-the-tests"    // everything in team-a
	readerToken = "mk.reader-token-of-the-tests"    // reads keys
	oldToken    = "mk.expired-token-of-the-tests"   // root's, but it has expired
	nobodyToken = "mk.no-policy-token-of-the-tests" // no policy
)

// rig is a server on a real address, with a registry in a store in memory.
type rig struct {
	*testing.T
	keys     *managedkey.Registry
	software *software.Backend
	api      *API
	tokens   *Tokens
	url      string
	client   *http.Client
	log      *syncBuffer
}

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

// newRig starts a server. change, if it isn't nil, changes the options before.
func newRig(t *testing.T, change func(*Options), conns ...managedkey.Connection) *rig {
	t.Helper()
	g := &rig{T: t, software: software.New(nil), log: new(syncBuffer)}
	st := memory.New(nil)
	conns = append(conns, managedkey.Connection{Backend: g.software})
	var err error
	g.keys, err = managedkey.Open(t.Context(), st, conns, nil)
	require.NoError(t, err)
	g.tokens, err = NewTokens(
		Token{SHA256: HashToken(rootToken), Accessor: "root", Name: "root", Policies: []string{RootPolicy}},
		Token{SHA256: HashToken(teamToken), Name: "team-a", Namespace: "team-a", Policies: []string{RootPolicy}},
		Token{SHA256: HashToken(readerToken), Name: "reader", Policies: []string{"reader"}, Created: time.Now(), Expires: time.Now().Add(time.Hour)},
		Token{SHA256: HashToken(oldToken), Name: "old", Policies: []string{RootPolicy}, Expires: time.Now().Add(-time.Second)},
		Token{SHA256: HashToken(nobodyToken), Name: "nobody"},
	)
	require.NoError(t, err)
	policies, err := NewPolicies(Policy{Name: "reader", Rules: []Rule{
		{Path: "sys/managed-keys/+", Capabilities: []string{"list"}},
		{Path: "sys/managed-keys/+/*", Capabilities: []string{"read"}},
		{Path: "sys/managed-keys/software/secret", Capabilities: []string{"deny"}},
		{Path: "signer/sign/*", Capabilities: []string{"update"}},
	}})
	require.NoError(t, err)
	opts := &Options{Authenticator: g.tokens, Authorizer: policies, Engines: map[string]Engine{"signer": newSigner, "pki": nil},
		Logger: slog.New(slog.NewTextHandler(g.log, nil))}
	if change != nil {
		change(opts)
	}
	g.api, err = New(g.keys, opts)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g.url = "http://" + listener.Addr().String()
	g.client = &http.Client{Transport: new(http.Transport), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	server := NewServer(g.api, nil)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		assert.NoError(t, server.Close())
		assert.Equal(t, http.ErrServerClosed, <-served)
		assert.NoError(t, g.api.Close())
		assert.NoError(t, g.keys.Close())
		assert.NoError(t, st.Close())
		assert.NoError(t, g.software.Close())
		assert.NotContains(t, g.log.String(), "mk.", "no token is logged")
	})
	return g
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	text   string
	data   map[string]any
	errors []string
}

// do makes a request with JSON in body, if that isn't empty. header are names and values.
func (g *rig) do(method, path, token, body string, header ...string) answer {
	g.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(g.Context(), method, g.url+path, reader)
	require.NoError(g, err)
	if token != "" {
		r.Header.Set("X-Vault-Token", token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return g.send(r)
}

func (g *rig) send(r *http.Request) answer {
	g.Helper()
	resp, err := g.client.Do(r)
	require.NoError(g, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(g, err)
	out := answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if len(text) > 0 {
		var all struct {
			Data   map[string]any
			Errors []string
		}
		require.NoError(g, json.Unmarshal(text, &all), "%s", text)
		out.data, out.errors = all.Data, all.Errors
	}
	return out
}

// must is do as root, and returns the data of an answer with that status.
func (g *rig) must(status int, method, path, body string, header ...string) answer {
	g.Helper()
	a := g.do(method, path, rootToken, body, header...)
	require.Equal(g, status, a.status, "%s %s: %s", method, path, a.text)
	return a
}

// ecdsaKey is the body for a P-256 key in software.
func ecdsaKey(name string) string {
	return `{"key_name":"` + name + `","key_type":"ECDSA","curve":"P256","allow_generate_key":true}`
}

// signer is a minimal engine: it signs with the mount's keys, and misbehaves if it is told to.
type signer struct {
	mount  *managedkey.Mount
	mu     sync.Mutex
	closed bool
}

var closedSigners sync.Map // by mount id

func newSigner(_ context.Context, m *managedkey.Mount) (Handler, error) {
	return &signer{mount: m}, nil
}

func (s *signer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	closedSigners.Store(s.mount.ID(), true)
	return nil
}

func (s *signer) Public(method, path string) bool {
	return method == http.MethodGet && path == "public"
}

func (s *signer) Exists(r *http.Request) (bool, error) {
	return !strings.HasPrefix(r.URL.Path, "/new/"), nil
}

func (s *signer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	name, isSign := strings.CutPrefix(r.URL.Path, "/sign/")
	switch {
	case closed:
		panic("used after it was closed")
	case isSign && r.Method == http.MethodPost:
		signature, err := s.sign(r, name)
		if err != nil {
			WriteError(w, r, err)
			return
		}
		WriteData(w, r, map[string]any{"signature": base64.StdEncoding.EncodeToString(signature)})
	case r.URL.Path == "/panic":
		panic("the secret is hunter2")
	case r.URL.Path == "/half":
		io.WriteString(w, `{"data":`)
		panic("the secret is hunter2")
	case r.URL.Path == "/public":
		WriteData(w, r, map[string]any{"known": IdentityOf(r.Context()) != nil})
	case r.URL.Path == "/wait":
		<-r.Context().Done()
		WriteError(w, r, r.Context().Err())
	case r.URL.Path == "/who":
		actor := managedkey.ActorOf(r.Context())
		WriteData(w, r, map[string]any{"id": actor.ID, "name": actor.Name, "address": actor.Address, "request": actor.RequestID, "method": r.Method})
	default:
		WriteError(w, r, Errorf(http.StatusNotFound, "unsupported path"))
	}
}

func (s *signer) sign(r *http.Request, name string) ([]byte, error) {
	f, err := ReadFields(r)
	if err != nil {
		return nil, err
	}
	var input string
	f.String("input", &input)
	if err := f.Done(); err != nil {
		return nil, err
	}
	key, err := s.mount.Key(r.Context(), name)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(input))
	return key.SignContext(r.Context(), digest[:], crypto.SHA256)
}
