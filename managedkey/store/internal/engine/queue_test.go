package engine

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// TestCallersComeAgain: callers that have just got their results are in the next batch. On one processor, the scheduler would else
// let the queue and a single caller wake each other up while the rest can run.
func TestCallersComeAgain(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const callers, times = 8, 200
	batches := 0
	q := NewQueue(func(_ context.Context, batch []*Tx) {
		batches++
		for _, tx := range batch {
			tx.Finish(1, nil)
		}
	})
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range times {
				if _, err := q.Apply(t.Context(), put(fmt.Sprint("k", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	q.Close(t.Context())
	if average := float64(callers*times) / float64(batches); average < callers/2 {
		t.Errorf("%d batches of %.1f transactions on average, with %d callers", batches, average, callers)
	}
}

// BenchmarkOneCaller is what the queue costs somebody who is alone.
func BenchmarkOneCaller(b *testing.B) {
	q := NewQueue(func(_ context.Context, batch []*Tx) { batch[0].Finish(1, nil) })
	defer q.Close(b.Context())
	for ops := put("k"); b.Loop(); {
		if _, err := q.Apply(b.Context(), ops); err != nil {
			b.Fatal(err)
		}
	}
}
