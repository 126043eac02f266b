package transit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

const (
	patience = 500 * time.Millisecond // between two attempts to follow a store
	attempts = 50                     // to make one change, when other processes change the same key
)

// Open returns an engine on mount that keeps its keys in st, which several processes may share: each follows what the others
// change. Keys are looked up in memory; the store is read when a name or a version is not known here, since another process
// may have made it a moment ago, and written when something changes. The mount should be of a registry with a store, so that it
// has the same id again: the records of an engine are those of its mount. opts may be nil.
//
// The engine must be closed, before st is. The error wraps store.ErrCorrupt for records that can't be read, store.ErrForeign for
// a sealed store that was not opened by package seal, backend.ErrUnavailable if the store can't be reached,
// backend.ErrInvalidParams for options that make no sense, or ctx.Err().
func Open(ctx context.Context, mount *managedkey.Mount, st store.Store, opts *Options) (*Engine, error) {
	e, err := newEngine(mount, opts)
	if err != nil {
		return nil, err
	}
	// A sealed engine that is opened without its seal seems to be empty, and would be written to in the clear.
	if _, err := st.Get(ctx, "seal/root"); err == nil {
		return nil, fmt.Errorf("transit: open: the store is sealed; open it with seal.Open: %w", store.ErrForeign)
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("transit: open: %w", err)
	}
	e.store, e.prefix = st, "transit/"+mount.ID()+"/keys/"
	var running context.Context
	running, e.cancel = context.WithCancel(context.Background())
	first := make(chan error, 1)
	e.following.Go(func() { e.follow(running, first) })
	select {
	case err = <-first:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		e.Close()
		return nil, fmt.Errorf("transit: open: %w", err)
	}
	return e, nil
}

// Close ends what an engine with a store does in the background: it no longer follows what others change. It doesn't close the
// store. It returns nil.
func (e *Engine) Close() error {
	if e.cancel != nil {
		e.cancel()
		e.following.Wait()
	}
	return nil
}

// follow keeps the keys what the store has, and tells first how reading them for the first time went.
func (e *Engine) follow(ctx context.Context, first chan<- error) {
	loaded := false
	load := func(records []store.Record, revision uint64) error {
		there := make(map[string]bool, len(records))
		for _, r := range records {
			there[r.Key] = true
			k := e.install(r, true)
			if k.broken != nil && !loaded {
				return fmt.Errorf("key %.80q: %w", k.name, errors.Unwrap(k.broken))
			}
		}
		e.keys.Range(func(name, k any) bool {
			if !there[e.prefix+name.(string)] && k.(*key).stored <= revision {
				e.remove(name.(string), revision)
			}
			return true
		})
		e.progress(revision)
		if !loaded {
			loaded = true
			first <- nil
		}
		return nil
	}
	change := func(event store.Event) error {
		for _, c := range event.Changes {
			if c.Deleted {
				e.remove(strings.TrimPrefix(c.Key, e.prefix), c.Version)
			} else {
				e.install(c.Record, false)
			}
		}
		e.progress(event.Revision)
		return nil
	}
	for {
		err := store.Follow(ctx, e.store, e.prefix, load, change)
		switch {
		case !loaded:
			first <- err
			return
		case ctx.Err() != nil || errors.Is(err, store.ErrClosed):
			return
		}
		e.opts.Logger.Warn("transit: following the store", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(patience):
		}
	}
}

// progress notes up to which revision the engine has followed the store.
func (e *Engine) progress(revision uint64) {
	e.changing.Lock()
	defer e.changing.Unlock()
	e.seen = max(e.seen, revision)
	maps.DeleteFunc(e.gone, func(_ string, deleted uint64) bool { return deleted <= e.seen })
}

