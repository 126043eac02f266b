package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"text/tabwriter"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/etcd"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
	"github.com/managedkeys/managedkeys/namespace"
)

// engine is what keeps the entries of a registry, and its own client.
type engine struct {
	name string

	// connect returns a store; several are of one content. Those of an engine for one process are the same value.
	connect func() (store.Store, error)

	// write is the engine's own client writing a record durably that was not there; nil where there is no client.
	write func(ctx context.Context, key string, value []byte) error

	// notify returns, for the engine's own client, a change of one record and a wait for the news of it on another
	// connection; nil where the engine tells nobody.
	notify func(ctx context.Context) (change, heard operation, err error)

	close func()
}

// engines opens what entries can be kept in. The files are on the disk of the temporary directory.
func (w *workplace) engines(ctx context.Context) (all []*engine, closeAll func(), err error) {
	closeAll = func() {
		for _, e := range all {
			e.close()
		}
	}
	started, err := w.started()
	if err != nil {
		return nil, closeAll, err
	}
	inMemory := memory.New(nil)
	all = append(all, &engine{
		name: "memory", close: func() { inMemory.Close() }, connect: func() (store.Store, error) { return inMemory, nil },
	})
	for _, open := range []func(context.Context, *servers) (*engine, error){w.boltEngine, postgresEngine, etcdEngine} {
		e, err := open(ctx, started)
		if err != nil {
			return all, closeAll, err
		}
		all = append(all, e)
	}
	return all, closeAll, nil
}

func (w *workplace) boltEngine(context.Context, *servers) (*engine, error) {
	dir, err := os.MkdirTemp(w.dir, "bolt-")
	if err != nil {
		return nil, err
	}
	file, err := bolt.Open(filepath.Join(dir, "store"), nil)
	if err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(dir, "plain"), 0o600, nil)
	if err != nil {
		file.Close()
		return nil, err
	}
	return &engine{
		name: "bolt", close: func() { file.Close(); db.Close() }, connect: func() (store.Store, error) { return file, nil },
		write: func(_ context.Context, key string, value []byte) error {
			return db.Update(func(tx *bbolt.Tx) error {
				bucket, err := tx.CreateBucketIfNotExists(plainBucket)
				if err != nil {
					return err
				}
				return bucket.Put([]byte(key), value)
			})
		},
	}, nil
}

// newNames makes names of tables and prefixes that nobody else has on a server.
var newNames atomic.Int64

func postgresEngine(ctx context.Context, s *servers) (*engine, error) {
	name := fmt.Sprintf("bench_%d", newNames.Add(1))
	url := s.postgres.URL(s.postgres.Addr(), "postgres")
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, "CREATE TABLE "+name+"_plain (key bytea PRIMARY KEY, value bytea NOT NULL)"); err != nil {
		pool.Close()
		return nil, err
	}
	insert := "INSERT INTO " + name + "_plain (key, value) VALUES ($1, $2)"
	return &engine{
		name: "postgres", close: pool.Close,
		connect: func() (store.Store, error) {
			return postgres.Connect(ctx, backend.Secret(url), &postgres.Options{Table: name})
		},
		write: func(ctx context.Context, key string, value []byte) error {
			_, err := pool.Exec(ctx, insert, []byte(key), value)
			return err
		},
		notify: func(ctx context.Context) (operation, operation, error) {
			listener, err := pool.Acquire(ctx) // is never given back: the pool ends with the table
			if err != nil {
				return nil, nil, err
			}
			conn := listener.Hijack()
			if _, err := conn.Exec(ctx, "LISTEN "+name); err != nil {
				return nil, nil, err
			}
			change := "WITH done AS (INSERT INTO " + name + "_plain (key, value) VALUES ('watched', $1)" +
				" ON CONFLICT (key) DO UPDATE SET value = $1 RETURNING 1) SELECT pg_notify('" + name + "', '') FROM done"
			value := make([]byte, 300)
			return func() error {
					_, err := pool.Exec(ctx, change, value)
					return err
				}, func() error {
					_, err := conn.WaitForNotification(ctx)
					return err
				}, nil
		},
	}, nil
}

func etcdEngine(_ context.Context, s *servers) (*engine, error) {
	prefix := fmt.Sprintf("bench-%d/", newNames.Add(1))
	config := clientv3.Config{Endpoints: s.etcd.Endpoints(), Logger: zap.NewNop()}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, err
	}
	return &engine{
		name: "etcd", close: func() { client.Close() },
		connect: func() (store.Store, error) {
			return etcd.Connect(context.Background(), config, &etcd.Options{Prefix: prefix})
		},
		write: func(ctx context.Context, key string, value []byte) error {
			key = "plain-" + prefix + key
			_, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
				Then(clientv3.OpPut(key, string(value))).Commit()
			return err
		},
		notify: func(ctx context.Context) (operation, operation, error) {
			key := "watched-" + prefix
			events := client.Watch(clientv3.WithRequireLeader(ctx), key)
			value := string(make([]byte, 300))
			return func() error {
					_, err := client.Put(ctx, key, value)
					return err
				}, func() error {
					answer, ok := <-events
					if !ok {
						return context.Canceled
					}
					return answer.Err()
				}, nil
		},
	}, nil
}

// createCallers are the goroutines that create entries at once.
var createCallers = []int{1, 8}

// createRounds are fewer than those of other tables: there are many lines, and what is written stays.
const createRounds = 3

// creates prints how many entries a second are created on each engine.
func (w *workplace) creates() error {
	ctx := context.Background()
	engines, closeAll, err := w.engines(ctx)
	defer closeAll()
	if err != nil {
		return err
	}
	record, _, err := template(ctx)
	if err != nil {
		return err
	}
	b := software.New(nil)
	defer b.Close()
	n := min(*rounds, createRounds)
	fmt.Printf("Entries created per second, beside the engine's own client writing as many bytes under a new key, each in a durable\n"+
		"transaction of its own; median of %d rounds of %v, ratios within a round.\n\n", n, *window/2)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "engine\tgoroutines\tclient\tregistry\tratio\t")
	for _, e := range engines {
		if e.write == nil {
			continue
		}
		for _, callers := range createCallers {
			rates, err := e.createRates(ctx, b, record.Value, callers, n)
			if err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			fmt.Fprintf(out, "%s\t%d\t%.0f\t%.0f\t%.2f\t\n", e.name, callers, median(rates[0]), median(rates[1]), ratio(rates[1], rates[0]))
		}
	}
	return out.Flush()
}

func (e *engine) createRates(ctx context.Context, b backend.Backend, value []byte, callers, rounds int) ([][]float64, error) {
	st, err := e.connect()
	if err != nil {
		return nil, err
	}
	if e.name != "bolt" { // which is one value
		defer st.Close()
	}
	r, err := openRegistry(ctx, st, b)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return interleaved([]operation{func() error {
		return e.write(ctx, fmt.Sprintf("registry/entries/tenant/:/issuing-%d", newNames.Add(1)), value)
	}, func() error {
		ref := namespace.Ref{Namespace: "tenant", Name: fmt.Sprintf("issuing-%d", newNames.Add(1))}
		return r.Create(ctx, managedkey.Entry{Ref: ref, Connection: "hsm", AllowGenerateKey: true,
			Params: software.Params{KeyName: ref.Name, KeyType: software.ECDSA, Curve: software.P256}})
	}}, callers, rounds, *window/2)
}
