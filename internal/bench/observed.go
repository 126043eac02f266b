package main

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/audit"
	"github.com/managedkeys/managedkeys/managedkey/telemetry"
)

// auditKey is the audit key of the table.
const auditKey = "thirty-two bytes for a benchmark"

// watching is what looks on while a key signs.
type watching struct {
	name     string
	observer func() (managedkey.Observer, error) // nil for none
}

// observed prints signatures through a handle that somebody looks at beside the backend's own handle.
func (w *workplace) observed() error {
	file := func(name string, sync audit.Sync, mode audit.FailClosed) func() (managedkey.Observer, error) {
		return func() (managedkey.Observer, error) {
			return audit.New(auditKey, []audit.Sink{audit.File{Path: filepath.Join(w.dir, name), Sync: sync, MaxSize: 64 << 20, Keep: 1}}, &audit.Options{FailClosed: mode})
		}
	}
	metrics := func() (managedkey.Observer, error) {
		return telemetry.New(&telemetry.Options{
			TracerProvider: trace.NewTracerProvider(), // samples, and exports nothing
			MeterProvider:  metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())),
		})
	}
	all := []watching{
		{"nobody", func() (managedkey.Observer, error) { return nil, nil }},
		{"telemetry", metrics},
		{"audit, no fsync", file("audit-1", audit.SyncNever, audit.FailOpen)},
		{"audit, no fsync, fails closed", file("audit-2", audit.SyncNever, audit.AllSinks)},
		{"audit, fsync for every record", file("audit-3", audit.SyncEvery, audit.FailOpen)},
	}
	ctx := context.Background()
	b := software.New(nil)
	defer b.Close()
	params := software.Params{KeyName: "ec", KeyType: software.ECDSA, Curve: software.P256}
	bare, err := as[backend.Signer](b.Generate(ctx, params, nil))
	if err != nil {
		return err
	}
	ops := []operation{func() error {
		_, err := bare.SignContext(ctx, digest[:], crypto.SHA256)
		return err
	}}
	for _, how := range all {
		o, err := how.observer()
		if err != nil {
			return err
		}
		if log, ok := o.(*audit.Log); ok {
			defer log.Close()
		}
		r := managedkey.NewRegistry()
		if err := r.Create(ctx, managedkey.Entry{Ref: benchRef, Backend: b, Params: params}); err != nil {
			return err
		}
		key, err := r.Key(ctx, benchRef)
		if err != nil {
			return err
		}
		r.Observe(o)
		ops = append(ops, func() error {
			_, err := key.SignContext(ctx, digest[:], crypto.SHA256)
			return err
		})
	}
	fmt.Printf("Signatures per second through a handle that is observed, beside the backend's own handle; software ECDSA P-256, median of %d\n"+
		"rounds of %v, ratios within a round.\n\n", *rounds, *window)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "observer\tgoroutines\tsignatures/s\tratio\t")
	for _, n := range throughCallers {
		rates, err := interleaved(ops, n, *rounds, *window)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "bare handle\t%d\t%.0f\t1\t\n", n, median(rates[0]))
		for i, how := range all {
			fmt.Fprintf(out, "%s\t%d\t%.0f\t%.3f\t\n", how.name, n, median(rates[i+1]), ratio(rates[i+1], rates[0]))
		}
	}
	return out.Flush()
}
