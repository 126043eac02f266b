package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// TestMain lets the test's own program be a contender, as the bench's program is.
func TestMain(m *testing.M) {
	flag.Parse()
	if *child != "" {
		if err := serve(*child, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// brief makes rounds so short that the figures mean nothing.
func brief(t *testing.T) {
	t.Helper()
	oldRounds, oldExtra, oldWindow, oldThreads, oldSizes := *rounds, extraRounds, *window, threads, tokenSizes
	t.Cleanup(func() {
		*rounds, extraRounds, *window, threads, tokenSizes = oldRounds, oldExtra, oldWindow, oldThreads, oldSizes
	})
	*rounds, extraRounds, *window, threads, tokenSizes = 1, 1, 2*time.Millisecond, []int{1, 4}, []int{20}
}

// place returns a workplace. Tests with a token need cgo, a C compiler and SoftHSM2.
func place(t *testing.T, token bool) *workplace {
	t.Helper()
	if token && !hasCgo {
		requires.Missing(t, "softhsm", errNoCgo)
	}
	if _, err := softhsm.Module(); token && err != nil {
		requires.Missing(t, "softhsm", err)
	}
	if token && os.Getenv("CC") == "" {
		requires.Tool(t, "cc", "cc")
	}
	conf := os.Getenv("SOFTHSM2_CONF") // softhsm.New changes it
	w, err := newWorkplace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.Setenv("SOFTHSM2_CONF", conf)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// printed returns what the table prints.
func printed(t *testing.T, table func() error) string {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stdout := os.Stdout
	os.Stdout = file
	err = table()
	os.Stdout = stdout
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n := len([]rune(line)); n > 141 {
			t.Errorf("a line of %d characters; 140 fit: %s", n-1, line)
		}
	}
	return string(text)
}

// rows returns the fields of the table's lines that begin so, without the bars.
func rows(table, begin string) [][]string {
	var found [][]string
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, begin) {
			fields := strings.Fields(strings.TrimPrefix(line, begin))
			found = append(found, slices.DeleteFunc(fields, func(f string) bool { return f == "|" }))
		}
	}
	return found
}

func TestChoose(t *testing.T) {
	for list, want := range map[string][]string{
		"":               tableNames(),
		"queue":          {"queue"},
		"queue,software": {"software", "queue"},
	} {
		if got, err := choose(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("choose(%q) = %q, %v; want %q", list, got, err, want)
		}
	}
	for _, list := range []string{"qeueu", "queue,", "queue, open"} {
		if got, err := choose(list); err == nil || !strings.Contains(err.Error(), "-only") {
			t.Errorf("choose(%q) = %q, %v; want an error that names the flag", list, got, err)
		}
	}
}

func TestSoftwareTable(t *testing.T) {
	brief(t)
	w := place(t, false)
	table := printed(t, w.software)
	for _, algorithm := range algorithms[:signatures] {
		got := rows(table, algorithm)
		if len(got) != 3 {
			t.Fatalf("%d rows of %s; want 3:\n%s", len(got), algorithm, table)
		}
		for _, row := range got {
			if len(row) != 6 || slices.Contains(row[:5], "0") {
				t.Errorf("%s: %q; want goroutines, two rates, two ratios and the load", algorithm, row)
			}
		}
	}
}

// Every contender but ours can do everything, so that a column of dashes there is a mistake.
func TestSigningTable(t *testing.T) {
	brief(t)
	w := place(t, true)
	table := printed(t, w.signing)
	for _, algorithm := range algorithms {
		got := rows(table, algorithm)
		if len(got) != 2 {
			t.Fatalf("%d rows of %s; want 2:\n%s", len(got), algorithm, table)
		}
		for _, row := range got {
			if len(row) != 16 {
				t.Fatalf("%s: %q; want 16 figures", algorithm, row)
			}
			if row[5] == "–" || row[9] == "–" || row[12] == "–" {
				t.Errorf("%s: %q; C, crypto11 and miekg/pkcs11 have no figure", algorithm, row)
			}
			if (row[1] == "–") != (row[4] == "–") {
				t.Errorf("%s: %q; a ratio of ours without its figure, or the other way round", algorithm, row)
			}
		}
	}
	for _, row := range rows(table, algorithms[0]) {
		if row[1] == "–" {
			t.Errorf("%s: %q; ours has no figure", algorithms[0], row)
		}
	}
}

// With a call of 0.5 ms, C makes fewer than 1000 signatures a second: C_SignInit and C_Sign are two. Who asks for the size
// first makes fewer than 667.
func TestNetworkTable(t *testing.T) {
	brief(t)
	w := place(t, true)
	*window = 20 * time.Millisecond
	got := rows(printed(t, w.network), algorithms[0])
	if len(got) != 2 {
		t.Fatalf("%q; want two rows", got)
	}
	for column, limit := range map[int]float64{2: 1000, 9: 667} {
		if rate, err := strconv.ParseFloat(got[0][column], 64); err != nil || rate <= 0 || rate > limit {
			t.Errorf("column %d of %q; want a rate of at most %v", column, got[0], limit)
		}
	}
}

func TestAllocsTable(t *testing.T) {
	w := place(t, true)
	table := printed(t, w.allocs)
	for _, algorithm := range algorithms[:signatures] {
		if got := rows(table, algorithm); len(got) != 1 || len(got[0]) != 6 || slices.Contains(got[0], "–") {
			t.Errorf("%s: %q; want a row of 6 figures", algorithm, got)
		}
	}
}

func TestOpenTable(t *testing.T) {
	brief(t)
	w := place(t, true)
	table := printed(t, w.open)
	got := rows(table, "20 ")
	if len(got) != 1 || len(got[0]) != 9 || slices.Contains(got[0], "–") {
		t.Fatalf("%q; want a row of 9 figures:\n%s", got, table)
	}
	if got[0][2] != "2" {
		t.Errorf("%s keys were opened on a token of 20 objects; want 2", got[0][2])
	}
}

func TestQueueTable(t *testing.T) {
	brief(t)
	w := place(t, true)
	table := printed(t, w.queue)
	for _, name := range []string{contenderOurs, "crypto11"} {
		if got := rows(table, name+" "); len(got) != 1 || len(got[0]) != 6 {
			t.Errorf("%s: %q; want a row of 6 figures:\n%s", name, got, table)
		}
	}
}

func TestCloudTables(t *testing.T) {
	brief(t)
	callers, most, keys := cloudCallers, crowd, cloudKeys
	t.Cleanup(func() { cloudCallers, crowd, cloudKeys = callers, most, keys })
	cloudCallers, crowd, cloudKeys = []int{2}, 20, 3
	table := printed(t, place(t, false).clouds)
	for _, service := range []string{"AWS KMS", "Azure Key Vault", "Google Cloud KMS"} {
		lines := 0
		for line := range strings.Lines(table) {
			if strings.HasPrefix(strings.TrimSpace(line), service) {
				lines++
				if strings.Contains(line, "–") || strings.Contains(line, "NaN") {
					t.Errorf("a figure is missing: %s", line)
				}
			}
		}
		if lines != 4 {
			t.Errorf("%s has %d lines, want 2 of rates, 1 of opening and 1 of the crowd:\n%s", service, lines, table)
		}
	}
}

func TestSizeTable(t *testing.T) {
	all := constructors
	t.Cleanup(func() { constructors = all })
	constructors = all[:1]
	table := printed(t, place(t, false).size)
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if got := strings.Fields(lines[len(lines)-1]); len(got) != 4 || got[0] != "software" {
		t.Errorf("want a row of 3 figures:\n%s", table)
	}
}
