package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// speed is operations per second and per second of processor time of the process.
type speed struct{ rate, cpu float64 }

// measure does op from n goroutines for d, from each at least once. c/bench.c stops by the same rule.
func measure(op operation, n int, d time.Duration) (speed, error) {
	var count atomic.Int64
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	used := cpuSeconds()
	start := time.Now()
	end := start.Add(d)
	for range n {
		wg.Go(func() {
			for {
				if err := op(); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
				count.Add(1)
				if !time.Now().Before(end) {
					return
				}
			}
		})
	}
	wg.Wait()
	done := float64(count.Load())
	return speed{done / time.Since(start).Seconds(), done / (cpuSeconds() - used)}, failed
}

// round is the speeds of the contenders; those that can't do the algorithm are missing.
type round struct {
	speeds map[string]speed
	others float64 // percentage of the machine that others used meanwhile, or NaN
}

// rates are the rounds of one line of a table.
type rates []round

// of returns the contender's operations per second, and per second of processor time.
func (r rates) of(name string) (rate, cpu []float64) {
	for _, round := range r {
		if s, ok := round.speeds[name]; ok {
			rate, cpu = append(rate, s.rate), append(cpu, s.cpu)
		}
	}
	return rate, cpu
}

// columns returns the contender's rate, and the ratios of ours to it by time and by processor time.
func (r rates) columns(name, ours string) (rate, byTime, byCPU string) {
	a, aCPU := r.of(ours)
	b, bCPU := r.of(name)
	return cell("%.0f", median(b)), cell("%.2f", ratio(a, b)), cell("%.2f", ratio(aCPU, bCPU))
}

// others returns what others used of the machine, in percent.
func (r rates) others() float64 {
	var x []float64
	for _, round := range r {
		x = append(x, round.others)
	}
	return median(x)
}

// Up to extraRounds are made in addition while fewer than -rounds were quiet, in which others used less than quiet
// percent of the machine. The quietest ones count, whatever their figures are.
var extraRounds = 2

const quiet = 5

// quietest returns the n rounds during which others did least.
func quietest(all []round, n int) rates {
	key := func(r round) float64 {
		if math.IsNaN(r.others) {
			return math.Inf(1)
		}
		return r.others
	}
	all = slices.SortedStableFunc(slices.Values(all), func(a, b round) int { return cmp.Compare(key(a), key(b)) })
	return all[:min(n, len(all))]
}

// measureRates measures the algorithm with n threads or goroutines. Each round begins with another contender, so that
// none always follows the same one.
func measureRates(processes []*process, algorithm string, n int) (rates, error) {
	var able []*process
	for _, p := range processes {
		_, err := p.numbers(2, "rate", algorithm, n, int64(*window/4)) // warms up
		switch {
		case err == nil:
			able = append(able, p)
		case !errors.Is(err, errors.ErrUnsupported):
			return nil, err
		}
	}
	return measureRounds(able, len(able), func(i int) (string, []float64, error) {
		x, err := able[i].numbers(2, "rate", algorithm, n, int64(*window))
		return able[i].name, x, err
	})
}

// measureBeside is measureRates for several algorithms of one process, in its rounds by their names.
func measureBeside(p *process, algorithms []string, n int) (rates, error) {
	for _, algorithm := range algorithms {
		if _, err := p.numbers(2, "rate", algorithm, n, int64(*window/4)); err != nil { // warms up
			return nil, err
		}
	}
	return measureRounds([]*process{p}, len(algorithms), func(i int) (string, []float64, error) {
		x, err := p.numbers(2, "rate", algorithms[i], n, int64(*window))
		return algorithms[i], x, err
	})
}

// measureRounds measures n things in processes. one measures the i-th and returns its name.
func measureRounds(processes []*process, n int, one func(i int) (name string, x []float64, err error)) (rates, error) {
	var all []round
	for done := 0; done < *rounds && len(all) < *rounds+extraRounds; {
		r := round{speeds: make(map[string]speed)}
		load := watch(processes)
		for i := range n {
			name, x, err := one((i + len(all)) % n)
			if err != nil {
				return nil, err
			}
			r.speeds[name] = speed{x[0], x[1]}
		}
		r.others = load.others()
		if !(r.others >= quiet) { // or where it can't be told
			done++
		}
		all = append(all, r)
	}
	return quietest(all, *rounds), nil
}

