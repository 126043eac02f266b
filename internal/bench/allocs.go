package main

import (
	"errors"
	"fmt"
	"math"
	"runtime"
)

// allocations returns the allocations and the bytes of an operation, the mean of n.
func allocations(op operation, n int) ([]string, error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		if err := op(); err != nil {
			return nil, err
		}
	}
	runtime.ReadMemStats(&after)
	per := func(a, b uint64) float64 { return float64(b-a) / float64(n) }
	return numbers(per(before.Mallocs, after.Mallocs), per(before.TotalAlloc, after.TotalAlloc)), nil
}

// allocs prints what an operation allocates in Go.
func (w *workplace) allocs() error {
	const operations = 200
	token, err := w.token()
	if err != nil {
		return err
	}
	processes, stop, err := w.startAll([]string{contenderOurs, "crypto11", "miekg"}, token)
	defer stop()
	if err != nil {
		return err
	}
	fmt.Printf("Allocations and bytes per operation on SoftHSM2, mean of %d by one goroutine; memory of C is not counted.\n\n", operations)
	fmt.Printf("%-17s | %6s %6s | %8s %6s | %6s %6s\n", "algorithm", "ours", "bytes", "crypto11", "bytes", "miekg", "bytes")
	for _, algorithm := range algorithms {
		var cells []any
		for _, p := range processes {
			x, err := p.numbers(2, "allocs", algorithm, operations)
			if errors.Is(err, errors.ErrUnsupported) {
				x = []float64{math.NaN(), math.NaN()}
			} else if err != nil {
				return err
			}
			cells = append(cells, cell("%.1f", x[0]), cell("%.0f", x[1]))
		}
		fmt.Printf("%-17s | %6s %6s | %8s %6s | %6s %6s\n", append([]any{algorithm}, cells...)...)
	}
	return nil
}
