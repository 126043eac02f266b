package pki

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// crowded is a watch that has room for few certificates, with a store that counts what is read.
func crowded(t *testing.T, certificates, most, again int) (*watched, *counting, time.Time) {
	t.Helper()
	w := newWatched(t, nil)
	st := &counting{Store: memory.New(nil)}
	t.Cleanup(func() { st.Close() })
	w.firm = firmOn(t, w.house, st, &Options{Now: w.engine.now})
	w.leaves(t)
	w.open(t, nil)
	w.watch.sweep.most, w.watch.sweep.followed.again = most, again
	var end time.Time
	for n := range certificates {
		end = w.issue(t, "r", fmt.Sprintf("n%d.example", n)).Certificate.NotAfter
	}
	return w, st, end
}

// TestFollowedIsBounded: those for which there is no room are counted as the others, at each threshold, until they end.
func TestFollowedIsBounded(t *testing.T) {
	w, _, end := crowded(t, 12, 5, 100)
	for _, step := range []struct {
		at     time.Duration
		told   string
		counts []int
	}{
		{-20 * day, "30d", []int{12, 0, 0}},
		{-10 * day, "", []int{12, 0, 0}},
		{-6 * day, "7d", []int{12, 12, 0}},
		{-time.Hour - time.Minute, "1d", []int{12, 12, 12}},
		{time.Hour, "0s", []int{0, 0, 0}},
	} {
		var told []string
		for range 12 {
			if step.told != "" {
				told = append(told, "certificate "+step.told)
			}
		}
		w.tells(t, end.Add(step.at), told...)
		if got := w.counts(); !slices.Equal(got, step.counts) {
			t.Errorf("at %v: counts %v; want %v", step.at, got, step.counts)
		}
		if n := len(w.watch.sweep.standing); n > 5 || len(w.watch.sweep.crowd) > 1 {
			t.Errorf("at %v: %d are followed, in a crowd of %v", step.at, n, w.watch.sweep.crowd)
		}
	}
	if s := &w.watch.sweep; len(s.standing)+len(s.crowd) > 0 {
		t.Errorf("left are %v and %v", s.standing, s.crowd)
	}
}

// TestLooksAgain: a pass looks at so many again and no more, at all of them in turn, and so finds sooner or later what was revoked.
func TestLooksAgain(t *testing.T) {
	const all, each = 10, 3
	w, st, end := crowded(t, all, 100, each)
	pair := w.issue(t, "r", "revoked.example")
	at := end.Add(-20 * day)
	*w.now = at
	w.told(t)
	if _, err := w.Revoke(t.Context(), serialOf(pair), ReasonSuperseded, time.Time{}); err != nil {
		t.Fatal(err)
	}
	*w.now = at.Add(time.Second)
	if err := w.watch.Check(t.Context()); err != nil { // reads what doesn't change from pass to pass, too
		t.Fatal(err)
	}
	for range 2 {
		looked := make(map[uint32]int)
		for _, one := range w.watch.sweep.standing {
			looked[one.pass]++
		}
		*w.now = w.now.Add(time.Second)
		st.gets.Store(0)
		w.told(t)
		now := 0
		for _, one := range w.watch.sweep.standing {
			if one.pass == w.watch.sweep.pass {
				now++
			}
		}
		if now > each || now < each-1 {
			t.Errorf("a pass looked at %d of %v", now, looked)
		}
	}
	*w.now = w.now.Add(time.Second)
	w.told(t)
	if got := w.counts(); !slices.Equal(got, []int{all, 0, 0}) {
		t.Errorf("after four passes of %d the counts are %v", each, got)
	}
	oldest := w.watch.sweep.pass
	for _, one := range w.watch.sweep.standing {
		oldest = min(oldest, one.pass)
	}
	if oldest+3 < w.watch.sweep.pass {
		t.Errorf("the last of %d passes looked at all but one of pass %d", w.watch.sweep.pass, oldest)
	}
}

// TestReadsOnce: the first look at a certificate that nothing has replaced reads it once.
func TestReadsOnce(t *testing.T) {
	w, st, end := crowded(t, 20, 100, 100)
	*w.now = end.Add(-20 * day)
	st.gets.Store(0)
	w.told(t)
	few := st.gets.Load()
	if few < 20 || few > 30 {
		t.Errorf("20 certificates took %d reads", few)
	}
}

// TestPauses: a look takes half of a processor, rests as soon as it is told to end, and not at all if there is little to look at.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		v := &visit{since: began}
		for n := range 5*stretch - 1 {
			time.Sleep(time.Millisecond) // as if it took that long
			if err := v.pause(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); n < stretch-1 && took > stretch*time.Millisecond {
				t.Fatalf("%d certificates took %v", n, took)
			}
		}
		if took := time.Since(began); took != (9*stretch-1)*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := v.pause(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("at the end: %v", err)
		}
	})
}