// software prints the rates of keys in memory.
func (w *workplace) software() error {
	processes, stop, err := w.startAll([]string{"software", "stdlib"}, nil)
	defer stop()
	if err != nil {
		return err
	}
	fmt.Printf("Software keys: signatures per second of backend/software beside crypto/ecdsa and crypto/rsa called directly;\n"+
		"median of %d rounds of %v, ratios within a round.\n\n", *rounds, *window)
	fmt.Printf("%-17s %10s | %8s | %8s %5s %5s | %5s\n", "algorithm", "goroutines", "software", "crypto/*", "ratio", "cpu", "busy%")
	for _, algorithm := range algorithms[:signatures] {
		for _, n := range []int{1, 8, 64} {
			r, err := measureRates(processes, algorithm, n)
			if err != nil {
				return err
			}
			ours, _, _ := r.columns("software", "software")
			direct, byTime, byCPU := r.columns("stdlib", "software")
			fmt.Printf("%-17s %10d | %8s | %8s %5s %5s | %5s\n", algorithm, n, ours, direct, byTime, byCPU, cell("%.0f", r.others()))
		}
	}
	fmt.Print("\n" + othersNote())
	return nil
}

// threads are how many each contender on a token uses, and on that of the table network.
var (
	threads        = []int{1, 2, 8, 64}
	networkThreads = []int{1, 8}
)

// signing prints the rates of keys on the token.
func (w *workplace) signing() error {
	token, err := w.token()
	if err != nil {
		return err
	}
	fmt.Printf("PKCS#11 on SoftHSM2: operations per second, median of %d rounds of %v; ratios of ours to each, within a round.\n\n",
		*rounds, *window)
	if err := w.pkcs11Rates(token, algorithms, threads); err != nil {
		return err
	}
	fmt.Print(`
ours: backend/pkcs11 with its defaults, goroutines for threads. inline: with Library.InlineCalls, so that a call that
hangs in the module would hold its caller, and its ratio to C. C: a session for each thread, no size queries, r ‖ s
left as it is; ±% is half of its range over the rounds. crypto11: its defaults. miekg: miekg/pkcs11, a session for each
goroutine, r ‖ s left as it is. –: can't do it.
`)
	fmt.Print(othersNote())
	return nil
}

// pkcs11Rates prints the rates of the algorithms on the token.
func (w *workplace) pkcs11Rates(token *softhsm.Token, algorithms []string, threads []int) error {
	names := []string{contenderOurs, contenderFast, contenderC, "crypto11", "miekg"}
	processes, stop, err := w.startAll(names, token)
	defer stop()
	if err != nil {
		return err
	}
	fmt.Printf("%-17s %7s | %6s | %6s %5s %5s | %6s %4s %5s %5s | %8s %5s %5s | %6s %5s %5s | %5s\n", "algorithm", "threads", "ours",
		"inline", "/C", "cpu", "C", "±%", "ratio", "cpu", "crypto11", "ratio", "cpu", "miekg", "ratio", "cpu", "busy%")
	for _, algorithm := range algorithms {
		for _, n := range threads {
			r, err := measureRates(processes, algorithm, n)
			if err != nil {
				return err
			}
			yardstick, _ := r.of(contenderC)
			cells := []any{algorithm, n}
			for _, name := range names {
				rate, byTime, byCPU := r.columns(name, contenderOurs)
				switch name {
				case contenderOurs:
					cells = append(cells, rate)
				case contenderFast:
					own, _ := r.of(contenderFast)
					_, byTime, byCPU := r.columns(contenderC, contenderFast)
					cells = append(cells, cell("%.0f", median(own)), byTime, byCPU)
				case contenderC:
					cells = append(cells, rate, cell("%.0f", noise(yardstick)), byTime, byCPU)
				default:
					cells = append(cells, rate, byTime, byCPU)
				}
			}
			fmt.Printf("%-17s %7d | %6s | %6s %5s %5s | %6s %4s %5s %5s | %8s %5s %5s | %6s %5s %5s | %5s\n", append(cells, cell("%.0f", r.others()))...)
		}
	}
	return nil
}

// othersNote explains the columns cpu and busy. Threads compete for processors with what others run, so that a busy
// machine doesn't only slow all contenders down but also favours those with more threads.
func othersNote() string {
	return fmt.Sprintf(`cpu: the ratio of operations per second of processor time, which is nearly the same on a busy machine, but blind to
waiting. busy: how much of the machine others used meanwhile; above %d %% don't trust the other ratio. Up to %d rounds
more are made then, and the quietest ones count.
`, quiet, extraRounds)
}
