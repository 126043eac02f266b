package azurekeyvault

import (
	"context"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/managedkeys/managedkeys/backend"
)

// settings are what a connection of [Connect] is made from.
type settings struct {
	tenant, client string
	secret         backend.Secret
	authority      string // base URL of Entra ID
	vault          string // base URL
}

// newCredential returns the credential that the settings describe. It makes no call.
func newCredential(s settings, opts *Options, transport policy.Transporter) (azcore.TokenCredential, error) {
	client := opts.Client
	client.Cloud.ActiveDirectoryAuthorityHost = s.authority
	client.Transport = &recorder{transport}
	if s.secret != "" {
		secret, err := s.secret.Resolve()
		if err != nil {
			return nil, err
		}
		return azidentity.NewClientSecretCredential(s.tenant, s.client, secret, &azidentity.ClientSecretCredentialOptions{
			ClientOptions: client, DisableInstanceDiscovery: opts.DisableInstanceDiscovery,
		})
	}
	if s.client == "" {
		return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
			ClientOptions: client, DisableInstanceDiscovery: opts.DisableInstanceDiscovery, TenantID: s.tenant,
		})
	}
	// The default chain takes an identity's id from the environment only.
	var chain []azcore.TokenCredential
	if os.Getenv("AZURE_FEDERATED_TOKEN_FILE") != "" {
		workload, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: client, ClientID: s.client, TenantID: s.tenant, DisableInstanceDiscovery: opts.DisableInstanceDiscovery,
		})
		if err != nil {
			return nil, err
		}
		chain = append(chain, workload)
	}
	managed, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ClientOptions: client, ID: azidentity.ClientID(s.client),
	})
	if err != nil {
		return nil, err
	}
	return azidentity.NewChainedTokenCredential(append(chain, managed), nil)
}

// credential is a TokenCredential whose errors can be told from others, and that lets callers see whether a token is being
// fetched: the SDK has all others wait for that without a look at their contexts.
type credential struct {
	inner azcore.TokenCredential

	mu       sync.Mutex    // guards what follows
	expires  time.Time     // when the last token does
	running  int           // calls to inner
	fetching chan struct{} // closed when none is left; nil while there is none
}

// tokenError is an error of getting a token.
type tokenError struct {
	cause   error
	network error // what kept the last request from being answered, if it is known
}

func (e *tokenError) Error() string { return e.cause.Error() }
func (e *tokenError) Unwrap() error { return e.cause }

// NonRetriable tells the SDK not to try again.
func (*tokenError) NonRetriable() {}

// GetToken implements azcore.TokenCredential.
func (c *credential) GetToken(ctx context.Context, opts policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.begin()
	var token azcore.AccessToken
	defer func() { c.end(token.ExpiresOn) }()
	var seen record
	var err error
	token, err = c.inner.GetToken(context.WithValue(ctx, recordKey{}, &seen), opts)
	switch {
	case err == nil:
		return token, nil
	case ctx.Err() != nil:
		return azcore.AccessToken{}, ctx.Err()
	}
	return azcore.AccessToken{}, &tokenError{err, seen.get()}
}

func (c *credential) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running++; c.running == 1 {
		c.fetching = make(chan struct{})
	}
}

func (c *credential) end(expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if expires.After(c.expires) {
		c.expires = expires
	}
	if c.running--; c.running == 0 {
		close(c.fetching)
		c.fetching = nil
	}
}

// wait waits until no token is being fetched, unless there is one that is still good. The error is ctx's.
func (c *credential) wait(ctx context.Context) error {
	c.mu.Lock()
	fetching, expires := c.fetching, c.expires
	c.mu.Unlock()
	if fetching == nil || time.Now().Before(expires) {
		return nil
	}
	select {
	case <-fetching:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// recorder is a transport that notes why a request has no answer: the SDK's credentials keep only its text.
type recorder struct{ next policy.Transporter }

type recordKey struct{}

type record struct {
	mu  sync.Mutex
	err error
}

func (r *record) get() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Do implements policy.Transporter.
func (t *recorder) Do(req *http.Request) (*http.Response, error) {
	var resp *http.Response
	req, err := detached(req)
	if err == nil {
		resp, err = t.next.Do(req)
	}
	if r, ok := req.Context().Value(recordKey{}).(*record); ok {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}
	return resp, err
}
