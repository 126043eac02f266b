package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/etcd"
)

// lossy is a client that loses transactions, or their answers. When it has done so, it calls then.
type lossy struct {
	clientv3.KV
	requests, answers atomic.Int64 // to be lost
	then              func()
}

type lossyTxn struct {
	clientv3.Txn
	l      *lossy
	writes bool
}

func (l *lossy) Txn(ctx context.Context) clientv3.Txn { return &lossyTxn{Txn: l.KV.Txn(ctx), l: l} }

func (t *lossyTxn) If(conditions ...clientv3.Cmp) clientv3.Txn {
	t.Txn, t.writes = t.Txn.If(conditions...), true
	return t
}

func (t *lossyTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Then(ops...)
	return t
}

func (t *lossyTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Else(ops...)
	return t
}

var errLost = status.Error(codes.Unavailable, "lost")

func (t *lossyTxn) Commit() (*clientv3.TxnResponse, error) {
	if !t.writes {
		return t.Txn.Commit()
	}
	if t.l.requests.Add(-1) >= 0 {
		return nil, errLost
	}
	resp, err := t.Txn.Commit()
	if t.l.answers.Add(-1) >= 0 {
		if t.l.then != nil {
			t.l.then()
		}
		return nil, errLost
	}
	return resp, err
}

// TestLost loses requests and answers. The caller must learn nothing of it: what happened is found out, also when others
// have written since, and nothing is made twice.
func TestLost(t *testing.T) {
	cluster := etcdtest.Require(t, 1)
	client, err := clientv3.New(clientv3.Config{Endpoints: cluster.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	l := &lossy{KV: client.KV}
	client.KV = l
	prefix := newPrefix()
	s, err := etcd.Open(t.Context(), client, &etcd.Options{Prefix: prefix, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	other := connect(t, prefix, cluster.Endpoints()...)
	defer other.Close()
	apply := func(s store.Store, op store.Op) uint64 {
		t.Helper()
		revision, err := s.Apply(t.Context(), op)
		if err != nil {
			t.Fatalf("Apply: %v", err)
		}
		return revision
	}
	first := apply(s, store.Op{Key: "a", Value: []byte("0")})
	version := first
	for i := range 12 {
		l.requests.Store(int64(i % 3))
		l.answers.Store(int64(i % 4))
		l.then = nil
		if i > 6 {
			l.then = func() { apply(other, store.Op{Key: "b", Value: fmt.Append(nil, i), Expect: store.Any}) }
		}
		version = apply(s, store.Op{Key: "a", Value: fmt.Append(nil, i), Expect: store.Expect(version)})
		record, err := other.Get(t.Context(), "a")
		if err != nil || record.Version != version || string(record.Value) != fmt.Sprint(i) {
			t.Fatalf("round %d: value %q, version %d, %v; Apply returned version %d", i, record.Value, record.Version, err, version)
		}
	}
	n := 0
	for event, err := range other.Watch(t.Context(), "", first) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Changes[0].Key == "a" {
			n++
		}
		if event.Revision >= version {
			break
		}
	}
	if n != 12 {
		t.Errorf("watches saw %d changes of 12", n)
	}

	// With the history gone, nobody can tell any more.
	l.answers.Store(1)
	l.then = func() {
		apply(other, store.Op{Key: "b", Expect: store.Any})
		compact(t, cluster)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Apply(ctx, store.Op{Key: "a", Expect: store.Any}); !errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("an answer that is lost for good: %v", err)
	}
	l.then = nil
	l.requests.Store(1000)
	if _, err := s.Apply(ctx, store.Op{Key: "c"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("requests that are all lost: %v", err)
	}
}
