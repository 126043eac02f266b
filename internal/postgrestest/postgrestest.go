// Package postgrestest runs PostgreSQL servers for tests, on 127.0.0.1 with data in a temporary directory. A server ends
// with its test, and with the process. Killing it is a crash of the database, starting it again its recovery.
package postgrestest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/managedkeys/managedkeys/internal/daemon"
	"github.com/managedkeys/managedkeys/internal/requires"
)

// ErrMissing is wrapped by errors that say that PostgreSQL is not installed.
var ErrMissing = errors.New("PostgreSQL is not installed")

// EnvBin is the environment variable that names the directory of initdb and postgres where it is in none of the usual
// places.
const EnvBin = "POSTGRES_BIN"

// startTimeout is how long a server may take until it answers, recovery included.
const startTimeout = 60 * time.Second

// binPatterns are the usual places, as patterns of package filepath.
var binPatterns = []string{
	"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
	"/usr/pgsql-*/bin",          // the project's own packages for Fedora and its kin
	"/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/bin",
}

// Server is a PostgreSQL server. Its methods are safe for concurrent use.
type Server struct {
	bin, dir, password string
	port               int
	uid, gid           int // who runs the server; 0: as this process

	mu        sync.Mutex
	process   *daemon.Process
	databases int
}

// TB is what this package needs of a testing.TB, so that programs that use it don't link package testing.
type TB interface {
	requires.TB
	Cleanup(func())
}

// Require starts a server for the test, which ends with it.
//
// If PostgreSQL is not installed, the test ends as requires.Missing says for the part "postgres".
func Require(tb TB) *Server {
	tb.Helper()
	bin, err := find()
	if err != nil {
		requires.Missing(tb, "postgres", err)
		return nil
	}
	s := &Server{bin: bin, password: rand.Text()}
	tb.Cleanup(func() {
		s.Kill()
		os.RemoveAll(s.dir)
	})
	if err := s.initialise(); err != nil {
		tb.Fatalf("%v", err)
	}
	if err := s.Start(); err != nil {
		tb.Fatalf("%v", err)
	}
	return s
}

// find returns the directory of the newest installation. The error wraps [ErrMissing].
func find() (string, error) {
	patterns := binPatterns
	if dir := os.Getenv(EnvBin); dir != "" {
		patterns = []string{dir}
	}
	for _, pattern := range patterns {
		dirs, _ := filepath.Glob(pattern)
		slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
		for _, dir := range dirs {
			if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("postgrestest: found no initdb: %w: install it with `apt-get install postgresql` (Debian, Ubuntu), or set %s", ErrMissing, EnvBin)
}

// version returns the number in a path such as /usr/lib/postgresql/15/bin, or 0.
func version(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

// initialise makes the data directory. PostgreSQL refuses to run as root; the user that the packages make runs it then.
func (s *Server) initialise() error {
	dir, err := os.MkdirTemp("", "postgres-")
	if err != nil {
		return fmt.Errorf("postgrestest: %w", err)
	}
	s.dir = dir
	if err := s.dropRoot(); err != nil {
		return err
	}
	if s.port, err = freePort(); err != nil {
		return err
	}
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(s.password), 0o600); err != nil {
		return fmt.Errorf("postgrestest: %w", err)
	}
	if s.uid != 0 {
		if err := os.Chown(secret, s.uid, s.gid); err != nil {
			return fmt.Errorf("postgrestest: %w", err)
		}
	}
	out, err := s.command("initdb", "--pgdata", s.data(), "--username", "postgres", "--pwfile", secret,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("postgrestest: initdb: %w: %.500s", err, out)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) dropRoot() error {
	if os.Getuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("postgrestest: as root a user postgres is needed: %w", err)
	}
	var err1, err2 error
	s.uid, err1 = strconv.Atoi(account.Uid)
	s.gid, err2 = strconv.Atoi(account.Gid)
	if err := errors.Join(err1, err2, os.Chown(s.dir, s.uid, s.gid)); err != nil {
		return fmt.Errorf("postgrestest: %w", err)
	}
	return nil
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	if s.uid != 0 {
		runAs(cmd, s.uid, s.gid)
	}
	return cmd
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("postgrestest: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Addr returns the server's address, "host:port". It stays the same.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL returns the address of a database of the server for its superuser, by way of addr, which is [Server.Addr] or that
// of a proxy.
func (s *Server) URL(addr, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", s.password), Host: addr, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// NewDatabase makes an empty database and returns its name.
func (s *Server) NewDatabase(tb TB) string {
	tb.Helper()
	s.mu.Lock()
	s.databases++
	name := fmt.Sprintf("test%d", s.databases)
	s.mu.Unlock()
	s.Exec(tb, "postgres", "CREATE DATABASE "+name)
	return name
}

// Exec runs a statement in a database.
func (s *Server) Exec(tb TB, database, sql string, args ...any) {
	tb.Helper()
	if err := s.exec(database, sql, args...); err != nil {
		tb.Fatalf("postgrestest: %v", err)
	}
}

func (s *Server) exec(database, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL(s.Addr(), database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// Run runs a program of the installation, such as pg_dump, as the superuser of a database, and returns what it wrote to
// standard output. stdin may be nil.
func (s *Server) Run(tb TB, database string, stdin io.Reader, program string, args ...string) []byte {
	tb.Helper()
	cmd := s.command(program, args...)
	var out, complaints bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &complaints
	cmd.Env = append(cmd.Env, "PGHOST=127.0.0.1", "PGPORT="+strconv.Itoa(s.port), "PGUSER=postgres", "PGPASSWORD="+s.password,
		"PGDATABASE="+database, "PGSSLMODE=disable")
	if err := cmd.Run(); err != nil {
		tb.Fatalf("postgrestest: %s: %v: %.1000s", program, err, complaints.Bytes())
	}
	return out.Bytes()
}

// Start starts the server after a [Server.Kill], and returns when it answers. It does nothing while the server runs.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	deadline := time.Now().Add(startTimeout)
	for {
		if s.process != nil && s.process.Running() {
			return nil
		}
		process, err := daemon.Start(s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.port), "-k", s.dir,
			"-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=16MB", "-c", "max_connections=40",
			"-c", "log_min_messages=fatal", "-c", "autovacuum=off"))
		if err != nil {
			return fmt.Errorf("postgrestest: %w", err)
		}
		err = process.Await(time.Until(deadline), func() error { return s.exec("postgres", "SELECT 1") })
		if err == nil {
			s.process = process
			return nil
		}
		process.Kill()
		// After a crash, processes of the old server may hold its shared memory for a moment.
		if time.Now().After(deadline) {
			return fmt.Errorf("postgrestest: %w", err)
		}
	}
}

// Kill kills the server as a crash does, and returns when it and its processes have ended. It does nothing while no server
// runs.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.Kill()
	}
}
