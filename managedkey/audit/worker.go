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

// handOver is how many batches a caller writes for others, before it leaves them to the goroutine.
const handOver = 4

// worker writes to one sink: while a batch is being written, the next one gathers. A goroutine of its own does that, or a caller that
// would have to wait for it: being woken takes the two of them several times as long as writing to a file does.
type worker struct {
	out   writer
	log   *slog.Logger
	slots chan struct{} // holds a token for each record in pending or being written
	wake  chan struct{} // holds a token if pending is to be written
	later *time.Timer   // puts one there for records that nobody waits for
	done  chan struct{} // closed when the goroutine has ended

	turn chan struct{} // holds a token while somebody writes

	mu      sync.Mutex
	pending []item
	looking bool // whoever has the turn will look at pending once more
	closed  bool

	// Of who has the turn.
	records []*Record
	spare   []item
	told    uint64 // of lost, in gaps

	written, lost atomic.Uint64 // records
	failing       atomic.Bool   // the last records could not be written
	stuck         atomic.Bool   // somebody has waited in vain since the last write; nobody does so again
	newest        atomic.Pointer[Head]

	closeErr error // written before done is closed
}

// item is a record and who waits for it, if anybody.
type item struct {
	record  *Record
	answers chan<- answer // has room for the answer; or nil
	queued  bool          // it has one of the slots
}

func newWorker(out writer, queue int, log *slog.Logger) *worker {
	w := &worker{out: out, log: log, slots: make(chan struct{}, queue), wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), done: make(chan struct{})}
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

// offerSome is offer for what everybody can cause: it leaves most of the room to records of operations.
func (w *worker) offerSome(it item) error {
	if len(w.slots) > cap(w.slots)/4 {
		return errFull
	}
	return w.offer(it)
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
	it.queued = true
	w.pending = append(w.pending, it)
	switch {
	case w.looking:
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
	for {
		tick := false
		select {
		case <-w.wake:
		case <-ticks:
			tick = true
		}
		w.turn <- struct{}{}
		if tick {
			w.note(w.contain(w.out.tick), 0)
		}
		batch, closed := w.take()
		w.commit(batch)
		if closed {
			if lost := w.lost.Load(); lost > w.told { // or nobody would learn of it from the file
				_ = w.contain(func() error { return w.out.write(nil, lost-w.told) })
			}
			w.closeErr = w.contain(w.out.close)
			return // with the turn: nobody is to write any more
		}
		<-w.turn
	}
}

// take returns what is pending, for who has the turn.
func (w *worker) take() (batch []item, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch, w.pending = w.pending, w.spare[:0]
	return batch, w.closed
}

// direct writes a record on the goroutine of the caller, after those that are pending. ok is false if the sink is not one for that, or
// somebody else is writing: then the record is to be handed over.
func (w *worker) direct(r *Record) (ok bool, err error) {
	if !w.out.quick() || w.stuck.Load() {
		return false, nil
	}
	select {
	case w.turn <- struct{}{}:
	default:
		return false, nil
	}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		<-w.turn
		return true, errClosed
	}
	batch := w.pending
	w.pending, w.looking = w.spare[:0], true
	w.mu.Unlock()
	err = w.commit(append(batch, item{record: r}))
	for n := 1; ; n++ {
		w.mu.Lock()
		w.looking = len(w.pending) > 0 && n < handOver
		if !w.looking {
			if len(w.pending) > 0 {
				w.rouse()
			}
			w.mu.Unlock()
			<-w.turn
			return true, err
		}
		batch, w.pending = w.pending, w.spare[:0]
		w.mu.Unlock()
		w.commit(batch)
	}
}

// commit writes a batch and tells those who wait. It is for who has the turn.
func (w *worker) commit(batch []item) error {
	w.spare = batch
	if len(batch) == 0 {
		return nil
	}
	w.records = w.records[:0]
	for _, it := range batch {
		w.records = append(w.records, it.record)
	}
	lost := w.lost.Load()
	err := w.contain(func() error { return w.out.write(w.records, lost-w.told) })
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
		if it.queued {
			<-w.slots
		}
		batch[i] = item{}
	}
	clear(w.records)
	return err
}

// note counts what became of n records and tells the logger when a sink begins to fail, and when it works again.
func (w *worker) note(err error, n int) {
	if err != nil {
		w.lost.Add(uint64(n))
		if !w.failing.Swap(true) {
			w.tell(slog.LevelError, "audit: records can't be written", slog.Any("error", err))
		}
		return
	}
	w.written.Add(uint64(n))
	if n > 0 && w.failing.Swap(false) {
		w.tell(slog.LevelWarn, "audit: a sink works again", slog.Uint64("lost", w.lost.Load()))
	}
}

// tell tells the logger. Should that panic, whoever has the turn must give it back nevertheless.
func (w *worker) tell(level slog.Level, message string, about slog.Attr) {
	_ = w.contain(func() error {
		w.log.LogAttrs(context.Background(), level, message, slog.String("sink", w.out.name()), about)
		return nil
	})
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
