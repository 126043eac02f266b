package transit

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Limits, unless [Options] say otherwise.
const (
	DefaultBatchParallel = 16     // items of one batch that are worked on at the same time
	DefaultMaxBatch      = 10_000 // items of one batch
)

// Options are the options of [New] and [Open]. The zero value is fine.
type Options struct {
	// Now returns the current time; nil means time.Now.
	Now func() time.Time

	// Software is what allows software keys: the backend in which their private and secret keys are used, through the contract
	// alone. It must be a [backend.Importer] and a [backend.ParamsDecoder] whose parameters are those of type software in the
	// managed-keys API, and should keep its keys in memory only, since those of transit are in the records of the engine. nil
	// means that there are managed keys only. The caller closes it, after the engine.
	Software backend.Backend

	// AllowUnsealed lets software keys be written to a store that does not encrypt them (see store.IsSealed), where everyone who
	// can read the store can read the keys. It is for tests.
	AllowUnsealed bool

	// AllowPKCS1v15 lets RSA keys decrypt RSAES-PKCS1-v1_5 where a request asks for it: software keys, and managed keys that
	// decrypt without a padding scheme (see backend.Capabilities.RawRSA). A ciphertext with a wrong padding then has a plaintext
	// of random bytes and no error ("implicit rejection"), which is the only way not to be an oracle for such ciphertexts.
	// Who can make do with RSAES-OAEP leaves it off.
	AllowPKCS1v15 bool

	// BatchParallel is how many items of one batch are worked on at the same time, at least 1; 0 means DefaultBatchParallel. What
	// is done in this process is never spread over more than GOMAXPROCS. MaxBatch is how many items a batch may have; 0 means
	// DefaultMaxBatch.
	BatchParallel, MaxBatch int

	// Logger is told what goes wrong in the background; nil means slog.Default().
	Logger *slog.Logger
}

// Engine is a set of transit keys over the managed keys of one mount. Use [New] or [Open].
//
// All methods are safe for concurrent use.
type Engine struct {
	mount *managedkey.Mount
	opts  Options

	keys     sync.Map   // *key by name: what the engine has, or what the store had when it last told
	changing sync.Mutex // held while keys is written, and through every change of an engine without a store
	last     uint64     // version of the last change, in an engine without a store; guarded by changing

	seen uint64            // revision of the store up to which keys has everything; guarded by changing
	gone map[string]uint64 // keys that were deleted after seen, and at which revision; guarded by changing

	wrapping struct { // of imports
		held chan struct{} // has room for one, who may read and make key, and whom others can stop waiting for
		key  *key
	}

	store     store.Store // nil if the keys are in memory only
	prefix    string      // of the records
	cancel    context.CancelFunc
	following sync.WaitGroup
}

// New returns an engine on mount, which must not be nil, that keeps its keys in memory. nil opts are the zero value. It makes
// no call, and need not be closed. It panics if opts.Software is not what it must be.
func New(mount *managedkey.Mount, opts *Options) *Engine {
	e, err := newEngine(mount, opts)
	if err != nil {
		panic(err.Error())
	}
	return e
}

func newEngine(mount *managedkey.Mount, opts *Options) (*Engine, error) {
	e := &Engine{mount: mount, gone: make(map[string]uint64)}
	e.wrapping.held = make(chan struct{}, 1)
	if opts != nil {
		e.opts = *opts
	}
	if e.opts.Now == nil {
		e.opts.Now = time.Now
	}
	if e.opts.Logger == nil {
		e.opts.Logger = slog.Default()
	}
	if e.opts.BatchParallel <= 0 {
		e.opts.BatchParallel = DefaultBatchParallel
	}
	if e.opts.MaxBatch <= 0 {
		e.opts.MaxBatch = DefaultMaxBatch
	}
	if b := e.opts.Software; b != nil {
		_, imports := b.(backend.Importer)
		if _, decodes := b.(backend.ParamsDecoder); !imports || !decodes {
			return nil, invalid("options: Software is a backend of type %q; it takes a backend.Importer that is a backend.ParamsDecoder", b.Type())
		}
	}
	return e, nil
}

// now returns the time for a record, which has no monotonic clock and no zone.
func (e *Engine) now() time.Time { return e.opts.Now().UTC().Round(0) }

