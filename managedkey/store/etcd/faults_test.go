package etcd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/internal/netcut"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/etcd"
	"github.com/managedkeys/managedkeys/managedkey/store/storetest"
)

// between waits until the clients of a stress have had time to work.
func between(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// handles opens the same new store with each set of endpoints.
func handles(t *testing.T, timeout time.Duration, endpoints ...[]string) (all []store.Store) {
	t.Helper()
	prefix := newPrefix()
	for _, e := range endpoints {
		s, err := etcd.Connect(t.Context(), clientv3.Config{Endpoints: e, DialTimeout: time.Second}, &etcd.Options{Prefix: prefix, Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		all = append(all, s)
	}
	return all
}

// TestLeaderDies kills the leader of a cluster of three under load, again and again. The others choose a new one; what was
// acknowledged must be there, and watches go on without a gap.
func TestLeaderDies(t *testing.T) {
	cluster := etcdtest.Require(t, 3)
	all := cluster.Endpoints()
	result := storetest.Stress{
		Handles: handles(t, 5*time.Second, all, all, all),
		Time:    3 * time.Second,
		Timeout: 5 * time.Second,
		Disturb: func(ctx context.Context) {
			for range 2 {
				between(ctx, 400*time.Millisecond)
				leader, err := cluster.Leader()
				if err != nil {
					t.Error(err)
					return
				}
				cluster.Kill(leader)
				between(ctx, 1200*time.Millisecond)
				if err := cluster.Start(leader); err != nil {
					t.Error(err)
				}
			}
		},
	}.Run(t)
	t.Logf("%+v", result)
	if result.Failed+result.Unknown == 0 && result.Longest < 100*time.Millisecond {
		t.Errorf("no call failed, and the longest pause was %v: nobody noticed", result.Longest)
	}
}

// TestServerCrashes kills the only server and starts it again.
func TestServerCrashes(t *testing.T) {
	cluster := etcdtest.Require(t, 1)
	all := cluster.Endpoints()
	result := storetest.Stress{
		Handles: handles(t, 2*time.Second, all, all),
		Time:    3 * time.Second,
		Timeout: 600 * time.Millisecond,
		Disturb: func(ctx context.Context) {
			for range 3 {
				between(ctx, 300*time.Millisecond)
				cluster.Kill(0)
				between(ctx, 300*time.Millisecond)
				if err := cluster.Start(0); err != nil {
					t.Error(err)
				}
			}
		},
	}.Run(t)
	t.Logf("%+v", result)
	if result.Failed+result.Unknown == 0 && result.Longest < 300*time.Millisecond {
		t.Errorf("no call failed, and the longest pause was %v: nobody noticed", result.Longest)
	}
}

// TestNetworkBreaks cuts and freezes the network of two of three processes.
func TestNetworkBreaks(t *testing.T) {
	cluster := etcdtest.Require(t, 1)
	cut, frozen := netcut.New(t, cluster.Addr(0)), netcut.New(t, cluster.Addr(0))
	result := storetest.Stress{
		Handles: handles(t, time.Second, cluster.Endpoints(), []string{cut.Addr()}, []string{frozen.Addr()}),
		Time:    3 * time.Second,
		Timeout: 800 * time.Millisecond,
		Disturb: func(ctx context.Context) {
			for range 6 {
				between(ctx, 200*time.Millisecond)
				cut.Cut()
				between(ctx, 50*time.Millisecond)
				cut.Heal()
			}
			frozen.Freeze()
			between(ctx, 1500*time.Millisecond)
			frozen.Heal()
			between(ctx, 500*time.Millisecond)
		},
	}.Run(t)
	t.Logf("%+v", result)
	if result.Failed+result.Unknown == 0 {
		t.Error("nobody noticed")
	}
}

// TestForeign opens what is no store, or none that this version can read.
func TestForeign(t *testing.T) {
	cluster := etcdtest.Require(t, 1)
	client, err := clientv3.New(clientv3.Config{Endpoints: cluster.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(prefix string, want error, says string) {
		t.Helper()
		s, err := etcd.Open(t.Context(), client, &etcd.Options{Prefix: prefix})
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error = %v, want %v and %q in it", prefix, err, want, says)
		}
	}
	put("/other/key", "value")
	refused("/other/", store.ErrForeign, `keys under "/other/", but no store`)
	put("/text/rev", "value")
	refused("/text/", store.ErrForeign, "not one of a store")
	put("/newer/rev", "mks\x02something else")
	refused("/newer/", store.ErrForeign, "schema: got 2; this version takes 1")
	put("/short/rev", "mks\x01short")
	refused("/short/", store.ErrCorrupt, "9 bytes, not 28")
	if _, err := etcd.Open(t.Context(), client, &etcd.Options{Timeout: -1}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("options: %v", err)
	}

	s, err := etcd.Open(t.Context(), client, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	page, err := s.List(t.Context(), "", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	put(etcd.DefaultPrefix+"k/foreign", "short")
	if _, err := s.Get(t.Context(), "foreign"); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "not written by a store") {
		t.Errorf("Get of a record that somebody else wrote: %v", err)
	}
	if _, err := s.List(t.Context(), "", "", 1); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("List with a record that somebody else wrote: %v", err)
	}
	for _, err := range s.Watch(t.Context(), "", page.Revision) {
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "changed by something else") {
			t.Errorf("Watch of what somebody else wrote: %v", err)
		}
	}
	if _, err := client.Delete(t.Context(), etcd.DefaultPrefix+"rev"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), store.Op{Key: "a"}); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "lost its revision") {
		t.Errorf("Apply without the revision: %v", err)
	}
}

// TestGoneAtStart opens a store whose cluster is down, and uses one whose cluster goes away.
func TestGoneAtStart(t *testing.T) {
	cluster := etcdtest.Require(t, 1)
	opts := &etcd.Options{Timeout: 500 * time.Millisecond}
	cfg := clientv3.Config{Endpoints: cluster.Endpoints(), DialTimeout: 500 * time.Millisecond}
	s, err := etcd.Connect(t.Context(), cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cluster.Kill(0)
	begin := time.Now()
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Get: %v", err)
	}
	if _, err := s.Apply(t.Context(), store.Op{Key: "a"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Apply: %v", err)
	}
	if _, err := etcd.Connect(t.Context(), cfg, opts); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Connect: %v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v to notice", took)
	}
	if err := cluster.Start(0); err != nil {
		t.Fatal(err)
	}
	// The client waits longer and longer between attempts to connect.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if _, err = s.Apply(ctx, store.Op{Key: "b", Expect: store.Any}); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		t.Errorf("Apply after the cluster came back: %v", err)
	}
}
