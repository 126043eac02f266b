package azurekeyvault

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"golang.org/x/time/rate"

	"github.com/managedkeys/managedkeys/backend/remote"
)

// connection is a client of one vault with one credential.
type connection struct {
	url        string // of the vault, without a slash at its end
	hsm        bool   // it is a Managed HSM
	client     *azkeys.Client
	credential *credential
	remote     *remote.Connection
	making     locks
	own        *http.Client // to be closed; nil if the program gave the transport
}

// newConnection makes no call.
func newConnection(vault *url.URL, cred azcore.TokenCredential, opts *Options, transport policy.Transporter, own *http.Client) (*connection, error) {
	c := &connection{
		url: vault.String(), hsm: isManagedHSM(vault.Host), own: own,
		credential: &credential{inner: cred},
		remote:     remote.NewConnection(Type, opts.Remote, classify),
	}
	client := opts.Client
	client.Transport = &guard{transport, vault.Host}
	client.Retry = policy.RetryOptions{MaxRetries: -1} // package remote does it
	client.PerCallPolicies = append([]policy.Policy{fillValue{}}, client.PerCallPolicies...)
	var err error
	c.client, err = azkeys.NewClient(c.url, c.credential, &azkeys.ClientOptions{
		ClientOptions: client, DisableChallengeResourceVerification: opts.DisableChallengeResourceVerification,
	})
	return c, err
}

// close frees what is the connection's own.
func (c *connection) close() error {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
	return nil
}

// operation is what call is told of a request.
type operation struct {
	name    string // the service's
	limiter *rate.Limiter
	once    bool // it must not happen twice
}

// call makes one request, again where that helps.
func call[T any](ctx context.Context, c *connection, op operation, fn func(context.Context) (T, error)) (T, error) {
	return remote.Do(ctx, c.remote, remote.Call{Op: op.name, Limiter: op.limiter, Once: op.once}, func(ctx context.Context) (T, error) {
		var zero T
		if err := c.credential.wait(ctx); err != nil {
			return zero, err
		}
		var resp *http.Response
		out, err := fn(policy.WithCaptureResponse(ctx, &resp))
		if err != nil {
			return zero, &callError{err, resp}
		}
		return out, nil
	})
}

// bounded returns ctx with the call timeout, if it has no deadline.
func (c *connection) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.remote.Options().CallTimeout)
}

// kid is what a key identifier says: https://HOST/keys/NAME/VERSION.
type kid struct{ name, version string }

// parseKID returns name and version, which is empty if there is none. The host is not looked at: it is the service's word,
// and every request goes to the host that the program named.
func parseKID(id *azkeys.ID) (kid, error) {
	if id == nil {
		return kid{}, integrity("the answer names no key")
	}
	u, err := url.Parse(string(*id))
	if err != nil || len(*id) > 1000 {
		return kid{}, integrity("the answer is about the key %.200q, which is no key identifier", *id)
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "keys" || !keyNames.MatchString(parts[1]) {
		return kid{}, integrity("the answer is about the key %.200q, which is no key identifier", *id)
	}
	k := kid{name: parts[1]}
	if len(parts) == 3 {
		if k.version = parts[2]; !keyVersions.MatchString(k.version) {
			return kid{}, integrity("the answer is about the key %.200q, which is no key identifier", *id)
		}
	}
	return k, nil
}

// checkKID returns an error unless the answer is about exactly that version of that key. Names have no case.
func checkKID(id *azkeys.ID, name, version string) error {
	if id != nil && version != "" && isKID(string(*id), name, version) {
		return nil
	}
	k, err := parseKID(id)
	if err != nil {
		return err
	}
	if !strings.EqualFold(k.name, name) || k.version == "" || version != "" && !strings.EqualFold(k.version, version) {
		return integrity("the answer is about the key %.200q; %s/%s was asked for", *id, name, version)
	}
	return nil
}

// isKID reports whether id is written as usual and about that version of that key. It is what an answer to every signature
// is compared with, and takes a hundredth of the time of parsing.
func isKID(id, name, version string) bool {
	rest, https := strings.CutPrefix(id, "https://")
	rest, is := strings.CutSuffix(rest, version)
	rest, slash := strings.CutSuffix(rest, "/")
	rest, named := strings.CutSuffix(rest, name)
	host, keys := strings.CutSuffix(rest, "/keys/")
	return https && is && slash && named && keys && host != "" && !strings.ContainsAny(host, "/?#@%")
}

// id is what Key.ID returns for a version of a key.
func (c *connection) id(k kid) string {
	if k.version == "" {
		return c.url + "/keys/" + k.name
	}
	return c.url + "/keys/" + k.name + "/" + k.version
}

// locks has one turn for each name, so that generators within one program never race. The zero value is ready.
type locks struct {
	mu    sync.Mutex // guards turns
	turns map[string]chan struct{}
}

// lock waits for the turn of a name and returns what gives it back. The error is ctx's.
func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	name = strings.ToLower(name)
	l.mu.Lock()
	turn := l.turns[name]
	if turn == nil {
		if l.turns == nil {
			l.turns = make(map[string]chan struct{})
		}
		turn = make(chan struct{}, 1)
		l.turns[name] = turn
	}
	l.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pause waits for d, and less if ctx ends. The error is ctx's.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
