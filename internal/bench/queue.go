package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// waits are the durations of each goroutine's operations in seconds.
type waits [][]float64

// wait does op from n goroutines for d and answers with the summary of how long each waited.
func wait(op operation, n int, d time.Duration) ([]string, error) {
	if err := op(); err != nil { // connects
		return nil, err
	}
	all := make(waits, n)
	failed := make([]error, n)
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for i := range n {
		wg.Go(func() {
			own := make([]float64, 0, 1<<16)
			for start := time.Now(); start.Before(end); {
				if failed[i] = op(); failed[i] != nil {
					return
				}
				done := time.Now()
				own = append(own, done.Sub(start).Seconds())
				start = done
			}
			all[i] = own
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	return numbers(all.summary()...), nil
}

// summary returns the median, the 99th percentile and the maximum of all waits, in seconds; the largest of the
// goroutines' mean waits divided by their median; and the largest and the smallest of the goroutines' numbers of
// operations divided by their median.
func (w waits) summary() []float64 {
	var means, counts []float64
	for _, own := range w {
		counts = append(counts, float64(len(own)))
		if len(own) > 0 {
			means = append(means, mean(own))
		}
	}
	all := slices.Concat(w...)
	if len(all) == 0 {
		return slices.Repeat([]float64{math.NaN()}, 6)
	}
	return []float64{quantile(all, 0.5), quantile(all, 0.99), slices.Max(all), slices.Max(means) / median(means),
		slices.Max(counts) / median(counts), slices.Min(counts) / median(counts)}
}

// queue prints how long 64 goroutines wait for a token that does four operations at once.
func (w *workplace) queue() error {
	const parallel, goroutines = 4, 64
	token, err := w.token()
	if err != nil {
		return err
	}
	names := []string{contenderOurs, "crypto11"}
	results := make(map[string][][]float64)
	for range *rounds {
		for _, name := range names {
			x, err := w.onceNumbers(6, name, token, "queue", parallel, goroutines, int64(4**window))
			if err != nil {
				return err
			}
			results[name] = append(results[name], x)
		}
	}
	fmt.Printf("Queue: %d goroutines sign with ECDSA P-256 on SoftHSM2, sessions for %d operations at once; median of %d rounds of %v.\n\n",
		goroutines, parallel, *rounds, 4**window)
	fmt.Printf("%-9s | %8s %8s %8s | %15s | %16s %16s\n", "", "p50 ms", "p99 ms", "max ms", "wait max/median", "count max/median", "count min/median")
	for _, name := range names {
		column := func(i int) float64 {
			var x []float64
			for _, r := range results[name] {
				x = append(x, r[i])
			}
			return median(x)
		}
		fmt.Printf("%-9s | %8.2f %8.2f %8.2f | %15.2f | %16.2f %16.2f\n", name,
			1000*column(0), 1000*column(1), 1000*column(2), column(3), column(4), column(5))
	}
	fmt.Print("\nwait: each goroutine's mean time for a signature. count: the signatures that each goroutine got. 1 is fair.\n")
	return nil
}
