package awskms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/managedkeys/managedkeys/backend"
)

// defaultRegion is what nothing else says.
const defaultRegion = "us-east-1"

// metadataWait is how long the instance's metadata service is asked for the Region: it answers within milliseconds where
// there is one.
const metadataWait = time.Second

// settings are what makes a connection: entries with equal settings share one.
type settings struct {
	Region       string // "" means the configured one
	Endpoint     string
	AccessKey    backend.Secret
	SecretKey    backend.Secret
	SessionToken backend.Secret
}

// connection returns the connection for the key that p, which is valid, describes.
func (b *Backend) connection(ctx context.Context, p Params) (*conn, error) {
	if c := b.fixed; c != nil {
		if err := c.agrees(p); err != nil {
			return nil, err
		}
		return c, nil
	}
	region := p.region()
	l, err := b.base.Get(ctx, struct{}{})
	if err != nil {
		return nil, gone(ctx, err)
	}
	if region == "" {
		region = l.cfg.Region
	}
	if region == "" {
		if region, err = b.home.Get(ctx, struct{}{}); err != nil {
			return nil, gone(ctx, err)
		}
	}
	c, err := b.conns.Get(ctx, settings{region, p.Endpoint, p.AccessKey, p.SecretKey, p.SessionToken})
	return c, gone(ctx, err)
}

// gone explains err if it is that ctx has ended.
func gone(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("awskms: connect: %w", backend.ContextError(ctx))
	}
	return err
}

// load reads the SDK's configuration.
func (b *Backend) load(ctx context.Context) (*base, error) {
	// Credentials are fetched now and then: their connections are not kept, so that none is left when the backend is closed.
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(
		func(t *http.Transport) { t.DisableKeepAlives = true }))}
	if b.opts.UseFIPS {
		options = append(options, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	if b.opts.UseDualStack {
		options = append(options, config.WithUseDualStackEndpoint(aws.DualStackEndpointStateEnabled))
	}
	cfg, err := config.LoadDefaultConfig(ctx, append(options, b.opts.Load...)...)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("awskms: the SDK's configuration: %w: %w", backend.ErrInvalidParams, err)
	}
	return b.newBase(cfg), nil
}

// newBase returns cfg with an HTTP client that keeps enough connections, unless the program gave one of its own.
func (b *Backend) newBase(cfg aws.Config) *base {
	l := &base{cfg: cfg, identity: cfg.HTTPClient, transport: new(http.Transport)}
	from := awshttp.NewBuildableClient()
	if cfg.HTTPClient != nil {
		var ok bool
		if from, ok = cfg.HTTPClient.(*awshttp.BuildableClient); !ok {
			return l
		}
	}
	l.transport = httpTransport(from.GetTransport(), b.remotes.MaxInFlight)
	l.cfg.HTTPClient = &http.Client{Transport: l.transport, CheckRedirect: noRedirect}
	return l
}

// noRedirect has a redirect be the answer, since a request that is signed for one host is none for another.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// region returns the Region of the instance that the program runs on, or the default.
func (b *Backend) region(ctx context.Context, _ struct{}) (string, error) {
	if strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		return defaultRegion, nil
	}
	l, err := b.base.Get(ctx, struct{}{})
	if err != nil {
		return "", err
	}
	asking, cancel := context.WithTimeout(ctx, metadataWait)
	defer cancel()
	cfg := l.cfg.Copy()
	cfg.HTTPClient = l.identity // whose connections are not kept
	out, err := imds.NewFromConfig(cfg, func(o *imds.Options) { o.Retryer = aws.NopRetryer{} }).GetRegion(asking, nil)
	if ctx.Err() != nil {
		return "", ctx.Err() // the next caller asks again
	}
	if err != nil || !isRegion(out.Region) {
		return defaultRegion, nil
	}
	return out.Region, nil
}

// connect makes a connection.
func (b *Backend) connect(ctx context.Context, s settings) (*conn, error) {
	l, err := b.base.Get(ctx, struct{}{})
	if err != nil {
		return nil, err
	}
	cfg := l.cfg.Copy()
	cfg.Region = s.Region
	if s.AccessKey != "" {
		cfg.Credentials = aws.NewCredentialsCache(givenCredentials{s})
	}
	if cfg.Credentials == nil {
		return nil, fmt.Errorf("awskms: the SDK's configuration has no credentials: %w", backend.ErrCredentials)
	}
	return newConn(cfg, &b.opts, b.remotes, func(o *kms.Options) {
		if s.Endpoint != "" {
			o.BaseEndpoint = aws.String(s.Endpoint)
		}
	}), nil
}

// givenCredentials are those of Params. References are resolved when the SDK asks, and again after credentials were
// refused, so that a file may change.
type givenCredentials struct{ settings }

// Retrieve implements aws.CredentialsProvider.
func (g givenCredentials) Retrieve(context.Context) (aws.Credentials, error) {
	accessKey, err1 := g.AccessKey.Resolve()
	secretKey, err2 := g.SecretKey.Resolve()
	token, err3 := g.SessionToken.Resolve()
	return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey, SessionToken: token, Source: Type}, errors.Join(err1, err2, err3)
}
