package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/managedkey/audit"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

func TestHTTPTable(t *testing.T) {
	brief(t)
	many := idleConnections
	t.Cleanup(func() { idleConnections = many })
	idleConnections = 20
	table := printed(t, place(t, false).http)
	for _, server := range []string{"net/http", "API", "API, audit and metrics", "API, audit with fsync, metrics"} {
		for _, clients := range []string{"1", "16"} {
			fields := lineOf(t, table, server, clients)
			for _, field := range fields[:2] { // bytes may be next to nothing, of 20 connections
				if x, err := strconv.ParseFloat(field, 64); err != nil || x <= 0 {
					t.Errorf("%q in:\n%s", field, table)
				}
			}
		}
	}
	if !strings.Contains(table, "bytes per idle connection") {
		t.Errorf("no memory in:\n%s", table)
	}
}

// lineOf returns what a table has after two fields, of which the first may have spaces in it.
func lineOf(t *testing.T, table, first, second string) []string {
	t.Helper()
	for l := range strings.Lines(table) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(l), first+" ")
		if fields := strings.Fields(rest); ok && len(fields) > 0 && fields[0] == second {
			return fields[1:]
		}
	}
	t.Fatalf("no line of %s with %s in:\n%s", first, second, table)
	return nil
}

// TestAudited: what the audited server does is in its file, twice for each request, and the chain is whole.
func TestAudited(t *testing.T) {
	w := place(t, false)
	api, end, err := w.ourServer(t.Context(), &audit.File{Sync: audit.SyncInterval})
	if err != nil {
		t.Fatal(err)
	}
	s, err := listen(httpapi.NewServer(api, nil))
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 5 {
		if err := c.sign(); err != nil {
			t.Fatal(err)
		}
	}
	s.close()
	end()
	path := filepath.Join(w.dir, fmt.Sprintf("http-%d.log", audit.SyncInterval))
	if _, err := audit.VerifyFiles(auditKey, path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"request", "outcome"} {
		if n := strings.Count(string(text), `"type":"`+kind+`"`); n < 5 {
			t.Errorf("%d records of type %s", n, kind)
		}
	}
}

// TestSignRefused: an answer that isn't a success isn't counted.
func TestSignRefused(t *testing.T) {
	api, end, err := place(t, false).ourServer(t.Context(), nil)
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
