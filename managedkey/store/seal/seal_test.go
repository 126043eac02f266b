package seal_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
	"github.com/managedkeys/managedkeys/managedkey/store/storetest"
)

// TestMain checks that nothing goes on when all stores are closed.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cheap are costs that tests can afford.
var cheap = &seal.Argon2id{Time: 1, MemoryKiB: 64, Threads: 1}

// passphrase returns a seal key.
func passphrase(tb testing.TB, secret string) seal.Key {
	tb.Helper()
	key, err := seal.Passphrase(backend.Secret("correct horse "+secret), cheap)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// open opens a sealed store, which is closed with the test.
func open(tb testing.TB, inner store.Store, key seal.Key, opts *seal.Options) *seal.Store {
	tb.Helper()
	s, err := seal.Open(context.Background(), inner, key, quiet(opts))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return s
}

// quiet returns opts with a logger that says nothing.
func quiet(opts *seal.Options) *seal.Options {
	o := seal.Options{}
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &o
}

func TestStore(t *testing.T) {
	for name, names := range map[string]bool{"Values": false, "ValuesAndNames": true} {
		t.Run(name, func(t *testing.T) {
			opts := &seal.Options{EncryptNames: names}
			storetest.Run(t, storetest.Config{
				MaxValue:  seal.MaxValue,
				MaxOps:    seal.MaxOps,
				Unordered: names,
				New: func(tb testing.TB) func() store.Store {
					path := filepath.Join(tb.TempDir(), "store")
					return func() store.Store {
						inner, err := bolt.Open(path, nil)
						if err != nil {
							tb.Fatal(err)
						}
						return open(tb, inner, passphrase(tb, "staple"), opts)
					}
				},
				Compact: func(tb testing.TB) (store.Store, func()) {
					s := open(tb, memory.New(&memory.Options{History: 4}), passphrase(tb, "staple"), opts)
					return s, func() {
						for range 4 {
							if _, err := s.Apply(context.Background(), store.Op{Key: "churn", Expect: store.Any}); err != nil {
								tb.Fatal(err)
							}
						}
					}
				},
			})
		})
	}
}

// BenchmarkCreate compares with the engine alone.
func BenchmarkCreate(b *testing.B) {
	inner := memory.New(nil)
	defer inner.Close()
	s := open(b, memory.New(nil), passphrase(b, "staple"), nil)
	storetest.BenchmarkCreate(b, s, func(ctx context.Context, key string, value []byte) error {
		_, err := inner.Apply(ctx, store.Op{Key: key, Value: value})
		return err
	})
}
