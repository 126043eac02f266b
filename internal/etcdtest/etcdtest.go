// Package etcdtest runs etcd clusters for tests, on 127.0.0.1 with data in a temporary directory. Its servers end with the
// test, and with the process. They can be killed and started again one by one.
package etcdtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/internal/daemon"
	"github.com/managedkeys/managedkeys/internal/requires"
)

// startTimeout is how long a cluster may take until it answers.
const startTimeout = 30 * time.Second

// Cluster is an etcd cluster. Its methods are safe for concurrent use.
type Cluster struct {
	tool, dir string
	members   []*member
}

// member is one server of a cluster.
type member struct {
	name, client, peer string // client and peer are addresses, "host:port"

	mu      sync.Mutex
	process *daemon.Process
}

// TB is what this package needs of a testing.TB, so that programs that use it don't link package testing.
type TB interface {
	requires.TB
	Cleanup(func())
}

// Require starts a cluster of that many servers for the test, which ends with it.
//
// If etcd is not installed, the test ends as requires.Missing says for the part "etcd".
func Require(tb TB, servers int) *Cluster {
	tb.Helper()
	c := &Cluster{tool: requires.Tool(tb, "etcd", "etcd")}
	dir, err := os.MkdirTemp("", "etcd-")
	if err != nil {
		tb.Fatalf("etcdtest: %v", err)
	}
	c.dir = dir
	tb.Cleanup(func() {
		for i := range c.members {
			c.Kill(i)
		}
		os.RemoveAll(dir)
	})
	ports, err := freePorts(2 * servers)
	if err != nil {
		tb.Fatalf("etcdtest: %v", err)
	}
	for i := range servers {
		c.members = append(c.members, &member{name: fmt.Sprintf("m%d", i), client: ports[2*i], peer: ports[2*i+1]})
	}
	// Together: a server answers when a majority is there.
	errs := make([]error, servers)
	var wg sync.WaitGroup
	for i := range c.members {
		wg.Go(func() { errs[i] = c.Start(i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		tb.Fatalf("%v", err)
	}
	return c
}

// freePorts returns n addresses nobody listens at.
func freePorts(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // only now, so that none comes twice
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// Addr returns the address for clients, "host:port", of server i. It stays the same.
func (c *Cluster) Addr(i int) string { return c.members[i].client }

// Endpoints returns the addresses of all servers, for a client.
func (c *Cluster) Endpoints() []string {
	var all []string
	for i := range c.members {
		all = append(all, c.Addr(i))
	}
	return all
}

// Start starts server i after a [Cluster.Kill], and returns when it answers, for which a majority must be there. It does
// nothing while the server runs.
func (c *Cluster) Start(i int) error {
	m := c.members[i]
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil && m.process.Running() {
		return nil
	}
	cmd := exec.Command(c.tool, "--name", m.name, "--data-dir", filepath.Join(c.dir, m.name),
		"--listen-client-urls", "http://"+m.client, "--advertise-client-urls", "http://"+m.client,
		"--listen-peer-urls", "http://"+m.peer, "--initial-advertise-peer-urls", "http://"+m.peer,
		"--initial-cluster", c.peers(), "--heartbeat-interval", "50", "--election-timeout", "500",
		"--log-level", "error", "--logger", "zap")
	cmd.Env = environment()
	process, err := daemon.Start(cmd)
	if err != nil {
		return fmt.Errorf("etcdtest: %w", err)
	}
	m.process = process
	if err := process.Await(startTimeout, m.healthy); err != nil {
		process.Kill()
		return fmt.Errorf("etcdtest: %w", err)
	}
	return nil
}

// peers returns the servers as etcd's flag --initial-cluster takes them.
func (c *Cluster) peers() string {
	var all []string
	for _, m := range c.members {
		all = append(all, m.name+"=http://"+m.peer)
	}
	return strings.Join(all, ",")
}

// environment returns that of this process without what would configure etcd's programs.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "ETCD_") || strings.HasPrefix(v, "ETCDCTL_")
	})
}

// Kill kills server i as a crash does. It does nothing while it does not run.
func (c *Cluster) Kill(i int) {
	m := c.members[i]
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		m.process.Kill()
	}
}

// Leader returns the server that leads the cluster, as the others that run see it. The error tells that there is none.
func (c *Cluster) Leader() (int, error) {
	ids := make(map[string]int)
	leader := ""
	for i, m := range c.members {
		status, err := m.status()
		if err != nil {
			continue
		}
		ids[status.Header.Member] = i
		if status.Leader != "" && status.Leader != "0" {
			leader = status.Leader
		}
	}
	if i, ok := ids[leader]; ok {
		return i, nil
	}
	return 0, errors.New("etcdtest: the cluster has no leader")
}

var client = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// status is a part of the answer of etcd's JSON gateway.
type status struct {
	Header struct {
		Member string `json:"member_id"`
	} `json:"header"`
	Leader string `json:"leader"`
}

func (m *member) status() (s status, err error) {
	resp, err := client.Post("http://"+m.client+"/v3/maintenance/status", "application/json", strings.NewReader("{}"))
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("status: %s", resp.Status)
	}
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// healthy returns nil if the server takes part in a cluster that has a leader.
func (m *member) healthy() error {
	resp, err := client.Get("http://" + m.client + "/health")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s", resp.Status)
	}
	return nil
}
