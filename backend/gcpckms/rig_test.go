package gcpckms

import (
	"context"
	"crypto"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Where the keys of the tests are.
const (
	testProject = "p-1"
	testRegion  = "europe-west3"
	testRing    = "ring"
)

// rig is a fake service with a key ring, and a client of it.
type rig struct {
	*testing.T
	server *fakegcp.Server
	ring   string
	b      *Backend
}

// newRig starts a service. fake and opts may be nil.
func newRig(t *testing.T, fake *fakegcp.Options, opts *Options) *rig {
	t.Helper()
	server := newServer(t, fake)
	r := &rig{T: t, server: server, ring: server.AddKeyRing(testProject, testRegion, testRing)}
	r.b = r.client(opts)
	return r
}

func newServer(tb testing.TB, fake *fakegcp.Options) *fakegcp.Server {
	tb.Helper()
	server, err := fakegcp.New(fake)
	require.NoError(tb, err)
	tb.Cleanup(func() { server.Close() })
	return server
}

// client returns a further client, which is closed when the test ends.
func (r *rig) client(opts *Options) *Backend {
	r.Helper()
	b, err := NewFromOptions(r.Context(), opts, r.server.ClientOptions()...)
	require.NoError(r, err)
	b.clock.pause = time.Millisecond
	r.Cleanup(func() { assert.NoError(r, b.Close()) })
	return b
}

// params returns those of a key with one version.
func (r *rig) params(id string, alg Algorithm) Params { return testParams(id, alg) }

func testParams(id string, alg Algorithm) Params {
	return Params{Project: testProject, Region: testRegion, KeyRing: testRing, CryptoKey: id, Algorithm: alg}
}

// add makes a key and returns its parameters.
func (r *rig) add(id string, alg Algorithm, level ProtectionLevel) Params {
	r.Helper()
	return addKey(r, r.server, id, alg, level)
}

func addKey(tb testing.TB, server *fakegcp.Server, id string, alg Algorithm, level ProtectionLevel) Params {
	tb.Helper()
	ring := server.AddKeyRing(testProject, testRegion, testRing)
	_, err := server.AddKey(ring, id, pbAlgorithm(kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm_value[string(alg)]), level.pb())
	require.NoError(tb, err)
	return testParams(id, alg)
}

// open opens a key and ends the test if that fails.
func (r *rig) open(p Params) backend.Key {
	r.Helper()
	key, err := r.b.Open(r.Context(), p)
	require.NoError(r, err)
	return key
}

// name returns the resource name of the version that p names.
func name(p Params) string {
	p = p.complete()
	return p.version(p.CryptoKeyVersion)
}

// setState changes the state of a version.
func (r *rig) setState(p Params, state kmspb.CryptoKeyVersion_CryptoKeyVersionState) {
	r.Helper()
	require.NoError(r, r.server.Change(name(p), func(v *kmspb.CryptoKeyVersion) { v.State = state }))
}

// lower returns the id of a key for an algorithm.
func lower(a Algorithm) string { return strings.ToLower(string(a)) }

// quick are options with which failures take no time.
var quick = &Options{Remote: remote.Options{MaxAttempts: 1}}

// digestOf returns the digest of a message.
func digestOf(h crypto.Hash, message string) []byte {
	d := h.New()
	d.Write([]byte(message))
	return d.Sum(nil)
}

// signs checks that a P-256 key works.
func signs(tb testing.TB, key backend.Key) {
	tb.Helper()
	sign(tb, context.Background(), key)
}

func sign(tb testing.TB, ctx context.Context, key backend.Key) {
	tb.Helper()
	digest := digestOf(crypto.SHA256, "message")
	sig, err := key.(backend.Signer).SignContext(ctx, digest, crypto.SHA256)
	require.NoError(tb, err)
	require.NoError(tb, backend.Verify(key.Public(), digest, sig, crypto.SHA256))
}

const p256 Algorithm = "EC_SIGN_P256_SHA256"

// signError returns the error of a signature.
func signError(ctx context.Context, key backend.Key) ([]byte, error) {
	return key.(backend.Signer).SignContext(ctx, digestOf(crypto.SHA256, "message"), crypto.SHA256)
}

// must returns v, and panics if there is an error.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
