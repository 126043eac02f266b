package telemetry

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	api "go.opentelemetry.io/otel/trace"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

var testRef = namespace.Ref{Namespace: "team-a", Name: "issuing-ca"}

// service is a backend whose keys make their signatures with requests to a service that fails at first, and that is doing somehow.
type service struct {
	*software.Backend
	conn  *remote.Connection
	fails int
	load  []backend.Load
}

type serviceKey struct {
	backend.Signer
	s *service
}

func (s *service) Load() []backend.Load { return s.load }

func (s *service) Open(ctx context.Context, p backend.Params) (backend.Key, error) {
	key, err := s.Backend.Open(ctx, p)
	if err != nil {
		return nil, err
	}
	return serviceKey{key.(backend.Signer), s}, nil
}

func (s *service) Generate(ctx context.Context, p backend.Params, opts *backend.GenerateOptions) (backend.Key, error) {
	key, err := s.Backend.Generate(ctx, p, opts)
	if err != nil {
		return nil, err
	}
	return serviceKey{key.(backend.Signer), s}, nil
}

func (k serviceKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return remote.Do(ctx, k.s.conn, remote.Call{Op: "Sign"}, func(ctx context.Context) ([]byte, error) {
		if k.s.fails--; k.s.fails >= 0 {
			return nil, errors.New("token 1234 is no good")
		}
		return k.Signer.SignContext(ctx, digest, opts)
	})
}

// rig is a registry that is watched, with what its spans and metrics are.
type rig struct {
	*managedkey.Registry
	*service
	spans  *tracetest.InMemoryExporter
	reader *metric.ManualReader
	t      *Telemetry
}

func newRig(t *testing.T, opts Options) *rig {
	t.Helper()
	remotes, err := (*remote.Options)(nil).WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	classify := func(err error) remote.Verdict {
		return remote.Verdict{Err: fmt.Errorf("%w: %w", backend.ErrThrottled, err), Kind: remote.Throttled}
	}
	r := &rig{managedkey.NewRegistry(), &service{Backend: software.New(nil), conn: remote.NewConnection("fake", remotes, classify)},
		tracetest.NewInMemoryExporter(), metric.NewManualReader(), nil}
	t.Cleanup(func() { r.Backend.Close() })
	opts.TracerProvider = trace.NewTracerProvider(trace.WithSyncer(r.spans))
	opts.MeterProvider = metric.NewMeterProvider(metric.WithReader(r.reader))
	if r.t, err = New(&opts); err != nil {
		t.Fatal(err)
	}
	r.Observe(r.t)
	err = r.Create(t.Context(), managedkey.Entry{Ref: testRef, Backend: r.service, AllowGenerateKey: true,
		Params: software.Params{KeyName: "k", KeyType: software.ECDSA, Curve: software.P256}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// metrics returns each series, as its name and attributes, with its count or value.
func (r *rig) metrics(t *testing.T) map[string]int64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := r.reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	name := func(m metricdata.Metrics, set attribute.Set) string {
		return m.Name + " " + set.Encoded(attribute.DefaultEncoder())
	}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Histogram[float64]:
				if m.Unit != "s" {
					t.Errorf("%s is in %q", m.Name, m.Unit)
				}
				for _, p := range d.DataPoints {
					out[name(m, p.Attributes)] = int64(p.Count)
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					out[name(m, p.Attributes)] = p.Value
				}
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					out[name(m, p.Attributes)] = p.Value
				}
			}
		}
	}
	return out
}

