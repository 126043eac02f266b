package httpapi_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	xocsp "golang.org/x/crypto/ocsp"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// flaky is a key manager with one P-256 key, which counts signatures and can be away.
type flaky struct {
	key   *ecdsa.PrivateKey
	signs atomic.Int64
	away  atomic.Bool
}

type flakyParams struct {
	Name string `json:"name"`
}

func (flakyParams) BackendType() string { return "flaky" }
func (flakyParams) Validate() error     { return nil }

func newFlaky(t testing.TB) *flaky {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return &flaky{key: key}
}

func (*flaky) Type() string { return "flaky" }
func (*flaky) Close() error { return nil }
func (*flaky) DecodeParams(data []byte) (backend.Params, error) {
	return backend.DecodeParams[flakyParams](data)
}

func (f *flaky) Open(context.Context, backend.Params) (backend.Key, error) {
	h := backend.NewHandle(backend.HandleConfig{
		ID: "flaky", Public: f.key.Public(), Mode: backend.CallLocal,
		Capabilities: backend.Capabilities{Algorithm: "ECDSA P-256", Usages: backend.UsageSign | backend.UsageVerify,
			Signatures: []backend.SignatureAlgorithm{{Scheme: backend.ECDSA, Hash: crypto.SHA256}}},
	})
	return struct {
		*backend.Handle
		backend.SignOps
	}{h, h.Signing(func(_ context.Context, req backend.SignRequest) ([]byte, error) {
		if f.away.Load() {
			return nil, fmt.Errorf("the cable of the tests is cut: %w", backend.ErrUnavailable)
		}
		f.signs.Add(1)
		return f.key.Sign(rand.Reader, req.Digest, req.Hash)
	})}, nil
}

// newFlakyRig is a rig whose mount "far" has a root on a key that can be away.
func newFlakyRig(t testing.TB, change func(*pkihttp.Options)) (*rig, *flaky) {
	f := newFlaky(t)
	g := newRig(t, change, managedkey.Connection{Name: "flaky", Backend: f})
	g.entry("far", f, flakyParams{"far"})
	g.mount("far", "far")
	g.must(200, "POST", "far/root/generate/kms", fields{"common_name": "Far Root", "managed_key_name": "far", "ttl": "8760h"})
	g.must(200, "POST", "far/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	return g, f
}

// TestKeyManagerAway: what needs the key is answered 503; revoking, reading, the last CRL and OCSP answers go on.
func TestKeyManagerAway(t *testing.T) {
	g, f := newFlakyRig(t, nil)
	ca := parse(t, string(g.do("GET", "far/ca/pem", "", nil).body))
	a := g.must(200, "POST", "far/issue/web", fields{"common_name": "a.example"})
	leaf := a.cert("certificate")
	before := g.crl("far/crl")
	request, err := xocsp.CreateRequest(leaf, ca, nil)
	require.NoError(t, err)
	ask := func() int {
		r := g.do("POST", "far/ocsp", "", request, "Content-Type", "application/ocsp-request")
		answer, err := xocsp.ParseResponse(r.body, ca)
		require.NoError(t, err)
		return answer.Status
	}
	assert.Equal(t, xocsp.Good, ask())
	f.away.Store(true)
	for _, request := range [][2]string{{"issue/web", `{"common_name":"b.example"}`}, {"root/generate/kms", `{"common_name":"R","managed_key_name":"far"}`}} {
		a := g.must(503, "POST", "far/"+request[0], request[1])
		assert.NotEmpty(t, a.header.Get("Retry-After"))
	}
	assert.Equal(t, xocsp.Good, ask(), "it was signed before")
	g.must(200, "POST", "far/revoke", fields{"serial_number": a.str("serial_number")})
	assert.Equal(t, before.Number, g.crl("far/crl").Number, "the last one is served")
	assert.Equal(t, 503, g.do("GET", "far/crl/rotate", rootToken, nil).status)
	for _, path := range []string{"issuer/default", "cert/" + a.str("serial_number"), "roles/web", "config/crl", "issuer/default/json"} {
		g.must(200, "GET", "far/"+path, nil)
	}
	f.away.Store(false)
	assert.Eventually(t, func() bool {
		r := g.do("GET", "far/crl/rotate", rootToken, nil)
		return r.status == 200 && len(r.warnings) == 0
	}, 30*time.Second, 10*time.Millisecond)
	assert.Len(t, g.crl("far/crl").RevokedCertificateEntries, 1)
}

// TestMaintenance: a CRL that is due is made before anybody asks, and one signature is made for each certificate and list.
func TestMaintenance(t *testing.T) {
	_, f := newFlakyRig(t, func(o *pkihttp.Options) { o.Maintain = 10 * time.Millisecond })
	require.Eventually(t, func() bool { return f.signs.Load() >= 2 }, 30*time.Second, time.Millisecond)
	g, f := newFlakyRig(t, nil)
	n := f.signs.Load()
	g.must(200, "POST", "far/issue/web", fields{"common_name": "a.example"})
	g.must(400, "POST", "far/issue/web", fields{"common_name": "a b"})
	assert.Equal(t, n+1, f.signs.Load(), "what is refused reaches no key")
	g.crl("far/crl")
	g.crl("far/crl")
	assert.Equal(t, n+2, f.signs.Load())
}

// TestNamespaces: the same paths in a namespace are another authority, on that namespace's keys.
func TestNamespaces(t *testing.T) {
	f := newFlaky(t)
	g := newRig(t, nil, managedkey.Connection{Name: "flaky", Backend: f})
	require.NoError(t, g.keys.Create(t.Context(), managedkey.Entry{Ref: namespace.Ref{Namespace: "team-a", Name: "ca"}, Backend: f, Params: flakyParams{"ca"}}))
	_, err := g.keys.CreateMount(t.Context(), managedkey.MountSpec{Namespace: "team-a", Path: "pki", Type: "pki", Allowed: []string{"ca"}})
	require.NoError(t, err)
	a := g.must(200, "POST", "pki/root/generate/kms", fields{"common_name": "Team Root", "managed_key_name": "ca"}, "X-Vault-Namespace", "team-a")
	root := g.do("GET", "team-a/pki/ca/pem", "", nil)
	assert.Equal(t, "Team Root", parse(t, string(root.body)).Subject.CommonName)
	assert.Equal(t, 204, g.do("GET", "pki/ca/pem", "", nil).status, "the root namespace's has none")
	assert.Equal(t, 404, g.do("GET", "pki/cert/"+a.str("serial_number"), "", nil).status)
}
