package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

var errBroken = errors.New("broken")

// served returns what the contender answers to the lines, and how serving ended.
func served(t *testing.T, c contender, lines ...string) ([]string, error) {
	t.Helper()
	contenders["test"] = c
	t.Cleanup(func() { delete(contenders, "test") })
	var out strings.Builder
	err := serve("test", strings.NewReader(strings.Join(lines, "\n")), &out)
	return slices.Collect(strings.Lines(out.String())), err
}

func TestServeRate(t *testing.T) {
	var opened int
	var done atomic.Int64
	c := contender{open: func() (map[string]operation, error) {
		opened++
		return map[string]operation{"a": func() error { done.Add(1); return nil }}, nil
	}}
	answers, err := served(t, c, "rate\ta\t2\t1000000", "rate\ta\t1\t1000000")
	if err != nil || len(answers) != 2 {
		t.Fatalf("answers %q, %v; want two rates", answers, err)
	}
	for _, a := range answers {
		var s speed
		if _, err := fmt.Sscan(a, &s.rate, &s.cpu); err != nil || s.rate <= 0 || s.cpu <= 0 {
			t.Errorf("answer %q; want two positive rates", a)
		}
	}
	if opened != 1 || done.Load() == 0 {
		t.Errorf("keys were opened %d times and used %d times; want once and often", opened, done.Load())
	}
}

func TestServeAllocs(t *testing.T) {
	var sink [][]byte
	c := contender{open: func() (map[string]operation, error) {
		return map[string]operation{"a": func() error { sink = append(sink[:0], make([]byte, 1000)); return nil }}, nil
	}}
	answers, err := served(t, c, "allocs\ta\t1000")
	if err != nil || len(answers) != 1 {
		t.Fatalf("answers %q, %v; want one", answers, err)
	}
	var allocs, bytes float64
	if _, err := fmt.Sscan(answers[0], &allocs, &bytes); err != nil {
		t.Fatal(err)
	}
	// What the runtime allocates meanwhile is counted too.
	if allocs < 1 || allocs > 2 || bytes < 1000 || bytes > 2000 {
		t.Errorf("%v allocations, %v bytes; want about 1 and 1024", allocs, bytes)
	}
}

func TestServeUnsupported(t *testing.T) {
	c := contender{open: func() (map[string]operation, error) {
		return map[string]operation{
			"refused": func() error { return fmt.Errorf("no\nsuch\tkey: %w", backend.ErrUnsupported) },
			"unknown": unless(fmt.Errorf("mechanism: %w", backend.ErrInvalidParams), nil),
		}, nil
	}}
	answers, err := served(t, c, "rate\trefused\t1\t1", "rate\tunknown\t1\t1", "rate\tabsent\t1\t1", "allocs\tabsent\t1",
		"cold\tk", "keys\t1\t1", "queue\t1\t1\t1", "nonsense")
	if err != nil || len(answers) != 8 {
		t.Fatalf("answers %q, %v; want eight", answers, err)
	}
	for _, a := range answers {
		if !strings.HasPrefix(a, unsupported+"\t") || strings.Count(a, "\t") != 1 {
			t.Errorf("answer %q; want %s and a reason without tabs", a, unsupported)
		}
	}
}

// A contender that fails must end the bench: a figure without its operations would be too good.
func TestServeFails(t *testing.T) {
	broken := func() error { return errBroken }
	c := contender{
		open:   func() (map[string]operation, error) { return map[string]operation{"a": broken}, nil },
		cold:   func(string) error { return errBroken },
		keys:   func([]string, time.Duration) (int, error) { return 1, errBroken },
		narrow: func(int) (operation, error) { return broken, nil },
	}
	for _, line := range []string{"rate\ta\t1\t1", "allocs\ta\t1", "cold\tk", "keys\t1\t1", "queue\t1\t1\t1"} {
		if answers, err := served(t, c, line); !errors.Is(err, errBroken) || len(answers) > 0 {
			t.Errorf("%q: answers %q, %v; want the contender's error", line, answers, err)
		}
	}
	if answers, err := served(t, c, "queue\tx"); err == nil {
		t.Errorf("a number that is none: answers %q; want an error", answers)
	}
	if err := serve("nobody", strings.NewReader(""), nil); err == nil {
		t.Error("a contender that doesn't exist serves")
	}
}

func TestMeasureFails(t *testing.T) {
	var n atomic.Int64
	_, err := measure(func() error {
		if n.Add(1) > 10 {
			return errBroken
		}
		return nil
	}, 4, time.Hour)
	if !errors.Is(err, errBroken) {
		t.Errorf("measure = %v; want the operation's error, and soon", err)
	}
}

func TestServeQueue(t *testing.T) {
	var parallel int
	c := contender{narrow: func(n int) (operation, error) {
		parallel = n
		return func() error { return nil }, nil
	}}
	answers, err := served(t, c, "queue\t4\t8\t1000000")
	if err != nil || len(answers) != 1 || len(strings.Fields(answers[0])) != 6 {
		t.Fatalf("answers %q, %v; want one of 6 figures", answers, err)
	}
	if parallel != 4 {
		t.Errorf("the contender was told %d operations at once; want 4", parallel)
	}
}

func TestOpenEach(t *testing.T) {
	labels := pairLabels(3)
	if want := []string{"k-0000", "k-0001", "k-0002"}; !slices.Equal(labels, want) {
		t.Fatalf("labels %q; want %q", labels, want)
	}
	var opened []string
	open := func(label string) error { opened = append(opened, label); return nil }
	if n, err := openEach(labels, time.Hour, open); n != 3 || err != nil || !slices.Equal(opened, labels) {
		t.Errorf("openEach = %d, %v and opened %q; want all", n, err, opened)
	}
	if n, err := openEach(labels, -1, open); n != 1 || err != nil {
		t.Errorf("openEach without time = %d, %v; want 1: something must be extrapolated from", n, err)
	}
	if _, err := openEach(labels, time.Hour, func(string) error { return errBroken }); !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "k-0000") {
		t.Errorf("openEach = %v; want the error, with the label", err)
	}
}
