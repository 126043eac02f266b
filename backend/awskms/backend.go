package awskms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// closeWait is how long Close waits for calls in flight.
const closeWait = 10 * time.Second

// Options are the options of [New] and [Connect]. The zero value is fine, and so is nil.
type Options struct {
	// Remote says how calls are bounded, paced and retried, and whether signatures are verified before they leave. As many
	// connections are kept as its MaxInFlight says.
	Remote remote.Options

	// UseFIPS and UseDualStack choose the service's FIPS 140 and IPv6 endpoints. The SDK's own AWS_USE_FIPS_ENDPOINT and
	// AWS_USE_DUALSTACK_ENDPOINT, and use_fips_endpoint and use_dualstack_endpoint of the shared configuration, do so too.
	UseFIPS, UseDualStack bool

	// CheckPermissions has Open ask the service with DryRun whether the key may be used for what its usage is, which is one
	// more request. A key that may not be used is backend.ErrNotPermitted then, and not at its first use.
	CheckPermissions bool

	// KeyPolicy is the policy, in JSON, of keys that are made; the service's default policy if empty. Tags are their tags.
	KeyPolicy string
	Tags      map[string]string

	// Load are further options for reading the SDK's configuration, such as config.WithSharedConfigProfile. New ignores them.
	Load []func(*config.LoadOptions) error

	// KMS change the options of the SDK's client. Retries are this package's, see Remote; the SDK's are switched off before
	// these are called.
	KMS []func(*kms.Options)
}

// Backend is a client of AWS KMS. It implements [backend.Backend], [backend.Generator], [backend.Importer],
// [backend.Lister], [backend.Pinger] and [backend.ParamsDecoder].
//
// All methods are safe for concurrent use.
type Backend struct {
	opts    Options
	remotes remote.Options
	gate    backend.Gate
	given   *base                            // of New; nil of Connect
	fixed   *conn                            // of New; nil of Connect
	base    *remote.Shared[struct{}, *base]  // of Connect
	home    *remote.Shared[struct{}, string] // of Connect: the Region where nothing says another
	conns   *remote.Shared[settings, *conn]  // of Connect

	making sync.Map // alias and Region of the keys that are being made, each with a channel that holds a token
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

// New returns a Backend that reaches the service as cfg says, which config.LoadDefaultConfig returns. All its keys are in
// cfg's Region; Region, AccessKey, SecretKey, SessionToken and Endpoint of [Params] must be empty or, Region, the same. The
// credentials of cfg are used as they are, and so is its HTTP client if it is none of the SDK's own (these keep few
// connections, and one that is like them but keeps more takes their place). opts may be nil.
//
// It makes no request. The error wraps backend.ErrInvalidParams.
func New(cfg aws.Config, opts *Options) (*Backend, error) {
	b, err := newBackend(opts)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Region == "":
		return nil, invalid("Region", "the configuration has none")
	case cfg.Credentials == nil:
		return nil, invalid("Credentials", "the configuration has none")
	}
	b.given = b.newBase(cfg)
	b.fixed = newConn(b.given.cfg, &b.opts, b.remotes)
	return b, nil
}

// Connect returns a Backend whose connections are made as [Params] say, one for all keys with equal Region, Endpoint and
// credentials. What Params leave out, the SDK finds where it always does: environment, shared configuration and its
// profiles (roles and single sign-on included), web identity, container and instance roles. That is read once, when the
// first key is opened. opts may be nil.
//
// It makes no request. The error wraps backend.ErrInvalidParams.
func Connect(opts *Options) (*Backend, error) {
	b, err := newBackend(opts)
	if err != nil {
		return nil, err
	}
	b.base = remote.NewShared(func(ctx context.Context, _ struct{}) (*base, error) { return b.load(ctx) }, func(l *base) error {
		l.transport.CloseIdleConnections()
		return nil
	})
	b.home = remote.NewShared(b.region, nil)
	b.conns = remote.NewShared(b.connect, nil)
	return b, nil
}

