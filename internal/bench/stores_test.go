package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/p11kit"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
)

// little makes the tables of stores do so little that the figures mean nothing.
func little(t *testing.T) {
	t.Helper()
	brief(t)
	entries, times, callers, creators := storedEntries, revocations, throughCallers, createCallers
	t.Cleanup(func() { storedEntries, revocations, throughCallers, createCallers = entries, times, callers, creators })
	storedEntries, revocations, throughCallers, createCallers = 250, 3, []int{2}, []int{1, 4}
}

// withServers returns a workplace whose servers have started.
func withServers(t *testing.T) *workplace {
	t.Helper()
	w := place(t, false)
	if _, err := w.started(); errors.Is(err, errMissing) || err != nil && strings.Contains(err.Error(), requires.Env) {
		part := "postgres"
		if strings.Contains(err.Error(), "etcd") {
			part = "etcd"
		}
		requires.Missing(t, part, err)
	} else if err != nil {
		t.Fatal(err)
	}
	return w
}

// line returns the fields of the only line of the table whose first field is name.
func line(t *testing.T, table, name string) []string {
	t.Helper()
	var found [][]string
	for l := range strings.Lines(table) {
		if fields := strings.Fields(l); len(fields) > 0 && fields[0] == name {
			found = append(found, fields[1:])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d lines of %s; want one:\n%s", len(found), name, table)
	}
	return found[0]
}

// number returns a figure of a line, which must be positive.
func number(t *testing.T, fields []string, i int) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(fields[i], 64)
	if err != nil || !(x > 0) {
		t.Errorf("column %d of %q is not a positive number", i, fields)
	}
	return x
}

func TestThroughTable(t *testing.T) {
	little(t)
	table := printed(t, place(t, false).through)
	got := line(t, table, "software")
	if len(got) != 6 {
		t.Fatalf("%q; want goroutines, three rates and two ratios", got)
	}
	for i := range got {
		number(t, got, i)
	}
	if _, err := softhsm.Module(); err != nil || !hasCgo {
		return
	}
	if got := line(t, table, "SoftHSM2"); len(got) != 6 || number(t, got, 3) == 0 || got[4] != "–" {
		t.Errorf("%q; want figures of a registry in memory alone", got)
	}
}

func TestTransitTable(t *testing.T) {
	little(t)
	size := streamed
	t.Cleanup(func() { streamed = size })
	streamed = 1 << 20
	table := printed(t, place(t, false).transit)
	rows := map[string]int{"sign P-256": 1, "AES-256-GCM 1 KiB": 1, "the same in an envelope": 1}
	if _, err := softhsm.Module(); err == nil && hasCgo {
		rows["SoftHSM2 "+algorithms[0]], rows["SoftHSM2 "+batchOf100] = 2, 1
	}
	for l := range strings.Lines(table) {
		for row := range rows {
			figures, ok := strings.CutPrefix(strings.TrimSpace(l), row)
			if got := strings.Fields(figures); ok && len(got) == 5 { // goroutines, two rates and two ratios
				rows[row]--
				for i := range got {
					number(t, got, i)
				}
			}
		}
	}
	for row, missing := range rows {
		if missing != 0 {
			t.Errorf("%d lines of %s too few in:\n%s", missing, row, table)
		}
	}
	if !strings.Contains(table, "A stream of 1 MiB") {
		t.Errorf("%s lacks the stream", table)
	}
}

func TestStoredTable(t *testing.T) {
	little(t)
	got := line(t, printed(t, place(t, false).stored), "250")
	if len(got) != 6 {
		t.Fatalf("%q; want times, heaps and their ratios", got)
	}
}

