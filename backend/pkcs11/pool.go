package pkcs11

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// pool runs calls on the sessions of one token. Each session has a worker, a goroutine that alone uses it; calls that find
// no worker free wait in one queue, first come first served. Callers wait on their own goroutines and can leave, whatever
// the module does: calling on the caller's goroutine would be a little faster, but one hung call would hold its caller for
// ever.
//
// A worker that finishes takes the next call from the queue itself, so that a busy token is never idle between two calls.
// Free workers are used last in, first out: few sessions stay hot and the others can be closed.
type pool struct {
	conn *conn

	// width is how many calls may run at once. For a token that computes on this machine's processors it is their
	// number, since more only get in each other's way; see observe.
	width atomic.Int32
	load  atomic.Int32 // how much of their time calls compute here, in percent, averaged; -1 before the first was measured
	ticks atomic.Uint32

	mu      sync.Mutex
	limit   int       // sessions; less than most for a while after the token refused one more
	most    int       // sessions
	refused time.Time // when that was
	spare   *spare    // a session that no worker has yet; it may hold the login
	idle    []*worker // the most recently used last
	queue   queue
	workers int // alive and not written off
	running int // of those
	stuck   int // written off: their callers left, the module has not returned
	closed  bool

	// A module that is started again, while calls hang in it that will never return, begins an era in which the workers of
	// those count for nothing. left is closed when the era ends.
	era  uint64
	left chan struct{}
	wg   *sync.WaitGroup // of the workers of the era
}

// maxStuck is how many workers of a pool are replaced while the module holds them. Each has a thread of the system.
const maxStuck = 16

func newPool(c *conn, limit int) *pool {
	p := &pool{conn: c, limit: limit, most: limit, left: make(chan struct{}), wg: new(sync.WaitGroup)}
	p.load.Store(-1)
	p.width.Store(int32(min(limit, runtime.GOMAXPROCS(0))))
	return p
}

// do runs c and returns its error. If reusable is false, c was abandoned and belongs to its worker.
func (p *pool) do(d deadline, c *call) (reusable bool, err error) {
	if p.conn.lib.InlineCalls {
		if w := p.borrow(); w != nil {
			c.err, c.n = nil, 0
			err := w.contained(c)
			p.giveBack(w)
			return true, err
		}
	}
	left, err := p.submit(c)
	if err != nil {
		return true, err
	}
	for {
		select {
		case <-c.done:
			return true, c.err
		case <-left:
			if left = p.leave(c); left != nil {
				continue
			}
			return false, errLeftBehind
		case <-d.ctx.Done():
		case <-d.expired:
		}
		break
	}
	switch p.abandon(c) {
	case callWaiting:
		return true, d.err("all sessions are busy")
	case callRunning:
		return false, d.err("the module holds the call")
	}
	<-c.done // it was just finished
	return true, c.err
}

// borrow returns an idle worker whose session the caller uses itself, or nil.
func (p *pool) borrow() *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 || p.queue.first != nil || p.running >= int(p.width.Load()) || p.closed {
		return nil
	}
	w := p.idle[n-1]
	p.idle = p.idle[:n-1]
	p.running++
	return w
}

// giveBack ends what borrow began.
func (p *pool) giveBack(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.era != p.era {
		close(w.in)
		return
	}
	p.running--
	if p.closed {
		p.workers--
		close(w.in)
		return
	}
	w.idleSince = time.Now()
	p.idle = append(p.idle, w)
	p.dispatch()
}

// submit hands c to a worker or queues it. It returns what tells that the era ends.
func (p *pool) submit(c *call) (left <-chan struct{}, err error) {
	c.state.Store(callWaiting)
	c.err, c.n, c.elsewhere = nil, 0, false
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("%w", backend.ErrClosed)
	}
	p.queue.push(c)
	p.dispatch()
	return p.left, nil
}

// dispatch gives waiting calls to workers, as far as there may be more. mu is held.
func (p *pool) dispatch() {
	for p.queue.first != nil && p.running < int(p.width.Load()) {
		if n := len(p.idle); n > 0 {
			w := p.idle[n-1]
			p.idle = p.idle[:n-1]
			p.running++
			w.in <- p.take(w)
			continue
		}
		if p.workers >= p.limit {
			return
		}
		w := &worker{pool: p, in: make(chan *call, 1)}
		w.join()
		p.workers++
		p.running++
		go w.loop(p.take(w))
	}
}

