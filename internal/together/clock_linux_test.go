package together

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/internal/requires"
)

// clock is the wall clock of all processes that are started while it is set.
type clock struct{ path string }

// newClock sets the wall clock of the processes that the test starts, servers and children; that of this one stays right.
func newClock(t *testing.T) clock {
	t.Helper()
	cc := requires.Tool(t, "cc", "cc")
	dir, err := os.MkdirTemp("", "clock-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755)) // PostgreSQL runs as somebody else
	library := filepath.Join(dir, "clock.so")
	out, err := exec.Command(cc, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, "testdata/clock.c").CombinedOutput()
	require.NoError(t, err, "%s", out)
	c := clock{filepath.Join(dir, "offset")}
	c.jump(t, 0)
	t.Setenv("CLOCK_FILE", c.path)
	t.Setenv("LD_PRELOAD", library)
	return c
}

// jump sets the clock off by that much.
func (c clock) jump(t *testing.T, by time.Duration) {
	t.Helper()
	file, err := os.OpenFile(c.path, os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	defer file.Close()
	_, err = file.Write(binary.NativeEndian.AppendUint64(nil, uint64(by/time.Second)))
	require.NoError(t, err)
}

const year = 365 * 24 * time.Hour

// jumps sets the clock forward and back under load. told is what the clock of the server says.
func (c clock) jumps(t *testing.T, address string, told func() time.Time) {
	right := func(what string, by time.Duration, clock time.Time) {
		t.Helper()
		assert.WithinDuration(t, time.Now().Add(by), clock, 10*time.Minute, "the clock of %s", what)
	}
	all := []time.Duration{0, year, -year, -time.Hour, 20 * year}
	reports := suffer(t, address, func(l load) {
		for _, by := range all {
			c.jump(t, by)
			right("the server", by, told())
			l.works(t, 3)
		}
	})
	right("this process", 0, reports[0].Ended)
	right("the other process", all[len(all)-1], reports[workers-1].Ended)
}

// TestPostgresClockJumps: the clocks of the server and of one of two processes jump by years. Nothing depends on them.
func TestPostgresClockJumps(t *testing.T) {
	c := newClock(t)
	server := postgrestest.Require(t)
	c.jumps(t, server.URL(server.Addr(), server.NewDatabase(t)), func() time.Time {
		out := server.Run(t, "postgres", nil, "psql", "-Atc", "SELECT floor(extract(epoch FROM clock_timestamp()))::bigint")
		seconds, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
		require.NoError(t, err)
		return time.Unix(seconds, 0)
	})
}

// TestEtcdClockJumps is the same with a server in Go.
func TestEtcdClockJumps(t *testing.T) {
	c := newClock(t)
	cluster := etcdtest.Require(t, 1)
	c.jumps(t, "etcd://"+cluster.Addr(0), func() time.Time {
		resp, err := http.Get(fmt.Sprintf("http://%s/version", cluster.Addr(0)))
		require.NoError(t, err)
		defer resp.Body.Close()
		told, err := http.ParseTime(resp.Header.Get("Date"))
		require.NoError(t, err)
		return told
	})
}
