package main

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/pki"
)

// TestCRLsTable: each length has a row of times, one of changes, and two of memory.
func TestCRLsTable(t *testing.T) {
	brief(t)
	sizes, shards, changes, times := crlSizes, crlShards, crlChanges, crlRevocations
	t.Cleanup(func() { crlSizes, crlShards, crlChanges, crlRevocations = sizes, shards, changes, times })
	crlSizes, crlShards, crlChanges, crlRevocations = []int{40, 80}, 3, []int{1, 5}, 2
	w := place(t, false)
	table := printed(t, w.crls)
	var got [][]string
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) > 0 && slices.Contains([]string{"40", "80"}, fields[0]) {
			got = append(got, fields)
		}
	}
	want := []int{8, 8, 4, 4, 6, 6, 6, 6}
	if len(got) != len(want) {
		t.Fatalf("%d rows; want %d:\n%s", len(got), len(want), table)
	}
	for i, fields := range got {
		if len(fields) != want[i] {
			t.Fatalf("%q; want %d columns", fields, want[i])
		}
		for column, text := range fields[1:] {
			switch first := i == 0 && (column == 3 || column == 5); {
			case first != (text == "–") && !(i > 3 && column == 4): // growth from the row before; what is resident is not known everywhere
				t.Errorf("column %d of %q", column+1, fields)
			case strings.HasSuffix(text, "s"):
				if d, err := time.ParseDuration(text); err != nil || d < 0 {
					t.Errorf("column %d of %q: %v", column+1, fields, err)
				}
			}
		}
		if i > 3 {
			if lists := []string{"1", "3"}[i%2]; fields[1] != lists || number(t, fields, 4) < number(t, fields, 3) {
				t.Errorf("%q; want %s lists, and no less memory at most than before", fields, lists)
			}
		}
	}
	if left, err := filepath.Glob(filepath.Join(w.dir, "crls-*")); err != nil || len(left) > 0 {
		t.Errorf("%q are left, %v", left, err)
	}
}

// TestCRLCost: the memory of lists is that of a process of its own, which has none of what this one has.
func TestCRLCost(t *testing.T) {
	ballast := make([]byte, 200<<20)
	for i := 0; i < len(ballast); i += os.Getpagesize() {
		ballast[i] = 1
	}
	c, err := place(t, false).crlCost(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	if c.entries != 100 || c.base <= 0 || c.base > 100 || c.peak < c.base || c.resident > 190 {
		t.Errorf("%+v", c)
	}
	runtime.KeepAlive(ballast)
}

// TestCRLFill: what is stored directly is what package pki takes for revocations, in shards and as changes too, and a list with another
// number of entries than it should have ends the bench.
func TestCRLFill(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	a, closeAll, err := newAuthority(t.Context(), st)
	defer closeAll()
	if err != nil {
		t.Fatal(err)
	}
	list := func(scope pki.CRLScope, want int) {
		t.Helper()
		if _, _, err := timed(want, func() (*pki.CRL, error) { return a.ScopedCRL(t.Context(), "root", scope) }); err != nil {
			t.Error(err)
		}
	}
	if err := a.fill(t.Context(), st, 60, 0); err != nil {
		t.Fatal(err)
	}
	list(pki.CRLScope{}, 60)
	if err := a.change(t.Context(), st, 60, 30); err != nil {
		t.Fatal(err)
	}
	list(pki.CRLScope{}, 90)
	if err := a.SetURLs(t.Context(), pki.URLs{CRL: []string{"http://crl.example.com/{{shard}}.crl"}}); err != nil {
		t.Fatal(err)
	}
	if err := a.SetCRLConfig(t.Context(), pki.CRLConfig{Shards: 3}); err != nil {
		t.Fatal(err)
	}
	if err := a.fill(t.Context(), st, 60, 3); err != nil {
		t.Fatal(err)
	}
	for shard := 1; shard <= 3; shard++ {
		list(pki.CRLScope{Shard: shard}, 20)
	}
	if _, _, err := timed(1, func() (*pki.CRL, error) { return a.CRL(t.Context(), "root") }); err == nil || !strings.Contains(err.Error(), "want 1") {
		t.Errorf("a list of another length: %v", err)
	}
}

// TestWatchMemory: what was there for a moment counts.
func TestWatchMemory(t *testing.T) {
	before, stop := held(), watchMemory()
	block := make([]byte, 300<<20)
	for i := range block {
		block[i] = byte(i)
	}
	deadline := time.Now().Add(10 * time.Second)
	for most := 0.0; most < before+200 && time.Now().Before(deadline); most = held() {
		runtime.Gosched()
	}
	runtime.KeepAlive(block)
	if most := stop(); most < before+200 {
		t.Errorf("at most %.0f MiB; before it were %.0f, and 300 were taken", most, before)
	}
}
