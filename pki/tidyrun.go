package pki

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TidyState is what a tidy does, or how it has ended.
type TidyState string

// The states of a tidy. TidyNever is the zero value.
const (
	TidyNever      TidyState = ""
	TidyRunning    TidyState = "running"
	TidyCancelling TidyState = "cancelling" // CancelTidy was called, and it goes on until it sees that
	TidyFinished   TidyState = "finished"
	TidyCancelled  TidyState = "cancelled"
	TidyFailed     TidyState = "failed"
	TidyLost       TidyState = "lost" // the process that did it is gone
)

// ErrTidying says that a tidy of the authority is under way, in this process or another one. It wraps [backend.ErrUnavailable].
var ErrTidying = fmt.Errorf("pki: tidy: one is under way: %w", backend.ErrUnavailable)

var (
	errTidyCancelled = fmt.Errorf("pki: tidy: it was cancelled: %w", context.Canceled)
	errTidyLost      = fmt.Errorf("pki: tidy: another process has taken its place: %w", store.ErrConflict)
)

// tidyTick is from one time that a run says that it goes on, and looks whether it shall, to the next. Its lease is that of CRLs.
const tidyTick = time.Second

// TidyStatus is what there is to tell of the tidy that is under way, or of the last one, in whatever process.
type TidyStatus struct {
	State          TidyState    `json:"state"`
	Config         TidyConfig   `json:"config"`    // what was to be removed
	Automatic      bool         `json:"automatic"` // it was begun by StartDueTidy
	Started        time.Time    `json:"started"`
	Ended          time.Time    `json:"ended"`           // zero while it is under way; when it was last heard of if its process is gone
	Progress       TidyProgress `json:"progress"`        // of certificates, as it was a second ago at most
	IssuersRemoved int          `json:"issuers"`         // as TidyIssuers returns it
	Error          string       `json:"error,omitempty"` // why it failed
	LastAutomatic  time.Time    `json:"last_automatic"`  // when the last automatic one ended by itself, or was cancelled; zero if none has
}

// tidyRecord is a run of a tidy, the last one. Who has begun it renews its lease until it ends.
type tidyRecord struct {
	Run   string    `json:"run"`
	Until time.Time `json:"until"` // zero if it has ended
	TidyStatus
}

func (r *tidyRecord) status(now time.Time) TidyStatus {
	s := r.TidyStatus
	if !r.Until.IsZero() && !leased(r.Until, now) {
		s.State, s.Ended, s.Error = TidyLost, r.Until.Add(-crlLease), "the process that did it is gone"
	}
	return s
}

// due reports whether an automatic run is due. One that was ended with its process doesn't count, and neither does a time that comes from a
// clock that was wrong.
func (r *tidyRecord) due(interval time.Duration, now time.Time) bool {
	if interval == 0 {
		interval = 12 * time.Hour
	}
	since := now.Sub(r.LastAutomatic)
	return since >= interval || since < -crlSkew
}

// TidyStatus returns how the last tidy of the authority has ended, or how far it is. Every process that shares the store tells the same.
func (a *Authority) TidyStatus(ctx context.Context) (TidyStatus, error) {
	var r tidyRecord
	_, err := a.readIf(ctx, "tidy", &r)
	return r.status(a.engine.now()), err
}

// CancelTidy ends the tidy that is under way, in whatever process, and reports whether one was. What is done stays done. It may finish before
// it sees that, which takes a second or so.
func (a *Authority) CancelTidy(ctx context.Context) (bool, error) {
	was := false
	err := update(ctx, a, "tidy", func(r *tidyRecord, _ uint64) error {
		if was = leased(r.Until, a.engine.now()); !was || r.State == TidyCancelling {
			return errUnchanged
		}
		r.State = TidyCancelling
		return nil
	})
	return was && err == nil, err
}

// TidyRun is a tidy that nobody else begins while it is under way. Use [Authority.StartTidy].
type TidyRun struct {
	a         *Authority
	id        string
	config    TidyConfig
	automatic bool
	report    func(TidyProgress) // may be nil

	mu       sync.Mutex
	progress TidyProgress
	issuers  int
}

// StartTidy makes this process the one that removes what c says; Interval and Enabled don't matter. The error wraps [ErrTidying] if
// one is under way, in whatever process. Run must be called next: after 15 seconds without it, others may begin one.
//
// A process whose clock is more than 15 seconds ahead takes the place of one that runs, which sees that within a second or so, and ends.
func (a *Authority) StartTidy(ctx context.Context, c TidyConfig) (*TidyRun, error) {
	return a.startTidy(ctx, c, false)
}

