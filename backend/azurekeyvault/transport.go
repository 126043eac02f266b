package azurekeyvault

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/managedkeys/managedkeys/backend"
)

// maxAnswer is what is read of an answer, in bytes. The longest is a page of a list.
const maxAnswer = 4 << 20

// newHTTPClient returns a client with a transport of this package's own: the SDK's keeps too few idle connections for many
// goroutines, and shares them with all else in the program.
//
// It speaks HTTP/1.1. With HTTP/2 all requests share one connection, and fail together when that is lost, which opens the
// breaker and exhausts the retry budget at once; and who cancels requests can have the server end it.
func newHTTPClient(opts *Options) *http.Client {
	dial := opts.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           dial,
			TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: opts.RootCAs},
			TLSHandshakeTimeout:   10 * time.Second,
			ExpectContinueTimeout: time.Second,
			Protocols:             &protocols,
			MaxIdleConnsPerHost:   opts.Remote.MaxInFlight,
			IdleConnTimeout:       90 * time.Second,
		},
		// Neither a vault nor Entra ID redirects, and a token must not go where somebody else says.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// guard is the way to one vault.
type guard struct {
	next policy.Transporter
	host string
}

// Do implements policy.Transporter. It sends nothing to any other host: a link to the next page of a list is the service's
// word, and the token would go with it.
func (g *guard) Do(req *http.Request) (*http.Response, error) {
	if !strings.EqualFold(req.URL.Host, g.host) || req.URL.Scheme != "https" {
		return nil, &foreignHostError{req.URL.Host, g.host}
	}
	req, err := detached(req)
	if err != nil {
		return nil, err
	}
	resp, err := g.next.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		if err := checkChallenge(resp.Header.Get("WWW-Authenticate")); err != nil {
			resp.Body.Close()
			return nil, &challengeError{err, requestID(resp)}
		}
	}
	resp.Body = &limitedBody{resp.Body, maxAnswer}
	return resp, nil
}

// detached returns req with a body of its own. The SDK rewinds its body to send it again, after a challenge or a failure,
// and HTTP/2 may then still be reading it, since a server can answer before it has seen all of it.
func detached(req *http.Request) (*http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	var data bytes.Buffer
	data.Grow(int(max(req.ContentLength, 0)) + bytes.MinRead)
	_, err := data.ReadFrom(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	own := *req // the headers are the SDK's, who doesn't change those of a request that was sent
	own.ContentLength = int64(data.Len())
	own.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data.Bytes())), nil }
	own.Body, err = own.GetBody()
	return &own, err
}

// foreignHostError is a link that leads away from the vault.
type foreignHostError struct{ host, want string }

func (e *foreignHostError) Error() string {
	return fmt.Sprintf("the vault's answer leads to the host %.100q; it takes %s only", e.host, e.want)
}

// NonRetriable tells the SDK not to try again.
func (*foreignHostError) NonRetriable() {}

// challengeError is a 401 answer that the SDK must not see.
type challengeError struct {
	err error
	id  string
}

func (e *challengeError) Error() string { return fmt.Sprintf("%v (request id %s)", e.err, e.id) }
func (e *challengeError) Unwrap() error { return e.err }

// NonRetriable tells the SDK not to try again.
func (*challengeError) NonRetriable() {}

var errChallenge = errors.New("the vault's challenge names an authority without a tenant")

// checkChallenge returns an error if the SDK would panic over an authentication challenge: azkeys v1.5.0 takes it for
// granted that the authorization URL has a path. The parsing is the SDK's.
func checkChallenge(header string) error {
	for part := range strings.SplitSeq(strings.ReplaceAll(header, "Bearer ", ""), " ") {
		name, value, _ := strings.Cut(part, "=")
		value = strings.TrimSuffix(strings.ReplaceAll(value, `"`, ""), ",")
		if name == "authorization" && value != "" && strings.Count(value, "/") < 3 {
			return errChallenge
		}
	}
	return nil
}

// limitedBody ends an answer that is too long with an error.
type limitedBody struct {
	io.ReadCloser
	left int64
}

var errTooLong = fmt.Errorf("%w: the answer is longer than %d bytes", backend.ErrIntegrity, maxAnswer)

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// emptyValue marks the context of a request whose value is empty: the SDK then leaves it out, which the service takes for a
// request without one.
type emptyValue struct{}

// withValue returns ctx, marked if value is empty.
func withValue(ctx context.Context, value []byte) context.Context {
	if len(value) > 0 {
		return ctx
	}
	return context.WithValue(ctx, emptyValue{}, true)
}

// fillValue is a policy.Policy that puts the empty value of a marked request into its body.
type fillValue struct{}

// Do implements policy.Policy.
func (fillValue) Do(req *policy.Request) (*http.Response, error) {
	if req.Raw().Context().Value(emptyValue{}) == nil {
		return req.Next()
	}
	var body map[string]any
	if err := json.NewDecoder(req.Body()).Decode(&body); err != nil {
		return nil, err
	}
	body["value"] = ""
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	if err := req.SetBody(streaming.NopCloser(bytes.NewReader(data)), "application/json"); err != nil {
		return nil, err
	}
	return req.Next()
}

// transport returns what a new connection sends its requests with, and the client to close if it is the connection's own.
func (b *Backend) transport() (policy.Transporter, *http.Client) {
	if b.opts.Client.Transport != nil {
		return b.opts.Client.Transport, nil
	}
	own := newHTTPClient(b.opts)
	return own, own
}
