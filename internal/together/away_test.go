package together

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/internal/netcut"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// unavailable checks that f fails within limit, as an engine that is away makes it, and says all of says.
func unavailable(t *testing.T, limit time.Duration, f func() error, says ...string) {
	t.Helper()
	began := time.Now()
	err := f()
	took := time.Since(began)
	t.Logf("after %v: %v", took.Round(time.Millisecond), err)
	assert.ErrorIs(t, err, store.ErrUnavailable)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	for _, word := range says {
		assert.ErrorContains(t, err, word)
	}
	assert.Less(t, took, limit+3*time.Second)
}

// goesAway opens registries on a server that is away, that goes away, and that comes back. address is by way of proxy, and
// host is what errors must name.
func goesAway(t *testing.T, address, host string, proxy *netcut.Proxy, kill func(), restart func()) {
	keys := keyFile(t)
	limited := func(d time.Duration, f func(ctx context.Context) error) func() error {
		return func() error {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			return f(ctx)
		}
	}
	connect := func(ctx context.Context) error {
		st, err := dial(ctx, address)
		if err == nil {
			err = st.Close()
		}
		return err
	}
	p := start(t, mustDial(t, address), keys)
	require.NoError(t, p.Create(t.Context(), entry(shared, shared)))
	mount, err := p.Mount(t.Context(), team, "pki", shared)
	require.NoError(t, err)
	key, err := mount.Key(t.Context(), shared)
	require.NoError(t, err)
	second := mustDial(t, address)
	defer second.Close()
	open := func(ctx context.Context) error {
		r, err := managedkey.Open(ctx, second, []managedkey.Connection{{Backend: software.New(nil)}}, nil)
		if err == nil {
			err = r.Close()
		}
		return err
	}
	check := func(t *testing.T) {
		var all sync.WaitGroup
		fails := func(limit time.Duration, f func() error, says ...string) {
			all.Go(func() { unavailable(t, limit, f, says...) })
		}
		// Within the context's time, and else within the engine's.
		for _, f := range []func(context.Context) error{connect, open} {
			for _, limit := range []time.Duration{300 * time.Millisecond, time.Minute} {
				fails(min(limit, callTime), limited(limit, f), "check that", host, "runs and can be reached")
			}
		}
		// A change may have been sent; then the registry looks once more.
		fails(2*callTime, func() error { return p.Create(t.Context(), entry("other", shared)) })
		fails(2*callTime, func() error { return p.Revoke(t.Context(), mount, shared) })
		fails(2*callTime, func() error { return p.Delete(t.Context(), named(shared)) })
		fails(2*callTime, func() error { return p.Rename(t.Context(), mount, "moved") })
		assert.NoError(t, signs(key), "signatures go on")
		_, err := mount.Key(t.Context(), shared)
		assert.NoError(t, err, "and look-ups")
		_, err = p.Entry(named(shared))
		assert.NoError(t, err)
		all.Wait()
	}
	t.Run("down", func(t *testing.T) {
		kill()
		defer restart()
		check(t)
	})
	soon(t, "it heals", func() bool { return p.Revoke(t.Context(), mount, shared) == nil })
	assert.ErrorIs(t, signs(key), backend.ErrNotPermitted)
	require.NoError(t, p.Grant(t.Context(), mount, shared))
	t.Run("silent", func(t *testing.T) {
		proxy.Freeze()
		defer proxy.Heal()
		check(t)
	})
	soon(t, "it heals", func() bool { return p.Revoke(t.Context(), mount, shared) == nil })
	require.NoError(t, open(t.Context()))
}

func TestPostgresGoesAway(t *testing.T) {
	t.Parallel()
	server := postgrestest.Require(t)
	proxy := netcut.New(t, server.Addr())
	goesAway(t, server.URL(proxy.Addr(), server.NewDatabase(t)), proxy.Addr(), proxy, server.Kill, func() { require.NoError(t, server.Start()) })
}

func TestEtcdGoesAway(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Require(t, 1)
	proxy := netcut.New(t, cluster.Addr(0))
	goesAway(t, "etcd://"+proxy.Addr(), proxy.Addr(), proxy, func() { cluster.Kill(0) }, func() { require.NoError(t, cluster.Start(0)) })
}
