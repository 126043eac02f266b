package gcpckms

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

// The endpoint is Google's, that of the key's region, or the one that was given; the certificate is checked for its name.
func TestEndpoints(t *testing.T) {
	noEnvironment(t)
	for name, test := range map[string]struct {
		opts   Options
		region string
		want   string
	}{
		"default":      {Options{}, testRegion, "cloudkms.googleapis.com:443"},
		"regional":     {Options{RegionalEndpoints: true}, testRegion, "cloudkms.europe-west3.rep.googleapis.com:443"},
		"global":       {Options{RegionalEndpoints: true}, "global", "cloudkms.googleapis.com:443"},
		"given":        {Options{Endpoint: "kms.googleapis.com:8443"}, testRegion, "kms.googleapis.com:8443"},
		"ours, by SDK": {Options{ClientOptions: []option.ClientOption{option.WithEndpoint("psc.googleapis.com:443")}}, testRegion, "psc.googleapis.com:443"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t, nil)
			ring := server.AddKeyRing(testProject, test.region, testRing)
			_, err := server.AddKey(ring, "ec", byName(p256), Software.pb())
			require.NoError(t, err)
			var asked []string
			test.opts.ClientOptions = append([]option.ClientOption{
				option.WithGRPCDialOption(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
					asked = append(asked, address)
					return new(net.Dialer).DialContext(ctx, "tcp", server.Addr())
				})),
				option.WithGRPCDialOption(grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(server.Pool(), ""))),
			}, test.opts.ClientOptions...)
			b, err := Connect(&test.opts)
			require.NoError(t, err)
			defer b.Close()
			p := testParams("ec", p256)
			p.Region = test.region
			p.Credentials = backend.Secret(must(server.Credentials(fakegcp.Account, write(t))))
			key, err := b.Open(t.Context(), p)
			require.NoError(t, err)
			signs(t, key)
			assert.Equal(t, []string{test.want}, asked)
		})
	}
}

func byName(a Algorithm) pbAlgorithm { return algorithms[a].pb }

// An emulator is spoken to in plain text and without credentials, if there are any or not.
func TestEmulator(t *testing.T) {
	noEnvironment(t)
	server := newServer(t, &fakegcp.Options{Insecure: true})
	p := addKey(t, server, "ec", p256, Software)
	t.Setenv(envEmulator, server.Addr())
	for _, cred := range []backend.Secret{"", testCredentials, "/absent"} {
		b, err := Connect(nil)
		require.NoError(t, err)
		p.Credentials = cred
		key, err := b.Open(t.Context(), p)
		require.NoError(t, err)
		signs(t, key)
		assert.Empty(t, server.Metadata("AsymmetricSign").Get("authorization"), "no token goes out in plain text")
		require.NoError(t, b.Close())
	}
}

// A client that the program made is used as it is, but for its retries, and left to the program.
func TestNew(t *testing.T) {
	server := newServer(t, nil)
	p := addKey(t, server, "ec", p256, Software)
	client, err := kms.NewKeyManagementClient(t.Context(), server.ClientOptions()...)
	require.NoError(t, err)
	defer client.Close()
	b, err := New(client, quick)
	require.NoError(t, err)
	key, err := b.Open(t.Context(), p)
	require.NoError(t, err)
	signs(t, key)
	server.Script.Add(fakecloud.Fault{Op: "AsymmetricSign", Drop: true})
	_, err = signError(t.Context(), key)
	assert.ErrorIs(t, err, backend.ErrUnavailable, "MaxAttempts is 1: the SDK does not try again")
	assert.Equal(t, 2, server.Log.Count("AsymmetricSign"))
	require.NoError(t, b.Close())
	other, err := New(client, nil)
	require.NoError(t, err)
	_, err = other.Open(t.Context(), p)
	assert.NoError(t, err, "the client is not closed")

	_, err = New(nil, nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
	for name, opts := range map[string]*Options{
		"two endpoints": {Endpoint: "a:443", RegionalEndpoints: true}, "attempts": {Remote: remote.Options{MaxAttempts: -1}},
	} {
		_, err = Connect(opts)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
		_, err = New(client, opts)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
		_, err = NewFromOptions(t.Context(), opts)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
	}
	_, err = NewFromOptions(t.Context(), nil, option.WithEndpoint(server.Addr()), option.WithoutAuthentication(), option.WithAPIKey("k"))
	assert.ErrorIs(t, err, backend.ErrCredentials, "options that contradict each other")
}

// Close waits for calls that run, for a while.
func TestCloseWaits(t *testing.T) {
	r := newRig(t, nil, nil)
	b := r.client(nil)
	key, err := b.Open(t.Context(), r.add("ec", p256, Software))
	require.NoError(t, err)
	r.server.Script.Add(fakecloud.Fault{Op: "AsymmetricSign", Delay: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := signError(ctx, key)
		done <- err
	}()
	require.Eventually(t, func() bool { return r.server.Log.Count("AsymmetricSign") == 1 }, 30*time.Second, time.Millisecond)
	err = b.close(time.Millisecond)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorContains(t, err, "1 calls")
	_, err = signError(t.Context(), key)
	assert.ErrorIs(t, err, backend.ErrClosed)
	assert.NoError(t, b.Close())
	cancel()
	assert.Error(t, <-done)
}

func TestStrings(t *testing.T) {
	r := newRig(t, nil, nil)
	assert.Equal(t, "gcpckms gcpckms", fmt.Sprintf("%v %#v", r.b, r.b))
	assert.Equal(t, Type, r.b.Type())
}

// Callers that have to wait for their turn leave when their context ends, and none fails while the rate is kept.
func TestRates(t *testing.T) {
	r := newRig(t, nil, &Options{Remote: remote.Options{TrustSignatures: true, KeyRate: remote.Rate{PerSecond: 200, Burst: 1}}})
	p := r.add("ec", p256, Software)
	key, again := r.open(p), r.open(p)
	began := time.Now()
	const n = 40
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := signError(t.Context(), []backend.Key{key, again}[i%2])
			errs <- err
		}()
	}
	for range n {
		require.NoError(t, <-errs)
	}
	assert.GreaterOrEqual(t, time.Since(began), 150*time.Millisecond, "two handles of a key share its bucket")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := signError(ctx, key)
	assert.True(t, errors.Is(err, context.Canceled))
}
