package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// Errors of a service, as a driver judges them.
var (
	errBusy    = errors.New("503")
	errRefused = errors.New("connection refused")
	errRate    = errors.New("429")
	errBad     = errors.New("400")
	errDamage  = errors.New("checksum")
)

// judge is the Verdict of a driver for them; wait is what a throttled answer asks for.
func judge(wait time.Duration) func(error) Verdict {
	return func(err error) Verdict {
		switch {
		case errors.Is(err, errBusy):
			return Verdict{Err: fmt.Errorf("%w: %w", backend.ErrUnavailable, err), Kind: Transient}
		case errors.Is(err, errDamage):
			return Verdict{Err: err, Kind: Damaged}
		case errors.Is(err, errRefused):
			return Verdict{Err: fmt.Errorf("%w: %w", backend.ErrUnavailable, err), Kind: Unreached}
		case errors.Is(err, errRate):
			return Verdict{Err: fmt.Errorf("%w: %w", backend.ErrThrottled, err), Kind: Throttled, After: wait}
		}
		return Verdict{Err: fmt.Errorf("%w: %w", backend.ErrInvalidParams, err)}
	}
}

func connect(t *testing.T, o Options) *Connection {
	t.Helper()
	full, err := o.WithDefaults()
	require.NoError(t, err)
	return NewConnection("kms", full, judge(0))
}

// answers returns a function that gives the errors in turn, the last one for ever, and counts its calls.
func answers(calls *atomic.Int64, errs ...error) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		n := int(calls.Add(1)) - 1
		if err := errs[min(n, len(errs)-1)]; err != nil {
			return "damaged", err
		}
		return "signature", nil
	}
}

// TestRetries: which failures are repeated, how often, and after how long.
func TestRetries(t *testing.T) {
	for name, test := range map[string]struct {
		answers  []error
		once     bool
		calls    int64
		shortest time.Duration
		longest  time.Duration
		err      error
	}{
		"success":                   {answers: []error{nil}, calls: 1},
		"busy once":                 {answers: []error{errBusy, nil}, calls: 2, shortest: 50 * time.Millisecond, longest: 150 * time.Millisecond},
		"busy twice":                {answers: []error{errBusy, errBusy, nil}, calls: 3, shortest: 150 * time.Millisecond, longest: 450 * time.Millisecond},
		"busy for good":             {answers: []error{errBusy}, calls: 4, shortest: 350 * time.Millisecond, longest: 1050 * time.Millisecond, err: errBusy},
		"refused for good":          {answers: []error{errRefused}, calls: 4, shortest: 350 * time.Millisecond, longest: 1050 * time.Millisecond, err: errRefused},
		"throttled, busy, good":     {answers: []error{errRate, errBusy, nil}, calls: 3, shortest: 100 * time.Millisecond, longest: 3 * time.Second},
		"throttled and busy":        {answers: []error{errRate, errBusy, errRate, errBusy, nil}, calls: 4, longest: 9 * time.Second, err: errBusy},
		"the request is bad":        {answers: []error{errBad}, calls: 1, err: errBad},
		"once, busy":                {answers: []error{errBusy, nil}, once: true, calls: 1, err: errBusy},
		"once, refused, then good":  {answers: []error{errRefused, nil}, once: true, calls: 2, longest: 150 * time.Millisecond},
		"once, throttled, and good": {answers: []error{errRate, nil}, once: true, calls: 2, longest: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := connect(t, Options{})
				var calls atomic.Int64
				began := time.Now()
				out, err := Do(t.Context(), c, Call{Op: "Sign", Once: test.once}, answers(&calls, test.answers...))
				took := time.Since(began)
				assert.Equal(t, test.calls, calls.Load())
				assert.Equal(t, test.calls-1, c.Retries())
				assert.True(t, test.shortest <= took && took <= test.longest, "it took %v", took)
				if test.err == nil {
					assert.NoError(t, err)
					assert.Equal(t, "signature", out)
					return
				}
				assert.ErrorIs(t, err, test.err)
				assert.Zero(t, out, "beside an error")
				assert.ErrorContains(t, err, "kms: Sign")
			})
		})
	}
}

