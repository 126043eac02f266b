// Package engine holds what the engines of package store have in common: a queue that commits several transactions at once,
// what a transaction does to the state that it meets, and watches over a log of changes.
package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Tx is one call of Apply on its way through a [Queue].
type Tx struct {
	Ops []store.Op

	ctx      context.Context
	taken    atomic.Bool // by the queue, which then finishes it, or by its caller, who gives it up
	finished atomic.Bool
	done     chan struct{}
	revision uint64
	err      error
}

// Finish gives the caller of Apply its result. Only the first call counts.
func (t *Tx) Finish(revision uint64, err error) {
	if t.finished.CompareAndSwap(false, true) {
		t.revision, t.err = revision, err
		close(t.done)
	}
}

// Finished reports whether the transaction has its result.
func (t *Tx) Finished() bool { return t.finished.Load() }

// Queue commits transactions in the order in which they come, as many at once as are waiting and don't touch each other's
// keys. So callers share the cost of one commit, which is a write to a disk or a round trip to a server.
type Queue struct {
	run     func(ctx context.Context, batch []*Tx)
	in      chan *Tx
	ctx     context.Context // ends when the queue is closed and run should give up
	abort   context.CancelFunc
	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once
}

// NewQueue starts a queue. run commits a batch and finishes each transaction of it; it is called for one batch at a time.
// The limits of one Apply hold for a batch, too. The caller calls [Queue.Close].
func NewQueue(run func(ctx context.Context, batch []*Tx)) *Queue {
	q := &Queue{run: run, in: make(chan *Tx), stop: make(chan struct{}), stopped: make(chan struct{})}
	q.ctx, q.abort = context.WithCancel(context.Background())
	go q.loop()
	return q
}

// Apply validates ops, queues them, and waits for the result, or until ctx ends. In the second case the error wraps
// store.ErrUnknownOutcome if the transaction had begun.
func (q *Queue) Apply(ctx context.Context, ops []store.Op) (uint64, error) {
	if err := store.ValidateOps(ops); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, Ended(ctx, "apply")
	}
	t := &Tx{Ops: ops, ctx: ctx, done: make(chan struct{})}
	select {
	case q.in <- t:
	case <-q.stop:
		return 0, Closed("apply")
	case <-ctx.Done():
		return 0, Ended(ctx, "apply")
	}
	select {
	case <-t.done:
	case <-ctx.Done():
		if t.taken.CompareAndSwap(false, true) {
			return 0, Ended(ctx, "apply")
		}
		select {
		case <-t.done: // it had ended, too
		default:
			return 0, fmt.Errorf("%w: %w", Ended(ctx, "apply"), store.ErrUnknownOutcome)
		}
	}
	return t.revision, t.err
}

// Close refuses new transactions and returns when those that were queued have their results. If ctx ends before, run is
// told to give up.
func (q *Queue) Close(ctx context.Context) {
	q.once.Do(func() { close(q.stop) })
	select {
	case <-q.stopped:
	case <-ctx.Done():
		q.abort()
		<-q.stopped
	}
	q.abort()
}

// trust is for how many batches the queue takes it that nobody else is about to come, after nobody came.
const trust = 10

func (q *Queue) loop() {
	defer close(q.stopped)
	var waiting []*Tx
	alone := 0 // batches until it is looked again whether anybody else is about to come
	for {
		if len(waiting) == 0 {
			select {
			case t := <-q.in:
				waiting = append(waiting, t)
			case <-q.stop:
				return
			}
		}
		if alone > 0 {
			alone--
		} else {
			// Whoever can run may be about to come, such as those who got their results a moment ago. The scheduler prefers two
			// goroutines that wake each other up, the queue and a single caller, for up to 10 ms.
			runtime.Gosched()
			alone = trust
		}
		before := len(waiting)
		if waiting = q.more(waiting); len(waiting) > before {
			alone = 0
		}
		var batch []*Tx
		batch, waiting = split(waiting)
		if len(batch) > 0 {
			q.run(q.ctx, batch)
		}
		for _, t := range batch {
			t.Finish(0, fmt.Errorf("store: transaction has no result: %w", store.ErrUnknownOutcome))
		}
	}
}

// more adds the transactions whose callers are already there.
func (q *Queue) more(waiting []*Tx) []*Tx {
	for len(waiting) < 4*store.MaxOps {
		select {
		case t := <-q.in:
			waiting = append(waiting, t)
		default:
			return waiting
		}
	}
	return waiting
}

// split takes from waiting what can be committed together: no transaction writes a key that another one writes or checks.
// So each of them meets the state before the batch, in whatever order they are thought to happen. It takes the first one
// in any case, unless its caller has gone.
func split(waiting []*Tx) (batch, rest []*Tx) {
	written, checked := make(map[string]bool), make(map[string]bool)
	ops, size := 0, 0
	for _, t := range waiting {
		n := 0
		for _, op := range t.Ops {
			n += len(op.Key) + len(op.Value)
		}
		if len(batch) > 0 && (ops+len(t.Ops) > store.MaxOps || size+n > store.MaxApply || touches(t, written, checked)) {
			rest = append(rest, t)
			continue
		}
		if !t.taken.CompareAndSwap(false, true) {
			continue
		}
		for _, op := range t.Ops {
			if op.Kind == store.Check {
				checked[op.Key] = true
			} else {
				written[op.Key] = true
			}
		}
		batch, ops, size = append(batch, t), ops+len(t.Ops), size+n
	}
	return batch, rest
}

func touches(t *Tx, written, checked map[string]bool) bool {
	for _, op := range t.Ops {
		if written[op.Key] || op.Kind != store.Check && checked[op.Key] {
			return true
		}
	}
	return false
}

// Ended explains that ctx ended before the answer came: a deadline that passed means that the engine did not answer in
// time, a cancelled context is the caller's own doing.
func Ended(ctx context.Context, op string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("store: %s: %w: %w", op, store.ErrUnavailable, ctx.Err())
	}
	return fmt.Errorf("store: %s: %w", op, ctx.Err())
}

// Closed is the error of a call to a Store that was closed.
func Closed(op string) error { return fmt.Errorf("store: %s: %w", op, store.ErrClosed) }
