package etcd_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/etcd"
	"github.com/managedkeys/managedkeys/managedkey/store/storetest"
)

// TestMain checks that nothing goes on when all stores are closed.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect opens the store under a prefix of a cluster.
func connect(tb testing.TB, prefix string, endpoints ...string) *etcd.Store {
	tb.Helper()
	s, err := etcd.Connect(context.Background(), clientv3.Config{Endpoints: endpoints}, &etcd.Options{Prefix: prefix})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

var prefixes atomic.Int64

// newPrefix returns one that is not in use.
func newPrefix() string { return fmt.Sprintf("/test%d/", prefixes.Add(1)) }

func TestStore(t *testing.T) {
	cluster := etcdtest.Require(t, 1)
	storetest.Run(t, storetest.Config{
		Handles: 3,
		New: func(tb testing.TB) func() store.Store {
			prefix := newPrefix()
			return func() store.Store { return connect(tb, prefix, cluster.Endpoints()...) }
		},
		Compact: func(tb testing.TB) (store.Store, func()) {
			return connect(tb, newPrefix(), cluster.Endpoints()...), func() { compact(tb, cluster) }
		},
	})
}

// compact makes the cluster forget its history.
func compact(tb testing.TB, cluster *etcdtest.Cluster) {
	tb.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: cluster.Endpoints()})
	if err != nil {
		tb.Fatal(err)
	}
	defer client.Close()
	resp, err := client.Get(context.Background(), "x")
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := client.Compact(context.Background(), resp.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		tb.Fatal(err)
	}
}
