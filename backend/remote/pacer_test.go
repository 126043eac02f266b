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

// TestRates: callers wait for their turn, all get one, and no more requests are made than were set.
func TestRates(t *testing.T) {
	for name, o := range map[string]Options{
		"connection": {ConnectionRate: Rate{PerSecond: 1000}},
		"key":        {KeyRate: Rate{PerSecond: 1000}},
		"the lower":  {KeyRate: Rate{PerSecond: 1000}, ConnectionRate: Rate{PerSecond: 5000}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := connect(t, o)
				call := Call{Limiter: c.Limiter()}
				began := time.Now()
				var calls atomic.Int64
				var wg sync.WaitGroup
				for range 10_000 {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
						defer cancel()
						_, err := Do(ctx, c, call, answers(&calls, nil))
						assert.NoError(t, err)
					})
				}
				wg.Wait()
				took := time.Since(began)
				assert.Equal(t, int64(10_000), calls.Load())
				assert.InDelta(t, 9.9, took.Seconds(), 0.1) // the burst is a tenth of a second's requests
			})
		})
	}
}

// TestKeysHaveTheirOwnRate: one key's callers don't take the turns of another's.
func TestKeysHaveTheirOwnRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, Options{KeyRate: Rate{PerSecond: 1, Burst: 1}})
		for range 3 {
			began := time.Now()
			_, err := Do(t.Context(), c, Call{Limiter: c.Limiter()}, answers(new(atomic.Int64), nil))
			assert.NoError(t, err)
			assert.Zero(t, time.Since(began))
		}
	})
}

// TestNoTurnInTime: a caller whose turn comes too late is told so at once, and its turn goes to others.
func TestNoTurnInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, Options{ConnectionRate: Rate{PerSecond: 1, Burst: 1}})
		_, err := Do(t.Context(), c, Call{}, answers(new(atomic.Int64), nil))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		began := time.Now()
		for range 10 {
			_, err = Do(ctx, c, Call{}, answers(new(atomic.Int64), nil))
			assert.ErrorIs(t, err, backend.ErrThrottled)
			assert.ErrorContains(t, err, "1 requests a second")
		}
		assert.Zero(t, time.Since(began))
		_, err = Do(t.Context(), c, Call{}, answers(new(atomic.Int64), nil))
		assert.NoError(t, err)
		assert.Equal(t, time.Second, time.Since(began))
	})
}

// quota is a service that takes so many requests in each second, the same for everybody.
type quota struct {
	mu       sync.Mutex
	allowed  int
	second   time.Time
	used     int
	refused  int
	accepted int
}

func (q *quota) answer(context.Context) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := time.Now().Truncate(time.Second); now != q.second {
		q.second, q.used = now, 0
	}
	if q.used++; q.used > q.allowed {
		q.refused++
		return 0, errRate
	}
	q.accepted++
	return 0, nil
}

// load has callers make calls one after the other for a while, and returns how many failed.
func (q *quota) load(t *testing.T, c *Connection, callers int, d time.Duration) (failed int64) {
	var errs atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for range callers {
		wg.Go(func() {
			for time.Now().Before(end) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				_, err := Do(ctx, c, Call{}, func(ctx context.Context) (int, error) {
					time.Sleep(10 * time.Millisecond)
					return q.answer(ctx)
				})
				cancel()
				if err != nil {
					assert.ErrorIs(t, err, backend.ErrThrottled)
					errs.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return errs.Load()
}

// TestAdapts: where the service throttles, the connection comes to send about what the service takes, and sends more again
// when the service takes more.
func TestAdapts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, Options{})
		q := &quota{allowed: 200}
		q.load(t, c, 50, 10*time.Second) // 5,000 a second if nothing held them back
		q.accepted, q.refused = 0, 0
		failed := q.load(t, c, 50, 30*time.Second)
		t.Logf("of a quota of %d: %d accepted, %d refused, %d calls failed", 30*q.allowed, q.accepted, q.refused, failed)
		assert.Greater(t, q.accepted, 30*q.allowed*6/10)
		assert.Less(t, q.refused, q.accepted/5)
		assert.Less(t, failed, int64(q.accepted/100))

		q.allowed = 1000
		time.Sleep(forget)
		q.accepted, q.refused = 0, 0
		q.load(t, c, 50, 20*time.Second)
		assert.Greater(t, q.accepted, 20*q.allowed/2)
	})
}

