package main

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"text/tabwriter"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/transit"
)

// contenderTransit signs on a token, through an engine and with the backend's own handle. Both are in one process, since two processes with the
// same code may differ by a third, for as long as they run.
const contenderTransit = "transit"

// bareOf is what the same is called with the handle.
func bareOf(name string) string { return "bare " + name }

const (
	batchItems    = 100
	batchParallel = 8
	batchOf100    = "batch of 100"
)

// streamBytes are written to a stream at a time; streamed is how long it is.
var (
	streamBytes = make([]byte, 64<<10)
	streamed    = 1 << 30
)

// newTransit returns an engine with a P-256 key of b, software keys beside it, and the key's bare handle.
func newTransit(ctx context.Context, b backend.Backend, params backend.Params, soft backend.Backend) (*transit.Engine, backend.Signer, error) {
	bare, err := as[backend.Signer](b.Open(ctx, params))
	if err != nil {
		return nil, nil, err
	}
	r := managedkey.NewRegistry()
	mount, err := r.Mount(ctx, benchRef.Namespace, "transit")
	if err != nil {
		return nil, nil, err
	}
	if err := r.Create(ctx, managedkey.Entry{Ref: benchRef, Backend: b, Params: params, AnyMount: true}); err != nil {
		return nil, nil, err
	}
	e := transit.New(mount, &transit.Options{Software: soft, BatchParallel: batchParallel})
	return e, bare, e.CreateKey(ctx, "ec", transit.KeyOptions{ManagedKey: benchRef.Name})
}

func signRequest() transit.SignRequest {
	return transit.SignRequest{Input: digest[:], Prehashed: true}
}

func transitSign(ctx context.Context, e *transit.Engine) operation {
	return func() error {
		_, err := e.Sign(ctx, "ec", signRequest())
		return err
	}
}

func bareSign(ctx context.Context, key backend.Signer) operation {
	return func() error {
		_, err := key.SignContext(ctx, digest[:], crypto.SHA256)
		return err
	}
}

// tokenKeys opens the contenders' key.
func tokenKeys() (*transit.Engine, backend.Signer, error) {
	b, err := oursBackend(pkcs11.Library{})
	if err != nil {
		return nil, nil, err
	}
	return newTransit(context.Background(), b, oursParams("ec", pkcs11.ECDSA), nil)
}

func transitKeys() (map[string]operation, error) {
	e, bare, err := tokenKeys()
	requests := make([]transit.SignRequest, batchItems)
	for i := range requests {
		requests[i] = signRequest()
	}
	ctx := context.Background()
	one := bareSign(ctx, bare)
	return map[string]operation{
		algorithms[0]: transitSign(ctx, e), bareOf(algorithms[0]): one, bareOf(batchOf100): func() error { return signAll(one) },
		batchOf100: func() error {
			results, err := e.SignBatch(ctx, "ec", requests)
			for _, r := range results {
				if r.Err != nil {
					return r.Err
				}
			}
			return err
		},
	}, err
}

