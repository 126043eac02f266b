package gcpckms

import (
	"context"
	"errors"
	"fmt"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"google.golang.org/api/option"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

const (
	// closeWait is how long Close waits for calls in flight.
	closeWait = 10 * time.Second

	// makeTimeout bounds Generate and Import with a context that has no deadline: an RSA key in an HSM takes a while.
	makeTimeout = 2 * time.Minute
)

// Options are the options of [New], [NewFromOptions] and [Connect]. The zero value is fine, and so is nil.
type Options struct {
	// Remote says how the service is called: timeouts, retries, rates, and whether signatures are verified.
	Remote remote.Options

	// Endpoint is the host and port of the service, for Connect; "cloudkms.googleapis.com:443" if it is empty. It takes
	// Private Service Connect names, restricted.googleapis.com and the like.
	Endpoint string

	// RegionalEndpoints has Connect use the endpoint of each key's own region, "cloudkms.REGION.rep.googleapis.com:443", so that
	// requests don't leave it.
	RegionalEndpoints bool

	// QuotaProject is the project that calls are counted and billed for, for Connect; that of the credential if it is empty. The
	// caller needs the permission serviceusage.services.use on it.
	QuotaProject string

	// ClientOptions are further options of Google's SDK for Connect, such as option.WithUniverseDomain. They win over what
	// else is said here and in Params.
	ClientOptions []option.ClientOption
}

// Backend is a client of Cloud KMS. It implements [backend.Backend], [backend.Generator], [backend.Importer],
// [backend.Lister], [backend.Pinger] and [backend.ParamsDecoder].
//
// All methods are safe for concurrent use.
type Backend struct {
	opts   Options
	remote remote.Options // complete
	gate   backend.Gate
	given  *conn // the only connection, of New and NewFromOptions; else nil
	conns  *remote.Shared[settings, *conn]
	clock  clock
}

var (
	_ backend.Generator     = (*Backend)(nil)
	_ backend.Importer      = (*Backend)(nil)
	_ backend.Lister        = (*Backend)(nil)
	_ backend.Pinger        = (*Backend)(nil)
	_ backend.ParamsDecoder = (*Backend)(nil)
	_ backend.URIParser     = (*Backend)(nil)
	_ backend.Matcher       = (*Backend)(nil)
)

// clock is what tests put something else in the place of.
type clock struct {
	now   func() time.Time
	pause time.Duration // before a key version that is being made is looked at again, for the first time
}

// New returns a Backend that makes all its calls with client, which the program goes on owning: it must be closed after the
// Backend. The retries of client are not used. Params must then have no credentials. opts may be nil.
//
// The error wraps backend.ErrInvalidParams: client is nil, or opts make no sense.
func New(client *kms.KeyManagementClient, opts *Options) (*Backend, error) {
	if client == nil {
		return nil, invalid("client", "is nil; it takes a *kms.KeyManagementClient")
	}
	b, err := newBackend(opts)
	if err != nil {
		return nil, err
	}
	b.given = b.connection(client, false)
	return b, nil
}

// NewFromOptions returns a Backend with a client of its own that is made of options of Google's SDK, as
// kms.NewKeyManagementClient takes them; none give the defaults of the SDK. No connection is made before the first call, but
// credentials are looked for. Params must then have no credentials. opts may be nil.
//
// The error wraps backend.ErrCredentials if credentials can't be had, or backend.ErrInvalidParams.
func NewFromOptions(ctx context.Context, opts *Options, clientOptions ...option.ClientOption) (*Backend, error) {
	b, err := newBackend(opts)
	if err != nil {
		return nil, err
	}
	client, err := newClient(ctx, clientOptions)
	if err != nil {
		return nil, err
	}
	b.given = b.connection(client, true)
	return b, nil
}

// Connect returns a Backend that makes its clients from the fields of Params when a key is opened; keys with equal
// credentials and endpoint share one. If the environment variable KMS_EMULATOR_HOST is set to a host and port, all calls go
// there, in plain text and without credentials. opts may be nil.
//
// The error wraps backend.ErrInvalidParams.
func Connect(opts *Options) (*Backend, error) {
	b, err := newBackend(opts)
	if err != nil {
		return nil, err
	}
	b.conns = remote.NewShared(b.dial, func(c *conn) error { return c.close() })
	return b, nil
}

func newBackend(opts *Options) (*Backend, error) {
	b := &Backend{clock: clock{now: time.Now, pause: 200 * time.Millisecond}}
	if opts != nil {
		b.opts = *opts
	}
	var err error
	b.remote, err = b.opts.Remote.WithDefaults()
	if err != nil {
		return nil, fmt.Errorf("gcpckms: %w", err)
	}
	if b.opts.Endpoint != "" && b.opts.RegionalEndpoints {
		return nil, invalid("Endpoint", "got %.100q together with RegionalEndpoints; it takes one of them", b.opts.Endpoint)
	}
	return b, nil
}

// Type implements backend.Backend; it returns "gcpckms".
func (b *Backend) Type() string { return Type }

// DecodeParams implements backend.ParamsDecoder.
func (*Backend) DecodeParams(data []byte) (backend.Params, error) {
	return backend.DecodeParams[Params](data)
}

// String returns the backend type, since what else there is to show is in the parameters of keys.
func (b *Backend) String() string { return Type }

// GoString returns what String returns, so that %#v shows no credentials.
func (b *Backend) GoString() string { return Type }

// Close implements backend.Backend. It waits up to 10 seconds for calls in flight; if there are any left, the error says how
// many and wraps backend.ErrUnavailable, and the Backend is closed all the same. Closing again returns nil.
func (b *Backend) Close() error { return b.close(closeWait) }

func (b *Backend) close(wait time.Duration) error {
	again := b.gate.Closed()
	left := b.gate.Close(wait)
	var err error
	if b.conns != nil {
		err = b.conns.Close()
	} else {
		err = b.given.close()
	}
	if left > 0 && !again {
		err = errors.Join(err, fmt.Errorf("gcpckms: %d calls still ran %v after Close: %w", left, wait, backend.ErrUnavailable))
	}
	return err
}

// enter counts a call in and bounds ctx by timeout, if it has no deadline. The caller must call leave, unless there is an
// error.
func (b *Backend) enter(ctx context.Context, op string, timeout time.Duration) (_ context.Context, leave func(), err error) {
	if ctx.Err() != nil {
		return nil, nil, contextError(ctx, op)
	}
	if err := b.gate.Enter(); err != nil {
		return nil, nil, err
	}
	if _, ok := ctx.Deadline(); ok {
		return ctx, b.gate.Leave, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return ctx, func() { cancel(); b.gate.Leave() }, nil
}

// contextError is the error of op, whose context ended.
func contextError(ctx context.Context, op string) error {
	return fmt.Errorf("gcpckms: %s: %w", op, backend.ContextError(ctx))
}
