package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/pki"
)

// contenderCRLs makes lists in a process that does nothing else.
const contenderCRLs = "crls"

// crlCost is what lists cost a process.
type crlCost struct {
	cpu      float64 // seconds
	base     float64 // MiB that Go had before, with the store open
	peak     float64 // MiB that Go had at most
	resident float64 // MiB of the process that were in memory at most, the mapped file included; NaN if the system doesn't say
	entries  float64 // of all lists together
}

// crlPeak prepares a store with n revocations, opens it anew, and makes one list of all of them, or those of as many shards one after the
// other.
func crlPeak(path string, n, shards int) (c crlCost, err error) {
	ctx := context.Background()
	st, err := bolt.Open(path, nil)
	if err != nil {
		return c, err
	}
	defer os.Remove(path)
	a, closeAll, err := newAuthority(ctx, st)
	defer closeAll()
	if err == nil && shards > 0 {
		if err = a.SetURLs(ctx, pki.URLs{CRL: []string{"http://crl.example.com/{{shard}}.crl"}}); err == nil {
			err = a.SetCRLConfig(ctx, pki.CRLConfig{Shards: shards})
		}
	}
	if err == nil {
		err = a.fill(ctx, st, n, shards)
	}
	if closeErr := st.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return c, err
	}
	if st, err = bolt.Open(path, nil); err != nil {
		return c, err
	}
	defer st.Close()
	if a.Authority, err = pki.OpenAuthority(ctx, a.mount, st, nil); err != nil {
		return c, err
	}
	debug.FreeOSMemory()
	// From here on the system's peak is that of the lists. Where that can't be had, resident says nothing.
	forgotten := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) == nil
	c.base = held()
	stop := watchMemory()
	used := cpuSeconds()
	for shard := min(1, shards); shard <= shards; shard++ {
		crl, err := a.RotateScopedCRL(ctx, "root", pki.CRLScope{Shard: shard})
		if err != nil {
			return c, err
		}
		c.entries += float64(crl.Entries)
	}
	c.cpu = cpuSeconds() - used
	c.peak = stop()
	c.resident = mostResident(forgotten)
	return c, nil
}

// held returns the MiB that Go has from the system and has not given back: what is in use, garbage, and what it keeps ready, in the heap and
// beside it.
func held() float64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return float64(samples[0].Value.Uint64()-samples[1].Value.Uint64()) / (1 << 20)
}

// watchMemory looks at what Go has until the function that it returns is called, which returns the most.
func watchMemory() func() float64 {
	most := held()
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				most = max(most, held())
			}
		}
	}()
	return func() float64 {
		close(end)
		<-done
		return max(most, held())
	}
}

// mostResident returns the MiB of the process that were in memory at most, NaN if it isn't known.
func mostResident(known bool) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if known && err == nil {
		for line := range strings.Lines(string(status)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
				if kib, err := strconv.ParseFloat(fields[1], 64); err == nil {
					return kib / 1024
				}
			}
		}
	}
	return math.NaN()
}

// crlMemory prints what lists take of memory, each row in a process of its own.
func (w *workplace) crlMemory(sizes []int) error {
	fmt.Printf("Memory of a process that makes the first lists of a bolt store, in MiB: what Go had of the system before; at most while it made them,\n" +
		"garbage and what it keeps ready included, looked at each millisecond; and what was resident at most, with the pages of the store's file\n" +
		"that the system had mapped, which it takes back when it needs them. Lists of shards are made one after the other.\n\n")
	out := newTable()
	fmt.Fprintln(out, "entries\tlists\tCPU\tbefore\tat most\tresident\t")
	for _, n := range sizes {
		for _, shards := range []int{0, crlShards} {
			c, err := w.crlCost(n, shards)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%d\t%d\t%v\t%.0f\t%.0f\t%s\t\n", n, max(1, shards), ms(c.cpu), c.base, c.peak, cell("%.0f", c.resident))
		}
	}
	return out.Flush()
}

func (w *workplace) crlCost(n, shards int) (c crlCost, err error) {
	path := filepath.Join(w.dir, fmt.Sprintf("crls-%d-%d", n, shards))
	x, err := w.onceNumbers(5, contenderCRLs, nil, "lists", path, n, shards)
	if err != nil {
		return c, err
	}
	c = crlCost{x[0], x[1], x[2], x[3], x[4]}
	if c.entries != float64(n) {
		return c, fmt.Errorf("the lists have %.0f entries; want %d", c.entries, n)
	}
	return c, nil
}
