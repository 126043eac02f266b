package azurekeyvault

import (
	"context"
	"crypto"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// connectTo returns a Backend that connects as parameters say.
func connectTo(tb testing.TB, srv *fakeazure.Server, change func(*Options)) *Backend {
	tb.Helper()
	opts := options(srv)
	if change != nil {
		change(opts)
	}
	b, err := Connect(opts)
	require.NoError(tb, err)
	tb.Cleanup(func() { b.Close() })
	return b
}

// TestCredentials: each kind of the chain that has a server gets a token and opens a key.
func TestCredentials(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(fakeazure.FederatedToken), 0o600))
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(fakeazure.ClientSecret+"\n"), 0o600))
	const login = "login.microsoftonline.com"
	for name, c := range map[string]struct {
		env    map[string]string
		params Params
		host   string // that was asked for the token
	}{
		"secret":            {nil, Params{TenantID: fakeazure.TenantID, ClientID: fakeazure.ClientID, ClientSecret: fakeazure.ClientSecret}, login},
		"secret in a file":  {nil, Params{TenantID: fakeazure.TenantID, ClientID: fakeazure.ClientID, ClientSecret: backend.Secret("file:" + secret)}, login},
		"secret by env":     {map[string]string{"S": fakeazure.ClientSecret}, Params{TenantID: fakeazure.TenantID, ClientID: fakeazure.ClientID, ClientSecret: "env:S"}, login},
		"ids by env":        {map[string]string{"AZURE_TENANT_ID": fakeazure.TenantID, "AZURE_CLIENT_ID": fakeazure.ClientID}, Params{ClientSecret: fakeazure.ClientSecret}, login},
		"environment":       {map[string]string{"AZURE_TENANT_ID": fakeazure.TenantID, "AZURE_CLIENT_ID": fakeazure.ClientID, "AZURE_CLIENT_SECRET": fakeazure.ClientSecret}, Params{}, login},
		"workload":          {map[string]string{"AZURE_TENANT_ID": fakeazure.TenantID, "AZURE_CLIENT_ID": fakeazure.ClientID, "AZURE_FEDERATED_TOKEN_FILE": token}, Params{}, login},
		"workload by id":    {map[string]string{"AZURE_FEDERATED_TOKEN_FILE": token}, Params{TenantID: fakeazure.TenantID, ClientID: fakeazure.ClientID}, login},
		"App Service":       {map[string]string{"IDENTITY_ENDPOINT": fakeazure.IdentityEndpoint, "IDENTITY_HEADER": fakeazure.IdentityHeader}, Params{}, "identity.fakeazure.example"},
		"App Service by id": {map[string]string{"IDENTITY_ENDPOINT": fakeazure.IdentityEndpoint, "IDENTITY_HEADER": fakeazure.IdentityHeader}, Params{ClientID: uuid.NewString()}, "identity.fakeazure.example"},
		"metadata by id":    {nil, Params{ClientID: uuid.NewString()}, "169.254.169.254"},
		"instance metadata": {map[string]string{"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential"}, Params{}, "169.254.169.254"},
		"whole chain":       {nil, Params{}, "169.254.169.254"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			srv := newFake(t, nil)
			makeKey(t, sdkClient(t, srv, vaultURL), "k", p256())
			b := connectTo(t, srv, nil)
			srv.Log.Clear()
			p := c.params
			p.VaultName, p.KeyName = "test", "k"
			key := open(t, b, p).(backend.Signer)
			_, err := key.SignContext(t.Context(), make([]byte, 32), crypto.SHA256)
			require.NoError(t, err)
			// The SDK keeps the tokens of system-assigned identities for the whole process.
			tokens := srv.Log.Requests("token")
			cached := c.params.ClientID == "" && c.host != login && len(tokens) == 0
			if !cached && assert.Len(t, tokens, 1) {
				assert.Equal(t, c.host, tokens[0].Key)
			}
		})
	}
}

