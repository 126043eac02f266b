package software

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// Names of stores, unless Options.Store says otherwise.
const (
	MemoryStore = "memory" // of New; OpenFile refuses it
	FileStore   = "file"   // of OpenFile
)

// closeWait is how long Close waits for calls in flight.
const closeWait = 10 * time.Second

// Options are the options of [New] and [OpenFile]. The zero value is fine.
type Options struct {
	// Store is the name that Params.Store may have: MemoryStore or FileStore if empty.
	Store string

	// Argon2id are the costs of turning the passphrase into a key. They matter only when OpenFile makes a new file; an
	// existing file keeps its own.
	Argon2id Argon2id
}

// Backend keeps keys in this process's memory, and in a file if it comes from [OpenFile]. It implements
// [backend.Backend], [backend.Generator], [backend.Importer], [backend.Lister], [backend.Pinger],
// [backend.ParamsDecoder], [backend.URIParser] and [backend.Matcher].
//
// All methods are safe for concurrent use.
type Backend struct {
	name   string // of the store
	gate   backend.Gate
	newRSA func(bits int) (*rsa.PrivateKey, error)
	makers chan struct{} // holds a token for each RSA key in the making, the abandoned ones included

	store  *store
	closed bool // guarded by store.lock
}

var (
	_ backend.Generator     = (*Backend)(nil)
	_ backend.Importer      = (*Backend)(nil)
	_ backend.Lister        = (*Backend)(nil)
	_ backend.Pinger        = (*Backend)(nil)
	_ backend.ParamsDecoder = (*Backend)(nil)
	_ backend.URIParser     = (*Backend)(nil)
	_ backend.Matcher       = (*Backend)(nil)
)

// New returns an empty Backend that keeps its keys in memory only: they are gone when it is closed. opts may be nil.
func New(opts *Options) *Backend {
	name := MemoryStore
	if opts != nil && opts.Store != "" {
		name = opts.Store
	}
	return newBackend(name, newStore(nil, make(map[string]*entry)))
}

// newBackend returns a user of s, which counts it already.
func newBackend(name string, s *store) *Backend {
	return &Backend{
		name:   name,
		newRSA: func(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) },
		makers: make(chan struct{}, runtime.GOMAXPROCS(0)),
		store:  s,
	}
}

// Share returns another Backend on the same store, as two clients of one key manager are: each sees the keys that the
// other makes, each must be closed, and the keys are forgotten when the last one is. If b is closed, so is what Share
// returns.
func (b *Backend) Share() *Backend {
	other := newBackend(b.name, b.store)
	b.store.lock <- struct{}{}
	defer func() { <-b.store.lock }()
	if b.closed {
		other.closed = true
		other.gate.Close(0)
		return other
	}
	b.store.users++
	return other
}

// Type implements [backend.Backend]; it returns "software".
func (b *Backend) Type() string { return Type }

// DecodeParams implements [backend.ParamsDecoder].
func (*Backend) DecodeParams(data []byte) (backend.Params, error) {
	return backend.DecodeParams[Params](data)
}

// String returns the backend type and the name of the store.
func (b *Backend) String() string { return fmt.Sprintf("%s store %q", Type, b.name) }

// GoString returns what String returns, so that %#v shows no more than %v.
func (b *Backend) GoString() string { return b.String() }

// Open implements [backend.Backend]. params must be of type [Params].
func (b *Backend) Open(ctx context.Context, params backend.Params) (backend.Key, error) {
	p, err := b.params(params)
	if err != nil {
		return nil, err
	}
	var key backend.Key
	err = b.locked(ctx, "open", func() error {
		e := b.store.entries[p.KeyName]
		if e == nil {
			return fmt.Errorf("software: key %q in store %q: %w", p.KeyName, b.name, backend.ErrKeyNotFound)
		}
		if err := p.match(e.kind, fmt.Sprintf("key %q", e.id())); err != nil {
			return err
		}
		key = e.open(&b.gate)
		return nil
	})
	return key, err
}

