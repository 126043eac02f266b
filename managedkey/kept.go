package managedkey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Options are the options of [Open]. The zero value is fine, and so is nil.
type Options struct {
	// Logger is told what goes wrong in the background: records that can't be read, keys that can't be opened at their new
	// place, a store that is away. nil means slog.Default().
	Logger *slog.Logger

	// Observer sees what is done with the registry; see [Registry.Observe].
	Observer Observer
}

// kept is what a registry with a store has more.
type kept struct {
	registry *Registry
	store    store.Store
	conns    atomic.Pointer[connections] // stored under swapping
	swapping sync.Mutex                  // held while a connection is swapped
	tuning   chan struct{}               // has room for one: mounts are tuned one at a time, so that only other processes can conflict
	log      *slog.Logger

	following atomic.Bool // memory has what the store has, as far as the engine tells

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	mu      sync.Mutex // guards what follows, so that nothing is added to running once Close waits for it
	closed  bool
	running sync.WaitGroup    // the watch, and keys that are being moved
	gone    map[string]uint64 // records that were deleted here, and at which revision, until the watch is past it
}

// keptEntry is what an entry has more in a registry with a store. It is guarded by space.mu.
type keptEntry struct {
	version    uint64 // of the record
	connection string
	asked      *state   // where the newest version has to move to, or was moved to last; nil if its place never changed
	grants     []string // ids of mounts
}

// Open returns a registry whose entries, mounts and grants are in a store, which several processes may share: each sees the
// changes of the others, as soon as the engine tells, and handles that are out follow them as they do in one process.
// Keys are looked up in memory; the store is asked when something changes and when a key is opened for the first time.
//
// conns are the connections that entries use. An entry whose connection is not among them can be read and deleted, but not
// used. The registry must be closed, before st and the connections' backends are. opts may be nil.
//
// The error wraps backend.ErrInvalidParams for connections that make no sense, store.ErrCorrupt or store.ErrForeign for
// records that can't be read, store.ErrForeign for a sealed store that was not opened by package seal, backend.ErrUnavailable
// if the store can't be reached, or ctx.Err().
func Open(ctx context.Context, st store.Store, conns []Connection, opts *Options) (*Registry, error) {
	r := NewRegistry()
	if opts == nil {
		opts = new(Options)
	}
	r.Observe(opts.Observer)
	k := &kept{registry: r, store: st, log: opts.Logger, tuning: make(chan struct{}, 1), gone: make(map[string]uint64)}
	if k.log == nil {
		k.log = slog.Default()
	}
	all, err := newConnections(conns)
	if err != nil {
		return nil, fmt.Errorf("managedkey: open: %w", err)
	}
	k.conns.Store(&all)
	r.kept = k
	if err := k.refuseSealed(ctx); err != nil {
		return nil, fmt.Errorf("managedkey: open: %w", err)
	}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	first := make(chan error, 1)
	k.running.Go(func() { k.follow(first) })
	select {
	case err = <-first:
	case <-ctx.Done():
		err = backend.ContextError(ctx)
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("managedkey: open: %w", err)
	}
	return r, nil
}

// sealedPath is a record that every store has that package seal has made, next to the encrypted ones.
const sealedPath = "seal/root"

// refuseSealed returns an error if the store is one that package seal has made, but was not opened by it: there would seem to
// be no entries, and new ones would be written in the clear.
func (k *kept) refuseSealed(ctx context.Context) error {
	_, err := k.store.Get(ctx, sealedPath)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err == nil:
		err = fmt.Errorf("the store is sealed; open it with seal.Open: %w", store.ErrForeign)
	}
	return err
}

// Close ends what a registry with a store does in the background. Its handles go on working, but no longer follow changes
// that others make, and it makes none any more. It closes neither the store nor the backends. Without a store it does
// nothing. It returns nil.
func (r *Registry) Close() error {
	k := r.kept
	if k == nil {
		return nil
	}
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.cancel()
	k.running.Wait()
	return nil
}

// background runs fn beside everything else, unless the registry was closed.
func (k *kept) background(fn func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.running.Go(fn)
	}
}