// TestSovereignClouds: vault, Managed HSM and authority of each cloud.
func TestSovereignClouds(t *testing.T) {
	for name, c := range map[string]struct {
		p           Params
		vault, host string
	}{
		"public":       {Params{Environment: "AzurePublicCloud"}, "https://test.vault.azure.net", "login.microsoftonline.com"},
		"government":   {Params{Environment: "AZUREUSGOVERNMENTCLOUD"}, "https://test.vault.usgovcloudapi.net", "login.microsoftonline.us"},
		"China":        {Params{Environment: "AZURECHINACLOUD"}, "https://test.vault.azure.cn", "login.chinacloudapi.cn"},
		"China by HSM": {Params{Resource: "managedhsm.azure.cn"}, "https://test.managedhsm.azure.cn", "login.chinacloudapi.cn"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newFake(t, nil)
			b := connectTo(t, srv, nil)
			p := c.p
			p.TenantID, p.ClientID, p.ClientSecret = fakeazure.TenantID, fakeazure.ClientID, fakeazure.ClientSecret
			p.VaultName, p.KeyName, p.KeyType, p.Curve = "Test", "k", ECHSM, P256
			key, err := b.Generate(t.Context(), p, nil)
			require.NoError(t, err)
			assert.Contains(t, key.ID(), c.vault+"/keys/k/")
			assert.Equal(t, c.host, srv.Log.Requests("token")[0].Key)
		})
	}
}

// TestSharedConnections: keys with equal settings share a token and a challenge; others have their own.
func TestSharedConnections(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	for _, url := range []string{vaultURL, "https://other.vault.azure.net"} {
		client := sdkClient(t, srv, url)
		makeKey(t, client, "a", p256())
		makeKey(t, client, "b", p256())
	}
	b := connectTo(t, srv, nil)
	srv.Log.Clear()
	p := Params{TenantID: fakeazure.TenantID, ClientID: fakeazure.ClientID, ClientSecret: fakeazure.ClientSecret, VaultName: "test"}
	for _, name := range []string{"a", "b"} {
		p.KeyName = name
		open(t, b, p)
	}
	assert.Equal(t, []int{1, 1, 2}, []int{srv.Log.Count("token"), srv.Log.Count("challenge"), srv.Log.Count("get")})
	p.VaultName = "other"
	open(t, b, p)
	assert.Equal(t, 2, srv.Log.Count("challenge"))
	require.NoError(t, b.Ping(t.Context()))
	assert.Equal(t, 5, srv.Log.Count("get"), "each vault is pinged")
}

