// Package memory keeps a store in the memory of one process, for tests and examples. It is gone when it is closed.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// DefaultHistory is how many revisions are kept for watches if Options don't say.
const DefaultHistory = 10_000

// Options are the options of [New].
type Options struct {
	History int // revisions that are kept for watches to begin at: 1 or more, default DefaultHistory
}

// Store is a store.Store in memory. It is safe for concurrent use.
type Store struct {
	history int
	queue   *engine.Queue
	changed engine.Signal
	closed  chan struct{}
	once    sync.Once

	mu       sync.RWMutex
	records  map[string]store.Record
	keys     []string      // of records, sorted
	log      []store.Event // by revision, those after floor
	revision uint64        // of the last commit
	floor    uint64        // the changes up to this revision are not in log
}

var _ store.Store = (*Store)(nil)

// New returns an empty Store. opts may be nil. The caller closes it.
func New(opts *Options) *Store {
	s := &Store{history: DefaultHistory, closed: make(chan struct{}), records: make(map[string]store.Record)}
	if opts != nil && opts.History > 0 {
		s.history = opts.History
	}
	s.queue = engine.NewQueue(s.commit)
	return s
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Record, error) {
	if err := store.ValidateKey(key); err != nil {
		return store.Record{}, err
	}
	if err := s.usable(ctx, "get"); err != nil {
		return store.Record{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	record, ok := s.records[key]
	if !ok {
		return store.Record{}, fmt.Errorf("store/memory: %q: %w", key, store.ErrNotFound)
	}
	return clone(record), nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (store.Page, error) {
	if err := store.ValidateList(prefix, after, limit); err != nil {
		return store.Page{}, err
	}
	if err := s.usable(ctx, "list"); err != nil {
		return store.Page{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	page := store.Page{Revision: s.revision}
	size := 0
	i := sort.Search(len(s.keys), func(i int) bool { return s.keys[i] >= prefix && s.keys[i] > after })
	for ; i < len(s.keys) && strings.HasPrefix(s.keys[i], prefix); i++ {
		if len(page.Records) == limit || size >= store.PageBytes {
			page.More = true
			break
		}
		record := clone(s.records[s.keys[i]])
		page.Records = append(page.Records, record)
		size += len(record.Value)
	}
	return page, nil
}

// Apply implements store.Store.
func (s *Store) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	return s.queue.Apply(ctx, ops)
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, from uint64) iter.Seq2[store.Event, error] {
	log := &engine.Log{Read: s.read, Changed: &s.changed, Closed: s.closed}
	return log.Watch(ctx, prefix, from)
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.queue.Close(context.Background())
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *Store) usable(ctx context.Context, op string) error {
	select {
	case <-s.closed:
		return engine.Closed(op)
	default:
	}
	if ctx.Err() != nil {
		return engine.Ended(ctx, op)
	}
	return nil
}

func (s *Store) commit(_ context.Context, batch []*engine.Tx) {
	s.mu.Lock()
	revision := s.revision + 1
	commit, writes := engine.Decide(batch, revision, func(key string) uint64 { return s.records[key].Version })
	if len(writes) > 0 {
		s.revision = revision
		event := store.Event{Revision: revision}
		for _, w := range writes {
			w.Value = bytes.Clone(w.Value)
			event.Changes = append(event.Changes, w.Change(revision))
			s.set(w, revision)
		}
		s.log = append(s.log, event)
		if drop := len(s.log) - s.history; drop > 0 {
			s.floor = s.log[drop-1].Revision
			clear(s.log[:drop])
			s.log = s.log[drop:]
		}
	}
	s.mu.Unlock()
	for _, t := range commit {
		t.Finish(revision, nil)
	}
	s.changed.Broadcast()
}

// set needs mu.
func (s *Store) set(w engine.Write, revision uint64) {
	i, found := slices.BinarySearch(s.keys, w.Key)
	if w.Deleted {
		delete(s.records, w.Key)
		s.keys = slices.Delete(s.keys, i, i+1)
		return
	}
	s.records[w.Key] = store.Record{Key: w.Key, Value: w.Value, Version: revision}
	if !found {
		s.keys = slices.Insert(s.keys, i, w.Key)
	}
}

func (s *Store) read(_ context.Context, prefix string, from uint64) ([]store.Event, uint64, error) {
	const most = 100 // events at a time, so that writers get their turn
	s.mu.RLock()
	defer s.mu.RUnlock()
	if from < s.floor || from > s.revision {
		return nil, 0, engine.Compacted(from, s.floor, s.revision)
	}
	var events []store.Event
	i := sort.Search(len(s.log), func(i int) bool { return s.log[i].Revision > from })
	for ; i < len(s.log); i++ {
		if len(events) == most {
			return events, events[most-1].Revision, nil
		}
		event := store.Event{Revision: s.log[i].Revision}
		for _, change := range s.log[i].Changes {
			if strings.HasPrefix(change.Key, prefix) {
				event.Changes = append(event.Changes, store.Change{Record: clone(change.Record), Deleted: change.Deleted})
			}
		}
		if len(event.Changes) > 0 {
			events = append(events, event)
		}
	}
	return events, s.revision, nil
}

func clone(r store.Record) store.Record {
	r.Value = bytes.Clone(r.Value)
	return r
}
