package azurekeyvault

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// closeWait is how long Close waits for calls in flight.
const closeWait = 10 * time.Second

// Options are the options of [New] and [Connect]. The zero value is fine, and so is nil.
type Options struct {
	// Remote says how calls are bounded, retried and paced, for each vault.
	Remote remote.Options

	// Client are the SDK's own options: Cloud for a private cloud's authority, Transport, Logging, Telemetry,
	// TracingProvider and policies. Retry applies to the fetching of tokens only. If there is a Transport, it is used in
	// place of one of this package's own, whose settings the next two fields are.
	Client azcore.ClientOptions

	// DialContext makes connections, as http.Transport's field does, for private endpoints and tests.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	// RootCAs are what servers' certificates must chain to; the system's if nil.
	RootCAs *x509.CertPool

	// DisableInstanceDiscovery leaves out that an authority which isn't well known is first looked up at
	// login.microsoft.com: for private clouds. It applies to the credentials of Connect.
	DisableInstanceDiscovery bool

	// DisableChallengeResourceVerification leaves out that the resource which a vault asks a token for must be the domain of
	// the vault's own host name. Without this check a wrong vault URL can collect tokens: see
	// https://aka.ms/azsdk/blog/vault-uri.
	DisableChallengeResourceVerification bool
}

// Backend is a client of Key Vaults and Managed HSMs. It implements [backend.Backend], [backend.Generator],
// [backend.Importer], [backend.Lister], [backend.Pinger], [backend.ParamsDecoder], [backend.URIParser] and [backend.Matcher].
//
// All methods are safe for concurrent use.
type Backend struct {
	opts   *Options
	gate   backend.Gate
	single *connection // of New; nil if it comes from Connect
	shared *remote.Shared[settings, *connection]
	settle time.Duration // see settleTime
}

// New returns a Backend for one vault, which it reaches with cred: vaultURL is https://NAME.vault.azure.net,
// https://NAME.managedhsm.azure.net or their like of another cloud. It makes no call. opts may be nil.
//
// The fields of [Params] about the vault may be empty or must agree with vaultURL; those about the credential must be
// empty. The error wraps backend.ErrInvalidParams.
func New(cred azcore.TokenCredential, vaultURL string, opts *Options) (*Backend, error) {
	if cred == nil {
		return nil, invalid("credential", "is nil; it takes an azcore.TokenCredential, such as one of package azidentity")
	}
	vault, err := parseVaultURL(vaultURL)
	if err != nil {
		return nil, err
	}
	b, err := newBackend(opts)
	if err != nil {
		return nil, err
	}
	transport, own := b.transport()
	b.single, err = newConnection(vault, cred, b.opts, transport, own)
	if err != nil {
		return nil, fmt.Errorf("azurekeyvault: %w: %w", backend.ErrInvalidParams, err)
	}
	return b, nil
}

// Connect returns a Backend that reaches the vaults which the [Params] of each key name, with the credential which they
// name: the client secret if there is one, and else what the surroundings of the program offer, in the order of
// azidentity.DefaultAzureCredential: environment variables (AZURE_CLIENT_ID with AZURE_CLIENT_SECRET or a certificate),
// workload identity, managed identity, Azure CLI, Azure Developer CLI and Azure PowerShell; AZURE_TOKEN_CREDENTIALS chooses
// among them. A ClientID without a secret chooses one of several workload or managed identities. Where TenantID or
// ClientID is missing beside a secret, AZURE_TENANT_ID and AZURE_CLIENT_ID stand in.
//
// Keys with equal settings share a client, its token and its limits. Nothing is dialled before the first key is opened.
// opts may be nil. The error wraps backend.ErrInvalidParams.
func Connect(opts *Options) (*Backend, error) {
	b, err := newBackend(opts)
	if err != nil {
		return nil, err
	}
	b.shared = remote.NewShared(func(_ context.Context, s settings) (*connection, error) {
		vault, err := parseVaultURL(s.vault)
		if err != nil {
			return nil, err
		}
		transport, own := b.transport()
		cred, err := newCredential(s, b.opts, transport)
		if err != nil {
			return nil, fmt.Errorf("azurekeyvault: %w: %w", backend.ErrCredentials, err)
		}
		return newConnection(vault, cred, b.opts, transport, own)
	}, (*connection).close)
	return b, nil
}

func newBackend(opts *Options) (*Backend, error) {
	b := &Backend{opts: new(Options), settle: settleTime}
	if opts != nil {
		*b.opts = *opts
	}
	var err error
	if b.opts.Remote, err = b.opts.Remote.WithDefaults(); err != nil {
		return nil, fmt.Errorf("azurekeyvault: %w", err)
	}
	if r := b.opts.Client.Retry; r.MaxRetries == 0 && r.RetryDelay == 0 && r.MaxRetryDelay == 0 && r.StatusCodes == nil && r.ShouldRetry == nil {
		// A token is part of an attempt, which takes seconds at most.
		b.opts.Client.Retry = policy.RetryOptions{MaxRetries: 2, RetryDelay: 200 * time.Millisecond, MaxRetryDelay: 2 * time.Second}
	}
	return b, nil
}

