package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
)

// network makes connections that break around a commit.
type network struct {
	requests, answers atomic.Int64 // that are to be lost
	then              func()       // called when an answer was lost
	lost              atomic.Int64
}

// conn is a connection of a network. Statements are sent as text, so that a commit can be seen.
type conn struct {
	net.Conn
	n      *network
	answer bool // the next answer is to be lost
}

var errCut = errors.New("cut")

func (c *conn) Write(data []byte) (int, error) {
	if bytes.Contains(data, []byte("COMMIT\x00")) {
		if c.n.requests.Add(-1) >= 0 {
			c.n.lost.Add(1)
			c.Close()
			return len(data), nil // it went into the network
		}
		c.answer = c.n.answers.Add(-1) >= 0
	}
	return c.Conn.Write(data)
}

func (c *conn) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	if !c.answer || n == 0 {
		return n, err
	}
	// The answer to a commit comes when it is done. It may be in parts: whoever reads the first has waited for it.
	c.answer = false
	c.n.lost.Add(1)
	if c.n.then != nil {
		c.n.then()
	}
	c.Close()
	return 0, errors.Join(errCut, io.ErrUnexpectedEOF)
}

// testLost loses commits and their answers. The caller must learn nothing of it: what happened is found out, and nothing is
// made twice; except when others have written since.
func testLost(t *testing.T, server *postgrestest.Server) {
	cfg, err := pgxpool.ParseConfig(server.URL(server.Addr(), "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	n := &network{}
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &conn{Conn: c, n: n}, nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	opts := &postgres.Options{Table: newTable(), Timeout: 2 * time.Second}
	s, err := postgres.Open(t.Context(), pool, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	other := connect(t, server, server.Addr(), opts)
	defer other.Close()
	version, err := s.Apply(t.Context(), store.Op{Key: "a"})
	if err != nil {
		t.Fatal(err)
	}
	first := version
	for i := range 9 {
		n.requests.Store(int64(i % 3))
		n.answers.Store(int64(i % 2))
		before := n.lost.Load()
		version, err = s.Apply(t.Context(), store.Op{Key: "a", Value: fmt.Append(nil, i), Expect: store.Expect(version)})
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if lost := n.lost.Load() - before; lost != int64(i%3+i%2) {
			t.Fatalf("round %d: %d were lost", i, lost)
		}
		record, err := other.Get(t.Context(), "a")
		if err != nil || record.Version != version || string(record.Value) != fmt.Sprint(i) {
			t.Fatalf("round %d: value %q, version %d, %v; Apply returned version %d", i, record.Value, record.Version, err, version)
		}
	}
	seen := 0
	for event, err := range other.Watch(t.Context(), "", first) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; event.Revision >= version {
			break
		}
	}
	if seen != 9 {
		t.Errorf("watches saw %d changes of 9", seen)
	}

	n.answers.Store(1)
	n.then = func() {
		if _, err := other.Apply(t.Context(), store.Op{Key: "b"}); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Apply(t.Context(), store.Op{Key: "a", Expect: store.Any}); !errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("an answer that is lost for good: %v", err)
	}
	n.then = nil
	n.requests.Store(1000)
	if _, err := s.Apply(t.Context(), store.Op{Key: "c"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("commits that are all lost: %v", err)
	}
}