// TestRefusedCredentials: what is wrong with a credential is told from what is wrong with the way to it, once and for all.
func TestRefusedCredentials(t *testing.T) {
	good := Params{TenantID: fakeazure.TenantID, ClientID: fakeazure.ClientID, ClientSecret: fakeazure.ClientSecret, VaultName: "test", KeyName: "k"}
	with := func(change func(*Params)) Params { p := good; change(&p); return p }
	for name, c := range map[string]struct {
		env   map[string]string
		p     Params
		fault *fakecloud.Fault
		want  error
		n     int // requests for a token
	}{
		"wrong secret":        {nil, with(func(p *Params) { p.ClientSecret = "a wrong one" }), nil, backend.ErrCredentials, 1},
		"wrong client":        {nil, with(func(p *Params) { p.ClientID = "someone" }), nil, backend.ErrCredentials, 1},
		"wrong tenant":        {nil, with(func(p *Params) { p.TenantID = "contoso.example" }), nil, backend.ErrCredentials, 0},
		"no such variable":    {nil, with(func(p *Params) { p.ClientSecret = "env:NO_SUCH_VARIABLE" }), nil, backend.ErrCredentials, 0},
		"no client":           {nil, with(func(p *Params) { p.ClientID = "" }), nil, backend.ErrInvalidParams, 0},
		"no such chain":       {map[string]string{"AZURE_TOKEN_CREDENTIALS": "guess"}, Params{VaultName: "test", KeyName: "k"}, nil, backend.ErrCredentials, 0},
		"no token file":       {map[string]string{"AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential", "AZURE_FEDERATED_TOKEN_FILE": "/no/such/file", "AZURE_TENANT_ID": fakeazure.TenantID, "AZURE_CLIENT_ID": fakeazure.ClientID}, Params{VaultName: "test", KeyName: "k"}, nil, backend.ErrCredentials, 0},
		"nothing configured":  {map[string]string{"AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}, Params{VaultName: "test", KeyName: "k"}, nil, backend.ErrCredentials, 0},
		"Entra ID is down":    {nil, good, &fakecloud.Fault{Op: "token", Times: -1, Error: &fakeazure.Raw{Status: 503}}, backend.ErrUnavailable, 6},
		"Entra ID cuts":       {nil, good, &fakecloud.Fault{Op: "token", Times: -1, Drop: true}, backend.ErrUnavailable, 6},
		"Entra ID throttles":  {nil, good, &fakecloud.Fault{Op: "token", Times: -1, Error: &fakeazure.Raw{Status: 429}}, backend.ErrThrottled, 6},
		"Entra ID in trouble": {nil, good, &fakecloud.Fault{Op: "token", Times: 1, Error: &fakeazure.Raw{Status: 503}}, backend.ErrKeyNotFound, 2},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			srv := newFake(t, nil)
			b := connectTo(t, srv, hasty)
			if c.fault != nil {
				srv.Script.Add(*c.fault)
			}
			_, err := b.Open(t.Context(), c.p)
			require.ErrorIs(t, err, c.want)
			assert.Equal(t, c.n, srv.Log.Count("token"))
			assert.NotContains(t, err.Error(), fakeazure.ClientSecret)
			assert.NotContains(t, err.Error(), "a wrong one")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

// static is a credential that the program made itself.
type static struct {
	token string
	err   error
	calls int
}

func (s *static) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	s.calls++
	return azcore.AccessToken{Token: s.token, ExpiresOn: time.Now().Add(time.Hour)}, s.err
}

// TestTokens: tokens that the vault refuses, and credentials of the program's own that fail.
func TestTokens(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	makeKey(t, sdkClient(t, srv, vaultURL), "k", p256())
	token := func(resource string, lifetime time.Duration) string {
		text, err := srv.Token(resource, lifetime)
		require.NoError(t, err)
		return text
	}
	for name, c := range map[string]struct {
		cred *static
		want error
	}{
		"good":           {&static{token: token("https://vault.azure.net", time.Hour)}, nil},
		"expired":        {&static{token: token("https://vault.azure.net", -time.Minute)}, backend.ErrCredentials},
		"other resource": {&static{token: token("https://management.azure.com", time.Hour)}, backend.ErrCredentials},
		"garbage":        {&static{token: "garbage"}, backend.ErrCredentials},
		"error":          {&static{err: errors.New("no")}, backend.ErrCredentials},
		"not reachable":  {&static{err: &net.DNSError{Err: "no such host", Name: "login", IsNotFound: true}}, backend.ErrUnavailable},
		"unavailable":    {&static{err: azidentity.NewCredentialUnavailableError("no")}, backend.ErrCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			opts := options(srv)
			opts.Remote = remote.Options{MaxAttempts: 1}
			b, err := New(c.cred, vaultURL, opts)
			require.NoError(t, err)
			defer b.Close()
			_, err = b.Open(t.Context(), Params{KeyName: "k"})
			if c.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.want)
			assert.ErrorIs(t, b.Ping(t.Context()), c.want)
		})
	}
}

// TestExpiredToken: a token that expires while keys are in use is replaced, and nobody notices.
func TestExpiredToken(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for range 3 {
		// As the vault does when a token has expired by its own clock, or was revoked.
		r.srv.Script.Add(fakecloud.Fault{Op: "sign", Error: &fakeazure.Error{Status: 401, Code: "Unauthorized", Header: http.Header{
			"Www-Authenticate": {`Bearer authorization="` + fakeazure.Authority + fakeazure.TenantID + `", resource="https://vault.azure.net", error="invalid_token"`},
		}}})
		_, err := r.ec.SignContext(t.Context(), r.digest[:], crypto.SHA256)
		require.NoError(t, err)
	}
	assert.Equal(t, 6, r.srv.Log.Count("sign"))
	assert.Zero(t, r.srv.Script.Left())
}

// TestSlowToken: callers whose context ends don't wait for a token that somebody else fetches.
func TestSlowToken(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	makeKey(t, sdkClient(t, srv, vaultURL), "k", p256())
	b := newBackendAt(t, srv, vaultURL, nil)
	release := make(chan struct{})
	fetching := make(chan struct{})
	inner := b.single.credential.inner
	b.single.credential.inner = tokenFunc(func(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
		close(fetching)
		<-release
		return inner.GetToken(ctx, o)
	})
	var wg sync.WaitGroup
	wg.Go(func() { _, err := b.Open(t.Context(), Params{KeyName: "k"}); assert.NoError(t, err) })
	<-fetching
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := b.Open(ctx, Params{KeyName: "k"})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.Less(t, time.Since(began), 5*time.Second)
	close(release)
	wg.Wait()
}

type tokenFunc func(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error)

func (f tokenFunc) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return f(ctx, o)
}
