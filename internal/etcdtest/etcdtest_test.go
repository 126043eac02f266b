package etcdtest

import (
	"errors"
	"fmt"
	"net"
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