// TestServiceSaysWhen: a wait that the service asks for is kept, unless it can't end before the caller's deadline.
func TestServiceSaysWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewConnection("kms", connect(t, Options{}).Options(), judge(7*time.Second))
		var calls atomic.Int64
		began := time.Now()
		_, err := Do(t.Context(), c, Call{}, answers(&calls, errRate, nil))
		require.NoError(t, err)
		assert.True(t, time.Since(began) >= 7*time.Second, "it took %v", time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began = time.Now()
		_, err = Do(ctx, c, Call{}, answers(new(atomic.Int64), errRate))
		assert.ErrorIs(t, err, backend.ErrThrottled)
		assert.True(t, time.Since(began) < 3*time.Second, "it took %v", time.Since(began))
	})
}

// TestBreaker: a service that is away is not asked, one call probes it after a while, and when it is back all goes on.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, Options{})
		var calls atomic.Int64
		for range 2 {
			_, err := Do(t.Context(), c, Call{Op: "Sign"}, answers(&calls, errRefused))
			assert.ErrorIs(t, err, backend.ErrUnavailable)
		}
		assert.Equal(t, int64(trips), calls.Load())
		assert.True(t, c.Down())
		began := time.Now()
		_, err := Do(t.Context(), c, Call{Op: "Sign"}, answers(&calls, nil))
		assert.ErrorIs(t, err, backend.ErrUnavailable)
		assert.ErrorIs(t, err, errRefused, "the cause is lost")
		assert.Zero(t, time.Since(began))
		assert.Equal(t, int64(trips), calls.Load())

		time.Sleep(2 * breakerPause)
		_, err = Do(t.Context(), c, Call{Op: "Sign"}, answers(&calls, errRefused))
		assert.ErrorIs(t, err, errRefused)
		assert.Equal(t, int64(trips+1), calls.Load(), "a probe that failed was repeated")

		time.Sleep(2 * breakerPause)
		var wg sync.WaitGroup
		started, probe := make(chan struct{}), make(chan struct{})
		wg.Go(func() {
			_, err := Do(t.Context(), c, Call{}, func(context.Context) (int, error) { close(started); <-probe; return 0, nil })
			assert.NoError(t, err)
		})
		<-started
		_, err = Do(t.Context(), c, Call{}, answers(&calls, nil))
		assert.ErrorIs(t, err, backend.ErrUnavailable, "beside the probe")
		close(probe)
		wg.Wait()
		_, err = Do(t.Context(), c, Call{}, answers(&calls, nil))
		assert.NoError(t, err)
		assert.False(t, c.Down())
	})
}

// TestBreakerIgnores: what is the caller's fault never cuts off others.
func TestBreakerIgnores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, Options{MaxAttempts: 1})
		hang := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
		for range 3 * trips {
			_, err := Do(t.Context(), c, Call{}, answers(new(atomic.Int64), errBad))
			assert.ErrorIs(t, err, errBad)
			hurry, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err = Do(hurry, c, Call{}, hang)
			assert.ErrorIs(t, err, backend.ErrUnavailable)
			_, err = Do(hurry, c, Call{}, hang)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			cancel()
			gone, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Hour, cancel)
			_, err = Do(gone, c, Call{}, func(ctx context.Context) (int, error) { cancel(); return hang(ctx) })
			assert.ErrorIs(t, err, context.Canceled)
			assert.NotErrorIs(t, err, backend.ErrUnavailable)
		}
		assert.False(t, c.Down())
	})
}

// TestHungService: a request that isn't answered ends with the attempt timeout and is repeated; when all hang, the breaker
// opens.
func TestHungService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, Options{AttemptTimeout: 3 * time.Second})
		hang := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		began := time.Now()
		_, err := Do(ctx, c, Call{Op: "Sign"}, hang)
		assert.ErrorIs(t, err, backend.ErrUnavailable)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, "3 attempts")
		assert.Equal(t, 8*time.Second, time.Since(began))
		_, err = Do(t.Context(), c, Call{}, hang)
		assert.ErrorIs(t, err, backend.ErrUnavailable)
		assert.ErrorContains(t, err, "attempt timeout of 3s")
		assert.True(t, c.Down())
	})
}

