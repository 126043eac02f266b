package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Stress is work of several clients on one store, while something may go wrong.
type Stress struct {
	Handles []store.Store // on the same store, which has nothing under "s/"; clients and watches are spread over them
	Clients int           // 0 means 6
	Time    time.Duration // how long the clients work at least; 0 means 1 s
	Pace    time.Duration // each client makes one call per Pace; 0 means 3 ms
	Timeout time.Duration // of one call; 0 means 2 s

	// Disturb, if not nil, runs meanwhile. The clients work until it has returned. What it breaks must work again at
	// some time after.
	Disturb func(ctx context.Context)
}

// Result counts the calls of a stress.
type Result struct {
	Applied, Conflicts, Reads int           // calls that were answered
	Unknown, Happened         int           // calls of Apply without an answer, and how many of them happened all the same
	Failed                    int           // calls that failed for certain
	Resumed                   int           // times that a watch was ended and begun again
	Longest                   time.Duration // that passed between two acknowledged writes
}

// run is a stress at work.
type run struct {
	Stress
	tb    testing.TB
	begin time.Time
	stop  chan struct{}

	mu      sync.Mutex
	history []*operation
	result  Result
	last    time.Time // of an acknowledged write
}

// Run does the work and fails the test unless the calls were linearizable, watches saw every commit once and in order,
// and what was acknowledged is there at the end.
func (s Stress) Run(tb testing.TB) Result {
	tb.Helper()
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&s.Time, time.Second}, {&s.Pace, 3 * time.Millisecond}, {&s.Timeout, 2 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if s.Clients == 0 {
		s.Clients = 6
	}
	r := &run{Stress: s, tb: tb, begin: time.Now(), stop: make(chan struct{}), last: time.Now()}
	ctx, cancel := context.WithTimeout(tb.Context(), s.Time+3*time.Minute)
	defer cancel()
	page, err := s.Handles[0].List(ctx, "", "", 1)
	if err != nil {
		tb.Fatalf("List: %v", err)
	}

	var clients, watches sync.WaitGroup
	logs := make([][]store.Event, len(s.Handles)+1)
	for i := range logs {
		watches.Go(func() { logs[i] = r.watch(ctx, i, page.Revision) })
	}
	for i := range s.Clients {
		clients.Go(func() { r.client(ctx, i) })
	}
	timer := time.NewTimer(s.Time)
	if s.Disturb != nil {
		s.Disturb(ctx)
	}
	<-timer.C
	close(r.stop)
	clients.Wait()
	r.fence(ctx)
	late := time.AfterFunc(2*callTimeout, cancel) // a watch that doesn't see the fence fails
	watches.Wait()
	if !late.Stop() {
		tb.Fatal("watches don't see the last write")
	}
	r.check(ctx, logs)
	return r.result
}

// client makes random calls.
func (r *run) client(ctx context.Context, id int) {
	st := r.Handles[id%len(r.Handles)]
	random := rand.New(rand.NewPCG(uint64(id), uint64(r.begin.UnixNano())))
	known := map[string]uint64{} // versions that this client has seen
	tick := time.NewTicker(r.Pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}
		o := &operation{client: id}
		switch random.IntN(10) {
		case 0:
			o.list = true
		case 1, 2, 3:
			o.key = stressKeys[random.IntN(len(stressKeys))]
		default:
			o.id = fmt.Sprintf("%d-%d", id, n)
			o.ops = randomOps(random, o.id, known)
		}
		call, cancel := context.WithTimeout(ctx, r.Timeout)
		o.call = time.Since(r.begin)
		r.make(call, st, o)
		o.ending = time.Since(r.begin)
		cancel()
		o.learn(known)
		r.note(o)
	}
}

// randomOps returns a transaction with at least one put.
func randomOps(random *rand.Rand, id string, known map[string]uint64) []store.Op {
	ops := make([]store.Op, 1+random.IntN(3))
	for i, k := range random.Perm(len(stressKeys))[:len(ops)] {
		key := stressKeys[k]
		op := store.Op{Key: key, Expect: store.Expect(known[key])}
		if random.IntN(3) == 0 {
			op.Expect = store.Any
		}
		switch kind := random.IntN(6); {
		case i == 0 || kind < 3:
			op.Value = []byte(id)
		case kind == 3 && op.Expect != store.Absent:
			op.Kind = store.Delete
		default:
			op.Kind = store.Check
		}
		ops[i] = op
	}
	return ops
}

// make makes the call that o describes and notes its result.
func (r *run) make(ctx context.Context, st store.Store, o *operation) {
	switch {
	case o.list:
		var page store.Page
		page, o.err = st.List(ctx, "s/", "", store.MaxPage)
		o.revision = page.Revision
		for _, record := range page.Records {
			o.found[index(record.Key)] = cell{record.Version, string(record.Value)}
		}
	case o.key != "":
		var record store.Record
		record, o.err = st.Get(ctx, o.key)
		if errors.Is(o.err, store.ErrNotFound) {
			o.err = nil
		} else if o.err == nil {
			o.found[index(o.key)] = cell{record.Version, string(record.Value)}
		}
	default:
		o.revision, o.err = st.Apply(ctx, o.ops...)
		if errors.As(o.err, &o.conflict) {
			o.err = nil
		}
	}
}