// TestNeverAboveWhatWasSet: being throttled and speeding up again never goes beyond the limits of the options.
func TestNeverAboveWhatWasSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(Rate{PerSecond: 20, Burst: 3})
		for range 200 {
			p.slow(time.Now())
			assert.GreaterOrEqual(t, float64(p.limiter.Limit()), float64(slowest))
			time.Sleep(time.Second)
			p.grow(time.Now())
			assert.LessOrEqual(t, float64(p.limiter.Limit()), 20.0)
		}
		time.Sleep(forget)
		p.grow(time.Now())
		assert.Equal(t, 20.0, float64(p.limiter.Limit()))
		assert.Equal(t, 3, p.limiter.Burst())

		p = newPacer(Rate{PerSecond: 2})
		p.slow(time.Now())
		assert.Equal(t, 2.0, float64(p.limiter.Limit()), "a limit below the slowest rate")
	})
}

// TestOptions: defaults are filled in, and nonsense is refused with the field's name.
func TestOptions(t *testing.T) {
	o, err := (*Options)(nil).WithDefaults()
	require.NoError(t, err)
	assert.Equal(t, Options{CallTimeout: 30 * time.Second, AttemptTimeout: 10 * time.Second, MaxAttempts: 4, RetryBudget: 0.2, MaxInFlight: 256}, o)
	again, err := o.WithDefaults()
	require.NoError(t, err)
	assert.Equal(t, o, again)
	for field, bad := range map[string]Options{
		"CallTimeout":    {CallTimeout: -1},
		"AttemptTimeout": {AttemptTimeout: -1},
		"MaxAttempts":    {MaxAttempts: -1},
		"RetryBudget":    {RetryBudget: 1.1},
		"ConnectionRate": {ConnectionRate: Rate{PerSecond: -1}},
		"KeyRate":        {KeyRate: Rate{PerSecond: 1, Burst: -1}},
		"MaxInFlight":    {MaxInFlight: -1},
	} {
		_, err := bad.WithDefaults()
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		assert.ErrorContains(t, err, "remote: "+field+": got")
	}
}

// TestShared: equal settings share a client, one caller makes it, a failure isn't kept, and all are released.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type settings struct {
			Region string
			Key    backend.Secret
		}
		var made, released atomic.Int64
		fail := true
		s := NewShared(func(ctx context.Context, at settings) (*string, error) {
			made.Add(1)
			time.Sleep(time.Second)
			if fail {
				fail = false
				return nil, errBusy
			}
			name := fmt.Sprint(at.Region, made.Load())
			return &name, ctx.Err()
		}, func(*string) error { released.Add(1); return errBad })
		var wg sync.WaitGroup
		got := make([]*string, 20)
		var failed atomic.Int64
		for i := range got {
			wg.Go(func() {
				var err error
				if got[i], err = s.Get(t.Context(), settings{"eu", "s3cret"}); err != nil {
					failed.Add(1)
					got[i], err = s.Get(t.Context(), settings{"eu", "s3cret"})
					assert.NoError(t, err)
				}
			})
		}
		synctest.Wait()
		hurry, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := s.Get(hurry, settings{"eu", "s3cret"})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		wg.Wait()
		for _, client := range got {
			assert.Same(t, got[0], client)
		}
		assert.Equal(t, int64(2), made.Load())
		assert.Equal(t, int64(1), failed.Load())
		other, err := s.Get(t.Context(), settings{"eu", "another"})
		require.NoError(t, err)
		assert.NotSame(t, got[0], other)
		assert.ElementsMatch(t, []*string{got[0], other}, s.Clients())

		late := make(chan error)
		go func() {
			_, err := s.Get(t.Context(), settings{Region: "us"})
			late <- err
		}()
		synctest.Wait()
		assert.ErrorIs(t, s.Close(), errBad)
		assert.NoError(t, s.Close())
		assert.ErrorIs(t, <-late, backend.ErrClosed, "a client that was being made when all was closed")
		assert.Equal(t, int64(3), released.Load())
		_, err = s.Get(t.Context(), settings{Region: "us"})
		assert.True(t, errors.Is(err, backend.ErrClosed))
	})
}
