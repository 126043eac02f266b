package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// TestMain checks that nothing goes on when all stores are closed.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a test that only notes that it failed.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed []string
}

func (r *recorder) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, text)
}

func (r *recorder) Error(args ...any)                 { r.note(fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.note(fmt.Sprintf(format, args...)) }
func (r *recorder) Fatal(args ...any)                 { r.note(fmt.Sprint(args...)); runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) {
	r.note(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// record runs a test and returns what failed.
func record(t *testing.T, test func(tb testing.TB)) []string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(r)
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// broken is a store with a fault.
type broken struct {
	store.Store
	apply func(s store.Store, ctx context.Context, ops []store.Op) (uint64, error)
	get   func(s store.Store, ctx context.Context, key string) (store.Record, error)
	list  func(page store.Page) store.Page
	event func(event store.Event) []store.Event
}

func (b broken) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	if b.apply != nil {
		return b.apply(b.Store, ctx, ops)
	}
	return b.Store.Apply(ctx, ops...)
}

func (b broken) Get(ctx context.Context, key string) (store.Record, error) {
	if b.get != nil {
		return b.get(b.Store, ctx, key)
	}
	return b.Store.Get(ctx, key)
}

func (b broken) List(ctx context.Context, prefix, after string, limit int) (store.Page, error) {
	page, err := b.Store.List(ctx, prefix, after, limit)
	if err == nil && b.list != nil {
		page = b.list(page)
	}
	return page, err
}

func (b broken) Watch(ctx context.Context, prefix string, from uint64) iter.Seq2[store.Event, error] {
	if b.event == nil {
		return b.Store.Watch(ctx, prefix, from)
	}
	return func(yield func(store.Event, error) bool) {
		for event, err := range b.Store.Watch(ctx, prefix, from) {
			if err != nil {
				yield(event, err)
				return
			}
			for _, e := range b.event(event) {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

var errLost = fmt.Errorf("lost: %w", store.ErrUnavailable)

// faults are what the suite must notice: by which cases, and whether a stress does, too.
var faults = map[string]struct {
	make   func() broken
	cases  []string
	stress bool
}{
	"expectations are ignored": {func() broken {
		return broken{apply: func(s store.Store, ctx context.Context, ops []store.Op) (uint64, error) {
			ops = slices.Clone(ops)
			for i := range ops {
				ops[i].Expect = store.Any
			}
			return s.Apply(ctx, ops...)
		}}
	}, []string{"Expectations", "VersionsAreNeverReused", "Atomic"}, true},
	"transactions are made in parts": {func() broken {
		return broken{apply: func(s store.Store, ctx context.Context, ops []store.Op) (revision uint64, err error) {
			if err := store.ValidateOps(ops); err != nil {
				return 0, err
			}
			for _, op := range ops {
				if revision, err = s.Apply(ctx, op); err != nil {
					break
				}
			}
			return revision, err
		}}
	}, []string{"Atomic", "WatchFrom"}, true},
	"some writes are acknowledged and not made": {func() broken {
		var n atomic.Int64
		return broken{apply: func(s store.Store, ctx context.Context, ops []store.Op) (uint64, error) {
			if ops[0].Key == fenceKey || n.Add(1)%4 != 0 {
				return s.Apply(ctx, ops...)
			}
			page, err := s.List(ctx, "", "", 1)
			return page.Revision + 1, err
		}}
	}, nil, true},
	"some writes fail and are made": {func() broken {
		var n atomic.Int64
		return broken{apply: func(s store.Store, ctx context.Context, ops []store.Op) (uint64, error) {
			revision, err := s.Apply(ctx, ops...)
			if err == nil && ops[0].Key != fenceKey && n.Add(1)%4 == 0 {
				err = errLost
			}
			return revision, err
		}}
	}, nil, true},
	"reads are old": {func() broken {
		var mu sync.Mutex
		old := map[string]store.Record{}
		return broken{get: func(s store.Store, ctx context.Context, key string) (store.Record, error) {
			mu.Lock()
			defer mu.Unlock()
			now, err := s.Get(ctx, key)
			before, ok := old[key]
			if old[key] = now; ok && err == nil && before.Key != "" {
				return before, nil
			}
			return now, err
		}}
	}, []string{"Expectations"}, true},
	"watches leave something out": {func() broken {
		return broken{event: func(event store.Event) []store.Event {
			if event.Revision%4 == 0 && event.Changes[0].Key != fenceKey {
				return nil
			}
			return []store.Event{event}
		}}
	}, []string{"WatchFrom", "WatchResumes"}, true},
	"watches repeat": {func() broken {
		return broken{event: func(event store.Event) []store.Event { return []store.Event{event, event} }}
	}, []string{"WatchFrom", "WatchResumes"}, true},
	"pages end too early": {func() broken {
		return broken{list: func(page store.Page) store.Page {
			page.More = false
			return page
		}}
	}, []string{"ListOrder", "ListPages", "ListBytes"}, false},
	"pages have what nobody wrote": {func() broken {
		return broken{list: func(page store.Page) store.Page {
			page.Records = append(page.Records, store.Record{Key: "s/zz/nobody", Value: []byte("x"), Version: 1})
			return page
		}}
	}, nil, true},
	"pages repeat": {func() broken {
		return broken{list: func(page store.Page) store.Page {
			if len(page.Records) > 1 {
				page.Records[1] = page.Records[0]
			}
			return page
		}}
	}, []string{"ListOrder", "ListWhileThingsChange"}, true},
}

// TestFaultsAreNoticed runs the suite and a stress on stores with faults.
func TestFaultsAreNoticed(t *testing.T) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Transient: true, New: func(testing.TB) func() store.Store {
				return func() store.Store {
					b := fault.make()
					b.Store = memory.New(nil)
					return b
				}
			}}
			for _, c := range cases {
				if !slices.Contains(fault.cases, c.name) {
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				failed := record(t, func(tb testing.TB) { c.test(&suite{TB: tb, cfg: cfg.withDefaults(), ctx: ctx}) })
				cancel()
				if len(failed) == 0 {
					t.Errorf("%s didn't notice", c.name)
				}
			}
			if !fault.stress {
				return
			}
			failed := record(t, func(tb testing.TB) {
				s := cfg.New(tb)()
				defer s.Close()
				Stress{Handles: []store.Store{s}, Time: 400 * time.Millisecond, Timeout: time.Second}.Run(tb)
			})
			if len(failed) == 0 {
				t.Error("the stress didn't notice")
			}
		})
	}
}

// TestStressCountsUnknownOutcomes checks that calls whose outcome is unknown are allowed to have happened or not.
func TestStressCountsUnknownOutcomes(t *testing.T) {
	var n atomic.Int64
	b := broken{Store: memory.New(nil), apply: func(s store.Store, ctx context.Context, ops []store.Op) (uint64, error) {
		switch n.Add(1) % 10 {
		case 0:
			s.Apply(ctx, ops...)
			return 0, store.ErrUnknownOutcome
		case 1:
			return 0, store.ErrUnknownOutcome
		case 2:
			return 0, errLost
		}
		return s.Apply(ctx, ops...)
	}}
	defer b.Close()
	result := Stress{Handles: []store.Store{b}, Time: 400 * time.Millisecond}.Run(t)
	if result.Unknown == 0 || result.Happened == 0 || result.Happened >= result.Unknown || result.Failed == 0 {
		t.Errorf("result: %+v", result)
	}
}

// TestLinearizable checks the checker on histories made by hand.
func TestLinearizable(t *testing.T) {
	apply := func(from, to int, id string, revision uint64, expect store.Expect) *operation {
		return &operation{client: from, call: time.Duration(from), ending: time.Duration(to), id: id, revision: revision,
			ops: []store.Op{{Key: stressKeys[0], Value: []byte(id), Expect: expect}}}
	}
	get := func(from, to int, version uint64, value string) *operation {
		o := &operation{client: from, call: time.Duration(from), ending: time.Duration(to), key: stressKeys[0]}
		o.found[0] = cell{version, value}
		return o
	}
	unknown := func(o *operation) *operation {
		o.err, o.revision = store.ErrUnknownOutcome, 0
		return o
	}
	made := map[string]uint64{"late": 7}
	for name, c := range map[string]struct {
		history []*operation
		ok      bool
	}{
		"one after the other":           {[]*operation{apply(1, 2, "a", 1, 0), get(3, 4, 1, "a"), apply(5, 6, "b", 2, 1), get(7, 8, 2, "b")}, true},
		"at the same time, seen":        {[]*operation{apply(1, 5, "a", 1, 0), get(2, 3, 1, "a")}, true},
		"at the same time, not seen":    {[]*operation{apply(1, 5, "a", 1, 0), get(2, 3, 0, "")}, true},
		"not seen afterwards":           {[]*operation{apply(1, 2, "a", 1, 0), get(3, 4, 0, "")}, false},
		"seen before":                   {[]*operation{get(1, 2, 1, "a"), apply(3, 4, "a", 1, 0)}, false},
		"seen and then not":             {[]*operation{apply(1, 9, "a", 1, 0), get(2, 3, 1, "a"), get(4, 5, 0, "")}, false},
		"both replaced one version":     {[]*operation{apply(1, 2, "a", 1, 0), apply(3, 6, "b", 2, 1), apply(4, 5, "c", 3, 1)}, false},
		"revisions run backwards":       {[]*operation{apply(1, 2, "a", 2, 0), apply(3, 4, "b", 1, 2)}, false},
		"unknown, happened later":       {[]*operation{unknown(apply(1, 2, "late", 0, 0)), get(3, 4, 0, ""), get(5, 6, 7, "late")}, true},
		"unknown, never happened":       {[]*operation{unknown(apply(1, 2, "never", 0, 0)), get(3, 4, 0, "")}, true},
		"unknown, seen, not in watches": {[]*operation{unknown(apply(1, 2, "never", 0, 0)), get(3, 4, 1, "never")}, false},
	} {
		if err := linearizable(c.history, made, time.Minute); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	conflict := &operation{client: 9, call: 3, ending: 4, id: "x", ops: []store.Op{{Key: stressKeys[0]}},
		conflict: &store.ConflictError{Key: stressKeys[0], Version: 1}}
	if err := linearizable([]*operation{apply(1, 2, "a", 1, 0), conflict}, nil, time.Minute); err != nil {
		t.Errorf("a conflict: %v", err)
	}
	if err := linearizable([]*operation{conflict}, nil, time.Minute); err == nil {
		t.Error("a conflict with a version that nobody wrote")
	}
	if !errors.Is(unknown(apply(1, 2, "a", 1, 0)).err, store.ErrUnavailable) {
		t.Error("an unknown outcome is no unavailable store")
	}
}