// learn notes the versions that o shows.
func (o *operation) learn(known map[string]uint64) {
	switch {
	case o.err != nil:
	case o.list:
		for i, key := range stressKeys {
			known[key] = o.found[i].version
		}
	case o.key != "":
		known[o.key] = o.found[index(o.key)].version
	case o.conflict != nil:
		known[o.conflict.Key] = o.conflict.Version
	default:
		for _, op := range o.ops {
			switch op.Kind {
			case store.Put:
				known[op.Key] = o.revision
			case store.Delete:
				known[op.Key] = 0
			}
		}
	}
}

func (r *run) note(o *operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case o.unknown():
		r.result.Unknown++
	case o.err != nil:
		r.result.Failed++
		if !errors.Is(o.err, store.ErrUnavailable) {
			r.tb.Errorf("%v: it does not wrap store.ErrUnavailable", o)
		}
		return // it says nothing about the state
	case o.conflict != nil:
		r.result.Conflicts++
	case len(o.ops) == 0:
		r.result.Reads++
	default:
		r.result.Applied++
		now := time.Now()
		r.result.Longest = max(r.result.Longest, now.Sub(r.last))
		r.last = now
	}
	r.history = append(r.history, o)
}

// fence writes what ends the watches.
func (r *run) fence(ctx context.Context) {
	r.tb.Helper()
	for {
		call, cancel := context.WithTimeout(ctx, r.Timeout)
		_, err := r.Handles[0].Apply(call, store.Op{Key: fenceKey, Expect: store.Any})
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			r.tb.Fatalf("the store doesn't come back: %v", err)
		}
	}
}

// watch returns all commits after a revision up to the fence. The watch with number 0 is never interrupted; the others
// begin again after some events, on other handles.
func (r *run) watch(ctx context.Context, number int, from uint64) (log []store.Event) {
	random := rand.New(rand.NewPCG(uint64(number), uint64(r.begin.UnixNano())))
	for turn := number; ; turn++ {
		left := -1
		if number > 0 {
			left = 1 + random.IntN(50)
		}
		for event, err := range r.Handles[turn%len(r.Handles)].Watch(ctx, "s/", from) {
			if err != nil {
				r.tb.Errorf("Watch from revision %d: %v", from, err)
				return log
			}
			if event.Revision <= from || len(event.Changes) == 0 {
				r.tb.Errorf("Watch from revision %d shows revision %d with %d changes", from, event.Revision, len(event.Changes))
			}
			log, from = append(log, event), event.Revision
			if slices.ContainsFunc(event.Changes, func(c store.Change) bool { return c.Key == fenceKey }) {
				return log
			}
			if left--; left == 0 {
				break
			}
		}
		r.mu.Lock()
		r.result.Resumed++
		r.mu.Unlock()
	}
}

// check compares what the clients and the watches saw.
func (r *run) check(ctx context.Context, logs [][]store.Event) {
	r.tb.Helper()
	for i, log := range logs[1:] {
		if !slices.EqualFunc(logs[0], log, same) {
			r.tb.Errorf("watch %d saw %d events, watch 0 saw %d, and not the same", i+1, len(log), len(logs[0]))
		}
	}
	made := map[string]uint64{}
	var final state
	for _, event := range logs[0] {
		for _, c := range event.Changes {
			if c.Version != event.Revision {
				r.tb.Errorf("revision %d shows version %d of %q", event.Revision, c.Version, c.Key)
			}
			if c.Key == fenceKey {
				continue
			}
			if i := index(c.Key); c.Deleted {
				final.cells[i] = cell{}
			} else {
				final.cells[i] = cell{c.Version, string(c.Value)}
				made[string(c.Value)] = c.Version
			}
		}
	}
	writers := map[string]bool{}
	var pending []*operation // that had not happened when the watches ended, and still may
	for _, o := range r.history {
		if len(o.ops) == 0 || o.conflict != nil {
			continue
		}
		writers[o.id] = true
		revision, happened := made[o.id]
		switch {
		case o.unknown() && happened:
			r.result.Happened++
		case o.unknown():
			pending = append(pending, o)
		case revision != o.revision:
			r.tb.Errorf("%v was acknowledged, watches saw it at revision %d (0: never)", o, revision)
		}
	}
	for id, revision := range made {
		if !writers[id] {
			r.tb.Errorf("watches saw %s at revision %d, and that call failed", id, revision)
		}
	}
	for i, st := range r.Handles {
		o := &operation{client: r.Clients + i, list: true, call: time.Since(r.begin)}
		var page store.Page
		page, o.err = st.List(ctx, "s/", "", store.MaxPage)
		for _, record := range page.Records {
			if record.Key != fenceKey {
				o.found[index(record.Key)] = cell{record.Version, string(record.Value)}
			}
		}
		if o.err != nil || !follows(o.found, final.cells, pending) {
			r.tb.Errorf("handle %d has %v, %v at the end; by the watches it is %v", i, o.found, o.err, final.cells)
		}
	}
	if err := linearizable(r.history, made, time.Minute); err != nil {
		r.tb.Error(err)
	}
	if r.result.Applied == 0 || r.result.Reads == 0 {
		r.tb.Errorf("nothing was done: %+v", r.result)
	}
}

// testLinearizable checks that calls of many clients, on several handles, give results as if they had been made one after
// the other, and that watches show them all.
func testLinearizable(s *suite) {
	result := Stress{Handles: s.handles(3)}.Run(s.TB)
	if result.Unknown > 0 || result.Failed > 0 || result.Conflicts == 0 {
		s.Errorf("without a disturbance: %+v", result)
	}
	s.Logf("%+v", result)
}
