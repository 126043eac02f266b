package remote

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/managedkeys/managedkeys/backend"
)

const (
	// slowDown is what a connection's rate is multiplied with when the service throttles.
	slowDown = 0.7
	// settle is how long after slowing down another throttled request is still the effect of the old rate: services count
	// by the second or longer.
	settle = time.Second
	// tick is how often the rate grows.
	tick = 100 * time.Millisecond
	// slowest is the rate in requests per second that a connection never falls below: where even that is too much, the
	// waits before retries do the rest.
	slowest = 5
	// speedUp is by which part of the rate at which the service throttled the rate grows in a second.
	speedUp = 0.1
	// forget is how long after the last throttled request the connection is as fast again as it was set.
	forget = time.Minute
)

// pacer is a token bucket whose rate follows what the service takes: it falls when the service throttles, by a factor, and
// grows again by a fixed step, as the congestion window of TCP does (RFC 5681, Section 3.1).
type pacer struct {
	set     Rate
	limiter *rate.Limiter

	mu        sync.Mutex // guards what follows and changes to limiter
	paced     bool       // the rate is below what was set
	throttled time.Time  // when the rate last fell
	raised    time.Time  // when it was last looked whether the rate grows
	step      float64    // by which the rate grows in a second
	window    time.Time  // when the counting of granted began
	granted   int        // requests since then
	seen      float64    // requests per second in the window before
}

func newPacer(set Rate) *pacer {
	return &pacer{set: set, limiter: set.limiter(), window: time.Now()}
}

// limiter returns a token bucket of the size, which is full.
func (r Rate) limiter() *rate.Limiter {
	if r.PerSecond == 0 {
		return rate.NewLimiter(rate.Inf, 1)
	}
	return rate.NewLimiter(rate.Limit(r.PerSecond), r.burst())
}

// wait waits for a turn.
func (p *pacer) wait(ctx context.Context) error {
	p.grow(time.Now())
	if err := turn(ctx, p.limiter, "connection"); err != nil {
		return err
	}
	p.count(time.Now())
	return nil
}

// turn takes a token of l. An error wraps ctx.Err(), or backend.ErrThrottled if no turn comes before ctx's deadline.
func turn(ctx context.Context, l *rate.Limiter, of string) error {
	if l == nil {
		return nil
	}
	err := l.Wait(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("the %s is limited to %.4g requests a second, which leaves no turn before the deadline: %w",
		of, float64(l.Limit()), backend.ErrThrottled)
}

// count notes that a request is made.
func (p *pacer) count(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.granted++
	if d := now.Sub(p.window); d >= time.Second {
		p.seen = float64(p.granted) / d.Seconds()
		p.window, p.granted = now, 0
	}
}

// slow lowers the rate, because the service throttled a request.
func (p *pacer) slow(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paced && now.Sub(p.throttled) < settle {
		return
	}
	before := p.seen
	if d := now.Sub(p.window); d > 0 {
		before = max(before, float64(p.granted)/max(d.Seconds(), 1))
	}
	if limit := p.limiter.Limit(); limit != rate.Inf {
		before = min(before, float64(limit))
	}
	floor := float64(slowest)
	if p.set.PerSecond > 0 {
		floor = min(floor, p.set.PerSecond)
	}
	p.paced, p.throttled, p.raised = true, now, now
	p.step = max(before, floor) * speedUp
	p.limit(max(before*slowDown, floor))
}

// grow raises the rate if some time has passed since it was lowered.
func (p *pacer) grow(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.paced || now.Sub(p.raised) < tick {
		return
	}
	next := float64(p.limiter.Limit()) + p.step*now.Sub(p.raised).Seconds()
	p.raised = now
	if now.Sub(p.throttled) >= forget || p.set.PerSecond > 0 && next >= p.set.PerSecond {
		p.paced = false
		full := p.set.limiter()
		p.limiter.SetLimit(full.Limit())
		p.limiter.SetBurst(full.Burst())
		return
	}
	p.limit(next)
}

func (p *pacer) limit(perSecond float64) {
	p.limiter.SetLimit(rate.Limit(perSecond))
	p.limiter.SetBurst(burstOf(perSecond))
}
