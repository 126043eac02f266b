package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// watched reads n events of a watch.
func (s *suite) watched(st store.Store, prefix string, from uint64, n int) (events []store.Event) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	if n == 0 {
		return nil
	}
	for event, err := range st.Watch(ctx, prefix, from) {
		if err != nil {
			s.Fatalf("Watch %q from %d ended after %d of %d events: %v", prefix, from, len(events), n, err)
		}
		if events = append(events, event); len(events) == n {
			break
		}
	}
	return events
}

// history makes one change of each kind and returns the events that a watch must show.
func (s *suite) history(st store.Store) []store.Event {
	put := func(key, value string, version uint64) store.Change {
		return store.Change{Record: store.Record{Key: key, Value: []byte(value), Version: version}}
	}
	gone := func(key string, version uint64) store.Change {
		return store.Change{Record: store.Record{Key: key, Version: version}, Deleted: true}
	}
	r1 := s.apply(st, store.Op{Key: "w/a", Value: []byte("1")})
	s.apply(st, store.Op{Kind: store.Check, Key: "w/a", Expect: store.Any})
	s.apply(st, store.Op{Kind: store.Delete, Key: "w/none", Expect: store.Any})
	s.conflict(st, "w/a", r1, store.Op{Key: "w/a"})
	r2 := s.apply(st, store.Op{Key: "w/a", Value: []byte("2"), Expect: store.Expect(r1)})
	r3 := s.apply(st, store.Op{Key: "w/c", Value: []byte("3")}, store.Op{Key: "w/b", Value: []byte("3")},
		store.Op{Kind: store.Check, Key: "w/a", Expect: store.Any}, store.Op{Kind: store.Delete, Key: "w/none", Expect: store.Any})
	r4 := s.apply(st, store.Op{Kind: store.Delete, Key: "w/a", Expect: store.Any}, store.Op{Key: "w/b", Value: nil, Expect: store.Any})
	r5 := s.apply(st, store.Op{Key: "w/a", Value: []byte("5")})
	return []store.Event{
		{Revision: r1, Changes: []store.Change{put("w/a", "1", r1)}},
		{Revision: r2, Changes: []store.Change{put("w/a", "2", r2)}},
		{Revision: r3, Changes: []store.Change{put("w/b", "3", r3), put("w/c", "3", r3)}},
		{Revision: r4, Changes: []store.Change{gone("w/a", r4), put("w/b", "", r4)}},
		{Revision: r5, Changes: []store.Change{put("w/a", "5", r5)}},
	}
}

func (s *suite) sameEvents(what string, got, want []store.Event) {
	s.Helper()
	for _, event := range got {
		if s.cfg.Unordered {
			slices.SortFunc(event.Changes, func(a, b store.Change) int { return bytes.Compare([]byte(a.Key), []byte(b.Key)) })
		}
		for _, c := range event.Changes {
			if c.Deleted && c.Value != nil {
				s.Errorf("%s: %q was deleted and has a value", what, c.Key)
			}
		}
	}
	if !slices.EqualFunc(got, want, same) {
		s.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

// testWatchFrom checks that a watch shows every change after its revision, once, in order, commit by commit.
func testWatchFrom(s *suite) {
	handles := s.handles(2)
	st, other := handles[0], handles[len(handles)-1]
	want := s.history(st)
	s.sameEvents("from the beginning", s.watched(other, "", 0, len(want)), want)
	for i, event := range want {
		s.sameEvents(fmt.Sprintf("from revision %d", event.Revision), s.watched(other, "w/", event.Revision, len(want)-i-1), want[i+1:])
	}
}

// testWatchResumes checks that one watch after the other, each from where the last one ended, misses and repeats nothing
// while others write.
func testWatchResumes(s *suite) {
	handles := s.handles(2)
	st, writer := handles[0], handles[len(handles)-1]
	from := s.now(st)
	const n = 60
	var want []uint64
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			revision, err := writer.Apply(s.ctx, store.Op{Key: fmt.Sprintf("r/%d", i%7), Value: fmt.Append(nil, i), Expect: store.Any})
			if err != nil {
				s.Errorf("Apply: %v", err)
				return
			}
			want = append(want, revision)
		}
	})
	var got []uint64
	for i := 0; len(got) < n; i++ {
		for _, event := range s.watched(handles[i%len(handles)], "r/", from, min(1+i%5, n-len(got))) {
			if value := string(event.Changes[0].Value); value != fmt.Sprint(len(got)) {
				s.Fatalf("event %d shows value %q", len(got), value)
			}
			got = append(got, event.Revision)
			from = event.Revision
		}
	}
	wg.Wait()
	if !slices.Equal(got, want) {
		s.Errorf("watches saw revisions %d, Apply returned %d", got, want)
	}
}

