package awskms

import (
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
)

// front puts TLS in front of a fake.
func front(t *testing.T, srv *fakeaws.Server) *httptest.Server {
	t.Helper()
	to := must(url.Parse(srv.URL()))
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		assert.Equal(t, 1, r.In.ProtoMajor, "of which one connection has many requests to lose")
		r.SetURL(to)
		r.Out.Host = r.In.Host // which the request was signed with
	}})
	proxy.EnableHTTP2 = true
	proxy.Config.ErrorLog = log.New(io.Discard, "", 0)
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	return proxy
}

// TestTLS: a server that the system doesn't trust gets no request, and one of AWS_CA_BUNDLE does.
func TestTLS(t *testing.T) {
	srv := serve(t, nil)
	proxy := front(t, srv)
	p := at(srv, Params{KMSKey: add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})})
	p.Endpoint = proxy.URL
	_, err := connect(t, once).Open(t.Context(), p)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorContains(t, err, "certificate")
	assert.Zero(t, srv.Log.Count(""))

	b := connect(t, nil)
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})
	t.Setenv("AWS_CA_BUNDLE", write(t, "bundle.pem", string(bundle)))
	key := open[backend.Signer](t, b, p)
	_, err = signOnce(t.Context(), key)
	assert.NoError(t, err)
}

// TestManyCallers: with a bucket for the key, more callers than it has turns for are paced, and none fails.
func TestManyCallers(t *testing.T) {
	const callers, rate = 200, 400
	srv, b, key := signerOf(t, &Options{Remote: remote.Options{KeyRate: remote.Rate{PerSecond: rate, Burst: 1}}})
	_, err := signOnce(t.Context(), key)
	require.NoError(t, err)
	srv.Log.Clear()
	began := time.Now()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			_, err := signOnce(t.Context(), key)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.Greater(t, time.Since(began), time.Second*callers/rate/2, "unpaced it takes a tenth of that")
	assert.Equal(t, callers, srv.Log.Count("Sign"))
	assert.Zero(t, b.Retries())
}

// TestInParallel: the first failure ends the search, and what was found keeps its order.
func TestInParallel(t *testing.T) {
	items := make([]int, 100)
	for i := range items {
		items[i] = i
	}
	var mu sync.Mutex
	calls := 0
	even := func(i int) (*int, error) {
		mu.Lock()
		defer mu.Unlock()
		calls++
		if i%2 == 1 {
			return nil, nil
		}
		return &i, nil
	}
	found, err := inParallel(items, even)
	require.NoError(t, err)
	assert.Len(t, found, 50)
	assert.IsIncreasing(t, found)
	calls = 0
	_, err = inParallel(items, func(i int) (*int, error) {
		if _, err := even(i); err != nil || i < 3 {
			return nil, err
		}
		return nil, backend.ErrUnavailable
	})
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.Less(t, calls, 100)
}
