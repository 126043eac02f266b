package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/replicated"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/p11kit"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// failoverCallers sign at once.
const failoverCallers = 8

// failoverRounds are fewer than those of other tables, because in each a place is started anew.
const failoverRounds = 3

// pair is a key that two places hold: both, and the one that stays.
type pair struct {
	both, one backend.Signer
	kill      func()
	close     func() error
}

// failover prints the longest signature while one of two places ends.
func (w *workplace) failover() error {
	ctx := context.Background()
	kinds := []struct {
		name, how string
		make      func(context.Context, *owner) (*pair, error)
	}{{"software", "closed", softwarePair}}
	_, noKit := p11kit.Module()
	if _, err := softhsm.Module(); err == nil && noKit == nil && hasCgo {
		kinds = append(kinds, struct {
			name, how string
			make      func(context.Context, *owner) (*pair, error)
		}{"SoftHSM2", "killed", w.tokenPair})
	}
	n := min(*rounds, failoverRounds)
	fmt.Printf("A key in two places (backend/replicated), of which the preferred one ends while %d goroutines sign with ECDSA P-256; in ms,\n"+
		"median of %d rounds of %v. Beside it the place that stays, alone: its signatures, and the longest one, in the same round.\n\n",
		failoverCallers, n, 2**window)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "places\tone is\tfailed\tp50\tp99\tlongest\talone: p50\tp99\tlongest\tratio of the longest\t")
	for _, kind := range kinds {
		var both, alone [3][]float64
		failed := 0
		for range n {
			o := new(owner)
			two, one, lost, err := failoverRound(ctx, kind.make, o)
			o.close()
			if err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
			failed += lost
			for i := range both {
				both[i], alone[i] = append(both[i], two[i]), append(alone[i], one[i])
			}
		}
		ms := func(x []float64) string { return cell("%.2f", 1000*median(x)) }
		fmt.Fprintf(out, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t\n", kind.name, kind.how, failed,
			ms(both[0]), ms(both[1]), ms(both[2]), ms(alone[0]), ms(alone[1]), ms(alone[2]), ratio(both[2], alone[2]))
	}
	return out.Flush()
}

// failoverRound returns the median, the 99th percentile and the maximum of the durations of signatures, in seconds, with two
// places of which one ends and with the other one alone, and how many signatures failed.
func failoverRound(ctx context.Context, make func(context.Context, *owner) (*pair, error), o *owner) (two, one [3]float64, failed int, err error) {
	var p *pair
	if lent := lend(func() { p, err = make(ctx, o) }); lent != nil {
		return two, one, 0, lent
	}
	if err != nil {
		return two, one, 0, err
	}
	defer p.close()
	if one, failed, err = underLoad(ctx, p.one, nil); err != nil || failed > 0 {
		return two, one, failed, errors.Join(err, errors.New("the place that stays fails"))
	}
	two, failed, err = underLoad(ctx, p.both, p.kill)
	return two, one, failed, err
}

// underLoad signs for two windows, and calls during, if it isn't nil, after half of the first one; the rest begins when that
// has returned.
func underLoad(ctx context.Context, key backend.Signer, during func()) (summary [3]float64, failed int, err error) {
	var mu sync.Mutex
	var all []float64
	var wg sync.WaitGroup
	var ended atomic.Bool
	for range failoverCallers {
		wg.Go(func() {
			var own []float64
			lost := 0
			for start := time.Now(); !ended.Load(); {
				if _, err := key.SignContext(ctx, digest[:], crypto.SHA256); err != nil {
					lost++
				}
				now := time.Now()
				own = append(own, now.Sub(start).Seconds())
				start = now
			}
			mu.Lock()
			defer mu.Unlock()
			all, failed = append(all, own...), failed+lost
		})
	}
	time.Sleep(*window / 2) // the load is what is waited for
	if during != nil {
		during()
	}
	time.Sleep(*window * 3 / 2)
	ended.Store(true)
	wg.Wait()
	if len(all) == 0 {
		return summary, failed, errors.New("nothing was signed")
	}
	return [3]float64{quantile(all, 0.5), quantile(all, 0.99), slices.Max(all)}, failed, nil
}

// softwarePair has two stores in memory, of which one is closed.
func softwarePair(ctx context.Context, o *owner) (*pair, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	params := software.Params{KeyName: "ec", KeyType: software.ECDSA, Curve: software.P256}
	first, second := software.New(nil), software.New(nil)
	for _, b := range []*software.Backend{first, second} {
		o.Cleanup(func() { b.Close() })
		if _, err := b.Import(ctx, params, private, nil); err != nil {
			return nil, err
		}
	}
	return newPair(ctx, first, second, params, func() { first.Close() })
}

// tokenPair has a token behind a process that is killed, and the same token directly.
func (w *workplace) tokenPair(ctx context.Context, o *owner) (*pair, error) {
	token := softhsm.Require(o)
	server := p11kit.Require(o, token)
	connect := func(path string) (*pkcs11.Backend, error) {
		b, err := pkcs11.New(pkcs11.Library{Name: "bench", Path: path})
		if err == nil {
			o.Cleanup(func() { b.Close() })
		}
		return b, err
	}
	direct, err := connect(token.Module)
	if err != nil {
		return nil, err
	}
	served, err := connect(server.Module())
	if err != nil {
		return nil, err
	}
	params := pkcs11.Params{Library: "bench", TokenLabel: token.Label, PIN: backend.Secret(token.PIN), KeyLabel: "ec", Mechanism: pkcs11.ECDSA, Curve: "P256"}
	if _, err := direct.Generate(ctx, params, nil); err != nil {
		return nil, err
	}
	return newPair(ctx, served, direct, params, server.Kill)
}

func newPair(ctx context.Context, first, second backend.Backend, params backend.Params, kill func()) (*pair, error) {
	b, err := replicated.New([]replicated.Place{{Name: "first", Backend: first}, {Name: "second", Backend: second}}, nil)
	if err != nil {
		return nil, err
	}
	both, err := as[backend.Signer](b.Open(ctx, replicated.Params{Places: []replicated.At{
		{Place: "first", Params: params}, {Place: "second", Params: params},
	}}))
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	one, err := as[backend.Signer](second.Open(ctx, params))
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return &pair{both, one, kill, b.Close}, nil
}
