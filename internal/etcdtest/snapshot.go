package etcdtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// Save writes a snapshot of the cluster to a file, as `etcdctl snapshot save` does.
//
// If etcdctl is not installed, the test ends as requires.Missing says for the part "etcd".
func (c *Cluster) Save(tb testing.TB, path string) {
	tb.Helper()
	run(tb, requires.Tool(tb, "etcd", "etcdctl"), "--endpoints", "http://"+c.Addr(0), "snapshot", "save", path)
}

// Restore stops all servers, puts their data back from a snapshot, as `etcdutl snapshot restore` does, or etcdctl where that
// has it (before v3.6), and starts them again.
func (c *Cluster) Restore(tb testing.TB, path string) {
	tb.Helper()
	tool, err := exec.LookPath("etcdutl")
	if err != nil {
		tool = requires.Tool(tb, "etcd", "etcdctl")
	}
	for i, m := range c.members {
		c.Kill(i)
		dir := filepath.Join(c.dir, m.name)
		if err := os.RemoveAll(dir); err != nil {
			tb.Fatalf("etcdtest: %v", err)
		}
		run(tb, tool, "snapshot", "restore", path, "--name", m.name, "--data-dir", dir, "--initial-cluster", c.peers(),
			"--initial-advertise-peer-urls", "http://"+m.peer)
	}
	var wg sync.WaitGroup
	for i := range c.members {
		wg.Go(func() {
			if err := c.Start(i); err != nil {
				tb.Errorf("etcdtest: %v", err)
			}
		})
	}
	wg.Wait()
}

func run(tb testing.TB, tool string, args ...string) {
	tb.Helper()
	cmd := exec.Command(tool, args...)
	cmd.Env = append(environment(), "ETCDCTL_API=3") // which etcdctl before v3.4 must be told
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("etcdtest: %s: %v: %.1000s", filepath.Base(tool), err, out)
	}
}
