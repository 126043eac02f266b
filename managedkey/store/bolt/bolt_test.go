package bolt_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/storetest"
)

// open opens the store in path.
func open(tb testing.TB, path string, opts *bolt.Options) *bolt.Store {
	tb.Helper()
	s, err := bolt.Open(path, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Config{
		New: func(tb testing.TB) func() store.Store {
			path := filepath.Join(tb.TempDir(), "store")
			return func() store.Store { return open(tb, path, nil) }
		},
		Compact: func(tb testing.TB) (store.Store, func()) {
			s := open(tb, filepath.Join(tb.TempDir(), "store"), &bolt.Options{History: 3})
			return s, func() { churn(tb, s, 3) }
		},
	})
}

// churn makes n commits.
func churn(tb testing.TB, s store.Store, n int) {
	tb.Helper()
	for range n {
		if _, err := s.Apply(context.Background(), store.Op{Key: "churn", Expect: store.Any}); err != nil {
			tb.Fatal(err)
		}
	}
}
