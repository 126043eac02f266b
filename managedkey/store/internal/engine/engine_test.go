package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

func put(keys ...string) (ops []store.Op) {
	for _, key := range keys {
		ops = append(ops, store.Op{Key: key, Expect: store.Any})
	}
	return ops
}

func check(keys ...string) (ops []store.Op) {
	for _, key := range keys {
		ops = append(ops, store.Op{Kind: store.Check, Key: key, Expect: store.Any})
	}
	return ops
}

func transactions(all ...[]store.Op) (txs []*Tx) {
	for _, ops := range all {
		txs = append(txs, &Tx{Ops: ops, ctx: context.Background(), done: make(chan struct{})})
	}
	return txs
}

// TestSplit checks which transactions may be committed together.
func TestSplit(t *testing.T) {
	large := []store.Op{{Key: "large", Value: make([]byte, store.MaxApply-100)}}
	var many []string
	for i := range store.MaxOps {
		many = append(many, fmt.Sprint("many", i))
	}
	for name, c := range map[string]struct {
		waiting [][]store.Op
		batch   []int
	}{
		"other keys":                    {[][]store.Op{put("a"), put("b", "c"), put("d")}, []int{0, 1, 2}},
		"same key":                      {[][]store.Op{put("a"), put("b", "a"), put("c")}, []int{0, 2}},
		"both check":                    {[][]store.Op{append(put("a"), check("k")...), append(put("b"), check("k")...)}, []int{0, 1}},
		"one checks what another wrote": {[][]store.Op{put("k"), append(put("b"), check("k")...)}, []int{0}},
		"one writes what another read":  {[][]store.Op{append(put("b"), check("k")...), put("k")}, []int{0}},
		"too many bytes":                {[][]store.Op{put("a"), large, put("b", strings.Repeat("x", 200))}, []int{0, 1}},
		"too many ops":                  {[][]store.Op{put("a"), put(many...), put("b")}, []int{0, 2}},
		"the first one in any case":     {[][]store.Op{put(many...), put("b")}, []int{0}},
	} {
		txs := transactions(c.waiting...)
		batch, rest := split(txs)
		var got []int
		for i, tx := range txs {
			if slices.Contains(batch, tx) {
				got = append(got, i)
			} else if !slices.Contains(rest, tx) {
				t.Errorf("%s: transaction %d is lost", name, i)
			}
		}
		if !slices.Equal(got, c.batch) {
			t.Errorf("%s: %d go together, want %d", name, got, c.batch)
		}
	}
	txs := transactions(put("a"), put("a"))
	txs[0].taken.Store(true) // its caller has gone
	if batch, rest := split(txs); len(batch) != 1 || batch[0] != txs[1] || len(rest) != 0 {
		t.Errorf("a transaction without a caller: %d in the batch, %d left", len(batch), len(rest))
	}
}

// TestDecide checks what a batch does to the state that it meets.
func TestDecide(t *testing.T) {
	mine := errors.New("mine")
	versions := map[string]uint64{"a": 3, "b": 5}
	txs := transactions(
		[]store.Op{{Key: "a", Value: []byte("1"), Expect: 3}, {Kind: store.Delete, Key: "b", Expect: 5}},
		[]store.Op{{Key: "c", Expect: 4}},
		[]store.Op{{Kind: store.Check, Key: "d"}, {Kind: store.Delete, Key: "e", Expect: store.Any}},
		[]store.Op{{Key: "f"}, {Key: "g", Encode: func(uint64, []byte) ([]byte, error) { return nil, mine }}},
		[]store.Op{{Key: "0", Encode: func(v uint64, _ []byte) ([]byte, error) { return fmt.Append(nil, v), nil }}},
	)
	looked := make(map[string]int)
	commit, writes := Decide(txs, 8, func(key string) uint64 { looked[key]++; return versions[key] })
	for key, n := range looked {
		if n != 1 {
			t.Errorf("the version of %s was looked up %d times", key, n)
		}
	}
	if len(commit) != 2 || commit[0] != txs[0] || commit[1] != txs[4] {
		t.Errorf("%d are to be committed", len(commit))
	}
	want := []Write{{Key: "0", Value: []byte("8")}, {Key: "a", Value: []byte("1"), Old: 3}, {Key: "b", Old: 5, Deleted: true}}
	if fmt.Sprint(writes) != fmt.Sprint(want) {
		t.Errorf("writes = %v, want %v", writes, want)
	}
	var conflict *store.ConflictError
	if !errors.As(txs[1].err, &conflict) || conflict.Key != "c" || conflict.Version != 0 {
		t.Errorf("conflict: %v", txs[1].err)
	}
	if txs[2].err != nil || txs[2].revision != 7 || !errors.Is(txs[3].err, mine) || txs[0].Finished() {
		t.Errorf("results: %v, revision %d, %v", txs[2].err, txs[2].revision, txs[3].err)
	}
	if again, _ := Decide(txs[1:4], 9, func(string) uint64 { return 0 }); len(again) != 0 {
		t.Error("transactions that have their result are decided again")
	}
}

