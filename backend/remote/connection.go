package remote

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"golang.org/x/time/rate"

	"github.com/managedkeys/managedkeys/backend"
)

const (
	// firstPause and longestPause bound the wait before a retry, which doubles each time, give or take jitter.
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
	jitter       = 0.5

	// trips is how many failures in a row open the breaker, and breakerPause how long it stays open before the next probe.
	trips        = 5
	breakerPause = 500 * time.Millisecond

	// patience is how long a request must have run before a caller's deadline for it to count as the service's failure:
	// a caller in a hurry must not cut off the others.
	patience = time.Second
)

// Connection makes the calls to one endpoint with one credential.
//
// All methods are safe for concurrent use.
type Connection struct {
	name     string
	opts     Options
	classify func(error) Verdict
	executor failsafe.Executor[any]
	breaker  circuitbreaker.CircuitBreaker[any]
	pacer    *pacer
	slots    chan struct{}          // holds a token for each request in flight
	lastDown atomic.Pointer[outage] // the failure that the breaker counted last
	retries  atomic.Int64
	waiting  atomic.Int64 // calls that wait for their turn
}

// NewConnection returns a Connection. name begins its errors: the backend's type. classify is called with each error that
// a function given to [Do] returns, unless that wraps the context's. opts come from [Options.WithDefaults].
func NewConnection(name string, opts Options, classify func(error) Verdict) *Connection {
	c := &Connection{
		name: name, opts: opts, classify: classify, pacer: newPacer(opts.ConnectionRate),
		slots: make(chan struct{}, opts.MaxInFlight),
	}
	c.breaker = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(trips).WithSuccessThreshold(1).
		WithDelay(breakerPause).WithJitterFactor(jitter / 2).
		Build()
	retry := func(throttled bool) retrypolicy.Builder[any] {
		return retrypolicy.NewBuilder[any]().
			HandleIf(func(_ any, err error) bool {
				f, ok := err.(*failure)
				return ok && f.again && f.Kind == Throttled == throttled
			}).
			WithMaxRetries(-1). // attempt counts for both policies
			WithBackoff(firstPause, longestPause).WithJitterFactor(jitter)
	}
	c.executor = failsafe.With[any](
		retry(true).Build(),
		retry(false).WithBudget(budget.NewBuilder().WithMaxRate(opts.RetryBudget).WithMinConcurrency(3).Build()).Build(),
	)
	return c
}

// Limiter returns a new token bucket for the calls of one key, as KeyRate of the options says; nil if there is no limit.
func (c *Connection) Limiter() *rate.Limiter {
	if c.opts.KeyRate.PerSecond == 0 {
		return nil
	}
	return c.opts.KeyRate.limiter()
}

// Options returns the options of the connection.
func (c *Connection) Options() Options { return c.opts }

// Retries returns how many requests were repetitions of one that failed.
func (c *Connection) Retries() int64 { return c.retries.Load() }

// Down reports whether the service is known to be away: calls fail at once, except for one that probes it every half second.
func (c *Connection) Down() bool { return c.breaker.IsOpen() }

// Call describes a call to [Do].
type Call struct {
	// Op names the service's operation in errors.
	Op string

	// Limiter is the token bucket of the key that the call is about, from [Connection.Limiter], or nil.
	Limiter *rate.Limiter

	// Once: the call has an effect that must not happen twice. It is tried again only if it certainly had none.
	Once bool
}

// outage is a failure of the service, or of the way to it, and when it was seen.
type outage struct {
	err error
	at  time.Time
}

// failure is the error of one attempt.
type failure struct {
	Verdict
	again bool      // it may be tried again
	down  bool      // it counts for the breaker
	at    time.Time // when the answer came

	judged bool // the service has answered
}

func (f *failure) Error() string { return f.Err.Error() }

// Do calls fn, which makes one request, until it succeeds, fails for good, or ctx ends. The context that fn gets ends
// with ctx and with the attempt timeout.
//
// The error wraps what the connection's Verdict said. If ctx has ended it wraps ctx.Err() and, if a deadline passed,
// backend.ErrUnavailable. While the service is known to be away, fn is not called and the error wraps
// backend.ErrUnavailable and the last failure. Do does not bound itself: ctx should have a deadline.
func Do[T any](ctx context.Context, c *Connection, call Call, fn func(context.Context) (T, error)) (T, error) {
	var out T
	var last *failure // of the attempt before
	attempts := 0
	_, err := c.executor.WithContext(ctx).Get(func() (any, error) {
		if attempts++; attempts > 1 {
			if err := sleep(ctx, time.Until(last.at.Add(last.After))); err != nil {
				return nil, err
			}
			c.retries.Add(1)
		}
		if last = attempt(ctx, c, call, attempts, fn, &out); last != nil {
			return nil, last
		}
		return nil, nil
	})
	if err == nil {
		return out, nil
	}
	var zero T
	return zero, c.explain(ctx, call, attempts, last, err)
}