// StartDueTidy is StartTidy with [Authority.TidyConfig]. It returns nil without an error if that isn't enabled, if its Interval has not
// passed since the last one that was begun so, in whatever process, and if one is under way.
func (a *Authority) StartDueTidy(ctx context.Context) (*TidyRun, error) {
	c, err := a.TidyConfig(ctx)
	if err != nil || !c.Enabled {
		return nil, err
	}
	run, err := a.startTidy(ctx, c, true)
	if errors.Is(err, ErrTidying) {
		err = nil
	}
	return run, err
}

func (a *Authority) startTidy(ctx context.Context, c TidyConfig, automatic bool) (*TidyRun, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	run := &TidyRun{a: a, id: uuid.NewString(), config: c, automatic: automatic}
	mine := false
	err := update(ctx, a, "tidy", func(r *tidyRecord, _ uint64) error {
		now := a.engine.now()
		if leased(r.Until, now) {
			return ErrTidying
		}
		if mine = !automatic || r.due(c.Interval, now); !mine {
			return errUnchanged
		}
		*r = tidyRecord{Run: run.id, Until: now.Add(crlLease).UTC(),
			TidyStatus: TidyStatus{State: TidyRunning, Config: c, Automatic: automatic, Started: moment(now), LastAutomatic: r.LastAutomatic}}
		return nil
	})
	if err != nil || !mine {
		return nil, err
	}
	return run, nil
}

func moment(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Run does what was started, once, and returns how that ended. The error wraps [context.Canceled] after CancelTidy, ctx.Err() if ctx
// ends, and [store.ErrConflict] if another process has taken its place. What is done stays done.
func (r *TidyRun) Run(ctx context.Context) (TidyStatus, error) {
	held, cancel := context.WithCancelCause(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() { r.keep(held, cancel) })
	err := r.work(held)
	lost := context.Cause(held)
	cancel(nil)
	keeper.Wait()
	if err != nil && (errors.Is(lost, errTidyCancelled) || errors.Is(lost, errTidyLost)) {
		err = lost
	}
	again, stop := detached(ctx)
	defer stop()
	var status TidyStatus
	saved := r.save(again, func(t *tidyRecord) {
		now := r.a.engine.now()
		t.Until, t.Ended = time.Time{}, moment(now)
		switch {
		case err == nil:
			t.State = TidyFinished
		case errors.Is(err, errTidyCancelled):
			t.State = TidyCancelled
		default:
			t.State, t.Error = TidyFailed, fmt.Sprintf("%.500s", err.Error())
		}
		if r.automatic && (err == nil || ctx.Err() == nil) {
			t.LastAutomatic = t.Ended
		}
		status = t.TidyStatus
	})
	if saved != nil { // its lease ends by itself
		status.Progress, status.IssuersRemoved = r.sofar()
		if err == nil && !errors.Is(saved, errTidyLost) {
			err = saved
		}
	}
	return status, err
}

// work removes what is to be removed.
func (r *TidyRun) work(ctx context.Context) error {
	if r.config.Certificates {
		err := r.a.tidy(ctx, r.config.Buffer, func(p TidyProgress) {
			r.mu.Lock()
			r.progress = p
			r.mu.Unlock()
			if r.report != nil {
				r.report(p)
			}
		})
		if err != nil {
			return err
		}
	}
	if !r.config.Issuers {
		return nil
	}
	n, err := r.a.TidyIssuers(ctx, r.config.IssuerBuffer)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.issuers = n
	return err
}

func (r *TidyRun) sofar() (TidyProgress, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress, r.issuers
}

// keep says that the run goes on until ctx ends, and ends it if it was cancelled or another one has its place.
func (r *TidyRun) keep(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(tidyTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		cancelled := false
		again, stop := context.WithTimeout(ctx, crlLease/3)
		err := r.save(again, func(t *tidyRecord) {
			// From the clock as it is now: it may have been set meanwhile, and others go by theirs.
			t.Until = r.a.engine.now().Add(crlLease).UTC()
			cancelled = t.State == TidyCancelling
		})
		stop()
		switch {
		case errors.Is(err, errTidyLost):
			cancel(errTidyLost)
		case err == nil && cancelled: // if the store is away, the next time tells
			cancel(errTidyCancelled)
		}
	}
}

// save changes the record of the run, as long as it is that of the run, and fills in how far it is.
func (r *TidyRun) save(ctx context.Context, change func(*tidyRecord)) error {
	return update(ctx, r.a, "tidy", func(t *tidyRecord, _ uint64) error {
		if t.Run != r.id {
			return errTidyLost
		}
		t.Progress, t.IssuersRemoved = r.sofar()
		change(t)
		return nil
	})
}
