package telemetry

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/managedkey"
)

// Scope is the name of the tracer and the meter.
const Scope = "github.com/managedkeys/managedkeys/managedkey/telemetry"

// maxCached bounds the attribute sets that are kept.
const maxCached = 4096

// Options are the options of [New]. The zero value is fine, and so is nil.
type Options struct {
	TracerProvider trace.TracerProvider // nil means otel.GetTracerProvider()
	MeterProvider  metric.MeterProvider // nil means otel.GetMeterProvider()

	// Namespaces and Mounts have the duration of operations measured by namespace, and by the mount's path, as well.
	Namespaces, Mounts bool
}

// Telemetry is a managedkey.Observer that makes spans and metrics. All methods are safe for concurrent use.
type Telemetry struct {
	opts       Options
	tracer     trace.Tracer
	meter      metric.Meter
	operations metric.Float64Histogram
	calls      metric.Float64Histogram
	denials    metric.Int64Counter

	sets   sync.Map // of series to metric.MeasurementOption
	cached atomic.Int64
}

var _ managedkey.DenialObserver = (*Telemetry)(nil)

// series is what an operation or a call is counted under.
type series struct{ operation, call, backend, class, namespace, mount string }

// New returns a Telemetry. opts may be nil. The error is that of the meter, which refuses no instrument of this package.
func New(opts *Options) (*Telemetry, error) {
	t := new(Telemetry)
	if opts != nil {
		t.opts = *opts
	}
	if t.opts.TracerProvider == nil {
		t.opts.TracerProvider = otel.GetTracerProvider()
	}
	if t.opts.MeterProvider == nil {
		t.opts.MeterProvider = otel.GetMeterProvider()
	}
	t.tracer, t.meter = t.opts.TracerProvider.Tracer(Scope), t.opts.MeterProvider.Meter(Scope)
	var err error
	histogram := func(name, description string) (h metric.Float64Histogram) {
		if err == nil {
			h, err = t.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(
				0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30))
		}
		return h
	}
	t.operations = histogram("managedkeys.operation.duration", "How long operations with keys, and changes of the registry, take.")
	t.calls = histogram("managedkeys.call.duration", "How long requests to key managers on a network take.")
	if err == nil {
		t.denials, err = t.meter.Int64Counter("managedkeys.request.denied", metric.WithUnit("{request}"),
			metric.WithDescription("Requests that were refused because of who made them."))
	}
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return t, nil
}

// Context returns a context with which operations of a backend's bare handle, which no registry sees, have spans and metrics of
// the requests that they make. Operations of a registry's handles need none.
func (t *Telemetry) Context(ctx context.Context) context.Context {
	return remote.WithObserver(ctx, t.attempt)
}

// Begin implements managedkey.Observer.
func (t *Telemetry) Begin(ctx context.Context, op *managedkey.Operation) (context.Context, error) {
	ctx, span := t.tracer.Start(ctx, "managedkeys "+op.Name, trace.WithTimestamp(op.Start))
	if span.IsRecording() {
		span.SetAttributes(attributes(op)...)
	}
	return remote.WithObserver(ctx, t.attempt), nil
}

// attributes returns those of an operation's span that have a value.
func attributes(op *managedkey.Operation) []attribute.KeyValue {
	all := make([]attribute.KeyValue, 0, 12)
	for _, a := range [...]struct{ name, value string }{
		{"managedkeys.operation", op.Name}, {"managedkeys.backend", op.Backend},
		{"managedkeys.namespace", string(op.Ref.Namespace)}, {"managedkeys.mount", op.MountPath},
		{"managedkeys.key.name", op.Ref.Name}, {"managedkeys.key.id", op.UUID}, {"managedkeys.key.algorithm", op.Algorithm},
		{"managedkeys.options", op.Options},
	} {
		if a.value != "" {
			all = append(all, attribute.String(a.name, a.value))
		}
	}
	if op.Version != 0 {
		all = append(all, attribute.Int("managedkeys.key.version", op.Version))
	}
	return all
}

// End implements managedkey.Observer. The error is always nil.
func (t *Telemetry) End(ctx context.Context, op *managedkey.Operation) error {
	class := managedkey.ErrorClass(op.Err)
	finish(trace.SpanFromContext(ctx), class)
	s := series{operation: op.Name, backend: op.Backend, class: class}
	if t.opts.Namespaces {
		s.namespace = string(op.Ref.Namespace)
	}
	if t.opts.Mounts {
		s.mount = op.MountPath
	}
	t.operations.Record(ctx, op.Duration.Seconds(), t.set(s))
	return nil
}

// Denied implements managedkey.DenialObserver. Requests that were left out for being too many are counted as "omitted".
func (t *Telemetry) Denied(ctx context.Context, d *managedkey.Denial) {
	class, n := d.Class, int64(1)
	if d.Omitted > 0 {
		class, n = "omitted", int64(d.Omitted)
	}
	t.denials.Add(ctx, n, t.set(series{class: class}))
}

// finish ends a span.
func finish(span trace.Span, class string) {
	if class != "" {
		span.SetStatus(codes.Error, class)
		span.SetAttributes(attribute.String("error.type", class))
	}
	span.End()
}

// attempt makes the span of a request to a service.
func (t *Telemetry) attempt(ctx context.Context, a remote.Attempt) (context.Context, func(error)) {
	ctx, span := t.tracer.Start(ctx, a.Backend+" "+a.Op, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("managedkeys.backend", a.Backend), attribute.String("managedkeys.call", a.Op),
			attribute.Int("managedkeys.call.attempt", a.Number))
	}
	began := time.Now()
	return ctx, func(err error) {
		class := managedkey.ErrorClass(err)
		t.calls.Record(ctx, time.Since(began).Seconds(), t.set(series{call: a.Op, backend: a.Backend, class: class}))
		finish(span, class)
	}
}

// set returns the attributes of a series.
func (t *Telemetry) set(s series) metric.MeasurementOption {
	if known, ok := t.sets.Load(s); ok {
		return known.(metric.MeasurementOption)
	}
	var all []attribute.KeyValue
	for _, a := range [...]struct{ name, value string }{
		{"managedkeys.operation", s.operation}, {"managedkeys.call", s.call}, {"managedkeys.backend", s.backend}, {"error.type", s.class},
		{"managedkeys.namespace", s.namespace}, {"managedkeys.mount", s.mount},
	} {
		if a.value != "" {
			all = append(all, attribute.String(a.name, a.value))
		}
	}
	option := metric.WithAttributeSet(attribute.NewSet(all...))
	if t.cached.Load() < maxCached {
		if _, there := t.sets.LoadOrStore(s, option); !there {
			t.cached.Add(1)
		}
	}
	return option
}
