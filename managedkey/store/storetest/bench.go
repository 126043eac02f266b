package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// BenchmarkValue is what the benchmarks write, about as long as an entry.
var BenchmarkValue = make([]byte, 500)

// created makes keys of records that are not there yet.
var created atomic.Int64

// BenchmarkKey returns a key that was not returned before in this process.
func BenchmarkKey() string { return fmt.Sprintf("bench/%012d", created.Add(1)) }

// BenchmarkCreate measures how long it takes to create a record, by one client and by many at once. native is the same
// write by the engine's own client, for comparison; it may be nil.
func BenchmarkCreate(b *testing.B, s store.Store, native func(ctx context.Context, key string, value []byte) error) {
	ours := func(ctx context.Context, key string, value []byte) error {
		_, err := s.Apply(ctx, store.Op{Key: key, Value: value})
		return err
	}
	for _, by := range []struct {
		name  string
		write func(context.Context, string, []byte) error
	}{{"Store", ours}, {"Native", native}} {
		if by.write == nil {
			continue
		}
		for _, clients := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/clients=%d", by.name, clients), func(b *testing.B) {
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				for range clients {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if err := by.write(b.Context(), BenchmarkKey(), BenchmarkValue); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
			})
		}
	}
}

// BenchmarkWatch measures how long it takes from the acknowledgement of a write on one handle until a watch on another
// one shows it: 0 if the watch was first.
func BenchmarkWatch(b *testing.B, writer, reader store.Store) {
	page, err := reader.List(b.Context(), "", "", 1)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	seen := make(chan time.Time, 1)
	go func() {
		for _, err := range reader.Watch(ctx, "watched/", page.Revision) {
			if err != nil {
				return
			}
			seen <- time.Now()
		}
	}()
	var delays []time.Duration
	for b.Loop() {
		if _, err := writer.Apply(ctx, store.Op{Key: "watched/key", Value: BenchmarkValue, Expect: store.Any}); err != nil {
			b.Fatal(err)
		}
		acknowledged := time.Now()
		select {
		case at := <-seen:
			delays = append(delays, max(0, at.Sub(acknowledged)))
		case <-time.After(callTimeout):
			b.Fatal("the watch shows nothing")
		}
	}
	slices.Sort(delays)
	b.ReportMetric(float64(delays[len(delays)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds()), "p99-µs")
}
