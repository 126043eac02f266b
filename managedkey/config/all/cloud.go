package all

import (
	"context"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"google.golang.org/api/option"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
)

// AWS is a connection "awskms". Region, endpoint and credentials are for keys that name none; without them the SDK finds some.
type AWS struct {
	Region           string            `config:"region"`
	Endpoint         string            `config:"endpoint"`
	AccessKey        backend.Secret    `config:"access_key"`
	SecretKey        backend.Secret    `config:"secret_key"`
	SessionToken     backend.Secret    `config:"session_token"`
	Profile          string            `config:"profile"` // of the shared configuration
	UseFIPS          bool              `config:"use_fips"`
	UseDualStack     bool              `config:"use_dual_stack"`
	CheckPermissions bool              `config:"check_permissions"`
	KeyPolicy        string            `config:"key_policy"`
	Tags             map[string]string `config:"tags"`
	Remote
}

// Validate implements [config.BackendStanza].
func (a *AWS) Validate() error {
	if (a.AccessKey == "") != (a.SecretKey == "") || a.SessionToken != "" && a.AccessKey == "" {
		return fmt.Errorf("access_key and secret_key belong together, and session_token to them: %w", backend.ErrInvalidParams)
	}
	if a.Endpoint != "" && !strings.HasPrefix(a.Endpoint, "https://") && !strings.HasPrefix(a.Endpoint, "http://") {
		return fmt.Errorf("endpoint is %.100q; it takes a URL that begins with https:// or http://: %w", a.Endpoint, backend.ErrInvalidParams)
	}
	return a.Remote.validate()
}

// Open implements [config.BackendStanza]. It makes no call.
func (a *AWS) Open(context.Context, string, func(string) backend.Backend) (backend.Backend, error) {
	opts := &awskms.Options{
		Remote: a.options(), UseFIPS: a.UseFIPS, UseDualStack: a.UseDualStack, CheckPermissions: a.CheckPermissions, KeyPolicy: a.KeyPolicy, Tags: a.Tags,
	}
	load := func(fn awsconfig.LoadOptionsFunc) { opts.Load = append(opts.Load, fn) }
	if a.Region != "" {
		load(awsconfig.WithRegion(a.Region))
	}
	if a.Endpoint != "" {
		load(awsconfig.WithBaseEndpoint(a.Endpoint))
	}
	if a.Profile != "" {
		load(awsconfig.WithSharedConfigProfile(a.Profile))
	}
	if a.AccessKey != "" {
		values, err := resolved(a.AccessKey, a.SecretKey, a.SessionToken)
		if err != nil {
			return nil, err
		}
		load(awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(values[0], values[1], values[2])))
	}
	return opened(awskms.Connect(opts))
}

// resolved returns what secrets stand for.
func resolved(secrets ...backend.Secret) ([]string, error) {
	out := make([]string, len(secrets))
	for i, s := range secrets {
		var err error
		if out[i], err = s.Resolve(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Azure is a connection "azurekeyvault". With vault_url it is one to that vault, and keys say neither vault nor credentials; else they
// say both.
type Azure struct {
	VaultURL     string         `config:"vault_url"`
	TenantID     string         `config:"tenant_id"`
	ClientID     string         `config:"client_id"`
	ClientSecret backend.Secret `config:"client_secret"`
	Remote
}

// Validate implements [config.BackendStanza].
func (a *Azure) Validate() error {
	credential := a.TenantID != "" || a.ClientID != "" || a.ClientSecret != ""
	if a.VaultURL == "" && credential {
		return fmt.Errorf("credentials of a connection take vault_url: a key must not decide which vault gets them: %w", backend.ErrInvalidParams)
	}
	if credential && (a.TenantID == "" || a.ClientID == "" || a.ClientSecret == "") {
		return fmt.Errorf("tenant_id, client_id and client_secret belong together: %w", backend.ErrInvalidParams)
	}
	return a.Remote.validate()
}

// Open implements [config.BackendStanza]. It makes no call.
func (a *Azure) Open(context.Context, string, func(string) backend.Backend) (backend.Backend, error) {
	opts := &azurekeyvault.Options{Remote: a.options()}
	if a.VaultURL == "" {
		return opened(azurekeyvault.Connect(opts))
	}
	var cred azcore.TokenCredential
	if a.ClientSecret != "" {
		values, err := resolved(a.ClientSecret)
		if err != nil {
			return nil, err
		}
		if cred, err = azidentity.NewClientSecretCredential(a.TenantID, a.ClientID, values[0], nil); err != nil {
			return nil, fmt.Errorf("%w: %w", backend.ErrCredentials, err)
		}
	} else {
		found, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", backend.ErrCredentials, err)
		}
		cred = found
	}
	return opened(azurekeyvault.New(cred, a.VaultURL, opts))
}

// Google is a connection "gcpckms". Credentials, if there are any, are for all its keys, which then have none.
type Google struct {
	Credentials       backend.Secret `config:"credentials"` // JSON, or the path of a file
	Endpoint          string         `config:"endpoint"`    // host and port
	RegionalEndpoints bool           `config:"regional_endpoints"`
	QuotaProject      string         `config:"quota_project"`
	Remote
}

// Validate implements [config.BackendStanza].
func (g *Google) Validate() error {
	if g.Credentials != "" && g.RegionalEndpoints {
		return fmt.Errorf("regional_endpoints with credentials: keys of several regions then take a connection each, with an endpoint: %w", backend.ErrInvalidParams)
	}
	return g.Remote.validate()
}

// Open implements [config.BackendStanza]. It makes no call.
func (g *Google) Open(ctx context.Context, _ string, _ func(string) backend.Backend) (backend.Backend, error) {
	opts := &gcpckms.Options{Remote: g.options(), Endpoint: g.Endpoint, RegionalEndpoints: g.RegionalEndpoints, QuotaProject: g.QuotaProject}
	if g.Credentials == "" {
		return opened(gcpckms.Connect(opts))
	}
	creds, err := googleCredentials(g.Credentials)
	if err != nil {
		return nil, err
	}
	client := []option.ClientOption{option.WithAuthCredentials(creds)}
	if g.Endpoint != "" {
		client = append(client, option.WithEndpoint(g.Endpoint))
	}
	if g.QuotaProject != "" {
		client = append(client, option.WithQuotaProject(g.QuotaProject))
	}
	return opened(gcpckms.NewFromOptions(ctx, &gcpckms.Options{Remote: g.options()}, client...))
}
