package pki

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// tidyRig are two processes that share a store in which three certificates have expired. What the first one does to the store stops while
// away is set, and removals of certificates wait for gate.
type tidyRig struct {
	one, two *firm
	gate     chan struct{}
	away     atomic.Bool
}

func newTidyRig(t *testing.T) *tidyRig {
	opts := &Options{Now: time.Now}
	f := newFirm(t, opts)
	f.root(t, "ed25519", "root")
	f.role(t, anyRole("r"))
	for range 3 {
		_, err := f.Issue(t.Context(), "r", IssueRequest{CommonName: "a.example", TTL: time.Hour})
		must(t, err)
		time.Sleep(day)
	}
	time.Sleep(10 * day)
	g := &tidyRig{two: f, gate: make(chan struct{})}
	g.one = firmOn(t, f.house, &failing{Store: f.store, before: func(ops []store.Op) error {
		if ops[0].Kind == store.Delete && strings.Contains(ops[0].Key, "/certs/") {
			<-g.gate
		}
		return fault(g.away.Load(), store.ErrUnavailable)
	}}, opts)
	return g
}

// run begins a tidy in the first process.
func (g *tidyRig) run(t *testing.T, c TidyConfig) <-chan error {
	t.Helper()
	run, err := g.one.StartTidy(t.Context(), c)
	must(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := run.Run(context.Background())
		ended <- err
	}()
	synctest.Wait()
	return ended
}

// status is that of both processes, which is the same.
func (g *tidyRig) status(t *testing.T, state TidyState) TidyStatus {
	t.Helper()
	a, err := g.one.TidyStatus(t.Context())
	must(t, err)
	b, err := g.two.TidyStatus(t.Context())
	if must(t, err); a != b || a.State != state {
		t.Fatalf("the one says %+v, the other %+v; want state %q", a, b, state)
	}
	return a
}

var tidyAll = TidyConfig{Certificates: true, Issuers: true}

// TestTidyTogether: one tidy runs at a time, everybody knows how far it is, for however long, and how it has ended.
func TestTidyTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTidyRig(t)
		if s := g.status(t, TidyNever); s != (TidyStatus{}) {
			t.Errorf("before the first one: %+v", s)
		}
		began := time.Now()
		ended := g.run(t, tidyAll)
		for range 5 { // it takes several times its lease
			if s := g.status(t, TidyRunning); s.Config != tidyAll || !s.Started.Equal(began) || !s.Ended.IsZero() || s.Automatic {
				t.Errorf("while it runs: %+v", s)
			}
			for _, f := range []*firm{g.one, g.two} {
				_, err := f.Tidy(t.Context(), nil)
				wantError(t, err, ErrTidying)
				if run, err := f.StartTidy(t.Context(), tidyAll); run != nil || !errors.Is(err, backend.ErrUnavailable) {
					t.Errorf("a second one: %v, %v", run, err)
				}
			}
			time.Sleep(crlLease)
		}
		g.gate <- struct{}{}
		time.Sleep(2 * tidyTick)
		if p := g.status(t, TidyRunning).Progress; p.Removed != 1 || p.Days == 0 || p.Days >= p.AllDays {
			t.Errorf("after one certificate: %+v", p)
		}
		close(g.gate)
		must(t, <-ended)
		if s := g.status(t, TidyFinished); s.Progress.Removed != 3 || s.Progress.Days != s.Progress.AllDays || !s.Ended.Equal(time.Now()) || !s.LastAutomatic.IsZero() {
			t.Errorf("at its end: %+v", s)
		}
		if p, err := g.two.Tidy(t.Context(), nil); err != nil || p.Removed != 0 {
			t.Errorf("the next one: %+v, %v", p, err)
		}
	})
}

// TestTidyCancel: any process ends a tidy, whichever runs it, and what it has done stays done.
func TestTidyCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTidyRig(t)
		if was, err := g.two.CancelTidy(t.Context()); was || err != nil {
			t.Errorf("nothing to cancel: %t, %v", was, err)
		}
		ended := g.run(t, tidyAll)
		g.gate <- struct{}{}
		synctest.Wait()
		for range 2 {
			if was, err := g.two.CancelTidy(t.Context()); !was || err != nil {
				t.Errorf("cancelling: %t, %v", was, err)
			}
			g.status(t, TidyCancelling)
		}
		time.Sleep(2 * tidyTick)
		_, err := g.two.StartTidy(t.Context(), tidyAll)
		wantError(t, err, ErrTidying) // it still goes on
		close(g.gate)
		err = <-ended
		wantError(t, err, context.Canceled, "cancelled")
		if s := g.status(t, TidyCancelled); s.Progress.Removed != 1 || s.Error != "" {
			t.Errorf("at its end: %+v", s)
		}
		if was, err := g.one.CancelTidy(t.Context()); was || err != nil {
			t.Errorf("nothing to cancel any more: %t, %v", was, err)
		}
	})
}