// TestCancelledWait: callers leave at once when their context ends, wherever they wait, and what failed before is told.
func TestCancelledWait(t *testing.T) {
	for name, o := range map[string]Options{
		"before a retry": {},
		"for a turn":     {ConnectionRate: Rate{PerSecond: 0.001}},
		"for a slot":     {MaxInFlight: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := connect(t, o)
				release := make(chan struct{})
				var wg sync.WaitGroup
				defer wg.Wait()
				defer close(release)
				if name != "before a retry" { // takes the only turn or slot
					wg.Go(func() {
						_, err := Do(t.Context(), c, Call{}, func(context.Context) (int, error) { <-release; return 0, nil })
						assert.NoError(t, err)
					})
					synctest.Wait()
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				why := errors.New("the client hung up")
				time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
				began := time.Now()
				_, err := Do(ctx, c, Call{}, answers(new(atomic.Int64), errBusy))
				assert.ErrorIs(t, err, context.Canceled)
				assert.ErrorIs(t, err, why)
				assert.Equal(t, 20*time.Millisecond, time.Since(began))
				if name == "before a retry" {
					assert.ErrorContains(t, err, errBusy.Error())
				}
				assert.NotErrorIs(t, err, backend.ErrUnavailable)
			})
		})
	}
}

// TestBudget: when everything fails, few of the requests are repetitions.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, Options{RetryBudget: 0.1})
		var wg sync.WaitGroup
		var calls atomic.Int64
		for range 200 {
			wg.Go(func() {
				_, err := Do(t.Context(), c, Call{}, func(context.Context) (int, error) {
					calls.Add(1)
					time.Sleep(3 * time.Second)
					return 0, errDamage
				})
				assert.ErrorIs(t, err, errDamage)
			})
		}
		wg.Wait()
		assert.Equal(t, int64(200), calls.Load()-c.Retries())
		assert.True(t, c.Retries() > 0 && c.Retries() <= 100, "%d retries", c.Retries())
	})
}

// TestPanic: a panic in the SDK is an error that isn't repeated.
func TestPanic(t *testing.T) {
	c := connect(t, Options{MaxInFlight: 1})
	for range 2 {
		_, err := Do(t.Context(), c, Call{Op: "Sign"}, func(context.Context) (int, error) {
			return []int{}[len(t.Name())], nil
		})
		assert.ErrorIs(t, err, backend.ErrUnavailable)
		assert.ErrorContains(t, err, "panicked")
	}
	assert.Zero(t, c.Retries())
}

// TestOneConnectionLost: requests that were under way together and are lost together are one failure, and all are repeated.
func TestOneConnectionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, Options{RetryBudget: 1})
		lost := make(chan struct{})
		var first atomic.Int64
		var wg sync.WaitGroup
		for range 10 * trips {
			wg.Go(func() {
				_, err := Do(t.Context(), c, Call{}, func(context.Context) (int, error) {
					if first.Add(1) <= 10*trips {
						<-lost
						return 0, errBusy
					}
					return 1, nil
				})
				assert.NoError(t, err)
			})
		}
		time.Sleep(time.Millisecond)
		close(lost)
		wg.Wait()
		assert.False(t, c.Down())
	})
}

// TestProbeIsLeft: a caller who leaves while it probes the service doesn't keep others from probing.
func TestProbeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, Options{MaxAttempts: 1})
		for range trips {
			_, err := Do(t.Context(), c, Call{}, answers(new(atomic.Int64), errRefused))
			assert.ErrorIs(t, err, errRefused)
			time.Sleep(time.Millisecond)
		}
		require.True(t, c.Down())
		time.Sleep(2 * breakerPause)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := Do(ctx, c, Call{}, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(2 * breakerPause)
		_, err = Do(t.Context(), c, Call{}, answers(new(atomic.Int64), nil))
		assert.NoError(t, err)
		assert.False(t, c.Down())
	})
}
