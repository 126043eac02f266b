package gcpckms

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	kms "cloud.google.com/go/kms/apiv1"
	"github.com/googleapis/gax-go/v2"
	"golang.org/x/time/rate"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/regularfile"
)

// envEmulator names the host and port of an emulator. Google's SDK for Go has no such variable for Cloud KMS; the name is like
// those of its other services.
const envEmulator = "KMS_EMULATOR_HOST"

// scope is the OAuth scope of Cloud KMS (cloud.google.com/kms/docs/accessing-the-api).
const scope = "https://www.googleapis.com/auth/cloudkms"

// maxCredentials bounds the file of a credential, in bytes.
const maxCredentials = 64 << 10

// settings are what a connection is made of. Equal settings give one connection.
type settings struct {
	credentials backend.Secret
	endpoint    string
}

// conn is a connection: a client and how it is used.
type conn struct {
	client *kms.KeyManagementClient
	remote *remote.Connection
	name   string       // what it is to
	close  func() error // closes the client, once, if it is the backend's own

	mu       sync.Mutex                  // guards what follows
	limiters map[string]*rate.Limiter    // of the keys, by name
	probe    func(context.Context) error // the call that opened the key that was opened last; nil if there is none
}

func (b *Backend) connection(client *kms.KeyManagementClient, own bool) *conn {
	c := &conn{
		client: client, remote: remote.NewConnection(Type, b.remote, classify), name: "cloudkms.googleapis.com",
		close: func() error { return nil }, limiters: make(map[string]*rate.Limiter),
	}
	if own {
		var once sync.Once
		c.close = func() (err error) {
			once.Do(func() { err = client.Close() })
			return err
		}
	}
	return c
}

// limiter returns the token bucket of a key, which all its handles share.
func (c *conn) limiter(name string) *rate.Limiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.limiters[name]
	if !ok {
		l = c.remote.Limiter()
		c.limiters[name] = l
	}
	return l
}

// connect returns the connection for a key.
func (b *Backend) connect(ctx context.Context, p Params) (*conn, error) {
	if b.given != nil {
		return b.given, b.agrees(p)
	}
	s := settings{credentials: p.Credentials, endpoint: b.opts.Endpoint}
	if b.opts.RegionalEndpoints && p.Region != "global" {
		s.endpoint = "cloudkms." + p.Region + ".rep.googleapis.com:443"
	}
	return b.conns.Get(ctx, s)
}

// dial makes a connection. Nothing is dialled before its first call.
func (b *Backend) dial(ctx context.Context, s settings) (*conn, error) {
	var options []option.ClientOption
	if host := os.Getenv(envEmulator); host != "" {
		options = append(options, option.WithEndpoint(host), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	} else {
		if s.endpoint != "" {
			options = append(options, option.WithEndpoint(s.endpoint))
		}
		creds, err := findCredentials(s.credentials)
		if err != nil {
			return nil, err
		}
		if creds != nil {
			options = append(options, option.WithAuthCredentials(creds))
		}
		if b.opts.QuotaProject != "" {
			options = append(options, option.WithQuotaProject(b.opts.QuotaProject))
		}
	}
	client, err := newClient(ctx, append(options, b.opts.ClientOptions...))
	if err != nil {
		return nil, err
	}
	c := b.connection(client, true)
	if s.endpoint != "" {
		c.name = s.endpoint
	}
	return c, nil
}

// newClient makes a client of the SDK.
func newClient(ctx context.Context, options []option.ClientOption) (*kms.KeyManagementClient, error) {
	// gRPC waits for up to two minutes before it tries to connect again. remote.Do has its own pauses.
	params := grpc.ConnectParams{MinConnectTimeout: 5 * time.Second, Backoff: backoff.Config{
		BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second,
	}}
	options = append([]option.ClientOption{option.WithGRPCDialOption(grpc.WithConnectParams(params))}, options...)
	client, err := kms.NewKeyManagementClient(context.WithoutCancel(ctx), options...)
	if err != nil {
		// Nothing was dialled: what fails here is finding credentials, or options that contradict each other.
		return nil, fmt.Errorf("gcpckms: %w: %w", backend.ErrCredentials, err)
	}
	return client, nil
}

// findCredentials returns the credential that Params or the environment name, or nil if Application Default Credentials
// apply. The error wraps backend.ErrCredentials.
func findCredentials(secret backend.Secret) (*auth.Credentials, error) {
	if secret == "" {
		secret = backend.Secret(os.Getenv(envCredentials))
	}
	text, err := secret.Resolve()
	if err != nil || text == "" {
		return nil, err
	}
	data := bytes.TrimSpace([]byte(text))
	if data[0] != '{' {
		if data, err = readFile(text); err != nil {
			return nil, err
		}
	}
	var head struct{ Type credentials.CredType }
	if err := json.Unmarshal(data, &head); err != nil {
		// The error of package json quotes what it has read.
		return nil, fmt.Errorf("gcpckms: credentials: %d bytes are no JSON of a Google credential: %w", len(data), backend.ErrCredentials)
	}
	creds, err := credentials.NewCredentialsFromJSON(head.Type, data, &credentials.DetectOptions{
		Scopes: []string{scope}, UseSelfSignedJWT: true,
	})
	if err != nil {
		return nil, fmt.Errorf("gcpckms: credentials of type %.60q: %w: %w", string(head.Type), backend.ErrCredentials, err)
	}
	return creds, nil
}

func readFile(path string) ([]byte, error) {
	data, _, err := regularfile.Read(path, maxCredentials)
	if err == nil && len(data) > maxCredentials {
		err = fmt.Errorf("%q has more than %d bytes", path, maxCredentials)
	}
	if err != nil {
		return nil, fmt.Errorf("gcpckms: credentials: %w: %w", backend.ErrCredentials, err)
	}
	return data, nil
}

// once switches the retries of Google's SDK off, which hide the cause of a failure and know nothing of budgets.
var once = gax.WithRetry(nil)

// call makes a call with fn, by package remote.
func call[T any](ctx context.Context, c *conn, what remote.Call, fn func(context.Context) (T, error)) (T, error) {
	return remote.Do(ctx, c.remote, what, fn)
}

// callOnce makes a call whose effect must not happen twice. fn must pass its options on to the SDK.
func callOnce[T any](ctx context.Context, c *conn, op string, fn func(context.Context, ...gax.CallOption) (T, error)) (T, error) {
	return call(ctx, c, remote.Call{Op: op, Once: true}, func(ctx context.Context) (T, error) {
		// gRPC tells the address of the peer as soon as a request has a connection.
		var p peer.Peer
		out, err := fn(ctx, once, gax.WithGRPCOptions(grpc.Peer(&p)))
		if e := read(err); e != nil && e.code == codes.Unavailable && p.Addr == nil {
			err = unreached{err}
		}
		return out, err
	})
}
