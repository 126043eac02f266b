package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
)

func url(server *postgrestest.Server) backend.Secret {
	return backend.Secret(server.URL(server.Addr(), "postgres"))
}

func testOpen(t *testing.T, server *postgrestest.Server) {
	exec := func(sql string, args ...any) { server.Exec(t, "postgres", sql, args...) }
	refused := func(t *testing.T, url backend.Secret, opts *postgres.Options, want error, says string) {
		t.Helper()
		s, err := postgres.Connect(t.Context(), url, opts)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
			t.Errorf("error = %v, want %v and %q in it", err, want, says)
		}
		if password := strings.Split(string(url), ":")[2]; err != nil && strings.Contains(err.Error(), strings.Split(password, "@")[0]) {
			t.Errorf("the error shows the password: %v", err)
		}
	}

	t.Run("OfOthers", func(t *testing.T) {
		exec("CREATE TABLE other_meta (id int, something text)")
		refused(t, url(server), &postgres.Options{Table: "other"}, store.ErrForeign, "other_meta")
		exec("CREATE TABLE wrong_meta (id int, format text, schema bigint)")
		exec("INSERT INTO wrong_meta VALUES (1, 'something', 1)")
		refused(t, url(server), &postgres.Options{Table: "wrong"}, store.ErrForeign, `not one of the format "managedkeys/store"`)
	})
	t.Run("NewerSchema", func(t *testing.T) {
		connect(t, server, server.Addr(), &postgres.Options{Table: "newer"}).Close()
		exec("UPDATE newer_meta SET schema = 7")
		refused(t, url(server), &postgres.Options{Table: "newer"}, store.ErrForeign, "schema of table newer: got 7; this version takes 1")
	})
	t.Run("Credentials", func(t *testing.T) {
		wrong := strings.Replace(string(url(server)), "@", "x@", 1)
		refused(t, backend.Secret(wrong), nil, backend.ErrCredentials, "password authentication failed")
		refused(t, backend.Secret(strings.Replace(string(url(server)), "/postgres?", "/absent?", 1)), nil, store.ErrUnavailable, `database "absent" does not exist`)
		if _, err := postgres.Connect(t.Context(), "env:NOT_SET_HERE", nil); !errors.Is(err, backend.ErrCredentials) {
			t.Errorf("a reference to nothing: %v", err)
		}
		if _, err := postgres.Connect(t.Context(), "postgres://h:no port/", nil); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("a malformed URL: %v", err)
		}
	})
	t.Run("Options", func(t *testing.T) {
		for _, opts := range []postgres.Options{{Table: "Upper"}, {Table: "a-b"}, {Table: "x;y"}, {Table: strings.Repeat("x", 41)}, {History: -1}, {Poll: -1}, {Timeout: -1}} {
			refused(t, url(server), &opts, store.ErrInvalid, "options")
		}
	})
	t.Run("Together", func(t *testing.T) {
		var wg sync.WaitGroup
		opts := &postgres.Options{Table: newTable()}
		for i := range 8 {
			wg.Go(func() {
				s, err := postgres.Connect(t.Context(), url(server), opts)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				if _, err := s.Apply(t.Context(), store.Op{Key: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s := connect(t, server, server.Addr(), opts)
		defer s.Close()
		if page, err := s.List(t.Context(), "", "", 100); err != nil || len(page.Records) != 8 {
			t.Errorf("%d records, %v", len(page.Records), err)
		}
	})
	t.Run("FewRights", func(t *testing.T) {
		connect(t, server, server.Addr(), &postgres.Options{Table: "rights"}).Close()
		exec("CREATE ROLE few LOGIN PASSWORD 'few'")
		exec("GRANT SELECT, INSERT, UPDATE, DELETE ON rights, rights_meta TO few")
		few := backend.Secret(fmt.Sprintf("postgres://few:few@%s/postgres?sslmode=disable", server.Addr()))
		s, err := postgres.Connect(t.Context(), few, &postgres.Options{Table: "rights"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Apply(t.Context(), store.Op{Key: "a"}); err != nil {
			t.Error(err)
		}
		refused(t, few, &postgres.Options{Table: "tables_of_its_own"}, store.ErrUnavailable, "permission denied")
	})
	t.Run("PoolOfTheProgram", func(t *testing.T) {
		pool, err := pgxpool.New(t.Context(), string(url(server)))
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		s, err := postgres.Open(t.Context(), pool, &postgres.Options{Table: newTable()})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := pool.Ping(t.Context()); err != nil {
			t.Errorf("Close closed the program's pool: %v", err)
		}
	})
	t.Run("LostRow", func(t *testing.T) {
		s := connect(t, server, server.Addr(), &postgres.Options{Table: "lost"})
		defer s.Close()
		exec("DELETE FROM lost_meta")
		if _, err := s.Apply(t.Context(), store.Op{Key: "a"}); !errors.Is(err, store.ErrForeign) || !strings.Contains(err.Error(), "lost_meta") {
			t.Errorf("Apply: %v", err)
		}
	})
}

// testHistory checks that rows of history are dropped, and records are not.
func testHistory(t *testing.T, server *postgrestest.Server) {
	opts := &postgres.Options{Table: newTable(), History: 20}
	s := connect(t, server, server.Addr(), opts)
	defer s.Close()
	if _, err := s.Apply(t.Context(), store.Op{Key: "old"}); err != nil {
		t.Fatal(err)
	}
	churn(t, s, 200)
	pool, err := pgxpool.New(t.Context(), string(url(server)))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var rows, live int
	err = pool.QueryRow(t.Context(), "SELECT count(*), count(*) FILTER (WHERE live) FROM "+opts.Table).Scan(&rows, &live)
	if err != nil || live != 2 || rows < 20 || rows > 2+2*20 {
		t.Errorf("%d rows, %d of them live, %v", rows, live, err)
	}
	if _, err := s.Get(t.Context(), "old"); err != nil {
		t.Errorf("an old record: %v", err)
	}
}
