package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// gather is how long a record that nobody waits for may wait for others to be written with.
const gather = 2 * time.Millisecond

// worker writes to one sink on a goroutine of its own: while a batch is being written, the next one gathers.
type worker struct {
	out   writer
	log   *slog.Logger
	slots chan struct{} // holds a token for each record in pending or being written
	wake  chan struct{} // holds a token if pending is to be written
	later *time.Timer   // puts one there for records that nobody waits for
	done  chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	pending []item
	closed  bool

	written, lost atomic.Uint64 // records
	failing       atomic.Bool   // the last records could not be written
	stuck         atomic.Bool   // somebody has waited in vain since the last write; nobody does so again
	newest        atomic.Pointer[Head]

	told     uint64 // of lost, in gaps; of the goroutine
	closeErr error  // written before done is closed
}

// item is a record and who waits for it, if anybody.
type item struct {
	record  *Record
	answers chan<- answer // has room for the answer; or nil
}

func newWorker(out writer, queue int, log *slog.Logger) *worker {
	w := &worker{out: out, log: log, slots: make(chan struct{}, queue), wake: make(chan struct{}, 1), done: make(chan struct{})}
	w.later = time.AfterFunc(time.Hour, w.rouse)
	w.later.Stop()
	w.publish()
	go w.run()
	return w
}

func (w *worker) publish() {
	head := w.out.head()
	w.newest.Store(&head)
}

// offer hands over a record, or returns errFull if there is no room.
func (w *worker) offer(it item) error {
	select {
	case w.slots <- struct{}{}:
		return w.add(it)
	default:
		return errFull
	}
}

// put is offer, but waits for room until ctx ends, unless somebody has done so in vain already.
func (w *worker) put(ctx context.Context, it item) error {
	if err := w.offer(it); !errors.Is(err, errFull) || w.stuck.Load() {
		return err
	}
	select {
	case w.slots <- struct{}{}:
		return w.add(it)
	case <-ctx.Done():
		w.stuck.Store(true)
		return errFull
	}
}

// add appends a record for which there is room.
func (w *worker) add(it item) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		<-w.slots
		return errClosed
	}
	w.pending = append(w.pending, it)
	switch {
	case it.answers != nil || len(w.pending) > cap(w.slots)/2:
		w.rouse()
	case len(w.pending) == 1:
		w.later.Reset(gather)
	}
	return nil
}

// rouse has the goroutine write what is pending.
func (w *worker) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) run() {
	defer close(w.done)
	var ticks <-chan time.Time
	if every := w.out.interval(); every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		ticks = ticker.C
	}
	var spare []item
	var records []*Record
	for {
		select {
		case <-w.wake:
		case <-ticks:
			w.note(w.contain(w.out.tick), 0)
			continue
		}
		w.mu.Lock()
		batch, closed := w.pending, w.closed
		w.pending = spare[:0]
		w.mu.Unlock()
		if len(batch) > 0 {
			records = records[:0]
			for _, it := range batch {
				records = append(records, it.record)
			}
			lost := w.lost.Load()
			err := w.contain(func() error { return w.out.write(records, lost-w.told) })
			if err == nil {
				w.told = lost
			}
			w.publish()
			w.note(err, len(batch))
			w.stuck.Store(false)
			for i, it := range batch {
				if it.answers != nil {
					it.answers <- answer{w, err}
				}
				batch[i] = item{}
				<-w.slots
			}
			clear(records)
		}
		spare = batch
		if closed {
			w.closeErr = w.contain(w.out.close)
			return
		}
	}
}

// note counts what became of n records and tells the logger when a sink begins to fail, and when it works again.
func (w *worker) note(err error, n int) {
	if err != nil {
		w.lost.Add(uint64(n))
		if !w.failing.Swap(true) {
			w.log.Error("audit: records can't be written", "sink", w.out.name(), "error", err)
		}
		return
	}
	w.written.Add(uint64(n))
	if n > 0 && w.failing.Swap(false) {
		w.log.Warn("audit: a sink works again", "sink", w.out.name(), "lost", w.lost.Load())
	}
}

// contain turns a panic of a sink into an error.
func (w *worker) contain(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the sink panicked: %w", backend.ErrUnavailable) // what it panicked with may be anything
		}
	}()
	return fn()
}

// close writes what is left, and waits for that until ctx ends.
func (w *worker) close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.later.Stop()
	w.rouse()
	select {
	case <-w.done:
		return w.closeErr
	case <-ctx.Done():
		return fmt.Errorf("audit: sink %s still writes: %w: %w", w.out.name(), backend.ErrUnavailable, ctx.Err())
	}
}
