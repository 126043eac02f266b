package memory_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/storetest"
)

// TestMain checks that nothing goes on when all stores are closed.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Config{
		Transient: true,
		New: func(testing.TB) func() store.Store {
			return func() store.Store { return memory.New(nil) }
		},
		Compact: func(tb testing.TB) (store.Store, func()) {
			s := memory.New(&memory.Options{History: 3})
			return s, func() { churn(tb, s, 3) }
		},
	})
}

// churn makes n commits.
func churn(tb testing.TB, s store.Store, n int) {
	for range n {
		if _, err := s.Apply(context.Background(), store.Op{Key: "churn", Expect: store.Any}); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkCreate(b *testing.B) {
	s := memory.New(nil)
	defer s.Close()
	storetest.BenchmarkCreate(b, s, nil)
}

func BenchmarkWatch(b *testing.B) {
	s := memory.New(nil)
	defer s.Close()
	storetest.BenchmarkWatch(b, s, s)
}