// open returns an error if the registry was closed.
func (k *kept) open() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return fmt.Errorf("the registry was closed: %w", backend.ErrClosed)
	}
	return nil
}

// follow keeps the registry what the store has until it is closed, and tells first how reading it for the first time went.
func (k *kept) follow(first chan<- error) {
	loaded := false
	load := func(records []store.Record, revision uint64) error {
		err := k.load(records, revision, loaded)
		k.following.Store(err == nil)
		if !loaded && err == nil {
			loaded = true
			first <- nil
		}
		return err
	}
	change := func(event store.Event) error {
		k.event(event)
		return nil
	}
	for k.ctx.Err() == nil {
		err := store.Follow(k.ctx, k.store, registryPrefix, load, change)
		k.following.Store(false)
		switch {
		case !loaded:
			first <- err
			return
		case errors.Is(err, store.ErrClosed): // there is nothing to follow any more
			return
		case k.ctx.Err() == nil:
			k.log.Warn("managedkey: following the store", "error", err)
		}
		select {
		case <-k.ctx.Done():
		case <-time.After(patience):
		}
	}
}

// load makes the registry what the store has, as of a revision. A record that can't be read is an error, unless again is
// set: a registry that is in use goes on without it.
func (k *kept) load(records []store.Record, revision uint64, again bool) error {
	there := make(map[string]bool, len(records))
	for _, record := range records {
		there[record.Key] = true
	}
	// Mounts first, so that entries find those that they are granted to.
	for _, prefix := range []string{namespacesPrefix, mountsPrefix, entriesPrefix} {
		if err := k.putAll(records, prefix, again); err != nil {
			return err
		}
	}
	k.forgetBut(there, revision)
	return nil
}

// putAll is put for the records under prefix. Reading them is work for all processors.
func (k *kept) putAll(records []store.Record, prefix string, again bool) error {
	workers := runtime.GOMAXPROCS(0)
	failed := make([]error, workers)
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for i := w; i < len(records) && failed[w] == nil; i += workers {
				if !strings.HasPrefix(records[i].Key, prefix) {
					continue
				}
				if err := k.put(records[i]); err != nil && !again {
					failed[w] = err
				} else if err != nil {
					k.unreadable(records[i].Key, err)
				}
			}
		})
	}
	running.Wait()
	return errors.Join(failed...)
}

func (k *kept) unreadable(key string, err error) {
	k.log.Error("managedkey: a record that another process wrote", "key", key, "error", err)
}

// forgetBut removes what is in memory and not in the store any more, as it was at a revision.
func (k *kept) forgetBut(there map[string]bool, revision uint64) {
	var lost []string
	r := k.registry
	r.mu.Lock()
	var spaces []*space
	for s := range r.spaces.all {
		spaces = append(spaces, s)
	}
	r.mu.Unlock()
	for _, s := range spaces {
		s.mu.Lock()
		for e := range s.names.all {
			if key := entryKey(e.ref()); !there[key] && e.kept.version <= revision {
				lost = append(lost, key)
			}
		}
		if key := namespaceKey(s.path); s.made && !there[key] && s.madeVersion <= revision {
			lost = append(lost, key)
		}
		for path, m := range s.mounts {
			if key := recordKey(mountsPrefix, s.path, path); !there[key] && m.version <= revision {
				lost = append(lost, key)
			}
		}
		s.mu.Unlock()
	}
	for _, key := range lost {
		k.remove(key, revision)
	}
}

// patience is how long the watch waits before it reads everything again after a failure.
const patience = time.Second

// event applies one commit. What is new comes first, so that a mount which moves is not taken for one that goes.
func (k *kept) event(event store.Event) {
	for _, change := range event.Changes {
		if !change.Deleted {
			if err := k.put(change.Record); err != nil {
				k.unreadable(change.Key, err)
			}
		}
	}
	for _, change := range event.Changes {
		if change.Deleted {
			k.remove(change.Key, change.Version)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, revision := range k.gone {
		if revision <= event.Revision {
			delete(k.gone, key)
		}
	}
}