// TestTidyLost: a process that is gone isn't shown as at work for longer than its lease, and the next one may begin; one that comes back
// ends without a word.
func TestTidyLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTidyRig(t)
		ended := g.run(t, tidyAll)
		g.away.Store(true)
		time.Sleep(crlLease - tidyTick)
		g.status(t, TidyRunning)
		heard := time.Now().Add(-crlLease)
		time.Sleep(tidyTick)
		if s := g.status(t, TidyLost); s.Ended.Before(heard) || s.Ended.After(time.Now()) || s.Error == "" {
			t.Errorf("after its lease: %+v", s)
		}
		if was, err := g.two.CancelTidy(t.Context()); was || err != nil {
			t.Errorf("what is gone is cancelled: %t, %v", was, err)
		}
		if p, err := g.two.Tidy(t.Context(), nil); err != nil || p.Removed != 3 {
			t.Errorf("the next one: %+v, %v", p, err)
		}
		done := g.status(t, TidyFinished)
		g.away.Store(false)
		time.Sleep(2 * tidyTick)
		close(g.gate)
		wantError(t, <-ended, store.ErrConflict, "another process")
		if s := g.status(t, TidyFinished); s != done {
			t.Errorf("it has written over what the other one says: %+v", s)
		}

		wrong := tidyRecord{Run: "wrong", Until: time.Now().AddDate(1, 0, 0), TidyStatus: TidyStatus{State: TidyRunning}} // by its clock
		_, err := g.one.apply(t.Context(), g.one.put("tidy", store.Any, wrong))
		must(t, err)
		g.status(t, TidyLost)
		must(t, <-g.run(t, tidyAll))
	})
}

// TestTidyDue: automatic ones are as far apart as is set, whoever does them; those that their process has not ended don't count.
func TestTidyDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, ctx := newTidyRig(t), t.Context()
		close(g.gate)
		start := func(f *firm, due bool) *TidyRun {
			t.Helper()
			run, err := f.StartDueTidy(ctx)
			if must(t, err); (run != nil) != due {
				t.Fatalf("is one due? %t; want %t", run != nil, due)
			}
			return run
		}
		start(g.one, false)
		must(t, g.two.SetTidyConfig(ctx, TidyConfig{Enabled: true, Certificates: true}))
		run := start(g.one, true)
		start(g.two, false)
		status, err := run.Run(ctx)
		if must(t, err); !status.Automatic || !status.LastAutomatic.Equal(time.Now()) || status != g.status(t, TidyFinished) {
			t.Errorf("%+v", status)
		}
		_, err = g.one.Tidy(ctx, nil) // asked for, which doesn't count
		must(t, err)
		time.Sleep(12*time.Hour - time.Second)
		start(g.one, false)
		start(g.two, false)
		time.Sleep(time.Second)
		start(g.two, true) // and its process dies
		start(g.one, false)
		time.Sleep(crlLease)
		ending, end := context.WithCancel(ctx)
		run = start(g.one, true)
		end()
		_, err = run.Run(ending)
		wantError(t, err, context.Canceled)
		if s := g.status(t, TidyFailed); !s.LastAutomatic.Before(s.Started) || !strings.Contains(s.Error, "canceled") {
			t.Errorf("%+v", s)
		}
		_, err = start(g.two, true).Run(ctx)
		must(t, err)
		start(g.one, false)

		must(t, update(ctx, g.one.Authority, "tidy", func(r *tidyRecord, _ uint64) error {
			r.LastAutomatic = time.Now().AddDate(1, 0, 0) // by a clock that was wrong
			return nil
		}))
		_, err = start(g.one, true).Run(ctx)
		must(t, err)
		_, err = g.one.StartTidy(ctx, TidyConfig{Buffer: time.Minute})
		wantError(t, err, backend.ErrInvalidParams)
	})
}

// TestTidyRecord: when the record of a run fails to be written, the run begins not, or goes on and says so at its end; the mount's removal takes
// it, and it doesn't come back.
func TestTidyRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTidyRig(t)
		g.away.Store(true)
		_, err := g.one.StartTidy(t.Context(), tidyAll)
		wantError(t, err, store.ErrUnavailable)
		g.away.Store(false)
		g.status(t, TidyNever)
		close(g.gate)
		run, err := g.one.StartTidy(t.Context(), TidyConfig{Issuers: true})
		must(t, err)
		g.away.Store(true)
		_, err = run.Run(t.Context())
		wantError(t, err, store.ErrUnavailable)
		g.away.Store(false)
		g.status(t, TidyRunning) // its lease ends by itself

		time.Sleep(crlLease)
		run, err = g.one.StartTidy(t.Context(), TidyConfig{Issuers: true})
		must(t, err)
		_, err = RemoveMount(t.Context(), g.two.store, g.two.mount.ID())
		must(t, err)
		_, err = run.Run(t.Context())
		must(t, err)
		if _, err := g.two.store.Get(t.Context(), g.two.prefix+"tidy"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the record is back: %v", err)
		}
	})
}
