package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

const (
	lookups    = 500_000 // in a round
	openedKeys = 1000    // of each registry; looked up at random
)

// sized is a registry of many entries, some of them with open keys.
type sized struct {
	entries  int
	registry *managedkey.Registry
	opened   []namespace.Ref
	bytes    float64 // of heap per entry
	ns       []float64
}

// registry prints what a look-up costs in a small and in a large registry.
func (*workplace) registry() error {
	sizes := []*sized{{entries: 1000}, {entries: 1_000_000}}
	for _, s := range sizes {
		if err := s.build(); err != nil {
			return err
		}
	}
	for round := range *rounds + 1 {
		for _, s := range sizes {
			ns, err := s.round()
			if err != nil {
				return err
			}
			if round > 0 {
				s.ns = append(s.ns, ns)
			}
		}
	}
	fmt.Printf("Look-up of an open key with its policy check, one goroutine, random keys out of %d open ones; median of %d rounds.\n\n", openedKeys, *rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "entries\tnamespaces\tns per look-up\tratio to 1000\tbytes per entry\t")
	for _, s := range sizes {
		fmt.Fprintf(w, "%d\t%d\t%.0f\t%.2f\t%.0f\t\n", s.entries, max(1, s.entries/100), median(s.ns), ratio(s.ns, sizes[0].ns), s.bytes)
	}
	return w.Flush()
}

// build fills the registry with entries in namespaces of 100.
func (s *sized) build() error {
	ctx := context.Background()
	keys := software.New(nil)
	before := heap()
	s.registry = managedkey.NewRegistry()
	for i := range s.entries {
		ref := namespace.Ref{Namespace: namespace.Path(fmt.Sprintf("tenant-%05d", i/100)), Name: fmt.Sprintf("key-%02d", i%100)}
		err := s.registry.Create(ctx, managedkey.Entry{Ref: ref, Backend: keys, AllowGenerateKey: true,
			Params: software.Params{KeyName: ref.Name, KeyType: software.Ed25519}})
		if err != nil {
			return err
		}
		if i%max(1, s.entries/openedKeys) == 0 {
			s.opened = append(s.opened, ref)
		}
	}
	s.bytes = float64(heap()-before) / float64(s.entries)
	for _, ref := range s.opened {
		if _, err := s.registry.Key(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

// round returns nanoseconds per look-up and policy check. The check is what every operation does before it calls the key.
func (s *sized) round() (float64, error) {
	ctx := context.Background()
	order := make([]namespace.Ref, 4096)
	for i := range order {
		order[i] = s.opened[rand.IntN(len(s.opened))]
	}
	start := time.Now()
	for i := range lookups {
		key, err := s.registry.Key(ctx, order[i%len(order)])
		if err != nil {
			return 0, err
		}
		if err := key.Permits(backend.UsageSign); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(start).Nanoseconds()) / lookups, nil
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
