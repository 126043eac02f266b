package azurekeyvault

import (
	"context"
	"crypto"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

func TestNewRefuses(t *testing.T) {
	for name, make := range map[string]func() (*Backend, error){
		"nil credential": func() (*Backend, error) { return New(nil, vaultURL, nil) },
		"no URL":         func() (*Backend, error) { return New(&static{}, "", nil) },
		"plain http":     func() (*Backend, error) { return New(&static{}, "http://test.vault.azure.net", nil) },
		"options": func() (*Backend, error) {
			return New(&static{}, vaultURL, &Options{Remote: remote.Options{MaxAttempts: -1}})
		},
		"options, too": func() (*Backend, error) { return Connect(&Options{Remote: remote.Options{RetryBudget: 2}}) },
	} {
		b, err := make()
		assert.Nil(t, b, name)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
		assert.ErrorContains(t, err, "azurekeyvault: ", name)
	}
	b, err := Connect(nil)
	require.NoError(t, err)
	_, err = b.Open(t.Context(), Params{KeyName: "k"})
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
	assert.ErrorContains(t, err, "vault_name")
	assert.Equal(t, "azurekeyvault", fmt.Sprintf("%v", b))
	require.NoError(t, b.Close())
	_, err = b.Open(t.Context(), Params{KeyName: "k", VaultName: "test"})
	assert.ErrorIs(t, err, backend.ErrClosed)
}

// TestNothingDialled: making a client and parameters that are wrong make no connection.
func TestNothingDialled(t *testing.T) {
	srv := newFake(t, nil)
	opts := options(srv)
	var dialled atomic.Int64
	opts.DialContext = nil
	opts.Client.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
		dialled.Add(1)
		return nil, fmt.Errorf("no")
	})
	b, err := Connect(opts)
	require.NoError(t, err)
	defer b.Close()
	require.NoError(t, b.Ping(t.Context()))
	for _, p := range []Params{{}, {KeyName: "k"}, {KeyName: "k", VaultName: "!"}} {
		_, err := b.Open(t.Context(), p)
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
	}
	assert.Zero(t, dialled.Load())
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// TestOwnTransport: a transport that the program brings is used for all requests, and left alone by Close.
func TestOwnTransport(t *testing.T) {
	srv := newFake(t, nil)
	makeKey(t, sdkClient(t, srv, vaultURL), "k", p256())
	var requests atomic.Int64
	inner := srv.Client()
	b, err := Connect(&Options{Client: azcore.ClientOptions{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
		requests.Add(1)
		return inner.Do(r)
	})}})
	require.NoError(t, err)
	open(t, b, Params{TenantID: fakeazure.TenantID, ClientID: fakeazure.ClientID, ClientSecret: fakeazure.ClientSecret, VaultName: "test", KeyName: "k"})
	assert.GreaterOrEqual(t, requests.Load(), int64(3), "challenge, token, get")
	require.NoError(t, b.Close())
}

// TestOpenMany: opening a thousand keys is a thousand requests, and a challenge.
func TestOpenMany(t *testing.T) {
	srv := newFake(t, &fakeazure.Options{PageSize: 250})
	client := sdkClient(t, srv, vaultURL)
	const keys = 1000
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			for j := range keys / 10 {
				_, err := client.CreateKey(t.Context(), fmt.Sprintf("key-%d", i*keys/10+j), p256(), nil)
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	b := newBackendAt(t, srv, vaultURL, nil)
	srv.Log.Clear()
	began := time.Now()
	open(t, b, Params{KeyName: "key-0"})
	for i := range 8 {
		wg.Go(func() {
			for j := i + 1; j < keys; j += 8 {
				_, err := b.Open(t.Context(), Params{KeyName: fmt.Sprintf("key-%d", j)})
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	t.Logf("opened %d keys in %v with %d requests", keys, time.Since(began), srv.Log.Count(""))
	assert.Equal(t, keys, srv.Log.Count("get"))
	assert.Equal(t, keys+2, srv.Log.Count(""), "one challenge and one token")

	infos := 0
	srv.Log.Clear()
	for _, err := range b.List(t.Context(), nil) {
		require.NoError(t, err)
		infos++
	}
	assert.Equal(t, keys, infos)
	assert.Equal(t, 4, srv.Log.Count("list"))
}

// TestPaced: many callers on one key whose rate is limited all get their signature, and those whose context ends leave.
func TestPaced(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Remote = remote.Options{KeyRate: remote.Rate{PerSecond: 500, Burst: 100}, MaxInFlight: 16, CallTimeout: 2 * time.Minute, AttemptTimeout: time.Minute}
	})
	const callers = 1000
	var wg sync.WaitGroup
	var failed, left atomic.Int64
	began := time.Now()
	for i := range callers {
		wg.Go(func() {
			ctx := t.Context()
			if i%10 == 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(ctx)
				go cancel()
			}
			_, err := r.ec.SignContext(ctx, r.digest[:], crypto.SHA256)
			switch {
			case ctx.Err() != nil && err != nil:
				assert.ErrorIs(t, err, context.Canceled)
				left.Add(1)
			case err != nil:
				if failed.Add(1) < 4 {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	assert.Zero(t, failed.Load())
	t.Logf("%d callers in %v, %d left", callers, took, left.Load())
	assert.Greater(t, took, time.Duration(callers-callers/10-100)*time.Millisecond) // half of what the bucket makes it at least
}

// TestClose: calls under way get their result, and Close tells of those that don't end.
func TestClose(t *testing.T) {
	r := newRig(t, nil)
	r.srv.Script.Add(fakecloud.Fault{Op: "sign", Delay: 300 * time.Millisecond})
	done := make(chan error)
	go func() {
		_, err := r.ec.SignContext(t.Context(), r.digest[:], crypto.SHA256)
		done <- err
	}()
	require.Eventually(t, func() bool { return r.srv.Log.Count("sign") == 1 }, 30*time.Second, time.Millisecond)
	require.NoError(t, r.b.Close())
	require.NoError(t, <-done)
	_, err := r.ec.SignContext(t.Context(), r.digest[:], crypto.SHA256)
	assert.ErrorIs(t, err, backend.ErrClosed)
}

// TestTimeouts: a vault that doesn't answer is left after the attempt timeout, the call timeout or the caller's deadline.
func TestTimeouts(t *testing.T) {
	for name, o := range map[string]remote.Options{
		"attempt": {AttemptTimeout: time.Second, MaxAttempts: 1},
		"call":    {CallTimeout: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			b := newBackendAt(t, r.srv, vaultURL, func(opts *Options) { opts.Remote = o })
			require.NoError(t, b.Ping(t.Context()))
			r.srv.Script.Add(fakecloud.Fault{Op: "get", Times: -1, Delay: time.Minute})
			began := time.Now()
			_, err := b.Open(t.Context(), Params{KeyName: "ec"})
			assert.ErrorIs(t, err, backend.ErrUnavailable)
			assert.Less(t, time.Since(began), 10*time.Second)
		})
	}
}