// explain returns the error for the caller. last is that of the last attempt, nil if there was none, and err the
// executor's.
func (c *Connection) explain(ctx context.Context, call Call, attempts int, last *failure, err error) error {
	begin := c.name + ": " + call.Op
	if attempts > 1 {
		begin = fmt.Sprintf("%s (%d attempts)", begin, attempts)
	}
	if last != nil {
		overdue(ctx)
	}
	switch {
	case ctx.Err() != nil:
		ended := backend.ContextError(ctx)
		if last == nil || errors.Is(last.Err, ctx.Err()) {
			return fmt.Errorf("%s: %w", begin, ended)
		}
		if errors.Is(ended, context.Canceled) {
			return fmt.Errorf("%s: %w; before that: %v", begin, ended, last.Err) // the caller left, whatever the service did
		}
		return fmt.Errorf("%s: %w; before that: %w", begin, ended, last.Err)
	case last != nil && last.Err == circuitbreaker.ErrOpen:
		cause := last.Err
		if down := c.lastDown.Load(); down != nil {
			cause = down.err
		}
		return fmt.Errorf("%s: not tried, because the service failed %d times in a row: %w: %w", begin, trips, backend.ErrUnavailable, cause)
	case last != nil:
		return fmt.Errorf("%s: %w", begin, last.Err)
	}
	return fmt.Errorf("%s: %w: %w", begin, backend.ErrUnavailable, err)
}

// overdue waits for a context whose deadline has passed to say so: a service, or gRPC for it, can be faster than the timer here.
func overdue(ctx context.Context) {
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && time.Until(deadline) <= 0 {
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond): // it is no context of the standard library
		}
	}
}

// attempt waits for its turn, makes one request and judges it.
func attempt[T any](ctx context.Context, c *Connection, call Call, n int, fn func(context.Context) (T, error), out *T) (f *failure) {
	if !c.breaker.TryAcquirePermit() {
		return &failure{Verdict: Verdict{Err: circuitbreaker.ErrOpen}}
	}
	began := time.Now()
	defer func() { c.record(f, began) }()
	if err := c.admit(ctx, call); err != nil {
		return &failure{Verdict: Verdict{Err: err}}
	}
	defer func() { <-c.slots }()
	began = time.Now()
	inner, cancel := context.WithTimeout(ctx, c.opts.AttemptTimeout)
	defer cancel()
	inner, observed := observe(inner, Attempt{c.name, call.Op, n})
	defer func() {
		if f != nil {
			observed(f.Err)
			return
		}
		observed(nil)
	}()
	var err error
	if *out, err = contain(inner, fn); err == nil {
		return nil
	}
	f = &failure{at: time.Now()}
	switch {
	case ctx.Err() != nil:
		f.Err = err
		f.down = errors.Is(ctx.Err(), context.DeadlineExceeded) && time.Since(began) >= patience
	case inner.Err() != nil:
		f.Err = fmt.Errorf("%w: no answer within the attempt timeout of %v: %w", backend.ErrUnavailable, c.opts.AttemptTimeout, err)
		f.Kind, f.down = Transient, true
	case errors.Is(err, errPanic):
		f.Err = err
	default:
		f.Verdict, f.judged = c.classify(err), true
		f.down = f.Kind == Transient || f.Kind == Unreached
	}
	if f.Kind == Throttled {
		c.pacer.slow(time.Now())
	}
	f.again = c.mayRepeat(ctx, call, n, f)
	return f
}

// record tells the breaker what became of a request that began at a time; f is nil if it succeeded. Requests that were under
// way together when a connection was lost fail together: that is one failure, and no reason to cut the others off. A request that
// was let through to probe the service always counts.
func (c *Connection) record(f *failure, began time.Time) {
	switch last := c.lastDown.Load(); {
	case f == nil || f.judged && !f.down:
		c.breaker.RecordSuccess() // whatever the answer was
	case f.down && (last == nil || !began.Before(last.at) || c.breaker.IsHalfOpen()):
		c.lastDown.Store(&outage{f.Err, f.at})
		c.breaker.RecordFailure()
	case c.breaker.IsHalfOpen():
		c.breaker.RecordFailure() // the caller left before there was an answer
	}
}

// mayRepeat reports whether the call may be tried again.
func (c *Connection) mayRepeat(ctx context.Context, call Call, n int, f *failure) bool {
	if ctx.Err() != nil || n >= c.opts.MaxAttempts || f.Kind == Final {
		return false
	}
	if call.Once && f.Kind != Unreached && f.Kind != Throttled {
		return false
	}
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > f.After // a wait that can't end in time is not begun
}

// sleep waits for d, which the service asked for, and less if ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// admit waits for the call's turn.
func (c *Connection) admit(ctx context.Context, call Call) error {
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	if err := turn(ctx, call.Limiter, "key"); err != nil {
		return err
	}
	if err := c.pacer.wait(ctx); err != nil {
		return err
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errPanic begins the error of a request that panicked.
var errPanic = fmt.Errorf("%w: the service's SDK panicked", backend.ErrUnavailable)

func contain[T any](ctx context.Context, fn func(context.Context) (T, error)) (out T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
	}()
	return fn(ctx)
}
