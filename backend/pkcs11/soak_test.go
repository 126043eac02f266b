package pkcs11

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

var (
	soakTime = flag.Duration("soak", 10*time.Second, "how long each part of TestSoak takes; 5s with -short unless it is given")
	soakSeed = flag.Uint64("soakseed", 0, "seed of TestSoak; 0 for a random one")
)

// soakDuration is how long a part of TestSoak takes.
func soakDuration() time.Duration {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "soak" })
	if testing.Short() && !given {
		return 5 * time.Second
	}
	return *soakTime
}

const soakSigners = 64

// soak is signing with several keys while things go wrong, and what came of it.
type soak struct {
	*testing.T
	backend *Backend
	steady  []Params // of keys that stay
	victim  Params   // of a key that is replaced now and then
	rng     *rand.Rand

	mu       sync.Mutex
	signed   int
	failures map[string]int // by sentinel
	outages  map[string]int // by what went wrong
	worst    time.Duration  // from the end of an outage to the first signature
	worstOf  string
}

// newSoak logs the seed, with which all that goes wrong does so again in the same order.
func newSoak(t *testing.T, b *Backend) *soak {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -soakseed %d", seed)
	return &soak{T: t, backend: b, rng: rand.New(rand.NewPCG(seed, seed)), failures: make(map[string]int), outages: make(map[string]int)}
}

// soakSentinels are the failures that an outage may have.
var soakSentinels = []error{backend.ErrUnavailable, backend.ErrKeyNotFound, backend.ErrKeyChanged, context.Canceled, context.DeadlineExceeded}

// note counts the outcome of an operation. An error without a sentinel, or with a signature that doesn't verify, fails
// the test.
func (s *soak) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.signed++
		return
	}
	for _, sentinel := range soakSentinels {
		if errors.Is(err, sentinel) {
			s.failures[sentinel.Error()]++
			return
		}
	}
	s.failures["others"]++
	s.Errorf("unexpected failure: %v", err)
}

// sign signs with the key of p until ctx ends, and opens it again when it was replaced.
func (s *soak) sign(ctx context.Context, p Params, n int) {
	var key backend.Key
	for round := n; ctx.Err() == nil; round++ {
		// A few callers have no patience.
		patience := 10 * time.Second
		if round%97 == 0 {
			patience = time.Duration(round%7) * time.Millisecond
		}
		call, cancel := context.WithTimeout(ctx, patience)
		var err error
		if key == nil {
			if key, err = s.backend.Open(call, p); err != nil {
				key = nil
			}
		} else {
			err = signOnce(call, key)
			if errors.Is(err, backend.ErrKeyChanged) || errors.Is(err, backend.ErrKeyNotFound) {
				if p != s.victim {
					s.Errorf("a key that nobody touched: %v", err)
				}
				key = nil
			}
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		s.note(err)
		if err != nil {
			pause(ctx, time.Millisecond) // as a caller would, who tries again
		}
	}
}

// pause returns after d, or when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// between returns a random duration.
func (s *soak) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rng.Int64N(int64(high-low)))
}

// outage is something that goes wrong, for as long as strike takes.
type outage struct {
	name   string
	strike func(ctx context.Context) error
}

// replaced is the outage that steady keys must not notice. How long a signature then takes says how busy the machine is.
const replaced = "key replaced"

// run signs while outages strike at random, for as long as the test is to take.
func (s *soak) run(outages []outage) {
	var probes []backend.Key
	for _, p := range s.steady {
		probes = append(probes, mustOpen(s, s.backend, p))
	}
	ctx, stop := context.WithTimeout(s.Context(), soakDuration())
	defer stop()
	var wg sync.WaitGroup
	for n := range soakSigners {
		p := s.steady[n%len(s.steady)]
		if n%16 == 0 {
			p = s.victim
		}
		wg.Go(func() { s.sign(ctx, p, n) })
	}
	for ctx.Err() == nil && !s.Failed() {
		o := outages[s.rng.IntN(len(outages))]
		if err := o.strike(ctx); err != nil {
			s.Errorf("%s: %v", o.name, err)
		}
		s.outages[o.name]++
		s.recovered(o.name, probes[s.rng.IntN(len(probes))])
		pause(ctx, s.between(20*time.Millisecond, 300*time.Millisecond))
	}
	stop()
	wg.Wait()
	for _, key := range probes {
		signsWell(s, key)
	}
	s.summarise()
}

// recovered waits until the key signs again.
func (s *soak) recovered(outage string, key backend.Key) {
	took := awaits(s.T, "signing after "+outage, func() error { return signOnce(context.Background(), key) })
	if outage == replaced {
		return
	}
	if took > s.worst {
		s.worst, s.worstOf = took, outage
	}
	if took > mayRecover {
		s.Errorf("%s: service was back after %v", outage, took)
	}
}

func (s *soak) summarise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := func(counts map[string]int) string {
		var texts []string
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			texts = append(texts, fmt.Sprintf("%s %d", name, counts[name]))
		}
		return strings.Join(texts, ", ")
	}
	s.Logf("%d signatures; failures: %s; outages: %s; worst recovery %v after %s",
		s.signed, list(s.failures), list(s.outages), s.worst.Round(time.Millisecond), s.worstOf)
	if s.signed < 100 {
		s.Errorf("only %d signatures were made", s.signed)
	}
}

// events returns how many outages there were.
func (s *soak) events() (n int) {
	for _, count := range s.outages {
		n += count
	}
	return n
}

// settles waits until no more goroutines run than before, but for those that are left behind in a module.
func settles(t *testing.T, before int, left func() int) {
	t.Helper()
	awaits(t, "ending goroutines", func() error {
		if now := runtime.NumGoroutine() - left(); now > before {
			return fmt.Errorf("%d goroutines run, %d did before", now, before)
		}
		return nil
	})
}
