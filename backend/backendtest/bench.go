package backendtest

import (
	"context"
	"crypto/rsa"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// concurrency is how many goroutines use a key at once in the benchmarks.
var concurrency = []int{1, 8, 64}

// BenchmarkSign measures SignContext with every declared key and algorithm of cfg, by 1, 8 and 64 goroutines on one key.
// The subtests are named key/algorithm/goroutines=n, such as "ca/ECDSA-with-SHA-256/goroutines=8", and time per operation
// is the wall time divided by the number of signatures.
func BenchmarkSign(b *testing.B, cfg Config) {
	benchmark(b, cfg, func(b *testing.B, k Key, key backend.Key) {
		s, ok := key.(backend.Signer)
		if !ok {
			return
		}
		for _, a := range k.signatures(key.Public()) {
			in, opts := input(a, []byte("backendtest")), options(a)
			parallel(b, cfg, strings.NewReplacer(" ", "-", "#", "").Replace(a.String()), func(ctx context.Context) error {
				_, err := s.SignContext(ctx, in, opts)
				return err
			})
		}
	})
}

// BenchmarkDecrypt measures DecryptContext of a 32-byte plaintext with every declared key and hash of RSAES-OAEP, as
// [BenchmarkSign] does.
func BenchmarkDecrypt(b *testing.B, cfg Config) {
	benchmark(b, cfg, func(b *testing.B, k Key, key backend.Key) {
		d, ok := key.(backend.Decrypter)
		if !ok {
			return
		}
		for _, h := range k.OAEP {
			ciphertext, err := encryptOAEP(key.Public(), h, make([]byte, 32), nil)
			if err != nil {
				b.Fatal(err)
			}
			parallel(b, cfg, "OAEP-"+h.String(), func(ctx context.Context) error {
				_, err := d.DecryptContext(ctx, ciphertext, &rsa.OAEPOptions{Hash: h})
				return err
			})
		}
	})
}

// benchmark calls fn with every key of cfg, open.
func benchmark(b *testing.B, cfg Config, fn func(b *testing.B, k Key, key backend.Key)) {
	b.Helper()
	if problems := cfg.problems(); len(problems) > 0 {
		b.Fatalf("backendtest: Config: %s", strings.Join(problems, "; "))
	}
	client := cfg.New(b)
	b.Cleanup(func() {
		if err := client.Close(); err != nil {
			b.Errorf("Close: %s", cfg.mask(err.Error()))
		}
	})
	for _, k := range cfg.Keys {
		b.Run(k.Name, func(b *testing.B) {
			key, err := client.Open(b.Context(), k.Params)
			if err != nil {
				b.Fatalf("Open: %s", cfg.mask(err.Error()))
			}
			fn(b, k, key)
		})
	}
}

// parallel measures call with each concurrency. testing.B.RunParallel starts a multiple of GOMAXPROCS goroutines, of
// which those that are too many end at once.
func parallel(b *testing.B, cfg Config, name string, call func(context.Context) error) {
	for _, n := range concurrency {
		b.Run(fmt.Sprintf("%s/goroutines=%d", name, n), func(b *testing.B) {
			procs := runtime.GOMAXPROCS(0)
			b.SetParallelism((n + procs - 1) / procs)
			b.ReportAllocs()
			var started atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				if started.Add(1) > int64(n) {
					return
				}
				for pb.Next() {
					if err := call(b.Context()); err != nil {
						b.Error(cfg.mask(err.Error()))
						return
					}
				}
			})
		})
	}
}
