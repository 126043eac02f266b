package pki

import (
	"context"
	"fmt"
	"math"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Scope is the name of the meter of [ExpiryWatch.Measure].
const Scope = "github.com/managedkeys/managedkeys/pki"

// Measure has what the checks have seen observed as OpenTelemetry gauges, whenever metrics are collected, until stop is called; nil
// means otel.GetMeterProvider(). No call is made for that. Each has the attribute managedkeys.mount, and managedkeys.namespace
// unless that is the root; there is nothing of single certificates. The error is that of the meter.
//
//	managedkeys.pki.issuer.expiry          s              until an issuer expires; below 0 afterwards
//	managedkeys.pki.responder.expiry       s              until the certificate of an OCSP responder does
//	managedkeys.pki.crl.expiry             s              until the next list of an issuer must be there, the earliest of its shards
//	managedkeys.pki.certificates.expiring  {certificate}  that have passed a threshold: see [ExpiryStatus]
//	managedkeys.pki.expiry.age             s              since a look at all of that was made to the end
//
// The first three have managedkeys.pki.issuer.id and managedkeys.pki.issuer.name, the third managedkeys.pki.crl as well, "complete" or
// "delta"; the fourth has managedkeys.pki.threshold, such as "7d"; and the last one managedkeys.pki.expiry.of, "issuers" (with
// responders and lists) or "certificates".
func (w *ExpiryWatch) Measure(provider metric.MeterProvider) (stop func() error, err error) {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	meter := provider.Meter(Scope)
	var all []metric.Observable
	gauge := func(name, unit, description string) (g metric.Int64ObservableGauge) {
		if err == nil {
			g, err = meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
			all = append(all, g)
		}
		return g
	}
	issuers := gauge("managedkeys.pki.issuer.expiry", "s", "Time until an issuer expires.")
	responders := gauge("managedkeys.pki.responder.expiry", "s", "Time until the certificate of an OCSP responder expires.")
	lists := gauge("managedkeys.pki.crl.expiry", "s", "Time until the next CRL must be there.")
	certificates := gauge("managedkeys.pki.certificates.expiring", "{certificate}", "Certificates that expire within a threshold, and were neither revoked nor replaced.")
	age := gauge("managedkeys.pki.expiry.age", "s", "Time since the last look at what expires.")
	if err != nil {
		return nil, fmt.Errorf("pki: expiry watch: %w", err)
	}
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		w.observe(&observation{o, w.about(), w.a.engine.now()}, issuers, responders, lists, certificates, age)
		return nil
	}, all...)
	if err != nil {
		return nil, fmt.Errorf("pki: expiry watch: %w", err)
	}
	return registration.Unregister, nil
}

// about returns the attributes that say which authority this is.
func (w *ExpiryWatch) about() []attribute.KeyValue {
	about := []attribute.KeyValue{attribute.String("managedkeys.mount", w.a.mount.Path())}
	if ns := w.a.mount.Namespace(); ns != "" {
		about = append(about, attribute.String("managedkeys.namespace", string(ns)))
	}
	return about
}

// observation is one collection of metrics.
type observation struct {
	o     metric.Observer
	about []attribute.KeyValue
	now   time.Time
}

func (o *observation) observe(g metric.Int64ObservableGauge, value int64, more ...attribute.KeyValue) {
	o.o.ObserveInt64(g, value, metric.WithAttributeSet(attribute.NewSet(append(o.about[:len(o.about):len(o.about)], more...)...)))
}

// expiring observes how long is left of something that an issuer has.
func (o *observation) expiring(g metric.Int64ObservableGauge, e *Expiring, more ...attribute.KeyValue) {
	more = append(more, attribute.String("managedkeys.pki.issuer.id", e.IssuerID))
	if e.IssuerName != "" {
		more = append(more, attribute.String("managedkeys.pki.issuer.name", e.IssuerName))
	}
	o.observe(g, int64(math.Floor(e.NotAfter.Sub(o.now).Seconds())), more...)
}

func (w *ExpiryWatch) observe(o *observation, issuers, responders, lists, certificates, age metric.Int64ObservableGauge) {
	s := w.Status()
	for n := range s.Issuers {
		o.expiring(issuers, &s.Issuers[n])
	}
	for n := range s.Responders {
		o.expiring(responders, &s.Responders[n])
	}
	for n := range s.CRLs {
		kind := "complete"
		if s.CRLs[n].Delta {
			kind = "delta"
		}
		o.expiring(lists, &s.CRLs[n], attribute.String("managedkeys.pki.crl", kind))
	}
	for _, c := range s.Certificates {
		o.observe(certificates, int64(c.Count), attribute.String("managedkeys.pki.threshold", days(c.Threshold)))
	}
	for of, at := range map[string]time.Time{"issuers": s.Checked, "certificates": s.CertificatesChecked} {
		if !at.IsZero() {
			o.observe(age, int64(o.now.Sub(at)/time.Second), attribute.String("managedkeys.pki.expiry.of", of))
		}
	}
}