// install makes the engine know a record, unless it knows a newer one, and returns what it knows then: nil if the key was
// deleted since. listed tells that the record is from a list of all that there is.
func (e *Engine) install(r store.Record, listed bool) *key {
	name := strings.TrimPrefix(r.Key, e.prefix)
	e.changing.Lock()
	defer e.changing.Unlock()
	before := e.known(name)
	if before != nil && before.stored >= r.Version {
		return before
	}
	if before == nil && !listed && r.Version <= max(e.seen, e.gone[name]) {
		return nil
	}
	var k *key
	rec, err := decodeRecord(r.Value)
	if err == nil {
		k, err = newKey(name, r.Version, rec, before)
	}
	if err != nil {
		k = &key{name: name, stored: r.Version, broken: fmt.Errorf("transit: key %.80q: %w", name, err)}
		e.opts.Logger.Error("transit: a record that can't be read", "key", r.Key, "error", err)
	}
	e.swap(before, k)
	return k
}

// remove makes the engine forget a key that was deleted at that revision, unless it was made again since.
func (e *Engine) remove(name string, revision uint64) {
	e.changing.Lock()
	defer e.changing.Unlock()
	if revision > e.seen {
		e.gone[name] = revision // older news of it may still be on its way
	}
	if k := e.known(name); k != nil && k.stored <= revision {
		e.keys.Delete(name)
		e.forget(k, nil)
	}
}

// swap puts k in the place of before, which may be nil; e.changing is held.
func (e *Engine) swap(before, k *key) {
	e.keys.Store(k.name, k)
	e.forget(before, k)
}

// refresh reads a key from the store. It returns nil if there is none.
func (e *Engine) refresh(ctx context.Context, name string) (*key, error) {
	r, err := e.store.Get(ctx, e.prefix+name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("transit: key %.80q: %w", name, err)
	}
	return e.install(r, false), nil
}

// change replaces the record of a key by what edit makes of a copy of it, and returns the key. edit may be called several
// times, because another process may be changing the same key; it appends to slices and doesn't write to their elements.
func (e *Engine) change(ctx context.Context, name string, edit func(*record) error) (*key, error) {
	if e.store == nil {
		e.changing.Lock()
		defer e.changing.Unlock()
	}
	k := e.known(name)
	for attempt := 0; ; attempt++ {
		if e.store != nil && validName(name) == nil { // what is known here may be old
			var err error
			if k, err = e.refresh(ctx, name); err != nil {
				return nil, err
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("transit: key %q: %w", name, ctx.Err())
		case k == nil:
			return nil, fmt.Errorf("transit: key not found: %.80q: %w", name, backend.ErrKeyNotFound)
		case k.broken != nil:
			return nil, k.broken
		}
		rec := *k.rec
		if err := edit(&rec); err != nil {
			return nil, err
		}
		next, err := e.put(ctx, name, &rec, k)
		if !errors.Is(err, store.ErrConflict) || attempt >= attempts {
			return next, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(time.Duration(1+attempt) * time.Millisecond)):
		}
	}
}

// put writes a record where before is, or nothing if that is nil, and returns the key. Without a store e.changing is held.
func (e *Engine) put(ctx context.Context, name string, rec *record, before *key) (*key, error) {
	if err := rec.check(); err != nil {
		return nil, fmt.Errorf("transit: key %q: %w", name, err)
	}
	if e.store == nil {
		e.last++
		k, err := newKey(name, e.last, rec, before)
		if err != nil {
			return nil, fmt.Errorf("transit: key %q: %w", name, err)
		}
		e.swap(before, k)
		return k, nil
	}
	expect := store.Absent
	if before != nil {
		expect = store.Expect(before.stored)
	}
	value, err := rec.encode()
	if err != nil {
		return nil, fmt.Errorf("transit: key %q: %w", name, err)
	}
	version, err := e.store.Apply(ctx, store.Op{Key: e.prefix + name, Value: value, Expect: expect})
	if errors.Is(err, store.ErrTooLarge) {
		err = fmt.Errorf("its versions are too many for a record; Trim takes old ones away: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("transit: key %q: %w", name, err)
	}
	if k := e.install(store.Record{Key: e.prefix + name, Value: value, Version: version}, false); k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("transit: key %q was deleted meanwhile: %w", name, backend.ErrKeyNotFound)
}