// now returns the store's revision.
func (s *suite) now(st store.Store) uint64 {
	s.Helper()
	page, err := st.List(s.ctx, "", "", 1)
	if err != nil {
		s.Fatalf("List: %v", err)
	}
	return page.Revision
}

// testWatchWakes checks that a watch from now shows nothing old, waits, and sees what another handle writes within a
// second.
func testWatchWakes(s *suite) {
	handles := s.handles(2)
	st, writer := handles[0], handles[len(handles)-1]
	s.fill(writer, "old/", 5)
	next, stop := iter.Pull2(st.Watch(s.ctx, "", s.now(st)))
	defer stop()
	for i := range 3 {
		made := make(chan time.Time, 1)
		var revision uint64
		go func() {
			var err error
			revision, err = writer.Apply(s.ctx, store.Op{Key: "new", Value: fmt.Append(nil, i), Expect: store.Any})
			if err != nil {
				s.Errorf("Apply: %v", err)
			}
			made <- time.Now()
		}()
		event, err, ok := next()
		saw, at := time.Now(), <-made
		if !ok || err != nil || event.Revision != revision || len(event.Changes) != 1 || event.Changes[0].Key != "new" {
			s.Fatalf("event: %+v, %v; want revision %d", event, err, revision)
		}
		if late := saw.Sub(at); late > time.Second {
			s.Errorf("the change was seen %v after it was acknowledged", late)
		}
	}
}

// testWatchPrefix checks that changes elsewhere are not shown, whole or in part.
func testWatchPrefix(s *suite) {
	st := s.open()
	from := s.now(st)
	s.apply(st, store.Op{Key: "a"})
	s.apply(st, store.Op{Key: "ab/c"})
	r1 := s.apply(st, store.Op{Key: "a/b", Value: []byte("1")}, store.Op{Key: "b/a", Value: []byte("1")})
	s.apply(st, store.Op{Kind: store.Delete, Key: "a", Expect: store.Any})
	r2 := s.apply(st, store.Op{Kind: store.Delete, Key: "a/b", Expect: store.Any})
	s.sameEvents("Watch a/", s.watched(st, "a/", from, 2), []store.Event{
		{Revision: r1, Changes: []store.Change{{Record: store.Record{Key: "a/b", Value: []byte("1"), Version: r1}}}},
		{Revision: r2, Changes: []store.Change{{Record: store.Record{Key: "a/b", Version: r2}, Deleted: true}}},
	})
}

// ends returns the error with which a watch ends before it shows anything.
func (s *suite) ends(ctx context.Context, st store.Store, prefix string, from uint64) error {
	s.Helper()
	for event, err := range st.Watch(ctx, prefix, from) {
		if err == nil {
			s.Errorf("Watch %q from %d: got %+v, want an error", prefix, from, event)
		}
		return err
	}
	s.Errorf("Watch %q from %d ended without an error", prefix, from)
	return nil
}

// testWatchInvalid checks that a watch of what can't be is refused, and one from the future, too: the store was put back.
func testWatchInvalid(s *suite) {
	st := s.open()
	for _, prefix := range []string{"a", "/", "a//"} {
		s.fails("Watch", s.ends(s.ctx, st, prefix, 0), store.ErrInvalid)
	}
	_, revision := s.fill(st, "x/", 1)
	s.fails("Watch from the future", s.ends(s.ctx, st, "", revision+1000), store.ErrCompacted)
}

// testWatchCompacted checks that a watch says so when what it would have to show is gone, and that the records are still
// there and can be followed again.
func testWatchCompacted(s *suite) {
	if s.cfg.Compact == nil {
		return
	}
	st, forget := s.cfg.Compact(s.TB)
	s.closeLater(st)
	first := s.apply(st, store.Op{Key: "c/a", Value: []byte("1")})
	s.apply(st, store.Op{Key: "c/b", Value: []byte("1")})
	last := s.apply(st, store.Op{Key: "c/a", Value: []byte("2"), Expect: store.Any})
	s.apply(st, store.Op{Kind: store.Delete, Key: "c/b", Expect: store.Any})
	forget()
	for _, from := range []uint64{0, first, first + 1} {
		s.fails(fmt.Sprintf("Watch from revision %d", from), s.ends(s.ctx, st, "c/", from), store.ErrCompacted)
	}
	s.has(st, "c/a", "2", last)
	s.hasNot(st, "c/b")
	records, revision, err := store.Load(s.ctx, st, "c/")
	if err != nil || len(records) != 1 {
		s.Errorf("Load: %d records, %v", len(records), err)
	}
	v := s.apply(st, store.Op{Key: "c/b", Value: []byte("3")})
	if events := s.watched(st, "c/", revision, 1); events[0].Revision != v {
		s.Errorf("Watch after Load: got revision %d, want %d", events[0].Revision, v)
	}
}

