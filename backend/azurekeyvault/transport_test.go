package azurekeyvault

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

func challenge(header string) *fakeazure.Raw {
	return &fakeazure.Raw{Status: 401, Header: http.Header{"Www-Authenticate": {header}}, Body: `{"error":{"code":"Unauthorized"}}`}
}

// TestChallenges: what a vault may say to a request without a token. One that the SDK would panic over is an error.
func TestChallenges(t *testing.T) {
	t.Parallel()
	const authority = `Bearer authorization="https://login.microsoftonline.com/` + fakeazure.TenantID + `", `
	for name, c := range map[string]struct {
		header string
		want   error
	}{
		"as usual":          {authority + `resource="https://vault.azure.net"`, nil},
		"with a scope":      {authority + `scope="https://vault.azure.net/.default"`, nil},
		"no authorization":  {`Bearer resource="https://vault.azure.net"`, nil},
		"no path":           {`Bearer authorization="https://login.microsoftonline.com", resource="https://vault.azure.net"`, backend.ErrIntegrity},
		"no URL":            {`Bearer authorization="x", resource="https://vault.azure.net"`, backend.ErrIntegrity},
		"other resource":    {authority + `resource="https://management.azure.com"`, backend.ErrCredentials},
		"look-alike":        {authority + `resource="https://t.vault.azure.net.evil.example"`, backend.ErrCredentials},
		"no resource":       {authority, backend.ErrCredentials},
		"nothing":           {"", backend.ErrCredentials},
		"other scheme":      {`Basic realm="x"`, backend.ErrCredentials},
		"quotes everywhere": {`Bearer authorization="""", resource=""""`, backend.ErrCredentials},
		"no such tenant":    {`Bearer authorization="https://login.microsoftonline.com/", resource="https://vault.azure.net"`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newFake(t, nil)
			makeKey(t, sdkClient(t, srv, vaultURL), "k", p256())
			b := newBackendAt(t, srv, vaultURL, func(o *Options) { o.Remote = remote.Options{MaxAttempts: 1} })
			srv.Script.Add(fakecloud.Fault{Op: "challenge", Times: -1, Error: challenge(c.header)})
			key, err := b.Open(t.Context(), Params{KeyName: "k"})
			if c.want != nil {
				assert.Nil(t, key)
				require.ErrorIs(t, err, c.want)
				assert.NotContains(t, err.Error(), "panic")
				return
			}
			require.NoError(t, err)
		})
	}
}

// TestContainedPanic: should the SDK panic after all, that is an error.
func TestContainedPanic(t *testing.T) {
	srv := newFake(t, nil)
	opts := &Options{Remote: remote.Options{MaxAttempts: 1}}
	opts.Client.Transport = transportFunc(func(*http.Request) (*http.Response, error) { panic("boom") })
	b, err := New(secretCredential(t, srv), vaultURL, opts)
	require.NoError(t, err)
	defer b.Close()
	_, err = b.Open(t.Context(), Params{KeyName: "k"})
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorContains(t, err, "boom")
}

// TestHostileNextLink: a link to the next page that leads to another host is not followed, for the token would go there.
func TestHostileNextLink(t *testing.T) {
	t.Parallel()
	srv := newFake(t, &fakeazure.Options{PageSize: 1})
	client := sdkClient(t, srv, vaultURL)
	makeKey(t, client, "a", p256())
	makeKey(t, client, "b", p256())
	b := newBackendAt(t, srv, vaultURL, hasty)
	for name, link := range map[string]string{
		"another host": "https://evil.vault.azure.net/keys?api-version=7.4",
		"plain http":   "http://test.vault.azure.net/keys?api-version=7.4",
		"no URL":       "::",
	} {
		srv.Script.Add(fakecloud.Fault{Op: "list", Corrupt: set("nextLink", link)})
		srv.Log.Clear()
		n := 0
		var last error
		for _, err := range b.List(t.Context(), nil) {
			if err == nil {
				n++
			}
			last = err
		}
		assert.Equal(t, 1, n, name)
		assert.Error(t, last, name)
		assert.Equal(t, 1, srv.Log.Count("list"), name)
		assert.ErrorIs(t, last, backend.ErrIntegrity, name)
	}
	// A list that leads in a circle ends.
	srv.Script.Add(fakecloud.Fault{Op: "list", Times: -1, Corrupt: set("nextLink", vaultURL+"/keys?api-version=7.4")})
	var last error
	for _, err := range b.List(t.Context(), nil) {
		last = err
	}
	assert.ErrorIs(t, last, backend.ErrIntegrity)
}

func TestLimitedBody(t *testing.T) {
	body := &limitedBody{io.NopCloser(strings.NewReader(strings.Repeat("x", 100))), 60}
	data, err := io.ReadAll(body)
	assert.Len(t, data, 60)
	assert.ErrorIs(t, err, backend.ErrIntegrity)
	body = &limitedBody{io.NopCloser(strings.NewReader("short")), 60}
	data, err = io.ReadAll(body)
	assert.NoError(t, err)
	assert.Equal(t, "short", string(data))
}

func TestDetached(t *testing.T) {
	req, err := http.NewRequest("POST", "https://x", io.NopCloser(bytes.NewReader([]byte("body"))))
	require.NoError(t, err)
	own, err := detached(req)
	require.NoError(t, err)
	assert.Equal(t, int64(4), own.ContentLength)
	for range 2 {
		data, err := io.ReadAll(own.Body)
		require.NoError(t, err)
		assert.Equal(t, "body", string(data))
		own.Body, err = own.GetBody()
		require.NoError(t, err)
	}
	none, err := http.NewRequest("GET", "https://x", nil)
	require.NoError(t, err)
	same, err := detached(none)
	require.NoError(t, err)
	assert.Same(t, none, same)
}
