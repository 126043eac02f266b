package azurekeyvault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
)

// TestMain also looks for goroutines that are left over.
func TestMain(m *testing.M) {
	for _, name := range []string{"AZURE_ENVIRONMENT", "AZURE_AD_RESOURCE", "AZURE_TOKEN_CREDENTIALS", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"} {
		os.Unsetenv(name)
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goleak:", err)
			code = 1
		}
	}
	os.Exit(code)
}

const (
	vaultURL = "https://test.vault.azure.net"
	hsmURL   = "https://test.managedhsm.azure.net"
)

// ready are RSA keys that were made already: making them takes longest of all, and most tests don't care which they get.
var ready struct {
	mu   sync.Mutex
	keys map[int][]*rsa.PrivateKey
}

// pooled hands out keys of each size in turn, from a few that are made once per process.
func pooled(size int) func(bits int) (*rsa.PrivateKey, error) {
	next := make(map[int]int)
	return func(bits int) (*rsa.PrivateKey, error) {
		ready.mu.Lock()
		defer ready.mu.Unlock()
		if ready.keys == nil {
			ready.keys = make(map[int][]*rsa.PrivateKey)
		}
		n := next[bits] % size
		next[bits]++
		for len(ready.keys[bits]) <= n {
			key, err := rsa.GenerateKey(rand.Reader, bits)
			if err != nil {
				return nil, err
			}
			ready.keys[bits] = append(ready.keys[bits], key)
		}
		return ready.keys[bits][n], nil
	}
}

// newFake returns a fake that is closed when the test ends.
func newFake(tb testing.TB, opts *fakeazure.Options) *fakeazure.Server {
	tb.Helper()
	if opts == nil {
		opts = new(fakeazure.Options)
	}
	if opts.GenerateRSA == nil {
		opts.GenerateRSA = pooled(4)
	}
	srv, err := fakeazure.New(opts)
	require.NoError(tb, err)
	tb.Cleanup(func() { srv.Close() })
	return srv
}

// options reach the fake through this package's own transport.
func options(srv *fakeazure.Server) *Options {
	return &Options{DialContext: srv.DialContext, RootCAs: srv.RootCAs()}
}

// secretCredential is the fake's service principal.
func secretCredential(tb testing.TB, srv *fakeazure.Server) azcore.TokenCredential {
	tb.Helper()
	cred, err := azidentity.NewClientSecretCredential(fakeazure.TenantID, fakeazure.ClientID, fakeazure.ClientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: srv.Client()}})
	require.NoError(tb, err)
	return cred
}

// newBackendAt returns a client of the vault at url, closed when the test ends. change may be nil.
func newBackendAt(tb testing.TB, srv *fakeazure.Server, url string, change func(*Options)) *Backend {
	tb.Helper()
	opts := options(srv)
	if change != nil {
		change(opts)
	}
	b, err := New(secretCredential(tb, srv), url, opts)
	require.NoError(tb, err)
	tb.Cleanup(func() { b.Close() })
	return b
}

// sdkClient is the bare SDK on the vault at url: what other programs do to keys.
func sdkClient(tb testing.TB, srv *fakeazure.Server, url string) *azkeys.Client {
	tb.Helper()
	client, err := azkeys.NewClient(url, secretCredential(tb, srv), &azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: srv.Client()}})
	require.NoError(tb, err)
	return client
}

// make makes a key with the bare SDK, and returns its version.
func makeKey(tb testing.TB, client *azkeys.Client, name string, p azkeys.CreateKeyParameters) string {
	tb.Helper()
	resp, err := client.CreateKey(tb.Context(), name, p, nil)
	require.NoError(tb, err)
	return resp.Key.KID.Version()
}

func ptr[T any](v T) *T { return &v }

func p256() azkeys.CreateKeyParameters {
	return azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeEC), Curve: ptr(azkeys.CurveNameP256)}
}

// open opens a key that must be there.
func open(tb testing.TB, b backend.Backend, p Params) backend.Key {
	tb.Helper()
	key, err := b.Open(tb.Context(), p)
	require.NoError(tb, err)
	return key
}

// hasty are options of tests about failures.
func hasty(o *Options) { o.Remote = remote.Options{MaxAttempts: 2} }

// pooledEC returns the JSON Web Key of a new key on P-256.
func pooledEC() (*azkeys.JSONWebKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	jwk, _, _, err := importable(key)
	if err != nil {
		return nil, err
	}
	jwk.Kty = ptr(azkeys.KeyTypeEC)
	return jwk, nil
}

// backendOptions are the defaults of remote.Options.
func backendOptions(tb testing.TB) remote.Options {
	tb.Helper()
	o, err := (*remote.Options)(nil).WithDefaults()
	require.NoError(tb, err)
	return o
}
