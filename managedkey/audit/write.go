package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/managedkeys/managedkeys/backend"
)

// answer is what became of a record at one sink.
type answer struct {
	from *worker
	err  error
}

// write hands r to all sinks, and waits for as many as the log is to fail closed for, and for those that are durable. It
// returns an error only if the log fails closed.
func (l *Log) write(ctx context.Context, r *Record) error {
	r.body = r.append(make([]byte, 0, 640))
	mode := l.opts.FailClosed
	o := offered{record: r, answers: make(chan answer, len(l.workers))}
	for _, w := range l.workers {
		if mode == FailOpen || !w.out.quick() { // first: those write while this goroutine does
			o.offer(w, mode != FailOpen || w.out.durable() && !w.stuck.Load())
		}
	}
	for _, w := range l.workers {
		if mode == FailOpen || !w.out.quick() {
			continue
		}
		switch done, err := w.direct(r); {
		case !done:
			o.offer(w, true)
		case err != nil:
			o.failures = append(o.failures, w.failure(err))
		default:
			o.written++
		}
	}
	if len(o.full) == 0 && len(o.waiting) == 0 || mode == AnySink && o.written > 0 {
		for _, w := range o.full {
			w.lost.Add(1) // enough have it
		}
		return l.verdict(ctx, &o)
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	for _, w := range o.full {
		if mode == AnySink && len(o.waiting) > 0 { // enough, if it works
			w.lost.Add(1)
			continue
		}
		if err := w.put(ctx, item{record: r, answers: o.answers}); err != nil {
			w.lost.Add(1)
			o.failures = append(o.failures, w.failure(err))
		} else if mode != FailOpen || w.out.durable() {
			o.waiting = append(o.waiting, w)
		}
	}
	return l.await(ctx, &o)
}

// offered is a record on its way to the sinks.
type offered struct {
	record        *Record
	answers       chan answer
	full, waiting []*worker // which have no room; whose answers are waited for
	failures      []error
	written       int // sinks that have it
}

// offer hands the record over to a sink.
func (o *offered) offer(w *worker, wait bool) {
	it := item{record: o.record}
	if wait {
		it.answers = o.answers
	}
	switch err := w.offer(it); {
	case errors.Is(err, errFull):
		o.full = append(o.full, w)
	case err != nil:
		o.failures = append(o.failures, w.failure(err))
	case wait:
		o.waiting = append(o.waiting, w)
	}
}

// await waits for the answers of sinks that took the record.
func (l *Log) await(ctx context.Context, o *offered) error {
	for len(o.waiting) > 0 {
		select {
		case a := <-o.answers:
			i := slices.Index(o.waiting, a.from)
			if i < 0 {
				continue
			}
			o.waiting = slices.Delete(o.waiting, i, i+1)
			if a.err != nil {
				o.failures = append(o.failures, a.from.failure(a.err))
			} else if o.written++; l.opts.FailClosed == AnySink {
				return nil
			}
		case <-ctx.Done():
			for _, w := range o.waiting {
				if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
					w.stuck.Store(true)
				}
				o.failures = append(o.failures, w.failure(errTimeout))
			}
			o.waiting = nil
		}
	}
	return l.verdict(ctx, o)
}

// verdict returns the error for the operation.
func (l *Log) verdict(ctx context.Context, o *offered) error {
	failures := o.failures
	if l.opts.FailClosed == FailOpen || len(failures) == 0 || l.opts.FailClosed == AnySink && o.written > 0 {
		return nil
	}
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		failures = append(failures, err)
	}
	return fmt.Errorf("audit: it can't be recorded: %w: %w", backend.ErrUnavailable, errors.Join(failures...))
}

// failure says which sink an error is of.
func (w *worker) failure(err error) error { return fmt.Errorf("sink %s: %w", w.out.name(), err) }

// SinkStats is how one sink is doing.
type SinkStats struct {
	Name    string
	Written uint64 // records
	Lost    uint64 // records that could not be written, or found no room
	Waiting int    // records that are on their way
	Failing bool   // the last records could not be written
	Head    Head   // the newest line of a file
}

// Stats returns how the sinks are doing, in the order in which they were given.
func (l *Log) Stats() []SinkStats {
	all := make([]SinkStats, len(l.workers))
	for i, w := range l.workers {
		all[i] = SinkStats{w.out.name(), w.written.Load(), w.lost.Load(), len(w.slots), w.failing.Load(), *w.newest.Load()}
	}
	return all
}

// Heads returns the newest line of each file by its path, to be kept elsewhere, so that [VerifyFiles] can tell whether the end
// of a file is missing.
func (l *Log) Heads() map[string]Head {
	all := make(map[string]Head)
	for _, s := range l.Stats() {
		if s.Head.Seq > 0 {
			all[s.Name] = s.Head
		}
	}
	return all
}

// Close writes what is on its way, and closes all sinks. It waits up to 10 seconds; then the error wraps
// backend.ErrUnavailable, and sinks that hang are left behind. Operations that come later are not recorded, and refused if the
// log fails closed. Closing again does nothing more.
func (l *Log) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	errs := make([]error, len(l.workers))
	var wg sync.WaitGroup
	for i, w := range l.workers {
		wg.Go(func() { errs[i] = w.close(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
