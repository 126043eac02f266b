package main

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

func TestTransitHTTPTable(t *testing.T) {
	brief(t)
	w := place(t, true)
	table := printed(t, w.transithttp)
	var got [][]string
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) == 13 && fields[0] != "clients" {
			got = append(got, fields)
		}
	}
	if len(got) != 3 {
		t.Fatalf("%d rows; want 3:\n%s", len(got), table)
	}
	for i, want := range []string{"1 1", "16 1", "1 100"} {
		if strings.Join(got[i][:2], " ") != want || slices.Contains(got[i], "–") {
			t.Errorf("got %q; want clients and batch %s, and all figures", got[i], want)
		}
		if rate, err := strconv.ParseFloat(got[i][2], 64); err != nil || rate <= 0 {
			t.Errorf("rate %q", got[i][2])
		}
	}
}

// TestAsks: an answer that isn't a success isn't counted.
func TestAsks(t *testing.T) {
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
	if err := s.asks("{}")(); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("got %v; this server has no transit", err)
	}
}
