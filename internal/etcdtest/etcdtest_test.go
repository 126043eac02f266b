package etcdtest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCluster(t *testing.T) {
	c := Require(t, 3)
	leader, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Endpoints()) != 3 || c.Endpoints()[leader] != c.Addr(leader) {
		t.Errorf("endpoints %q, leader %d at %s", c.Endpoints(), leader, c.Addr(leader))
	}

	// Without its leader, the cluster finds another one.
	c.Kill(leader)
	if conn, err := net.Dial("tcp", c.Addr(leader)); err == nil {
		conn.Close()
		t.Error("a server that was killed accepts connections")
	}
	other := c.members[(leader+1)%3]
	err = other.process.Await(startTimeout, func() error {
		if now, err := c.Leader(); err != nil || now == leader {
			return fmt.Errorf("leader %d, %v", now, err)
		}
		return other.healthy()
	})
	if err != nil {
		t.Fatal(err)
	}

	// With one of three there is none, and it comes back.
	c.Kill((leader + 1) % 3)
	last := c.members[(leader+2)%3]
	err = last.process.Await(startTimeout, func() error {
		if last.healthy() == nil {
			return errors.New("one of three is healthy")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Kill((leader + 1) % 3) // once more does nothing
	for i := range 3 {
		if err := c.Start(i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Leader(); err != nil {
		t.Error(err)
	}
}

func TestStartTwice(t *testing.T) {
	c := Require(t, 1)
	before := c.members[0].process
	start := time.Now()
	if err := c.Start(0); err != nil || c.members[0].process != before {
		t.Errorf("Start of a server that runs: %v after %v", err, time.Since(start))
	}
}

// TestSnapshot: what was in the cluster when a snapshot was saved is there after it was restored, and nothing else.
func TestSnapshot(t *testing.T) {
	c := Require(t, 1)
	put := func(key string) {
		t.Helper()
		body := fmt.Sprintf(`{"key": %q, "value": ""}`, base64.StdEncoding.EncodeToString([]byte(key)))
		resp, err := client.Post("http://"+c.Addr(0)+"/v3/kv/put", "application/json", strings.NewReader(body))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
	}
	count := func() (n string) {
		t.Helper()
		resp, err := client.Post("http://"+c.Addr(0)+"/v3/kv/range", "application/json", strings.NewReader(`{"key": "AA==", "range_end": "AA=="}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer struct{ Count string }
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer.Count
	}
	put("a")
	path := filepath.Join(t.TempDir(), "snapshot")
	c.Save(t, path)
	put("b")
	if n := count(); n != "2" {
		t.Fatalf("%s keys before", n)
	}
	c.Restore(t, path)
	if n := count(); n != "1" {
		t.Errorf("%s keys after the snapshot of one was restored", n)
	}
}
