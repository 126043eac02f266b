package postgrestest

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestServer(t *testing.T) {
	s := Require(t)
	database := s.NewDatabase(t)
	if out := s.Run(t, database, strings.NewReader("SELECT current_database()"), "psql", "-At"); string(out) != database+"\n" {
		t.Errorf("psql wrote %q", out)
	}
	if other := s.NewDatabase(t); other == database {
		t.Errorf("two databases are called %s", other)
	}
	s.Exec(t, database, "CREATE TABLE t (n int)")
	s.Exec(t, database, "INSERT INTO t VALUES (42)")

	s.Kill()
	s.Kill() // once more does nothing
	if conn, err := net.Dial("tcp", s.Addr()); err == nil {
		conn.Close()
		t.Error("a server that was killed accepts connections")
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	running := s.process
	if err := s.Start(); err != nil || s.process != running {
		t.Errorf("Start of a server that runs: %v", err)
	}

	conn, err := pgx.Connect(t.Context(), s.URL(s.Addr(), database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var n int
	if err := conn.QueryRow(t.Context(), "SELECT n FROM t").Scan(&n); err != nil || n != 42 {
		t.Errorf("after a crash: got %d, %v", n, err)
	}
	wrong := strings.Replace(s.URL(s.Addr(), database), s.password, "wrong", 1)
	if conn, err := pgx.Connect(t.Context(), wrong); err == nil {
		conn.Close(context.Background())
		t.Error("the server takes a wrong password")
	}
}

func TestFind(t *testing.T) {
	t.Setenv(EnvBin, filepath.Join(t.TempDir(), "absent"))
	if _, err := find(); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("error = %v", err)
	}
	for path, want := range map[string]int{"/usr/lib/postgresql/15/bin": 15, "/usr/bin": 0} {
		if got := version(path); got != want {
			t.Errorf("version(%q) = %d", path, got)
		}
	}
}