// TestQueue checks that transactions that wait share a batch, and what happens to those whose callers leave.
func TestQueue(t *testing.T) {
	enter, leave := make(chan int), make(chan struct{})
	q := NewQueue(func(_ context.Context, batch []*Tx) {
		enter <- len(batch)
		<-leave
		for _, tx := range batch {
			tx.Finish(42, nil)
		}
	})
	results := make(chan error, 20)
	apply := func(ctx context.Context, key string) {
		revision, err := q.Apply(ctx, put(key))
		if err == nil && revision != 42 {
			err = fmt.Errorf("revision %d", revision)
		}
		results <- err
	}
	ctx, cancel := context.WithCancel(t.Context())
	go apply(ctx, "a")
	if n := <-enter; n != 1 {
		t.Errorf("first batch of %d", n)
	}
	for i := range 5 {
		go apply(t.Context(), fmt.Sprint("k", i))
	}
	cancel() // under way: its outcome is not known
	if err := <-results; !errors.Is(err, store.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("left while under way: %v", err)
	}
	waiting, cancel := context.WithCancel(t.Context())
	go apply(waiting, "w")
	cancel() // not begun: nothing happens
	if err := <-results; !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("left while waiting: %v", err)
	}
	leave <- struct{}{}
	for got := 0; got < 5; {
		got += <-enter
		leave <- struct{}{}
	}
	for range 5 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { q.Close(t.Context()) })
	wg.Wait()
	q.Close(t.Context())
	if _, err := q.Apply(t.Context(), put("a")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestQueueGivesUp checks that Close with a context that ends tells the engine, and that nobody is left without a result.
func TestQueueGivesUp(t *testing.T) {
	entered := make(chan struct{})
	q := NewQueue(func(ctx context.Context, batch []*Tx) {
		close(entered)
		<-ctx.Done() // and it forgets to finish
	})
	result := make(chan error)
	go func() {
		_, err := q.Apply(t.Context(), put("a"))
		result <- err
	}()
	<-entered
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	q.Close(ended)
	if err := <-result; !errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("error = %v", err)
	}
}

// TestWatchRetries checks that a watch outlasts an engine that is away, and only that.
func TestWatchRetries(t *testing.T) {
	answers := []error{store.ErrUnavailable, nil, store.ErrUnavailable, store.ErrUnavailable, nil, store.ErrCompacted}
	n := uint64(0)
	var changed Signal
	log := &Log{Changed: &changed, Closed: make(chan struct{}), Retry: 1,
		Read: func(_ context.Context, _ string, from uint64) ([]store.Event, uint64, error) {
			err := answers[0]
			answers = answers[1:]
			if err != nil {
				return nil, 0, err
			}
			n++
			if from != n-1 {
				t.Errorf("read from %d, want %d", from, n-1)
			}
			return []store.Event{{Revision: n}}, n, nil
		}}
	var got []uint64
	var last error
	for event, err := range log.Watch(t.Context(), "", 0) {
		if last = err; err == nil {
			got = append(got, event.Revision)
		}
	}
	if !slices.Equal(got, []uint64{1, 2}) || !errors.Is(last, store.ErrCompacted) {
		t.Errorf("events %d, then %v", got, last)
	}
	log.Retry = 0
	answers = []error{store.ErrUnavailable}
	for _, err := range log.Watch(t.Context(), "", 0) {
		last = err
	}
	if !errors.Is(last, store.ErrUnavailable) {
		t.Errorf("without Retry: %v", last)
	}
}