func newBackend(opts *Options) (*Backend, error) {
	b := new(Backend)
	if opts != nil {
		b.opts = *opts
	}
	var err error
	if b.remotes, err = b.opts.Remote.WithDefaults(); err != nil {
		return nil, fmt.Errorf("awskms: %w", err)
	}
	return b, checkTags(b.opts.Tags)
}

// Type implements backend.Backend; it returns "awskms".
func (*Backend) Type() string { return Type }

// DecodeParams implements backend.ParamsDecoder.
func (*Backend) DecodeParams(data []byte) (backend.Params, error) {
	return backend.DecodeParams[Params](data)
}

// String returns the backend type and how many connections there are.
func (b *Backend) String() string {
	return fmt.Sprintf("%s with %d connections", Type, len(b.clients()))
}

// GoString returns what String returns, so that %#v shows no more than %v.
func (b *Backend) GoString() string { return b.String() }

// clients returns the connections that there are.
func (b *Backend) clients() []*conn {
	if b.fixed != nil {
		return []*conn{b.fixed}
	}
	return b.conns.Clients()
}

// Retries returns how many requests, over all connections, were repetitions of one that failed.
func (b *Backend) Retries() (n int64) {
	for _, c := range b.clients() {
		n += c.remote.Retries()
	}
	return n
}

// Open implements backend.Backend. params must be of type [Params]. It makes one request for a symmetric key (DescribeKey)
// and two for another (GetPublicKey).
func (b *Backend) Open(ctx context.Context, params backend.Params) (backend.Key, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, err
	}
	return within(ctx, b, "open", func(ctx context.Context) (backend.Key, error) {
		c, err := b.connection(ctx, p)
		if err != nil {
			return nil, err
		}
		return b.open(ctx, c, p)
	})
}

// Ping implements backend.Pinger: it lists one key on each connection (kms:ListKeys). Before there is any, it makes the
// one of New, and none of Connect.
func (b *Backend) Ping(ctx context.Context) error {
	_, err := within(ctx, b, "ping", func(ctx context.Context) (struct{}, error) {
		var errs []error
		for _, c := range b.clients() {
			_, err := call(ctx, c, remote.Call{Op: "ListKeys"}, (*kms.Client).ListKeys, &kms.ListKeysInput{Limit: aws.Int32(1)}, nil)
			if err != nil && errors.Is(err, backend.ErrNotPermitted) {
				err = nil // it answers, and knows who asks
			}
			errs = append(errs, err)
		}
		return struct{}{}, errors.Join(errs...)
	})
	return err
}

// Close implements backend.Backend. It waits up to 10 seconds for calls in flight; if there are any left, the error says how
// many and wraps backend.ErrUnavailable, and the Backend is closed all the same. Closing again returns nil.
func (b *Backend) Close() error {
	if b.gate.Closed() {
		return nil
	}
	left := b.gate.Close(closeWait)
	var errs []error
	if b.given != nil {
		b.given.transport.CloseIdleConnections()
	}
	if b.conns != nil {
		errs = append(errs, b.conns.Close(), b.home.Close(), b.base.Close())
	}
	if left > 0 {
		errs = append(errs, fmt.Errorf("awskms: %d calls still ran %v after Close: %w", left, closeWait, backend.ErrUnavailable))
	}
	return errors.Join(errs...)
}

// within makes a call that is not one of a key: it is counted for Close and bounded by the call timeout.
func within[T any](ctx context.Context, b *Backend, op string, fn func(context.Context) (T, error)) (T, error) {
	var none T
	if err := b.gate.Enter(); err != nil {
		return none, err
	}
	defer b.gate.Leave()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, b.remotes.CallTimeout)
		defer cancel()
	}
	if ctx.Err() != nil {
		return none, fmt.Errorf("awskms: %s: %w", op, backend.ContextError(ctx))
	}
	return fn(ctx)
}

// base is what the SDK was configured with.
type base struct {
	cfg       aws.Config
	identity  aws.HTTPClient // for the services that give out credentials
	transport *http.Transport
}