// What both contenders read is what a registry writes: each entry can be used, and is another one.
func TestFillStored(t *testing.T) {
	little(t)
	dir, ctx := t.TempDir(), t.Context()
	kept, plain := filepath.Join(dir, "kept"), filepath.Join(dir, "plain")
	if err := fillStored(ctx, kept, plain); err != nil {
		t.Fatal(err)
	}
	records, err := readPlain(plain)
	if err != nil || len(records) != storedEntries {
		t.Fatalf("%d plain records, %v", len(records), err)
	}
	ids := make(map[string]bool)
	for key, r := range records {
		ids[r.UUID] = true
		if r.Format == 0 || r.Connection != "hsm" || !strings.Contains(key, "tenant-") || !strings.Contains(string(r.Params), "issuing-") {
			t.Fatalf("the record %q is %+v", key, r)
		}
	}
	if len(ids) != storedEntries {
		t.Errorf("%d UUIDs of %d entries", len(ids), storedEntries)
	}
	st, err := bolt.Open(kept, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	same, _, err := store.Load(ctx, st, "")
	if err != nil || len(same) != storedEntries || records[same[7].Key] == nil {
		t.Fatalf("%d records in the store, %v", len(same), err)
	}
	b := software.New(nil)
	defer b.Close()
	r, err := openRegistry(ctx, st, b)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if names := r.List("tenant-00002"); len(names) != 50 || names[49] != "issuing-49" {
		t.Errorf("the last namespace has %q", names)
	}
}

func TestCreatesTable(t *testing.T) {
	little(t)
	w := withServers(t)
	createCallers = []int{4}
	table := printed(t, w.creates)
	for _, engine := range []string{"bolt", "postgres", "etcd"} {
		got := line(t, table, engine)
		if len(got) != 4 || got[0] != "4" {
			t.Fatalf("%s: %q; want goroutines, two rates and a ratio", engine, got)
		}
		for i := range got {
			number(t, got, i)
		}
	}
}

func TestFollowTable(t *testing.T) {
	little(t)
	w := withServers(t)
	table := printed(t, w.follow)
	for _, engine := range []string{"memory", "bolt", "postgres", "etcd"} {
		got := line(t, table, engine)
		if len(got) != 8 {
			t.Fatalf("%s: %q; want 8 figures", engine, got)
		}
		if p50, p99 := number(t, got, 0), number(t, got, 1); p50 > p99 {
			t.Errorf("%s: %q; p50 is above p99", engine, got)
		}
		if told := engine == "postgres" || engine == "etcd"; told == slices.Contains(got, "–") {
			t.Errorf("%s: %q; want figures of the client exactly where changes are told", engine, got)
		}
	}
}

func TestFailoverTable(t *testing.T) {
	little(t)
	*window = 20 * time.Millisecond
	table := printed(t, place(t, false).failover)
	kinds := []string{"software"}
	_, noKit := p11kit.Module()
	if _, err := softhsm.Module(); err == nil && noKit == nil && hasCgo {
		kinds = append(kinds, "SoftHSM2")
	}
	for _, kind := range kinds {
		got := line(t, table, kind)
		if len(got) != 9 || got[1] != "0" {
			t.Fatalf("%s: %q; want 9 figures, and no signature that failed", kind, got)
		}
		if longest := number(t, got, 4); longest < number(t, got, 3) {
			t.Errorf("%s: %q; the longest is below p99", kind, got)
		}
	}
}

// A pair whose places both end is not one that goes on.
func TestUnderLoadCountsFailures(t *testing.T) {
	little(t)
	*window = 10 * time.Millisecond
	o := new(owner)
	defer o.close()
	p, err := softwarePair(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, failed, err := underLoad(t.Context(), p.both, func() { p.close() }); err != nil || failed == 0 {
		t.Errorf("%d failures after the end of both, %v", failed, err)
	}
}

func TestLend(t *testing.T) {
	o := new(owner)
	var undone []int
	o.Cleanup(func() { undone = append(undone, 1) })
	o.Cleanup(func() { undone = append(undone, 2) })
	if err := lend(func() { requires.Tool(o, "nothing", "no-such-command-here") }); !errors.Is(err, errMissing) {
		t.Errorf("a missing tool: %v", err)
	}
	if err := lend(func() { o.Fatalf("port %d is taken", 5) }); err == nil || errors.Is(err, errMissing) || err.Error() != "port 5 is taken" {
		t.Errorf("a failure: %v", err)
	}
	if err := lend(func() {}); err != nil {
		t.Errorf("nothing: %v", err)
	}
	o.close()
	o.close()
	if !slices.Equal(undone, []int{2, 1}) {
		t.Errorf("undone: %v", undone)
	}
	defer func() {
		if r := recover(); fmt.Sprint(r) != "mine" {
			t.Errorf("another panic became %v", r)
		}
	}()
	lend(func() { panic("mine") })
}

func TestUntil(t *testing.T) {
	n := 0
	if err := until(func() bool { n++; return n == 5 }); err != nil || n != 5 {
		t.Errorf("%d questions, %v", n, err)
	}
	var none engine
	if f, err := none.telling(context.Background()); err != nil || len(f.whole) != 0 {
		t.Errorf("an engine that tells nobody: %v, %v", f, err)
	}
}
