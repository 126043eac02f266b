package telemetry

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// peer is what a gauge of a connection is about.
type peer struct{ connection, peer string }

// Watch has the gauges of the registry and its connections observed whenever metrics are collected, until stop is called. No call
// to a key manager is made for that.
func (t *Telemetry) Watch(r *managedkey.Registry) (stop func() error, err error) {
	var all []metric.Observable
	gauge := func(name, unit, description string) (g metric.Int64ObservableGauge) {
		if err == nil {
			g, err = t.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
			all = append(all, g)
		}
		return g
	}
	sessions := gauge("managedkeys.connection.sessions", "{session}", "Sessions that may run operations.")
	busy := gauge("managedkeys.connection.busy", "{operation}", "Operations that are with the key manager.")
	waiting := gauge("managedkeys.connection.waiting", "{operation}", "Operations that wait for a session or for their turn.")
	hung := gauge("managedkeys.connection.hung", "{operation}", "Operations that nobody waits for any more, and that have not returned.")
	down := gauge("managedkeys.connection.down", "1", "1 while operations fail at once because the key manager is away.")
	entries := gauge("managedkeys.entries", "{entry}", "Entries of the registry.")
	open := gauge("managedkeys.keys.open", "{key}", "Entries whose newest key is open, so that look-ups make no call.")
	mounts := gauge("managedkeys.mounts", "{mount}", "Mounts of the registry.")
	var retries metric.Int64ObservableCounter
	if err == nil {
		retries, err = t.meter.Int64ObservableCounter("managedkeys.connection.retries", metric.WithUnit("{request}"),
			metric.WithDescription("Requests that repeated one that failed."))
		all = append(all, retries)
	}
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	registration, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		e, m := r.Size()
		o.ObserveInt64(entries, int64(e))
		o.ObserveInt64(mounts, int64(m))
		o.ObserveInt64(open, int64(r.OpenKeys()))
		for at, l := range loads(r) {
			set := metric.WithAttributeSet(attribute.NewSet(
				attribute.String("managedkeys.connection", at.connection), attribute.String("managedkeys.connection.peer", at.peer)))
			o.ObserveInt64(sessions, int64(l.Sessions), set)
			o.ObserveInt64(busy, int64(l.Busy), set)
			o.ObserveInt64(waiting, int64(l.Waiting), set)
			o.ObserveInt64(hung, int64(l.Hung), set)
			o.ObserveInt64(retries, l.Retries, set)
			isDown := int64(0)
			if l.Down {
				isDown = 1
			}
			o.ObserveInt64(down, isDown, set)
		}
		return nil
	}, all...)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return registration.Unregister, nil
}

// loads returns how the connections are doing. Those to one peer, with several credentials, are one.
func loads(r *managedkey.Registry) map[peer]backend.Load {
	all := make(map[peer]backend.Load)
	for name, m := range r.Meters() {
		for _, l := range m.Load() {
			at := peer{name, l.Connection}
			sum := all[at]
			sum.Sessions += l.Sessions
			sum.Busy += l.Busy
			sum.Waiting += l.Waiting
			sum.Hung += l.Hung
			sum.Retries += l.Retries
			sum.Down = sum.Down || l.Down
			all[at] = sum
		}
	}
	return all
}
