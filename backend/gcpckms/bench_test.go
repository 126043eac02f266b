package gcpckms

import (
	"context"
	"crypto"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// BenchmarkAgainstSDK compares signatures of this package with the bare call of Google's SDK, taking turns in one run, so
// that what else the machine does meets both: "ratio" is this package's rate divided by the SDK's, the median of the turns.
func BenchmarkAgainstSDK(b *testing.B) {
	server := newServer(b, nil)
	client, err := kms.NewKeyManagementClient(b.Context(), server.ClientOptions()...)
	require.NoError(b, err)
	defer client.Close()
	for _, alg := range []Algorithm{p256, "RSA_SIGN_PKCS1_2048_SHA256"} {
		p := addKey(b, server, lower(alg), alg, Software)
		digest := digestOf(crypto.SHA256, "message")
		id := name(p)
		bare := func(ctx context.Context) error {
			_, err := client.AsymmetricSign(ctx, &kmspb.AsymmetricSignRequest{
				Name: id, Digest: &kmspb.Digest{Digest: &kmspb.Digest_Sha256{Sha256: digest}}, DigestCrc32C: sum(digest),
			}, once)
			return err
		}
		for _, trust := range []bool{true, false} {
			keys, err := New(client, &Options{Remote: remote.Options{TrustSignatures: trust}})
			require.NoError(b, err)
			key, err := keys.Open(b.Context(), p)
			require.NoError(b, err)
			ours := func(ctx context.Context) error {
				_, err := key.(backend.Signer).SignContext(ctx, digest, crypto.SHA256)
				return err
			}
			for _, n := range []int{1, 8, 64} {
				b.Run(fmt.Sprintf("%s/verified=%t/goroutines=%d", alg, !trust, n), func(b *testing.B) {
					const turn = 128 // signatures in a turn
					var ratios []float64
					var total time.Duration
					for range b.N {
						reference := timed(b, n, turn, bare)
						took := timed(b, n, turn, ours)
						ratios = append(ratios, float64(reference)/float64(took))
						total += took
					}
					slices.Sort(ratios)
					b.ReportMetric(ratios[len(ratios)/2], "ratio")
					b.ReportMetric(float64(turn*b.N)/total.Seconds(), "signatures/s")
				})
			}
			require.NoError(b, keys.Close())
		}
	}
}

// timed returns how long n goroutines take for total calls.
func timed(b *testing.B, n, total int, do func(context.Context) error) time.Duration {
	var left atomic.Int64
	left.Store(int64(total))
	var wg sync.WaitGroup
	began := time.Now()
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(b.Context()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// BenchmarkOpen opens 1,000 keys of one account: "calls" is how many that takes.
func BenchmarkOpen(b *testing.B) {
	server := newServer(b, nil)
	const n = 1000
	all := make([]Params, n)
	for i := range all {
		all[i] = addKey(b, server, fmt.Sprintf("key-%d", i), p256, Software)
	}
	for b.Loop() {
		keys, err := NewFromOptions(b.Context(), nil, server.ClientOptions()...)
		require.NoError(b, err)
		server.Log.Clear()
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
					if _, err := keys.Open(b.Context(), all[i]); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.NoError(b, keys.Close())
	}
	b.ReportMetric(float64(server.Log.Count("")), "calls")
}

// BenchmarkQueue has 10,000 callers on one key whose bucket has 1,000 turns a second.
func BenchmarkQueue(b *testing.B) {
	server := newServer(b, nil)
	p := addKey(b, server, "ec", p256, Software)
	keys, err := NewFromOptions(b.Context(), &Options{Remote: remote.Options{
		TrustSignatures: true, CallTimeout: time.Minute, KeyRate: remote.Rate{PerSecond: 1000}, MaxInFlight: 64,
	}}, server.ClientOptions()...)
	require.NoError(b, err)
	defer keys.Close()
	key, err := keys.Open(b.Context(), p)
	require.NoError(b, err)
	digest := digestOf(crypto.SHA256, "message")
	var peak uint64 // of memory in use, by samples
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			peak = max(peak, stats.StackInuse+stats.HeapInuse)
			select {
			case <-ticker.C:
			case <-stop:
				return
			}
		}
	}()
	for b.Loop() {
		timed(b, 10_000, 10_000, func(ctx context.Context) error {
			_, err := key.(backend.Signer).SignContext(ctx, digest, crypto.SHA256)
			return err
		})
	}
	close(stop)
	<-stopped
	b.ReportMetric(float64(peak)/(1<<20), "MiB")
}
