package etcd_test

import (
	"context"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/managedkey/store/storetest"
)

// BenchmarkCreate compares with etcd's client alone: a transaction that puts a key if it is absent.
func BenchmarkCreate(b *testing.B) {
	cluster := etcdtest.Require(b, 1)
	client, err := clientv3.New(clientv3.Config{Endpoints: cluster.Endpoints()})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	native := func(ctx context.Context, key string, value []byte) error {
		_, err := client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, string(value))).Commit()
		return err
	}
	s := connect(b, newPrefix(), cluster.Endpoints()...)
	defer s.Close()
	storetest.BenchmarkCreate(b, s, native)
}

func BenchmarkWatch(b *testing.B) {
	cluster := etcdtest.Require(b, 1)
	prefix := newPrefix()
	writer, reader := connect(b, prefix, cluster.Endpoints()...), connect(b, prefix, cluster.Endpoints()...)
	defer writer.Close()
	defer reader.Close()
	storetest.BenchmarkWatch(b, writer, reader)
}