// List returns the names of the transit keys, sorted, those that are deleted softly among them.
func (e *Engine) List() []string {
	names := []string{}
	e.keys.Range(func(name, _ any) bool {
		names = append(names, name.(string))
		return true
	})
	slices.Sort(names)
	return names
}

// known returns a key as the engine has it, or nil.
func (e *Engine) known(name string) *key {
	if k, ok := e.keys.Load(name); ok {
		return k.(*key)
	}
	return nil
}

// find returns a key, of which the store is asked if the engine doesn't know it: another process may have made it a moment ago.
// what says for the error which key is missing, such as "signing key".
func (e *Engine) find(ctx context.Context, what, name string) (*key, error) {
	k := e.known(name)
	if k == nil && e.store != nil && validName(name) == nil {
		var err error
		if k, err = e.refresh(ctx, name); err != nil {
			return nil, err
		}
	}
	switch {
	case k == nil:
		return nil, fmt.Errorf("transit: %s not found: %.80q: %w", what, name, backend.ErrKeyNotFound)
	case k.broken != nil:
		return nil, k.broken
	}
	return k, nil
}

// usable returns a key for an operation: one that is not deleted softly.
func (e *Engine) usable(ctx context.Context, what, name string) (*key, error) {
	k, err := e.find(ctx, what, name)
	if err == nil && k.rec.SoftDeleted {
		return nil, fmt.Errorf("transit: key %q is deleted; restoring it makes it usable again: %w", name, backend.ErrNotPermitted)
	}
	return k, err
}

// choose returns the version of that number for new work; 0 is the latest. op is for the error: "signing".
func (e *Engine) choose(ctx context.Context, k *key, op string, number int) (*key, *version, error) {
	if number > k.latest() {
		k = e.newer(ctx, k, number)
	}
	least := max(k.rec.MinEncryption, k.rec.MinDecryption)
	switch {
	case number < 0:
		return nil, nil, invalid("requested version for %s is negative: %d", op, number)
	case number > k.latest():
		return nil, nil, invalid("requested version for %s is higher than the latest key version: %d; the latest is %d", op, number, k.latest())
	case number == 0:
		number = k.latest()
	case number < k.rec.First:
		return nil, nil, invalid("requested version for %s: no such key version: %d; the first is %d", op, number, k.rec.First)
	case number < least:
		return nil, nil, invalid("requested version for %s is less than the minimum encryption key version: %d; it takes %d and above", op, number, least)
	}
	return k, k.version(number), nil
}

// made returns the version that made an envelope. kind is for the error: "signature".
func (e *Engine) made(ctx context.Context, k *key, kind string, number int) (*key, *version, error) {
	if number > k.latest() {
		k = e.newer(ctx, k, number)
	}
	switch {
	case number > k.latest():
		return nil, nil, invalid("invalid %s: version is too new: %d; the latest is %d", kind, number, k.latest())
	case number < k.rec.MinDecryption:
		return nil, nil, invalid("invalid %s: ciphertext or signature version is disallowed by policy (too old): %d; it takes %d and above", kind, number, k.rec.MinDecryption)
	case number < k.rec.First:
		return nil, nil, invalid("invalid %s: no such key version: %d; the first is %d", kind, number, k.rec.First)
	}
	return k, k.version(number), nil
}

// newer returns the key as the store has it, if there is a store and it has that version, and otherwise k: another process may
// have rotated the key and the news be still on its way. The items of a batch ask once.
func (e *Engine) newer(ctx context.Context, k *key, number int) *key {
	if e.store == nil {
		return k
	}
	ask := k.ask
	if ask == nil {
		ask = new(question)
	}
	ask.once.Do(func() {
		if now, err := e.refresh(ctx, k.name); err == nil && now != nil && now.broken == nil && now.rec.ID == k.rec.ID {
			ask.now = now
		}
	})
	if ask.now != nil && ask.now.latest() >= number {
		return ask.now
	}
	return k
}

// question is what the store has of a key now.
type question struct {
	once sync.Once
	now  *key
}

// local is how many items of a batch are worked on at the same time if that is done in this process.
func (e *Engine) local() int { return min(e.opts.BatchParallel, runtime.GOMAXPROCS(0)) }
