package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
	"github.com/managedkeys/managedkeys/managedkey/store/storetest"
)

// BenchmarkCreate compares with pgx alone: an INSERT into a table of keys and values.
func BenchmarkCreate(b *testing.B) {
	server := postgrestest.Require(b)
	server.Exec(b, "postgres", "CREATE TABLE native (key bytea PRIMARY KEY, value bytea NOT NULL)")
	pool, err := pgxpool.New(b.Context(), server.URL(server.Addr(), "postgres"))
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	native := func(ctx context.Context, key string, value []byte) error {
		_, err := pool.Exec(ctx, "INSERT INTO native (key, value) VALUES ($1, $2)", []byte(key), value)
		return err
	}
	s := connect(b, server, server.Addr(), nil)
	defer s.Close()
	storetest.BenchmarkCreate(b, s, native)
}

func BenchmarkWatch(b *testing.B) {
	server := postgrestest.Require(b)
	opts := &postgres.Options{Table: newTable()}
	writer, reader := connect(b, server, server.Addr(), opts), connect(b, server, server.Addr(), opts)
	defer writer.Close()
	defer reader.Close()
	storetest.BenchmarkWatch(b, writer, reader)
}
