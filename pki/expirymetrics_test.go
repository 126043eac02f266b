package pki

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// gauges returns the series of the last collection, each as name{attributes} value.
func gauges(t *testing.T, reader metric.Reader) (out []string) {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	for _, scope := range data.ScopeMetrics {
		if scope.Scope.Name != Scope {
			t.Errorf("scope %q", scope.Scope.Name)
		}
		for _, m := range scope.Metrics {
			for _, p := range m.Data.(metricdata.Gauge[int64]).DataPoints {
				var attrs []string
				for _, a := range p.Attributes.ToSlice() {
					if a.Key != "managedkeys.pki.issuer.id" {
						attrs = append(attrs, fmt.Sprintf("%s=%s", strings.TrimPrefix(string(a.Key), "managedkeys."), a.Value.String()))
					}
				}
				out = append(out, fmt.Sprintf("%s{%s} %d %s", strings.TrimPrefix(m.Name, "managedkeys.pki."), strings.Join(attrs, ","), p.Value, m.Unit))
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestExpiryMetrics: the series of two authorities in one program, and none of single certificates.
func TestExpiryMetrics(t *testing.T) {
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	w := newWatched(t, nil).leaves(t)
	for range 3 {
		w.issue(t, "r", "a.example")
	}
	second, err := w.house.registry.Mount(t.Context(), "", "second")
	must(t, err)
	other, err := OpenAuthority(t.Context(), second, w.store, &Options{Now: w.engine.now})
	must(t, err)
	quiet, err := other.WatchExpiry(nil)
	must(t, err)
	var stops []func() error
	for _, watch := range []*ExpiryWatch{w.watch, quiet} {
		stop, err := watch.Measure(provider)
		must(t, err)
		stops = append(stops, stop)
	}
	if got := gauges(t, reader); len(got) > 0 {
		t.Errorf("before the first check: %q", got)
	}
	must(t, w.SetCRLConfig(t.Context(), CRLConfig{Expiry: 240 * time.Hour, AutoRebuild: true, Delta: true}))
	if _, err := w.SetOCSPResponder(t.Context(), "root", KeyRef{Name: "p256-b"}, OCSPResponderTemplate{}); err != nil {
		t.Fatal(err)
	}
	must(t, w.Maintain(t.Context()))
	must(t, w.watch.Check(t.Context()))
	must(t, quiet.Check(t.Context()))
	*w.now = noon.Add(time.Hour)
	root := 3650*86400 - 32 - 3600 // what begins 30 seconds earlier ends so; the last second is in it, and the begun one not
	want := []string{
		"certificates.expiring{mount=pki,pki.threshold=1d} 0 {certificate}",
		"certificates.expiring{mount=pki,pki.threshold=30d} 0 {certificate}",
		"certificates.expiring{mount=pki,pki.threshold=7d} 0 {certificate}",
		"certificates.expiring{mount=second,pki.threshold=1d} 0 {certificate}",
		"certificates.expiring{mount=second,pki.threshold=30d} 0 {certificate}",
		"certificates.expiring{mount=second,pki.threshold=7d} 0 {certificate}",
		"crl.expiry{mount=pki,pki.crl=complete,pki.issuer.name=root} " + fmt.Sprint(240*3600-3601) + " s",
		"crl.expiry{mount=pki,pki.crl=delta,pki.issuer.name=root} -1 s",
		"expiry.age{mount=pki,pki.expiry.of=certificates} 3600 s",
		"expiry.age{mount=pki,pki.expiry.of=issuers} 3600 s",
		"expiry.age{mount=second,pki.expiry.of=certificates} 3600 s",
		"expiry.age{mount=second,pki.expiry.of=issuers} 3600 s",
		"issuer.expiry{mount=pki,pki.issuer.name=root} " + fmt.Sprint(root) + " s",
		"responder.expiry{mount=pki,pki.issuer.name=root} " + fmt.Sprint(30*86400-32-3600) + " s",
	}
	if got := gauges(t, reader); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	*w.now = noon.Add(85 * day)
	w.told(t)
	if got := gauges(t, reader); !slices.Contains(got, "certificates.expiring{mount=pki,pki.threshold=30d} 3 {certificate}") ||
		!slices.Contains(got, "certificates.expiring{mount=pki,pki.threshold=7d} 3 {certificate}") ||
		!slices.Contains(got, "certificates.expiring{mount=pki,pki.threshold=1d} 0 {certificate}") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	for _, stop := range stops {
		must(t, stop())
	}
	if got := gauges(t, reader); len(got) > 0 {
		t.Errorf("after the end: %q", got)
	}
}
