package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// revocations are how often a grant is revoked on each engine.
var revocations = 200

// errTooLate is why a measurement ends.
var errTooLate = errors.New("the change had no effect within 10 s")

// until asks again and again until done. The engine's server needs the processor too: after a while, until looks less often.
func until(done func() bool) error {
	for began := time.Now(); !done(); {
		switch waited := time.Since(began); {
		case waited > 10*time.Second:
			return errTooLate
		case waited > 100*time.Microsecond:
			time.Sleep(50 * time.Microsecond)
		default:
			runtime.Gosched()
		}
	}
	return nil
}

// followed are the seconds from the beginning of a change to its effect elsewhere, and from when it was acknowledged.
type followed struct{ whole, after []float64 }

// revoking measures how long a registry's Revoke takes until a handle in another one has stopped.
func (e *engine) revoking(ctx context.Context, b backend.Backend) (f followed, err error) {
	var registries [2]*managedkey.Registry
	for i := range registries {
		var st store.Store
		if st, err = e.connect(); err != nil {
			return f, err
		}
		if e.notify != nil { // else it is one value
			defer st.Close()
		}
		if registries[i], err = openRegistry(ctx, st, b); err != nil {
			return f, err
		}
		defer registries[i].Close()
		if i == 0 {
			err = registries[0].Create(ctx, managedkey.Entry{Ref: benchRef, Connection: "hsm", AllowGenerateKey: true,
				Params: software.Params{KeyName: benchRef.Name, KeyType: software.ECDSA, Curve: software.P256}})
			if err != nil {
				return f, err
			}
			if _, err = registries[0].Key(ctx, benchRef); err != nil {
				return f, err
			}
			if _, err = registries[0].Mount(ctx, benchRef.Namespace, "pki", benchRef.Name); err != nil {
				return f, err
			}
		}
	}
	here, there := registries[0], registries[1]
	mount, err := here.OpenMount(benchRef.Namespace, "pki")
	if err != nil {
		return f, err
	}
	elsewhere, err := there.OpenMount(benchRef.Namespace, "pki")
	if err != nil {
		return f, err
	}
	key, err := elsewhere.Key(ctx, benchRef.Name)
	if err != nil {
		return f, err
	}
	for range revocations {
		if err := until(func() bool { return key.Permits(backend.UsageSign) == nil }); err != nil {
			return f, err
		}
		stopped := make(chan time.Time, 1)
		began := time.Now()
		go func() {
			until(func() bool { return key.Permits(backend.UsageSign) != nil })
			stopped <- time.Now()
		}()
		if err := here.Revoke(ctx, mount, benchRef.Name); err != nil {
			return f, err
		}
		acknowledged, at := time.Now(), <-stopped
		if key.Permits(backend.UsageSign) == nil {
			return f, errTooLate
		}
		f.whole = append(f.whole, at.Sub(began).Seconds())
		f.after = append(f.after, max(0, at.Sub(acknowledged)).Seconds())
		if err := here.Grant(ctx, mount, benchRef.Name); err != nil {
			return f, err
		}
	}
	return f, nil
}

// telling measures the engine's own client: how long a change takes until another connection hears of it.
func (e *engine) telling(ctx context.Context) (f followed, err error) {
	if e.notify == nil {
		return f, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	change, heard, err := e.notify(ctx)
	if err != nil {
		return f, err
	}
	for range revocations {
		news := make(chan time.Time, 1)
		began := time.Now()
		go func() {
			if heard() == nil {
				news <- time.Now()
			}
			close(news)
		}()
		if err := change(); err != nil {
			return f, err
		}
		acknowledged := time.Now()
		at, ok := <-news
		if !ok {
			return f, errTooLate
		}
		f.whole = append(f.whole, at.Sub(began).Seconds())
		f.after = append(f.after, max(0, at.Sub(acknowledged)).Seconds())
	}
	return f, nil
}

// follow prints how soon a change has its effect in another registry on the same engine.
func (w *workplace) follow() error {
	ctx := context.Background()
	engines, closeAll, err := w.engines(ctx)
	defer closeAll()
	if err != nil {
		return err
	}
	b := software.New(nil)
	defer b.Close()
	fmt.Printf("Revoke in one registry until the handle in another one has stopped, in ms, of %d; beside the engine's own client: a change\n"+
		"of one record until another connection hears of it.\n\n", revocations)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "engine\tp50\tp99\tclient's p50\tp99\tratio of p50\tafter the acknowledgement: p50\tp99\tclient's p50\t")
	for _, e := range engines {
		ours, err := e.revoking(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		client, err := e.telling(ctx)
		if err != nil {
			return fmt.Errorf("%s: its client: %w", e.name, err)
		}
		ms := func(x []float64, q float64) string { return cell("%.2f", 1000*quantile(x, q)) }
		times := math.NaN()
		if len(client.whole) > 0 {
			times = median(ours.whole) / median(client.whole)
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", e.name, ms(ours.whole, 0.5), ms(ours.whole, 0.99),
			ms(client.whole, 0.5), ms(client.whole, 0.99), cell("%.2f", times),
			ms(ours.after, 0.5), ms(ours.after, 0.99), ms(client.after, 0.5))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	fmt.Print(`
A revocation reads the record, replaces exactly what it read, and is then seen by both; on memory and bolt, which tell nobody
else, both registries have one store. 0 after the acknowledgement: the other registry was first.
`)
	return nil
}
