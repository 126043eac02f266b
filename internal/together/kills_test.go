package together

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
)

const workers = 3 // the last of which is another process

func allPaths() (all []string) {
	for id := range workers {
		all = append(all, paths(id)...)
	}
	return all
}

// load is what two workers have come to.
type load []*worker

// works waits until each has acknowledged n changes more.
func (l load) works(t *testing.T, n int64) {
	t.Helper()
	for _, w := range l {
		until := w.acknowledged.Load() + n
		soon(t, "changes are acknowledged", func() bool { return w.acknowledged.Load() >= until })
	}
}

// fails waits until each has been refused n changes more.
func (l load) fails(t *testing.T, n int64) {
	t.Helper()
	for _, w := range l {
		until := w.refused.Load() + n
		soon(t, "changes are refused", func() bool { return w.refused.Load() >= until })
	}
}

// suffer has registries of two processes work on one store while disturb does what it wants to the engine. Afterwards all
// registries must agree with the store and with what the workers were told, and a key that nobody changes must have signed
// all the time. It returns what the workers report, of which the last is in the other process.
func suffer(t *testing.T, address string, disturb func(load)) []report {
	keys := keyFile(t)
	var all load
	var views []func() (view, error)
	for id := range workers - 1 {
		p := start(t, mustDial(t, address), keys)
		if id == 0 {
			for _, name := range []string{shared, "steady"} {
				require.NoError(t, p.Create(t.Context(), entry(name, name)))
				_, err := p.Key(t.Context(), named(name))
				require.NoError(t, err)
			}
		} else {
			soon(t, "the entries are seen", func() bool { return len(p.List(team)) == 2 })
		}
		w, err := newWorker(p, id)
		require.NoError(t, err)
		all = append(all, w)
		views = append(views, func() (view, error) { return seen(t.Context(), p.Registry, allPaths()) })
	}
	other := fork(t, address, keys, workers-1)
	views = append(views, other.view)

	stop := make(chan struct{})
	var running sync.WaitGroup
	reports := make([]report, workers)
	for i, w := range all {
		running.Go(func() { reports[i] = w.work(stop) })
		steady, err := w.Registry.Key(t.Context(), named("steady"))
		require.NoError(t, err)
		running.Go(func() { signUntil(t, stop, func() error { return signs(steady) }) })
	}
	disturb(all)
	close(stop)
	running.Wait()
	require.NoError(t, other.ask("stop", &reports[workers-1]))

	in := agree(t, all[0].store, views...)
	for id, r := range reports {
		t.Logf("worker %d: %d changes acknowledged, %d refused; the longest took %v", id, r.Acknowledged, r.Refused, r.Longest)
		assert.NotZero(t, r.Acknowledged)
		assert.Less(t, r.Longest, 3*callTime+3*time.Second, "a change fails when its time is up")
		for _, wrong := range append(r.Wrong, r.confirm(id, in)...) {
			t.Error(wrong)
		}
	}
	// And it goes on.
	require.NoError(t, all[1].Delete(t.Context(), named("steady")))
	delete(in, "entry steady")
	assert.Equal(t, in, agree(t, all[1].store, views...))
	return reports
}

// signUntil signs without an error until stop is closed.
func signUntil(t *testing.T, stop <-chan struct{}, sign func() error) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			if n == 0 {
				t.Error("nothing was signed")
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
		if err := sign(); err != nil {
			t.Errorf("a signature while the engine is away: %v", err)
			return
		}
	}
}

// TestPostgresIsKilled kills the server under load, twice.
func TestPostgresIsKilled(t *testing.T) {
	t.Parallel()
	server := postgrestest.Require(t)
	suffer(t, server.URL(server.Addr(), server.NewDatabase(t)), func(all load) {
		for range 2 {
			all.works(t, 8)
			server.Kill()
			all.fails(t, 2)
			require.NoError(t, server.Start())
		}
		all.works(t, 8)
	})
}

// TestEtcdLeaderIsKilled kills the leader of three servers, so that there is another one, and then two of them.
func TestEtcdLeaderIsKilled(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Require(t, 3)
	restart := func(killed ...int) {
		var starting sync.WaitGroup
		errs := make([]error, len(killed))
		for n, i := range killed {
			starting.Go(func() { errs[n] = cluster.Start(i) })
		}
		starting.Wait()
		require.NoError(t, errors.Join(errs...))
	}
	suffer(t, "etcd://"+strings.Join(cluster.Endpoints(), ","), func(all load) {
		all.works(t, 8)
		leader, err := cluster.Leader()
		require.NoError(t, err)
		cluster.Kill(leader)
		all.works(t, 5) // the others go on without it
		restart(leader)
		leader, err = cluster.Leader()
		require.NoError(t, err)
		cluster.Kill(leader)
		cluster.Kill((leader + 1) % 3)
		all.fails(t, 1)
		restart(leader, (leader+1)%3)
		all.works(t, 5)
	})
}
