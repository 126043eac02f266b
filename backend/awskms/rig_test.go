package awskms

import (
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// largeRSA are the keys of 3072 and 4096 bits, which take seconds to make, each once in a process.
var largeRSA = map[int]func() (*rsa.PrivateKey, error){
	3072: sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 3072) }),
	4096: sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 4096) }),
}

func newRSA(bits int) (*rsa.PrivateKey, error) {
	if once := largeRSA[bits]; once != nil {
		return once()
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

// serve starts a fake that is stopped when the test ends.
func serve(tb testing.TB, opts *fakeaws.Options) *fakeaws.Server {
	tb.Helper()
	var o fakeaws.Options
	if opts != nil {
		o = *opts
	}
	o.NewRSA = newRSA
	srv, err := fakeaws.New(&o)
	require.NoError(tb, err)
	tb.Cleanup(func() { srv.Close() })
	return srv
}

// at returns parameters that reach a fake with its own access key.
func at(srv *fakeaws.Server, p Params) Params {
	p.Region, p.Endpoint = fakeaws.DefaultRegion, srv.URL()
	if strings.HasPrefix(p.KMSKey, "arn:") {
		p.Region = ""
	}
	p.AccessKey, p.SecretKey = fakeaws.AccessKey, fakeaws.SecretKey
	return p
}

// isolate keeps the environment and the files of whoever runs the tests out of them.
func isolate(tb testing.TB) {
	tb.Helper()
	for _, name := range []string{"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
		"AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL_STS", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN",
		"AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CA_BUNDLE"} {
		setenv(tb, name, "")
	}
	setenv(tb, "AWS_EC2_METADATA_DISABLED", "true")
	none := tb.TempDir() + "/none"
	setenv(tb, "AWS_CONFIG_FILE", none)
	setenv(tb, "AWS_SHARED_CREDENTIALS_FILE", none)
}

func setenv(tb testing.TB, name, value string) {
	tb.Helper()
	tb.(interface{ Setenv(string, string) }).Setenv(name, value)
}

// connect returns a backend that is closed when the test ends.
func connect(tb testing.TB, opts *Options) *Backend {
	tb.Helper()
	isolate(tb)
	b, err := Connect(opts)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, b.Close()) })
	return b
}

// fresh returns a backend of the SDK's configuration, which is closed when the test ends.
func fresh(tb testing.TB, cfg aws.Config, opts *Options) *Backend {
	tb.Helper()
	b, err := New(cfg, opts)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, b.Close()) })
	return b
}

// quick are options with which a call that fails doesn't take long.
var quick = remote.Options{MaxAttempts: 2}

// add makes a key in a fake and returns its ARN.
func add(tb testing.TB, srv *fakeaws.Server, k fakeaws.Key) string {
	tb.Helper()
	arn, err := srv.AddKey(k)
	require.NoError(tb, err)
	return arn
}

// open opens a key and ends the test if that fails.
func open[T backend.Key](tb testing.TB, b *Backend, p Params) T {
	tb.Helper()
	k, err := b.Open(tb.Context(), p)
	require.NoError(tb, err)
	typed, ok := k.(T)
	require.True(tb, ok, "the key is %T", k)
	return typed
}