// TestSpans: one for the operation, in that of the caller, and within it one for each attempt; errors only as classes.
func TestSpans(t *testing.T) {
	r := newRig(t, Options{})
	k, err := r.Key(t.Context(), testRef)
	if err != nil {
		t.Fatal(err)
	}
	r.spans.Reset()
	r.fails = 1
	ctx, parent := r.t.tracer.Start(t.Context(), "caller")
	if _, err := k.SignContext(ctx, make([]byte, 32), crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	if _, err := k.DecryptContext(ctx, nil, nil); err == nil {
		t.Fatal("a signing key decrypted")
	}
	spans := r.spans.GetSpans()
	if len(spans) != 4 {
		t.Fatalf("%d spans, want 4", len(spans))
	}
	first, second, op, denied := spans[0], spans[1], spans[2], spans[3]
	if first.Name != "fake Sign" || second.Name != "fake Sign" || op.Name != "managedkeys sign" || denied.Name != "managedkeys decrypt" {
		t.Errorf("spans %q, %q, %q, %q", first.Name, second.Name, op.Name, denied.Name)
	}
	if first.Parent.SpanID() != op.SpanContext.SpanID() || second.Parent.SpanID() != op.SpanContext.SpanID() || op.Parent.SpanID() != parent.SpanContext().SpanID() {
		t.Error("spans are not within each other")
	}
	if first.Status.Code != codes.Error || first.Status.Description != "ErrThrottled" || second.Status.Code == codes.Error || op.Status.Code == codes.Error ||
		denied.Status.Description != "ErrNotPermitted" || first.SpanKind != api.SpanKindClient {
		t.Errorf("status %v, %v, %v, %v", first.Status, second.Status, op.Status, denied.Status)
	}
	set := attribute.NewSet(op.Attributes...)
	want := "managedkeys.backend=software,managedkeys.key.algorithm=ECDSA P-256,managedkeys.key.id=" + k.UUID() +
		",managedkeys.key.name=issuing-ca,managedkeys.key.version=1,managedkeys.namespace=team-a,managedkeys.operation=sign,managedkeys.options=SHA-256"
	if got := set.Encoded(attribute.DefaultEncoder()); got != want {
		t.Errorf("attributes\n%s, want\n%s", got, want)
	}
	for _, s := range spans {
		if text := fmt.Sprint(s); strings.Contains(text, "1234") {
			t.Errorf("the error shows in %s", text)
		}
	}
}

// TestMetrics: durations by backend, operation and outcome, and no key's name.
func TestMetrics(t *testing.T) {
	for _, detailed := range []bool{false, true} {
		r := newRig(t, Options{Namespaces: detailed, Mounts: detailed})
		m, err := r.Mount(t.Context(), "team-a", "pki", "issuing-ca")
		if err != nil {
			t.Fatal(err)
		}
		k, err := m.Key(t.Context(), "issuing-ca")
		if err != nil {
			t.Fatal(err)
		}
		r.fails = 1
		for range 3 {
			if _, err := k.SignContext(t.Context(), make([]byte, 32), crypto.SHA256); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = k.DecryptContext(t.Context(), nil, nil)
		got := r.metrics(t)
		where := ""
		if detailed {
			where = ",managedkeys.mount=pki,managedkeys.namespace=team-a"
		}
		for series, want := range map[string]int64{
			"managedkeys.operation.duration managedkeys.backend=software" + where + ",managedkeys.operation=sign":                               3,
			"managedkeys.operation.duration error.type=ErrNotPermitted,managedkeys.backend=software" + where + ",managedkeys.operation=decrypt": 1,
			"managedkeys.call.duration managedkeys.backend=fake,managedkeys.call=Sign":                                                          3,
			"managedkeys.call.duration error.type=ErrThrottled,managedkeys.backend=fake,managedkeys.call=Sign":                                  1,
		} {
			if got[series] != want {
				t.Errorf("%s is %d, want %d; all: %v", series, got[series], want, got)
			}
		}
		if text := fmt.Sprint(got); strings.Contains(text, "issuing-ca") || strings.Contains(text, k.UUID()) {
			t.Errorf("a key's name is in %s", text)
		}
	}
}

// TestDenials: refused requests are counted by why they were, and those that were left out.
func TestDenials(t *testing.T) {
	r := newRig(t, Options{})
	for _, d := range []managedkey.Denial{{Class: "ErrDenied", Path: "secret"}, {Class: "ErrDenied"}, {Class: "ErrNotPermitted"}, {Omitted: 40}} {
		r.Denied(t.Context(), &d)
	}
	got := r.metrics(t)
	for class, want := range map[string]int64{"ErrDenied": 2, "ErrNotPermitted": 1, "omitted": 40} {
		if n := got["managedkeys.request.denied error.type="+class]; n != want {
			t.Errorf("%d of %s, want %d: %v", n, class, want, got)
		}
	}
}

// TestWatch: gauges follow, those to one peer are added up, and end with stop.
func TestWatch(t *testing.T) {
	r := newRig(t, Options{})
	if _, err := r.Key(t.Context(), testRef); err != nil {
		t.Fatal(err)
	}
	stop, err := r.t.Watch(r.Registry)
	if err != nil {
		t.Fatal(err)
	}
	r.load = []backend.Load{{Connection: "eu", Sessions: 2, Busy: 1, Waiting: 5, Hung: 1, Retries: 7}, {Connection: "eu", Sessions: 1, Down: true}, {Connection: "us"}}
	at := " managedkeys.connection=software,managedkeys.connection.peer=eu"
	got := r.metrics(t)
	for series, want := range map[string]int64{
		"managedkeys.connection.sessions" + at: 3, "managedkeys.connection.busy" + at: 1, "managedkeys.connection.waiting" + at: 5,
		"managedkeys.connection.hung" + at: 1, "managedkeys.connection.down" + at: 1, "managedkeys.connection.retries" + at: 7,
		"managedkeys.entries ": 1, "managedkeys.mounts ": 0, "managedkeys.keys.open ": 1,
	} {
		if value, ok := got[series]; !ok || value != want {
			t.Errorf("%s is %d, %t, want %d; all: %v", series, value, ok, want, got)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.metrics(t)["managedkeys.entries "]; ok {
		t.Error("observed after stop")
	}
}

// TestCacheIsBounded: series beyond the bound are measured all the same.
func TestCacheIsBounded(t *testing.T) {
	r := newRig(t, Options{})
	for i := range maxCached + 100 {
		r.t.set(series{namespace: fmt.Sprint(i)})
	}
	if n := r.t.cached.Load(); n > maxCached {
		t.Errorf("%d sets are kept", n)
	}
}

// TestDependencies: no SDK, and no backend but what they share.
func TestDependencies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const backends = "github.com/managedkeys/managedkeys/backend/"
	for _, dep := range strings.Fields(string(out)) {
		if strings.HasPrefix(dep, "go.opentelemetry.io/otel/sdk") || strings.HasPrefix(dep, backends) && dep != backends+"remote" {
			t.Errorf("it depends on %s", dep)
		}
	}
}
