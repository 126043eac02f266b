package postgres_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
	"github.com/managedkeys/managedkeys/managedkey/store/storetest"
)

// TestMain checks that nothing goes on when all stores are closed.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect opens a store of a server, by way of addr.
func connect(tb testing.TB, server *postgrestest.Server, addr string, opts *postgres.Options) *postgres.Store {
	tb.Helper()
	s, err := postgres.Connect(context.Background(), backend.Secret(server.URL(addr, "postgres")), opts)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

var tables atomic.Int64

// newTable returns the name of a table that is not in use.
func newTable() string { return fmt.Sprintf("test%d", tables.Add(1)) }

// TestPostgres runs everything on one server, which takes seconds to make.
func TestPostgres(t *testing.T) {
	server := postgrestest.Require(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *postgrestest.Server)
	}{
		{"Store", testStore},
		{"ServerCrashes", testServerCrashes},
		{"NetworkBreaks", testNetworkBreaks},
		{"WithoutNotify", testWithoutNotify},
		{"GoneAtStart", testGoneAtStart},
		{"Open", testOpen},
		{"Lost", testLost},
		{"History", testHistory},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, server) })
	}
}

func testStore(t *testing.T, server *postgrestest.Server) {
	storetest.Run(t, storetest.Config{
		Handles: 3,
		New: func(tb testing.TB) func() store.Store {
			opts := &postgres.Options{Table: newTable()}
			return func() store.Store { return connect(tb, server, server.Addr(), opts) }
		},
		Compact: func(tb testing.TB) (store.Store, func()) {
			s := connect(tb, server, server.Addr(), &postgres.Options{Table: newTable(), History: 3})
			return s, func() { churn(tb, s, 6) }
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
