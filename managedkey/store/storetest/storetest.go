// Package storetest proves that a store.Store does what package store says. The tests are the specification: each case says
// which rule it checks. Engines of this project and of others run it from a test of their own:
//
//	func TestStore(t *testing.T) { storetest.Run(t, storetest.Config{New: …}) }
//
// [Stress] lets clients work on a store while something goes wrong with it, and proves that the result is as if all calls
// had been made one after the other (linearizable), that nothing acknowledged was lost, and that watches saw everything.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// callTimeout bounds every call of the suite: one that hangs is a failure.
const callTimeout = 20 * time.Second

// Config tells the suite how to make stores and what is special about them.
type Config struct {
	// New makes a new, empty store and returns a function that opens a handle on it. The suite closes the handles. What
	// else there is to release, New leaves to tb.Cleanup.
	New func(tb testing.TB) (open func() store.Store)

	Handles   int  // how many handles may be open at the same time, as in several processes; 0 means 1
	Transient bool // what was written is gone when the handle is closed
	Unordered bool // List and Event.Changes have another order than that of the bytes of keys
	MaxValue  int  // the longest value in bytes; 0 means store.MaxValue
	MaxOps    int  // most ops in one Apply; 0 means store.MaxOps

	// Compact makes a new store and returns a function that makes it forget the changes that it had when the function
	// was called. If it is nil, compaction is not tested.
	Compact func(tb testing.TB) (s store.Store, forget func())
}

func (c Config) withDefaults() Config {
	if c.Handles == 0 {
		c.Handles = 1
	}
	if c.MaxValue == 0 {
		c.MaxValue = store.MaxValue
	}
	if c.MaxOps == 0 {
		c.MaxOps = store.MaxOps
	}
	return c
}

// Run runs the whole suite.
func Run(t *testing.T, cfg Config) {
	cfg = cfg.withDefaults()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*callTimeout)
			t.Cleanup(cancel)
			c.test(&suite{TB: t, cfg: cfg, ctx: ctx})
		})
	}
}

// cases are all cases, in the order in which they run.
var cases = []struct {
	name string
	test func(*suite)
}{
	{"Expectations", testExpectations},
	{"VersionsAreNeverReused", testVersions},
	{"Atomic", testAtomic},
	{"ValuesAreBytes", testBytes},
	{"Ownership", testOwnership},
	{"Encode", testEncode},
	{"Keys", testKeys},
	{"Limits", testLimits},
	{"Largest", testLargest},
	{"ListOrder", testListOrder},
	{"ListPages", testListPages},
	{"ListBytes", testListBytes},
	{"ListWhileThingsChange", testListChanging},
	{"WatchFrom", testWatchFrom},
	{"WatchResumes", testWatchResumes},
	{"WatchWakes", testWatchWakes},
	{"WatchPrefix", testWatchPrefix},
	{"WatchInvalid", testWatchInvalid},
	{"WatchCompacted", testWatchCompacted},
	{"LoadAndWatch", testLoadAndWatch},
	{"Contexts", testContexts},
	{"Close", testClose},
	{"Reopen", testReopen},
	{"Linearizable", testLinearizable},
}

// suite is one case.
type suite struct {
	testing.TB
	cfg Config
	ctx context.Context
}

// open returns a handle on a new store.
func (s *suite) open() store.Store {
	s.Helper()
	st := s.cfg.New(s.TB)()
	s.closeLater(st)
	return st
}

// handles returns up to n handles on one new store.
func (s *suite) handles(n int) []store.Store {
	s.Helper()
	open := s.cfg.New(s.TB)
	var all []store.Store
	for range min(n, s.cfg.Handles) {
		st := open()
		s.closeLater(st)
		all = append(all, st)
	}
	return all
}

func (s *suite) closeLater(st store.Store) {
	s.Cleanup(func() {
		if err := st.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	})
}

// apply makes changes that must succeed.
func (s *suite) apply(st store.Store, ops ...store.Op) uint64 {
	s.Helper()
	revision, err := st.Apply(s.ctx, ops...)
	if err != nil {
		s.Fatalf("Apply: %v", err)
	}
	return revision
}

// conflict makes changes that must be refused because of key, whose record has that version.
func (s *suite) conflict(st store.Store, key string, version uint64, ops ...store.Op) {
	s.Helper()
	_, err := st.Apply(s.ctx, ops...)
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || !errors.Is(err, store.ErrConflict) {
		s.Fatalf("Apply: got error %v, want a *store.ConflictError that wraps store.ErrConflict", err)
	}
	if conflict.Key != key || conflict.Version != version {
		s.Errorf("conflict names %q with version %d, want %q with %d", conflict.Key, conflict.Version, key, version)
	}
}

// fails makes a call that must fail with an error that wraps want.
func (s *suite) fails(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: got error %v, want one that wraps %q", what, err, want)
	}
}

// has checks the record of key.
func (s *suite) has(st store.Store, key, value string, version uint64) {
	s.Helper()
	record, err := st.Get(s.ctx, key)
	switch {
	case err != nil:
		s.Errorf("Get %q: %v", key, err)
	case record.Key != key || string(record.Value) != value || record.Version != version:
		s.Errorf("Get %q: got key %q, value %.40q, version %d; want value %.40q, version %d", key, record.Key, record.Value, record.Version, value, version)
	}
}

// hasNot checks that there is no record of key.
func (s *suite) hasNot(st store.Store, key string) {
	s.Helper()
	record, err := st.Get(s.ctx, key)
	if !errors.Is(err, store.ErrNotFound) {
		s.Errorf("Get %q: got version %d and error %v, want one that wraps store.ErrNotFound", key, record.Version, err)
	}
}

// fill makes n records under prefix, and returns their keys in order and the last revision.
func (s *suite) fill(st store.Store, prefix string, n int) (keys []string, revision uint64) {
	s.Helper()
	var ops []store.Op
	for i := range n {
		key := fmt.Sprintf("%s%05d", prefix, i)
		keys = append(keys, key)
		ops = append(ops, store.Op{Key: key, Value: []byte(key)})
		if len(ops) == s.cfg.MaxOps || i == n-1 {
			revision = s.apply(st, ops...)
			ops = nil
		}
	}
	return keys, revision
}

// same compares two events.
func same(a, b store.Event) bool {
	if a.Revision != b.Revision || len(a.Changes) != len(b.Changes) {
		return false
	}
	for i, c := range a.Changes {
		d := b.Changes[i]
		if c.Key != d.Key || c.Version != d.Version || c.Deleted != d.Deleted || !bytes.Equal(c.Value, d.Value) {
			return false
		}
	}
	return true
}