// signAll signs a batch with as many goroutines as the engine does.
func signAll(one operation) error {
	var next atomic.Int64
	errs := make([]error, batchParallel)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for next.Add(1) <= batchItems && errs[i] == nil {
				errs[i] = one()
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// transit prints what package transit costs on top of the keys and ciphers that it uses.
func (w *workplace) transit() error {
	ctx := context.Background()
	b := software.New(nil)
	defer b.Close()
	params := software.Params{KeyName: "ec", KeyType: software.ECDSA, Curve: software.P256}
	if _, err := b.Generate(ctx, params, nil); err != nil {
		return err
	}
	e, bare, err := newTransit(ctx, b, params, b)
	if err != nil {
		return err
	}
	if err := e.CreateKey(ctx, "aes", transit.KeyOptions{Type: transit.TypeAES256}); err != nil {
		return err
	}
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return err
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return err
	}
	request := transit.EncryptRequest{Plaintext: message}
	total, short := 3**rounds, *window/4
	fmt.Printf("Operations per second through transit beside what does the work there; median of %d rounds of %v (SoftHSM2: %d of %v),\n"+
		"ratios within a round.\n\n", total, short, *rounds, *window)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "operation\tgoroutines\tbare\ttransit\tratio\tcpu\t")
	for _, row := range []struct {
		name string
		ops  []operation
	}{
		{"sign P-256", []operation{bareSign(ctx, bare), transitSign(ctx, e)}},
		{"AES-256-GCM 1 KiB", []operation{
			func() error { gcm.Seal(nil, nil, message, nil); return nil },
			func() error { _, _, err := e.EncryptBytes(ctx, "aes", nil, request); return err },
		}},
		{"the same in an envelope", []operation{
			func() error { gcm.Seal(nil, nil, message, nil); return nil },
			func() error { _, err := e.Encrypt(ctx, "aes", request); return err },
		}},
	} {
		for _, n := range throughCallers {
			rates, cpu, err := interleavedSpeeds(row.ops, n, total, short)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s\t%d\t%.0f\t%.0f\t%.3f\t%.3f\t\n", row.name, n, median(rates[0]), median(rates[1]), ratio(rates[1], rates[0]), ratio(cpu[1], cpu[0]))
		}
	}
	if _, err := softhsm.Module(); err == nil && hasCgo {
		if err := w.transitToken(out); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return streams(ctx, e, gcm)
}

// transitToken adds the rows of a key on a token.
func (w *workplace) transitToken(out io.Writer) error {
	token, err := w.token()
	if err != nil {
		return err
	}
	p, err := w.start(contenderTransit, token)
	if err != nil {
		return err
	}
	defer p.stop()
	for _, row := range []struct {
		name  string
		n     int
		items float64
	}{{algorithms[0], 1, 1}, {algorithms[0], 8, 1}, {batchOf100, 1, batchItems}} {
		r, err := measureBeside(p, []string{row.name, bareOf(row.name)}, row.n)
		if err != nil {
			return err
		}
		ours, oursCPU := r.of(row.name)
		bare, bareCPU := r.of(bareOf(row.name))
		fmt.Fprintf(out, "SoftHSM2 %s\t%d\t%.0f\t%.0f\t%.3f\t%.3f\t\n", row.name, row.n, row.items*median(bare), row.items*median(ours),
			ratio(ours, bare), ratio(oursCPU, bareCPU))
	}
	return nil
}

// streams prints how fast a large stream is encrypted, and with how much memory.
func streams(ctx context.Context, e *transit.Engine, gcm cipher.AEAD) error {
	var bare, ours, bareCPU, oursCPU, allocated []float64
	sealed := make([]byte, 0, len(streamBytes)+gcm.Overhead())
	for range *rounds {
		speed, err := measure(func() error {
			for range streamed / len(streamBytes) {
				gcm.Seal(sealed, nil, streamBytes, nil)
			}
			return nil
		}, 1, 1)
		if err != nil {
			return err
		}
		bare, bareCPU = append(bare, speed.rate*float64(streamed)/1e6), append(bareCPU, speed.cpu)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if speed, err = measure(func() error { return writeStream(ctx, e) }, 1, 1); err != nil {
			return err
		}
		runtime.ReadMemStats(&after)
		ours, oursCPU = append(ours, speed.rate*float64(streamed)/1e6), append(oursCPU, speed.cpu)
		allocated = append(allocated, float64(after.TotalAlloc-before.TotalAlloc)/(1<<20))
	}
	_, err := fmt.Printf("\nA stream of %d MiB, and AES-256-GCM of as many bytes in pieces of 64 KiB: %.0f and %.0f MB/s, ratio %.3f, by\n"+
		"processor time %.3f; all that was allocated meanwhile is %.2f MiB. cpu is the ratio by processor time.\n",
		streamed>>20, median(ours), median(bare), ratio(ours, bare), ratio(oursCPU, bareCPU), median(allocated))
	return err
}

func writeStream(ctx context.Context, e *transit.Engine) error {
	w, err := e.NewEncryptingWriter(ctx, "aes", io.Discard, transit.StreamOptions{Format: transit.StreamAESGCMHKDF})
	if err != nil {
		return err
	}
	for range streamed / len(streamBytes) {
		if _, err := w.Write(streamBytes); err != nil {
			return err
		}
	}
	return w.Close()
}
