package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// cloud is a fake of a cloud's key manager with a client of the service's SDK and backends of ours.
type cloud struct {
	name string

	// add makes a key, of P-256 or else RSA-2048, and returns its parameters and the SDK's call that signs the digest.
	add func(ctx context.Context, rsa bool) (backend.Params, operation, error)

	// connect returns a backend of ours.
	connect func(ctx context.Context, opts remote.Options) (backend.Backend, error)

	// describe is the SDK's call that reads the public key of the key with that number, of those that add made.
	describe func(ctx context.Context, n int) error

	requests func() int // that the fake has seen
	close    func() error
}

// startClouds start the fakes.
var startClouds = []func(context.Context) (*cloud, error){startAWS, startAzure, startGoogle}

// Tests do less.
var (
	cloudCallers = []int{1, 8, 64} // goroutines that sign at once
	crowd        = 10_000          // callers of one key
	crowdRate    = 1000            // signatures a second
	cloudKeys    = 1000            // keys to open
)

// clouds prints the tables of all clouds.
func (w *workplace) clouds() error {
	ctx := context.Background()
	var open []*cloud
	defer func() {
		for _, c := range open {
			c.close()
		}
	}()
	for _, start := range startClouds {
		c, err := start(ctx)
		if err != nil {
			return err
		}
		open = append(open, c)
	}
	for _, table := range []func(context.Context, []*cloud) error{cloudRates, cloudOpening, cloudCrowd} {
		if err := table(ctx, open); err != nil {
			return err
		}
		fmt.Println()
	}
	return nil
}

// cloudRates prints signatures per second beside the bare SDK's.
func cloudRates(ctx context.Context, all []*cloud) error {
	fmt.Printf("Cloud key managers, each a fake in this process: signatures per second, median of %d rounds of %v; ratios of ours to the\n"+
		"bare SDK's client doing the same single call, within a round.\n\n", *rounds, *window)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "service\talgorithm\tgoroutines\tSDK\tours\tratio\tours, verifying\tratio\t")
	for _, c := range all {
		for i, algorithm := range []string{"ECDSA P-256", "RSA-2048 PKCS#1"} {
			params, bare, err := c.add(ctx, i == 1)
			if err != nil {
				return err
			}
			contenders := []operation{bare}
			for _, trust := range []bool{true, false} {
				b, err := c.connect(ctx, remote.Options{TrustSignatures: trust})
				if err != nil {
					return err
				}
				defer b.Close()
				key, err := as[crypto.Signer](b.Open(ctx, params))
				if err != nil {
					return err
				}
				contenders = append(contenders, sign(key, crypto.SHA256))
			}
			for _, n := range cloudCallers {
				rates, err := interleaved(contenders, n, *rounds, *window)
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%.0f\t%.0f\t%.2f\t%.0f\t%.2f\t\n", c.name, algorithm, n, median(rates[0]),
					median(rates[1]), ratio(rates[1], rates[0]), median(rates[2]), ratio(rates[2], rates[0]))
			}
		}
	}
	return w.Flush()
}

// interleaved measures the operations in turn from n goroutines, in every round beginning with another one, and returns the
// rates of each.
func interleaved(ops []operation, n, rounds int, window time.Duration) ([][]float64, error) {
	rates, _, err := interleavedSpeeds(ops, n, rounds, window)
	return rates, err
}

// interleavedSpeeds is interleaved that also returns the rates per second of processor time.
func interleavedSpeeds(ops []operation, n, rounds int, window time.Duration) (rates, cpu [][]float64, err error) {
	rates, cpu = make([][]float64, len(ops)), make([][]float64, len(ops))
	for round := range rounds + 1 {
		for i := range ops {
			i = (i + round) % len(ops)
			s, err := measure(ops[i], n, window)
			if err != nil {
				return nil, nil, err
			}
			if round > 0 { // the first one warms up
				rates[i], cpu[i] = append(rates[i], s.rate), append(cpu[i], s.cpu)
			}
		}
	}
	return rates, cpu, nil
}

// cloudOpening prints what opening many keys takes.
func cloudOpening(ctx context.Context, all []*cloud) error {
	fmt.Printf("Opening %d keys one after the other, beside as many requests of the bare SDK for a public key.\n\n", cloudKeys)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "service\trequests\tms\tSDK's ms\tratio\t")
	for _, c := range all {
		params := make([]backend.Params, cloudKeys)
		for i := range params {
			var err error
			if params[i], _, err = c.add(ctx, false); err != nil {
				return err
			}
		}
		b, err := c.connect(ctx, remote.Options{})
		if err != nil {
			return err
		}
		defer b.Close()
		before, began := c.requests(), time.Now()
		for _, p := range params {
			if _, err := b.Open(ctx, p); err != nil {
				return err
			}
		}
		took, requests := time.Since(began), c.requests()-before
		began = time.Now()
		for i := range params {
			if err := c.describe(ctx, i); err != nil {
				return err
			}
		}
		bare := time.Since(began)
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.2f\t\n", c.name, requests, took.Milliseconds(), bare.Milliseconds(), took.Seconds()/bare.Seconds())
	}
	return w.Flush()
}

// cloudCrowd prints what becomes of many callers of one key whose rate is bounded.
func cloudCrowd(ctx context.Context, all []*cloud) error {
	fmt.Printf("%d callers of one key at once, with KeyRate at %d a second; then as many again, whose context ends while they wait.\n\n", crowd, crowdRate)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "service\tfailed\tseconds\tKiB of heap and stack per caller\tms until all have left\t")
	for _, c := range all {
		params, _, err := c.add(ctx, false)
		if err != nil {
			return err
		}
		b, err := c.connect(ctx, remote.Options{KeyRate: remote.Rate{PerSecond: float64(crowdRate)}})
		if err != nil {
			return err
		}
		defer b.Close()
		key, err := as[backend.Signer](b.Open(ctx, params))
		if err != nil {
			return err
		}
		failed, took, memory := gather(ctx, key)
		waiting, cancel := context.WithCancel(ctx)
		var left sync.WaitGroup
		for range crowd {
			left.Go(func() { key.SignContext(waiting, digest[:], crypto.SHA256) })
		}
		time.Sleep(time.Second) // most of them wait for their turn by then
		began := time.Now()
		cancel()
		left.Wait()
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%d\t\n", c.name, failed, took.Seconds(), memory/float64(crowd)/1024, time.Since(began).Milliseconds())
	}
	return w.Flush()
}

// gather has the crowd sign, and returns how many failed, how long it took, and how many bytes the callers had while most
// of them waited.
func gather(ctx context.Context, key backend.Signer) (failed int64, took time.Duration, memory float64) {
	before := inUse()
	var errs atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range crowd {
		wg.Go(func() {
			if _, err := key.SignContext(ctx, digest[:], crypto.SHA256); err != nil {
				errs.Add(1)
			}
		})
	}
	time.Sleep(time.Second)
	memory = float64(inUse()) - float64(before)
	wg.Wait()
	return errs.Load(), time.Since(began), memory
}

// inUse returns bytes of heap and of goroutines' stacks.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// closers closes several things.
func closers(fns ...func() error) func() error {
	return func() error {
		var errs []error
		for _, fn := range fns {
			errs = append(errs, fn())
		}
		return errors.Join(errs...)
	}
}