// testLoadAndWatch checks the recipe of package store: Load, then Watch, gives exactly what the store holds, although
// others write all the time.
func testLoadAndWatch(s *suite) {
	handles := s.handles(2)
	st, writer := handles[0], handles[len(handles)-1]
	s.fill(st, "m/", 40)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			op := store.Op{Key: fmt.Sprintf("m/%05d", i*7%50), Value: fmt.Append(nil, i), Expect: store.Any}
			if i%3 == 0 {
				op.Kind, op.Value = store.Delete, nil
			}
			if _, err := writer.Apply(s.ctx, op); err != nil {
				s.Errorf("Apply: %v", err)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for range 3 {
		records, revision, err := store.Load(s.ctx, st, "m/")
		if err != nil {
			s.Fatalf("Load: %v", err)
		}
		state := make(map[string]store.Record)
		seen := make(map[string]uint64)
		for _, r := range records {
			state[r.Key], seen[r.Key] = r, r.Version
		}
		until := s.now(st)
		end := s.apply(writer, store.Op{Key: "m/end", Value: []byte("end"), Expect: store.Any})
		for event, err := range st.Watch(s.ctx, "m/", revision) {
			if err != nil {
				s.Fatalf("Watch: %v", err)
			}
			for _, c := range event.Changes {
				if c.Version <= seen[c.Key] {
					continue
				}
				seen[c.Key] = c.Version
				if state[c.Key] = c.Record; c.Deleted {
					delete(state, c.Key)
				}
			}
			if event.Revision >= end {
				break
			}
		}
		// What the watch ended with is what the store had then: nobody but this test knows better than its history.
		for key, record := range state {
			if record.Version > end || record.Version == 0 {
				s.Errorf("%q has version %d after revision %d", key, record.Version, end)
			}
		}
		replay := s.replay(st, end)
		if len(replay) != len(state) || until > end {
			s.Errorf("Load and Watch give %d records, the history %d", len(state), len(replay))
		}
		for key, want := range replay {
			if got := state[key]; got.Version != want.Version || !bytes.Equal(got.Value, want.Value) {
				s.Errorf("%q: got version %d, want %d", key, got.Version, want.Version)
			}
		}
	}
	close(stop)
	wg.Wait()
}

// replay returns the state under m/ at a revision, from the whole history.
func (s *suite) replay(st store.Store, end uint64) map[string]store.Record {
	state := make(map[string]store.Record)
	for event, err := range st.Watch(s.ctx, "m/", 0) {
		if err != nil {
			s.Fatalf("Watch: %v", err)
		}
		for _, c := range event.Changes {
			if state[c.Key] = c.Record; c.Deleted {
				delete(state, c.Key)
			}
		}
		if event.Revision >= end {
			break
		}
	}
	return state
}

// testContexts checks that a context that has ended ends calls, and watches at once.
func testContexts(s *suite) {
	st := s.open()
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := st.Get(ended, "a")
	s.fails("Get", err, context.Canceled)
	_, err = st.List(ended, "", "", 1)
	s.fails("List", err, context.Canceled)
	_, err = st.Apply(ended, store.Op{Key: "a"})
	s.fails("Apply", err, context.Canceled)
	if errors.Is(err, store.ErrUnknownOutcome) {
		s.Errorf("Apply with a context that had ended: %v, but nothing was sent", err)
	}
	s.fails("Watch", s.ends(ended, st, "", 0), context.Canceled)
	s.hasNot(st, "a")

	late, cancel := context.WithDeadline(s.ctx, time.Now().Add(-time.Second))
	defer cancel()
	_, err = st.Get(late, "a")
	s.fails("Get after the deadline", err, context.DeadlineExceeded)
	s.fails("Get after the deadline", err, store.ErrUnavailable)

	waiting, cancel := context.WithCancel(s.ctx)
	result := make(chan error, 1)
	from := s.now(st)
	go func() { result <- s.ends(waiting, st, "", from) }()
	cancel()
	select {
	case err := <-result:
		s.fails("Watch", err, context.Canceled)
	case <-time.After(callTimeout):
		s.Error("Watch goes on after its context ended")
	}
}
