package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// Options are the options of [New]. The zero value is fine, and so is nil: everybody is refused then.
type Options struct {
	Authenticator Authenticator
	Authorizer    Authorizer

	// Engines are the types that mounts may have, and what makes their handlers. A type whose Engine is nil can be mounted and has no
	// paths: they answer 404 "unsupported path".
	Engines map[string]Engine

	Limits Limits

	// RequireRequestHeader refuses requests without X-Vault-Request: true, which stock clients send and which forms and links in a
	// browser can't, with status 412.
	RequireRequestHeader bool

	// EchoToken has auth/token/lookup-self answer with the caller's own token as id. `vault login` keeps what it finds there. Without
	// it, no response has a token.
	EchoToken bool

	// Ready says why the server is not ready to serve, for sys/health and sys/seal-status, which then say that it is sealed; nil means
	// that it always is. It is to return within a second or so.
	Ready func(context.Context) error

	// Metrics answers GET sys/metrics, of the root namespace only; nil means that there is no such path. It takes the capability read,
	// or nothing if MetricsPublic is set.
	Metrics       http.Handler
	MetricsPublic bool

	Version string       // for sys/health and sys/seal-status; "managedkeys" if it is empty
	Logger  *slog.Logger // for requests that failed on this side; nil means slog.Default()
}

// API is the HTTP API of a registry. It is safe for concurrent use.
type API struct {
	keys    *managedkey.Registry
	opts    Options
	limits  Limits
	log     *slog.Logger
	engines engines
	rates   rates
	slots   chan struct{} // one for each request that is under way
	moves   moves
	denials denials

	sweepMu sync.Mutex
	swept   time.Time // when mounts that are gone were last looked for; guarded by sweepMu
}

// New returns the API of a registry, which must not be closed before it. opts may be nil.
func New(keys *managedkey.Registry, opts *Options) (*API, error) {
	if keys == nil {
		return nil, errors.New("httpapi: the registry is nil")
	}
	if opts == nil {
		opts = new(Options)
	}
	a := &API{keys: keys, opts: *opts, limits: opts.Limits.complete(), log: opts.Logger}
	if a.log == nil {
		a.log = slog.Default()
	}
	if a.opts.Version == "" {
		a.opts.Version = "managedkeys"
	}
	a.engines = engines{makers: opts.Engines, all: make(map[*managedkey.Mount]*running)}
	a.engines.life, a.engines.end = context.WithCancel(context.Background())
	a.rates = newRates(a.limits)
	a.slots = make(chan struct{}, a.limits.Concurrent)
	a.denials = newDenials(keys)
	return a, nil
}

// OpenMounts makes the handlers of all mounts now, and not when each is first used, so that what engines do in the background
// begins although nobody asks for anything yet. Call it once the registry has its mounts, and again if others have come. A mount
// whose handler can't be made keeps none of the others from it, is in the error, and is tried again when it is used. Handlers of mounts
// that are gone are closed.
func (a *API) OpenMounts(ctx context.Context) error {
	a.sweepNow()
	var errs []error
	for _, ns := range append(a.keys.Namespaces(namespace.Root), namespace.Root) {
		for _, m := range a.keys.Mounts(ns) {
			_, done, err := a.engines.use(ctx, m)
			if err != nil {
				errs = append(errs, fmt.Errorf("httpapi: mount %s: %w", strings.TrimPrefix(slashed(ns)+m.Path(), "/"), err))
				continue
			}
			done()
		}
	}
	return errors.Join(errs...)
}

// Close waits for the engines' requests and closes their handlers, and ends their removals. Shut the server down before, and close the
// registry's observer after. It returns nil.
func (a *API) Close() error {
	a.denials.close()
	a.engines.close()
	return nil
}

// sweepEvery is how often mounts are looked for that are gone.
const sweepEvery = 10 * time.Second

// sweep closes the handlers of mounts that are gone, also those that another process removed.
func (a *API) sweep(now time.Time) {
	a.sweepMu.Lock()
	due := now.Sub(a.swept) >= sweepEvery
	if due {
		a.swept = now
	}
	a.sweepMu.Unlock()
	if due {
		a.sweepNow()
	}
}

func (a *API) sweepNow() {
	a.engines.sweep(func(m *managedkey.Mount) bool {
		at, err := a.keys.OpenMount(m.Namespace(), m.Path())
		return err != nil || at != m
	}, a.removed)
}

// removed has what an engine keeps for a mount removed. What this process knows is not enough for that: the store must say that the
// mount is gone.
func (a *API) removed(ctx context.Context, m *managedkey.Mount, r Remover) {
	there, err := a.keys.HasMount(ctx, m.ID())
	if err == nil && !there {
		err = r.Remove(ctx)
	}
	if err != nil {
		a.log.WarnContext(ctx, "httpapi: what a mount has had was not removed", "mount", m.ID(), "type", m.Type(), "error", err)
	}
}
