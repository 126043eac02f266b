package postgres_test

import (
	"context"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
)

// The address of the database, its password included, comes from the environment. With several hosts, only the primary
// will do.
func ExampleConnect() {
	// DATABASE_URL=postgres://keys:secret@db1,db2/keys?target_session_attrs=read-write&sslmode=verify-full
	s, err := postgres.Connect(context.Background(), "env:DATABASE_URL", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
}

// A program that has a pool shares it.
func ExampleOpen() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://keys@localhost/keys")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	s, err := postgres.Open(ctx, pool, &postgres.Options{Table: "team_a_keys"})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
}
