package bolt_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/storetest"
)

// BenchmarkCreate compares with bbolt alone: one record more in a bucket, in a transaction of its own.
func BenchmarkCreate(b *testing.B) {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "native"), 0o600, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	native := func(_ context.Context, key string, value []byte) error {
		return db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("records"))
			if err != nil {
				return err
			}
			return bucket.Put([]byte(key), value)
		})
	}
	s := open(b, filepath.Join(b.TempDir(), "store"), nil)
	defer s.Close()
	storetest.BenchmarkCreate(b, s, native)
}

func BenchmarkWatch(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "store"), nil)
	defer s.Close()
	storetest.BenchmarkWatch(b, s, s)
}

// filled returns a file with that many records of 1 KiB.
func filled(tb testing.TB, n int) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "store")
	s := open(tb, path, nil)
	defer s.Close()
	value := make([]byte, 1<<10)
	var ops []store.Op
	for i := range n {
		if ops = append(ops, store.Op{Key: fmt.Sprintf("entries/%08d", i), Value: value}); len(ops) == store.MaxOps || i == n-1 {
			if _, err := s.Apply(tb.Context(), ops...); err != nil {
				tb.Fatal(err)
			}
			ops = nil
		}
	}
	return path
}

// BenchmarkOpen measures opening a store with 100,000 records of 1 KiB and reading all of them once, as a registry does
// when it starts, and the memory that the records take then. With -short there are 1000.
func BenchmarkOpen(b *testing.B) {
	n := 100_000
	if testing.Short() {
		n = 1000
	}
	path := filled(b, n)
	var loaded []store.Record
	for b.Loop() {
		s, err := bolt.Open(path, nil)
		if err != nil {
			b.Fatal(err)
		}
		if loaded, _, err = store.Load(b.Context(), s, ""); err != nil || len(loaded) != n {
			b.Fatalf("%d records, %v", len(loaded), err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	b.ReportMetric(float64(memory.HeapAlloc)/(1<<20), "heap-MiB")
	runtime.KeepAlive(loaded)
}

// TestOpenIsQuick holds opening a store of 20,000 records to a bound that is far from what it takes.
func TestOpenIsQuick(t *testing.T) {
	path := filled(t, 20_000)
	begin := time.Now()
	s := open(t, path, nil)
	defer s.Close()
	records, _, err := store.Load(t.Context(), s, "")
	if err != nil || len(records) != 20_000 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