// Type implements [backend.Backend]; it returns "azurekeyvault".
func (b *Backend) Type() string { return Type }

// DecodeParams implements [backend.ParamsDecoder].
func (*Backend) DecodeParams(data []byte) (backend.Params, error) {
	return backend.DecodeParams[Params](data)
}

// String returns the backend type and the vault, if there is only one.
func (b *Backend) String() string {
	if b.single != nil {
		return Type + " at " + b.single.url
	}
	return Type
}

// GoString returns what String returns, so that %#v shows no more than %v.
func (b *Backend) GoString() string { return b.String() }

// Close implements [backend.Backend]. It waits up to 10 seconds for calls in flight; if there are any left, the error says
// how many and wraps backend.ErrUnavailable, and the Backend is closed all the same. Closing again returns nil.
func (b *Backend) Close() error {
	if b.gate.Closed() {
		b.gate.Close(closeWait)
		return nil
	}
	left := b.gate.Close(closeWait)
	var err error
	if left > 0 {
		err = fmt.Errorf("azurekeyvault: %d calls still ran %v after Close: %w", left, closeWait, backend.ErrUnavailable)
	}
	if b.single != nil {
		return errors.Join(err, b.single.close())
	}
	return errors.Join(err, b.shared.Close())
}

// connection returns the connection to the vault that p names.
func (b *Backend) connection(ctx context.Context, p Params) (*connection, error) {
	if b.single != nil {
		return b.single, b.single.agrees(p)
	}
	s, err := b.settings(p)
	if err != nil {
		return nil, err
	}
	return b.shared.Get(ctx, s)
}

// settings returns what the connection to the vault that p names is made from.
func (b *Backend) settings(p Params) (settings, error) {
	if p.VaultName == "" {
		return settings{}, invalid("vault_name", "is missing; it takes the name of the vault or Managed HSM")
	}
	at, err := p.place(os.Getenv)
	if err != nil {
		return settings{}, err
	}
	authority := at.environment.cloud.ActiveDirectoryAuthorityHost
	if !at.sure {
		authority = cmp.Or(os.Getenv("AZURE_AUTHORITY_HOST"), authority)
	}
	s := settings{
		tenant: p.TenantID, client: p.ClientID, secret: p.ClientSecret, vault: at.vaultURL(p.VaultName),
		authority: cmp.Or(b.opts.Client.Cloud.ActiveDirectoryAuthorityHost, authority),
	}
	if s.secret != "" {
		s.tenant, s.client = cmp.Or(s.tenant, os.Getenv("AZURE_TENANT_ID")), cmp.Or(s.client, os.Getenv("AZURE_CLIENT_ID"))
		if s.tenant == "" || s.client == "" {
			return settings{}, invalid("client_secret", "is given without tenant_id or client_id; it takes all three")
		}
	}
	return s, nil
}

// agrees returns an error if p names another vault, or a credential.
func (c *connection) agrees(p Params) error {
	if p.TenantID != "" || p.ClientID != "" || p.ClientSecret != "" {
		return invalid("tenant_id, client_id, client_secret", "are given, but this backend was made with a credential; leave them out")
	}
	name, domain, _ := strings.Cut(strings.TrimPrefix(c.url, "https://"), ".")
	if p.VaultName != "" && !strings.EqualFold(p.VaultName, name) {
		return invalid("vault_name", "got %q, but this backend is for %s", p.VaultName, c.url)
	}
	at, err := p.place(noEnv)
	switch {
	case err != nil:
		return err
	case p.Resource != "" && at.resource != domain:
		return invalid("resource", "got %q, but this backend is for %s", p.Resource, c.url)
	case p.Environment != "" && p.Resource == "" && domain != at.environment.vault && domain != at.environment.hsm:
		return invalid("environment", "got %q, but this backend is for %s", p.Environment, c.url)
	}
	return nil
}

// use counts a call in and returns the connection that p names, and ctx with a bound. done must be called once if there is
// no error.
func (b *Backend) use(ctx context.Context, op string, p Params) (c *connection, bounded context.Context, done func(), err error) {
	if ctx.Err() != nil {
		return nil, nil, nil, contextError(ctx, op)
	}
	if err := b.gate.Enter(); err != nil {
		return nil, nil, nil, err
	}
	if c, err = b.connection(ctx, p); err != nil {
		b.gate.Leave()
		if ctx.Err() != nil {
			err = contextError(ctx, op)
		}
		return nil, nil, nil, err
	}
	bounded, cancel := c.bounded(ctx)
	return c, bounded, func() { cancel(); b.gate.Leave() }, nil
}

// contextError is the error of op, whose context ended.
func contextError(ctx context.Context, op string) error {
	return fmt.Errorf("azurekeyvault: %s: %w", op, backend.ContextError(ctx))
}
