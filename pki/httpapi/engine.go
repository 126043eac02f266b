package httpapi

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/managedkeys/managedkeys/internal/softkey"
	"github.com/managedkeys/managedkeys/managedkey"
	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/pki"
)

// The options of a mount that its engine acts on, each "true" or "false". They can be changed while the mount is used.
const (
	// OptionVerbatim lets sign-verbatim issue what requests ask for, under no role's rules for names.
	OptionVerbatim = "allow_sign_verbatim"

	// OptionSoftwareKeys lets CAs have keys that are in software, and have been outside of key managers: Options.Software. It is the
	// same as of transit mounts.
	OptionSoftwareKeys = softkey.Option
)

// Options are the options of [New]. The zero value is fine, and so is nil.
type Options struct {
	// PSS and Linters are those of pki.Options.
	PSS     bool
	Linters []pki.Linter

	// Software has the keys of the types internal and exported, and those that are imported. nil refuses keys in software, whatever a
	// mount allows. See NewSoftwareKeys.
	Software SoftwareKeys

	// AllowUnsealed is as in pki.Options: keys in software may be written to a store that is not sealed. It is for tests and trials.
	AllowUnsealed bool

	// Maintain is how often CRLs that are due are made, and how often it is looked whether to tidy; 0 is a minute. A negative
	// one leaves both to those who ask for them.
	Maintain time.Duration

	// Expiry, if not nil, says how to watch what expires of a mount's authority; nil from it is not at all. A Logger of nil is the
	// one below. Each process that serves the mount watches by itself, from when its handler is made: see api.API.OpenMounts.
	Expiry func(m *managedkey.Mount) *pki.ExpiryOptions

	// MeterProvider, if not nil, has what the watch has seen as metrics: see pki.ExpiryWatch.Measure. Without Expiry, the watch
	// has the options that are usual.
	MeterProvider metric.MeterProvider

	// Now returns the current time; nil means time.Now.
	Now func() time.Time

	// Logger is told what goes wrong in the background; nil means slog.Default().
	Logger *slog.Logger
}

// New returns the engine of mounts whose authorities have their state in st, which must not be closed before the API. opts may be
// nil.
func New(st store.Store, opts *Options) (api.Engine, error) {
	if st == nil {
		return nil, errors.New("pki/httpapi: the store is nil")
	}
	if opts == nil {
		opts = new(Options)
	}
	o := *opts
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Maintain == 0 {
		o.Maintain = time.Minute
	}
	e := &engine{st: st, opts: o, live: make(map[*managedkey.Mount]*handler)}
	return e.open, nil
}

// engine makes handlers. Several APIs, such as those of several listeners, have one for a mount together, so that what is done in
// the background is done once, and each knows of it.
type engine struct {
	st   store.Store
	opts Options

	mu   sync.Mutex
	live map[*managedkey.Mount]*handler
}

func (e *engine) open(ctx context.Context, m *managedkey.Mount) (api.Handler, error) {
	if h := e.share(m, nil); h != nil {
		return h, nil
	}
	h := &handler{engine: e, mount: m, opts: e.opts}
	var err error
	if h.a, err = pki.OpenAuthority(ctx, m, e.st, h.options(false)); err != nil {
		return nil, err
	}
	if h.verbatim, err = pki.OpenAuthority(ctx, m, e.st, h.options(true)); err != nil {
		return nil, err
	}
	if h.watch, err = h.newWatch(); err != nil {
		return nil, err
	}
	return e.share(m, h), nil
}

// share returns the handler of a mount for one more user: fresh if there is none yet, which then begins.
func (e *engine) share(m *managedkey.Mount, fresh *handler) *handler {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.live[m]
	if h == nil && fresh != nil {
		h = fresh
		e.live[m] = h
		h.begin()
	}
	if h != nil {
		h.users++
	}
	return h
}

// leave takes a user of a handler away, and reports whether it was the last one.
func (e *engine) leave(h *handler) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	h.users--
	if h.users == 0 {
		delete(e.live, h.mount)
	}
	return h.users == 0
}

func (h *handler) options(verbatim bool) *pki.Options {
	o := &pki.Options{Now: h.opts.Now, PSS: h.opts.PSS, Linters: h.opts.Linters, AllowVerbatim: verbatim, AllowUnsealed: h.opts.AllowUnsealed}
	if h.opts.Software != nil {
		o.Restore = h.restore
	}
	return o
}

// handler serves the paths of a mount.
type handler struct {
	engine   *engine
	users    int // guarded by engine.mu
	mount    *managedkey.Mount
	opts     Options
	a        *pki.Authority
	verbatim *pki.Authority // the same one, and may sign verbatim; which of the two is used is decided for each request

	life    context.Context // until Close
	end     context.CancelFunc
	running sync.WaitGroup
	watch   *pki.ExpiryWatch // nil for none
	here    here

	unmeasure func() error // nil if there are no metrics of it
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{handler: h, w: w, r: r}
	to := routes().find(r.URL.Path[1:], &c.params)
	if to == nil {
		api.WriteError(w, r, errUnsupported)
		return
	}
	do := to.method(r.Method)
	if do == nil {
		w.Header().Set("Allow", to.allowed())
		api.WriteError(w, r, errMethod)
		return
	}
	data, err := do(c)
	switch {
	case err != nil:
		api.WriteError(w, r, answerTo(err))
	default:
		c.write(data)
	}
}

// Public implements api.Publisher.
func (h *handler) Public(method, path string) bool {
	to := routes().find(path, nil)
	switch {
	case to == nil:
		return false
	case method == http.MethodPost:
		return to.open && to.post != nil
	case method == "LIST":
		return to.public && to.list != nil
	}
	return to.public && to.get != nil && (method == http.MethodGet || method == http.MethodHead)
}

// Sudo implements api.Guarded.
func (h *handler) Sudo(method, path string) bool {
	to := routes().find(path, nil)
	return to != nil && to.sudo && (method == http.MethodPost || method == http.MethodDelete)
}

// Close implements api.Handler: the last user ends what is done in the background, and waits for that.
func (h *handler) Close() error {
	if !h.engine.leave(h) {
		return nil
	}
	h.end()
	h.endWatch()
	h.running.Wait()
	return nil
}

// Remove implements api.Remover: what the authority has in the store goes with its mount, and so do its keys in software. Another API may
// still have the handler; what that writes late goes too.
func (h *handler) Remove(ctx context.Context) error {
	kept, err := h.a.SoftwareKeys(ctx)
	if err != nil { // the records go all the same
		h.opts.Logger.WarnContext(ctx, "pki/httpapi: software keys of a removed mount can't be listed", "mount", h.mount.ID(), "error", err)
	}
	names := h.here.all() // another process may have removed the records already
	for _, k := range kept {
		if !slices.Contains(names, k.Name) {
			names = append(names, k.Name)
		}
	}
	for _, name := range names {
		h.discard(ctx, name)
	}
	_, err = pki.RemoveMount(ctx, h.engine.st, h.mount.ID())
	return err
}

// allows reports whether an option of the mount is "true".
func (h *handler) allows(option string) bool { return h.mount.Options()[option] == "true" }

// public returns the public key that a reference to a managed key stands for.
func (h *handler) public(ctx context.Context, ref pki.KeyRef) (crypto.PublicKey, error) {
	key, err := h.a.ManagedKey(ctx, ref)
	if err != nil {
		return nil, err
	}
	return key.Public(), nil
}