// take returns the call that has waited longest, for w to run, or nil. mu is held.
func (p *pool) take(w *worker) *call {
	c := p.queue.pop()
	if c != nil {
		c.worker = w
		c.state.Store(callRunning)
	}
	return c
}

// abandon takes c from the queue, or writes off the worker that runs it, and returns the state that c was in.
func (p *pool) abandon(c *call) int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.state.CompareAndSwap(callWaiting, callAbandoned) {
		p.queue.remove(c)
		return callWaiting
	}
	if !c.state.CompareAndSwap(callRunning, callAbandoned) {
		return callDone
	}
	if c.worker.era != p.era {
		return callRunning
	}
	p.stuck++
	if p.stuck <= maxStuck {
		p.workers--
		p.running--
		c.worker.replaced = true
		p.dispatch()
	}
	return callRunning
}

// welcome takes back w, whose call was abandoned and has returned, or returns false if w is to end because its place is
// taken. Its session is as good as any, and may be the one that holds the login. mu is held.
func (p *pool) welcome(w *worker) bool {
	if w.era != p.era {
		return false
	}
	p.stuck--
	back := !p.closed && (!w.replaced || p.workers < p.limit)
	switch {
	case back && w.replaced:
		w.replaced = false
		p.workers++
		p.running++
	case !back && !w.replaced:
		p.workers--
		p.running--
	}
	p.dispatch()
	return back
}

// finish ends c, which w ran, and returns the next call for w, or nil if w is to end.
func (p *pool) finish(w *worker, c *call) *call {
	if c.state.CompareAndSwap(callRunning, callDone) {
		c.elsewhere = isExhausted(c.err) && p.retire(w)
		ended := c.elsewhere
		c.done <- struct{}{}
		if ended {
			return nil
		}
		p.mu.Lock()
	} else {
		clear(c.buffer)
		clear(c.room)
		p.mu.Lock()
		if !p.welcome(w) {
			p.mu.Unlock()
			return nil
		}
	}
	if p.queue.first != nil {
		// The scheduler takes a processor away from a call of more than 20 µs. Letting the one who just got an answer, and
		// may ask again, run here first costs less than waking another thread for that.
		p.mu.Unlock()
		runtime.Gosched()
		p.mu.Lock()
	}
	if w.era != p.era {
		p.mu.Unlock()
		return nil
	}
	if p.running <= int(p.width.Load()) {
		if next := p.take(w); next != nil {
			p.mu.Unlock()
			return next
		}
	}
	p.running--
	if p.closed {
		p.workers--
		p.mu.Unlock()
		return nil
	}
	w.idleSince = time.Now()
	p.idle = append(p.idle, w)
	p.mu.Unlock()
	return <-w.in
}

// expire ends the workers that have been idle since before a time, but not the last keep of all. It returns those of the
// others that have been idle since before stale, for a sign of life.
func (p *pool) expire(before, stale time.Time, keep int) (quiet []*worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit < p.most && p.refused.Before(before) {
		p.limit = p.most // whoever had the sessions may have given them back
	}
	p.idle = slices.DeleteFunc(p.idle, func(w *worker) bool {
		if w.idleSince.Before(before) && p.workers > keep {
			p.workers--
			close(w.in)
			return true
		}
		if w.idleSince.Before(stale) {
			quiet = append(quiet, w)
			p.running++
			return true
		}
		return false
	})
	return quiet
}

// touch has w, which expire returned, ask the token for a sign of life. It closes the session if there is none.
func (p *pool) touch(w *worker) {
	c := newCall(0, nil, nil, nil, 0)
	c.fn = (*worker).alive
	p.mu.Lock()
	c.worker = w
	c.state.Store(callRunning)
	p.mu.Unlock()
	expired := time.NewTimer(p.conn.lib.callTimeout())
	defer expired.Stop()
	w.in <- c
	select {
	case <-c.done:
	case <-expired.C:
		if p.abandon(c) != callDone {
			return
		}
		<-c.done
	}
	c.free()
}

// close ends all workers and waits for them, but not for those that the module holds for longer than wait. It returns how
// many these are.
func (p *pool) close(wait time.Duration) int {
	p.mu.Lock()
	p.closed = true
	for _, w := range p.idle {
		p.workers--
		close(w.in)
	}
	p.idle = nil
	wg := p.wg
	p.mu.Unlock()
	wg.Go(func() {
		m := p.conn.instance.enter()
		defer m.leave()
		p.closeSpare(m)
	})
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ended:
		return 0
	case <-timer.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(1, p.workers+p.stuck) // the closing of a session may hang as well
}
