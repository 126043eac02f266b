package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/namespace"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// replica is a process, as far as its state goes: registry, engine and API are its own, and the store is not.
type replica struct {
	testing.TB
	keys *managedkey.Registry
	soft *software.Backend
	api  *httpapi.API
}

// newReplica starts one on st, with the keys in soft. change may be nil.
func newReplica(t testing.TB, st store.Store, soft *software.Backend, change func(*replica, *pkihttp.Options)) *replica {
	t.Helper()
	p := &replica{TB: t, soft: soft}
	var err error
	p.keys, err = managedkey.Open(t.Context(), st, []managedkey.Connection{{Backend: soft}}, nil)
	require.NoError(t, err)
	logger := slog.New(slog.DiscardHandler)
	opts := &pkihttp.Options{Logger: logger, Maintain: -1}
	if change != nil {
		change(p, opts)
	}
	engine, err := pkihttp.New(st, opts)
	require.NoError(t, err)
	tokens, err := httpapi.NewTokens(httpapi.Token{SHA256: httpapi.HashToken(rootToken), Name: "root", Policies: []string{httpapi.RootPolicy}})
	require.NoError(t, err)
	policies, err := httpapi.NewPolicies()
	require.NoError(t, err)
	p.api, err = httpapi.New(p.keys, &httpapi.Options{Authenticator: tokens, Authorizer: policies, Engines: map[string]httpapi.Engine{"pki": engine}, Logger: logger})
	require.NoError(t, err)
	t.Cleanup(p.close)
	return p
}

// close ends the process, once.
func (p *replica) close() {
	assert.NoError(p, p.api.Close())
	assert.NoError(p, p.keys.Close())
}

// mount makes the authority "pki", and the managed key "root" that it may use.
func (p *replica) mount(options map[string]string) *managedkey.Mount {
	p.Helper()
	require.NoError(p, p.keys.Create(p.Context(), managedkey.Entry{Ref: namespace.Ref{Name: "root"}, Backend: p.soft, AllowGenerateKey: true,
		Params: software.Params{KeyName: "root", KeyType: software.ECDSA, Curve: software.P256}}))
	m, err := p.keys.CreateMount(p.Context(), managedkey.MountSpec{Path: "pki", Type: "pki", Allowed: []string{"root"}, Options: options})
	require.NoError(p, err)
	return m
}

// knows waits until the process knows of the mount "pki", which another one has made.
func (p *replica) knows() {
	p.Helper()
	require.Eventually(p, func() bool {
		for _, m := range p.keys.Mounts("") {
			if m.Path() == "pki" {
				return true
			}
		}
		return false
	}, time.Minute, time.Millisecond)
}

// ask makes a request below "pki/", or "sys/" if path begins so, and returns the answer. body may be nil.
func (p *replica) ask(method, path string, body fields) answer {
	p.Helper()
	text, err := json.Marshal(body)
	require.NoError(p, err)
	var sent io.Reader
	if body != nil {
		sent = bytes.NewReader(text)
	}
	if !strings.HasPrefix(path, "sys/") {
		path = "pki/" + path
	}
	r := httptest.NewRequest(method, "/v1/"+path, sent)
	r.Header.Set("X-Vault-Token", rootToken)
	w := httptest.NewRecorder()
	p.api.ServeHTTP(w, r)
	out := answer{TB: p.TB, status: w.Code, header: w.Header(), body: w.Body.Bytes()}
	var all struct {
		Data             map[string]any
		Errors, Warnings []string
	}
	if w.Code != http.StatusNoContent && w.Header().Get("Content-Type") == "application/json" {
		require.NoError(p, json.Unmarshal(out.body, &all), "%s", out.body)
	}
	out.data, out.errors, out.warnings = all.Data, all.Errors, all.Warnings
	return out
}

// must is ask; the answer must have that status.
func (p *replica) must(status int, method, path string, body fields) answer {
	p.Helper()
	a := p.ask(method, path, body)
	require.Equal(p, status, a.status, "%s %s: %s", method, path, a.body)
	return a
}

// gated is a store in which certificates are not removed before gate is closed.
type gated struct {
	store.Store
	gate chan struct{}
}

func (s *gated) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	if ops[0].Kind == store.Delete && strings.Contains(ops[0].Key, "/certs/") {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return s.Store.Apply(ctx, ops...)
}