// List implements [backend.Lister]. It yields the keys that the store has when the iteration begins, by name. scope may
// be nil; only its Store is looked at.
func (b *Backend) List(ctx context.Context, scope backend.Params) iter.Seq2[backend.KeyInfo, error] {
	return func(yield func(backend.KeyInfo, error) bool) {
		infos, err := b.list(ctx, scope)
		if err != nil {
			yield(backend.KeyInfo{}, err)
			return
		}
		for _, info := range infos {
			if ctx.Err() != nil {
				yield(backend.KeyInfo{}, contextError(ctx, "list"))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// list takes the snapshot for List: no lock or gate may be held while the caller's loop body runs, since that may call
// any method.
func (b *Backend) list(ctx context.Context, scope backend.Params) (infos []backend.KeyInfo, err error) {
	p, ok := scope.(Params)
	if !ok && scope != nil {
		return nil, fmt.Errorf("software: list: scope is %T, want %T: %w", scope, p, backend.ErrInvalidParams)
	}
	if err := b.checkStore(p); err != nil {
		return nil, err
	}
	err = b.locked(ctx, "list", func() error {
		for _, name := range slices.Sorted(maps.Keys(b.store.entries)) {
			e := b.store.entries[name]
			params := e.kind
			params.KeyName, params.Store = name, b.name
			infos = append(infos, backend.KeyInfo{
				ID: e.id(), Label: name, Algorithm: e.algorithm(), Usages: e.capabilities().Usages, URI: params.URI(), Params: params,
			})
		}
		return nil
	})
	return infos, err
}

// Ping implements [backend.Pinger]. It reads the file, if there is one, and decrypts it if it has changed.
func (b *Backend) Ping(ctx context.Context) error {
	return b.locked(ctx, "ping", func() error { return nil })
}

// Close implements [backend.Backend]. It waits up to 10 seconds for calls in flight; if there are any left, the error
// says how many and wraps backend.ErrUnavailable, and the Backend is closed all the same. Closing again returns nil.
func (b *Backend) Close() error { return b.close(closeWait) }

func (b *Backend) close(wait time.Duration) error {
	left := b.gate.Close(wait)
	b.store.lock <- struct{}{}
	defer func() { <-b.store.lock }()
	if b.closed {
		return nil
	}
	b.closed = true
	b.store.release(left > 0)
	if left > 0 {
		return fmt.Errorf("software: %d calls still ran %v after Close: %w", left, wait, backend.ErrUnavailable)
	}
	return nil
}

// params returns params as this backend's own, valid and for this store.
func (b *Backend) params(params backend.Params) (Params, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return Params{}, err
	}
	return p, b.checkStore(p)
}

func (b *Backend) checkStore(p Params) error {
	if p.Store != "" && p.Store != b.name {
		return fmt.Errorf("software: store: got %.40q, but this backend's store is %q: %w", p.Store, b.name, backend.ErrInvalidParams)
	}
	return nil
}

// locked counts a call in, reads the file again if it has changed, and calls fn under the lock.
func (b *Backend) locked(ctx context.Context, op string, fn func() error) error {
	if ctx.Err() != nil {
		return contextError(ctx, op)
	}
	if err := b.gate.Enter(); err != nil {
		return err
	}
	defer b.gate.Leave()
	if err := b.enter(ctx, op); err != nil {
		return err
	}
	defer func() { <-b.store.lock }()
	return fn()
}

// enter takes the store's lock and brings the store up to date. If there is no error, the caller gives the lock back.
func (b *Backend) enter(ctx context.Context, op string) error {
	select {
	case b.store.lock <- struct{}{}:
	case <-ctx.Done():
		return contextError(ctx, op)
	}
	err := b.store.refresh()
	if b.closed { // by a Close that had waited for long enough
		err = fmt.Errorf("software: %s: %w", op, backend.ErrClosed)
	}
	if err != nil {
		<-b.store.lock
	}
	return err
}

// contextError is the error of op, whose context ended.
func contextError(ctx context.Context, op string) error {
	return fmt.Errorf("software: %s: %w", op, backend.ContextError(ctx))
}
