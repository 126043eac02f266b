package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

func TestHTTPTable(t *testing.T) {
	brief(t)
	many := idleConnections
	t.Cleanup(func() { idleConnections = many })
	idleConnections = 20
	table := printed(t, func() error { return (*workplace)(nil).http() })
	for _, clients := range []string{"1", "16"} {
		fields := line(t, table, clients)
		for _, field := range fields[:3] {
			if x, err := strconv.ParseFloat(field, 64); err != nil || x <= 0 {
				t.Errorf("%q in:\n%s", field, table)
			}
		}
	}
	if !strings.Contains(table, "bytes per idle connection") {
		t.Errorf("no memory in:\n%s", table)
	}
}

// TestSignRefused: an answer that isn't a success isn't counted.
func TestSignRefused(t *testing.T) {
	api, end, err := ourServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	s, err := listen(httpapi.NewServer(api, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	c, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.sign(); err != nil {
		t.Fatal(err)
	}
	c.request = []byte(strings.Replace(string(c.request), benchToken, "wrong-01", 1))
	if err := c.sign(); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("got %v", err)
	}
}
