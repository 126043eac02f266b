package httpapi_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/pki"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// measured returns the values of a gauge by mount.
func measured(t *testing.T, reader metric.Reader, name string) map[string]int64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &data))
	out := map[string]int64{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			for _, p := range m.Data.(metricdata.Gauge[int64]).DataPoints {
				mount, _ := p.Attributes.Value("managedkeys.mount")
				out[mount.AsString()] += p.Value
			}
		}
	}
	return out
}

// TestExpiry: authorities are watched from when their mounts are opened until they are gone, each with the options that its mount
// is to have.
func TestExpiry(t *testing.T) {
	var clock clock
	clock.set(time.Now())
	var mu sync.Mutex
	told := map[string][]pki.ExpiryEvent{}
	reader := metric.NewManualReader()
	g := newRig(t, func(o *pkihttp.Options) {
		o.Now, o.MeterProvider = clock.now, metric.NewMeterProvider(metric.WithReader(reader))
		o.Expiry = func(m *managedkey.Mount) *pki.ExpiryOptions {
			path := m.Path()
			if path == "quiet" {
				return nil
			}
			return &pki.ExpiryOptions{Interval: time.Millisecond, Notify: func(_ context.Context, e pki.ExpiryEvent) {
				mu.Lock()
				defer mu.Unlock()
				told[path] = append(told[path], e)
			}}
		}
	})
	g.root("root")
	quiet := g.mount("quiet", "sub")
	g.must(200, "POST", "quiet/root/generate/kms", fields{"common_name": "Quiet", "managed_key_name": "sub", "ttl": "48h"})
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec", "ttl": "1440h"})
	serial := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"}).str("serial_number")
	clock.set(clock.now().Add(55 * 24 * time.Hour))
	ofKind := func(kind pki.ExpiryKind) (out []pki.ExpiryEvent) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range told["pki"] {
			if e.Kind == kind {
				out = append(out, e)
			}
		}
		return out
	}
	require.Eventually(t, func() bool { return len(ofKind(pki.ExpiringCertificate)) > 0 }, 30*time.Second, time.Millisecond)
	e := ofKind(pki.ExpiringCertificate)[0]
	assert.Equal(t, serial, pki.FormatSerial(e.Certificate.SerialNumber))
	assert.Equal(t, 7*24*time.Hour, e.Threshold)
	require.Eventually(t, func() bool { return measured(t, reader, "managedkeys.pki.certificates.expiring")["pki"] == 2 }, 30*time.Second, time.Millisecond, "within 30 and 7 days")
	issuers := measured(t, reader, "managedkeys.pki.issuer.expiry")
	assert.Len(t, issuers, 1)
	assert.Greater(t, issuers["pki"], int64(24*3600))
	assert.Contains(t, g.log.String(), "pki: certificates expire")
	assert.Len(t, ofKind(pki.ExpiringCertificate), 1)

	m, err := g.keys.OpenMount("", "pki")
	require.NoError(t, err)
	for _, gone := range []*managedkey.Mount{m, quiet} {
		require.NoError(t, g.keys.Unmount(t.Context(), gone))
	}
	g.must(404, "GET", "pki/ca", nil)
	g.must(204, "DELETE", "sys/mounts/nothing", nil) // handlers of mounts that are gone are closed
	g.mount("pki")
	g.must(204, "DELETE", "sys/mounts/pki", nil)
	require.Eventually(t, func() bool { return len(measured(t, reader, "managedkeys.pki.issuer.expiry")) == 0 }, 30*time.Second, time.Millisecond)
	assert.NotContains(t, told, "quiet")
}

// TestExpiryRefused: options that are none make no handler.
func TestExpiryRefused(t *testing.T) {
	g := newRig(t, func(o *pkihttp.Options) {
		o.Expiry = func(*managedkey.Mount) *pki.ExpiryOptions { return &pki.ExpiryOptions{Interval: -1} }
	})
	a := g.must(400, "GET", "pki/ca_chain", nil)
	assert.Contains(t, a.errors[0], "expiry watch: intervals")
}

// TestExpiryUnset: without the options nothing is watched.
func TestExpiryUnset(t *testing.T) {
	g := newRig(t, func(o *pkihttp.Options) { o.Maintain = time.Millisecond })
	g.root("root")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example", "ttl": "1h"})
	assert.NotContains(t, g.log.String(), "expire")
}
