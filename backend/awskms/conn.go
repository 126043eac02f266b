package awskms

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"

	"github.com/managedkeys/managedkeys/backend/remote"
)

// refreshPause is how long credentials that were refused are not asked for again.
const refreshPause = time.Second

// conn is one client of the service in one Region.
type conn struct {
	client      *kms.Client
	remote      *remote.Connection
	region      string
	credentials *aws.CredentialsCache
	signer      signer

	mu         sync.Mutex // guards what follows
	generation int        // of the credentials: how often they were thrown away
	refreshed  time.Time  // when they last were
}

// newConn returns a conn with a client of its own. The SDK tries once; remote does the rest.
func newConn(cfg aws.Config, o *Options, remotes remote.Options, custom ...func(*kms.Options)) *conn {
	c := &conn{region: cfg.Region, remote: remote.NewConnection(Type, remotes, classify)}
	c.signer.reset()
	var ok bool
	if c.credentials, ok = cfg.Credentials.(*aws.CredentialsCache); !ok && cfg.Credentials != nil {
		c.credentials = aws.NewCredentialsCache(cfg.Credentials)
	}
	c.client = kms.NewFromConfig(cfg, func(k *kms.Options) {
		k.Retryer = aws.NopRetryer{}
		k.HTTPSignerV4 = &c.signer
		if c.credentials != nil {
			k.Credentials = taggedCredentials{c.credentials}
		}
		if o.UseFIPS {
			k.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
		}
		if o.UseDualStack {
			k.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled
		}
		for _, f := range custom {
			f(k)
		}
		for _, f := range o.KMS {
			f(k)
		}
	})
	return c
}

// signer signs requests. The SDK's signer keeps the keys that it derives by access key and day, and would not see that a secret
// key was put right; this one forgets them when the credentials are thrown away.
type signer struct{ current atomic.Pointer[v4.Signer] }

func (s *signer) reset() { s.current.Store(v4.NewSigner()) }

// SignHTTP implements kms.HTTPSignerV4.
func (s *signer) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, hash, service, region string, at time.Time, opts ...func(*v4.SignerOptions)) error {
	return s.current.Load().SignHTTP(ctx, c, r, hash, service, region, at, opts...)
}

// current returns the generation of the credentials.
func (c *conn) current() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.generation
}

// refresh throws the cached credentials away, unless another caller did so since generation seen, or it was done a moment
// ago. It reports whether a request may be signed again with other credentials.
func (c *conn) refresh(seen int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != seen {
		return true
	}
	if c.credentials == nil || time.Since(c.refreshed) < refreshPause {
		return false
	}
	c.credentials.Invalidate()
	c.signer.reset()
	c.generation++
	c.refreshed = time.Now()
	return true
}

// method is an operation of the SDK's client, such as (*kms.Client).Sign.
type method[In, Out any] = func(*kms.Client, context.Context, *In, ...func(*kms.Options)) (*Out, error)

// call makes one request as [remote.Do] does, and a second one if the credentials were stale. check returns why an answer is
// not one to the request; it may be nil.
func call[In, Out any](ctx context.Context, c *conn, what remote.Call, m method[In, Out], in *In, check func(*Out) error) (*Out, error) {
	return remote.Do(ctx, c.remote, what, func(ctx context.Context) (*Out, error) {
		seen := c.current()
		out, err := m(c.client, ctx, in)
		if err != nil && stale(err) && c.refresh(seen) {
			out, err = m(c.client, ctx, in)
		}
		if err == nil && check != nil {
			if err = check(out); err != nil {
				err = fmt.Errorf("%w (RequestID: %s)", err, requestID(out))
			}
		}
		if err != nil {
			return nil, err
		}
		return out, nil
	})
}

// requestID returns the service's id of the request that out answers. All answers have it in a field that they don't share a
// method for.
func requestID(out any) string {
	field := reflect.ValueOf(out).Elem().FieldByName("ResultMetadata")
	if !field.IsValid() {
		return ""
	}
	metadata, _ := field.Interface().(middleware.Metadata)
	id, _ := awsmiddleware.GetRequestIDMetadata(metadata)
	return id
}

// httpTransport returns a transport that keeps a connection for each of n requests at once: the SDK's keeps 10. It speaks
// HTTP/1.1, so that a connection that is lost is one request that is lost.
func httpTransport(from *http.Transport, n int) *http.Transport {
	t := from.Clone()
	t.DisableKeepAlives, t.ForceAttemptHTTP2 = false, false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	if t.TLSClientConfig != nil {
		t.TLSClientConfig.NextProtos = nil // where a transport that was used offers HTTP/2
	}
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = 0, n, 0
	return t
}
