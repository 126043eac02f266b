package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	api "go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/audit"
	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/telemetry"
)

// measures are the metrics; the zero value is none.
type measures struct {
	telemetry *telemetry.Telemetry
	provider  api.MeterProvider
	handler   http.Handler
}

// newMeasures collects metrics, if the file says so, for Prometheus to fetch.
func newMeasures(t *config.Telemetry, s *site) (m measures, err error) {
	if t == nil {
		return m, nil
	}
	if t.Traces || t.OTLPEndpoint != "" {
		return m, fmt.Errorf("%s: this server has no exporter of traces; leave traces and otlp_endpoint out", t.Pos)
	}
	if !t.Metrics {
		return m, nil
	}
	about := []attribute.KeyValue{attribute.String("service.name", "managedkeys")}
	if t.ServiceName != "" {
		about[0] = attribute.String("service.name", t.ServiceName)
	}
	for _, a := range t.Attributes {
		name, value, _ := strings.Cut(a, "=")
		about = append(about, attribute.String(name, value))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reader, err := exporter.New(exporter.WithRegisterer(registry))
	if err != nil {
		return m, err
	}
	provider := metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(resource.NewSchemaless(about...)))
	s.later(func() error { return provider.Shutdown(context.Background()) })
	m.provider = provider
	m.telemetry, err = telemetry.New(&telemetry.Options{MeterProvider: provider, TracerProvider: noop.NewTracerProvider()})
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return m, err
}

func (m measures) observers() []managedkey.Observer {
	if m.telemetry == nil {
		return nil
	}
	return []managedkey.Observer{m.telemetry}
}

// watch has gauges of the registry collected as well.
func (m measures) watch(r *managedkey.Registry, s *site) error {
	if m.telemetry == nil {
		return nil
	}
	stop, err := m.telemetry.Watch(r)
	if err == nil {
		s.later(stop)
	}
	return err
}

// openAudit opens the audit logs. Each block is a log of its own, with its own key.
func openAudit(cfg *config.Config, log *slog.Logger, out io.Writer, s *site) (all []managedkey.Observer, err error) {
	for _, a := range cfg.Audit {
		opts := &audit.Options{Logger: log}
		if a.FailClosed {
			opts.FailClosed = audit.AllSinks
		}
		key := a.HMACKey
		if key == "" { // of a log that has no chain: the key is for what it hashes
			key = backend.Secret(rand.Text() + rand.Text())
		}
		one, err := audit.New(key, []audit.Sink{sink(a, out)}, opts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Pos, err)
		}
		s.later(one.Close)
		all = append(all, one)
	}
	return all, nil
}

// sink returns what an audit block describes.
func sink(a *config.Audit, out io.Writer) audit.Sink {
	if a.Type == "slog" {
		var level slog.Level // Info
		if a.Level != "" {
			_ = level.UnmarshalText([]byte(a.Level)) // it was checked when the file was loaded
		}
		text := slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}) // whatever its level, an audit log has everything
		return audit.Slog{Logger: slog.New(levelled{text, level})}
	}
	f := audit.File{Path: a.Path, Interval: a.FSyncEvery, MaxSize: a.RotateBytes, MaxAge: a.RotateAfter, Keep: a.RotateFiles}
	switch a.FSync {
	case "always":
		f.Sync = audit.SyncEvery
	case "never":
		f.Sync = audit.SyncNever
	default:
		f.Sync = audit.SyncInterval
	}
	if mode, err := strconv.ParseUint(a.Mode, 8, 32); err == nil {
		f.Mode = fs.FileMode(mode)
	}
	return f
}

// levelled is a handler that takes records of the level Info as ones of its own level.
type levelled struct {
	slog.Handler
	level slog.Level
}

func (h levelled) Enabled(ctx context.Context, level slog.Level) bool {
	return h.Handler.Enabled(ctx, level+h.level)
}

func (h levelled) Handle(ctx context.Context, r slog.Record) error {
	r.Level += h.level
	return h.Handler.Handle(ctx, r)
}
