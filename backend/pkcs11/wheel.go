package pkcs11

import (
	"sync/atomic"
	"time"
)

// wheel gives many calls the same deadline, a time from now, without a timer for each: setting a timer wakes the thread
// that waits for the network, which costs more than many an operation does.
type wheel struct {
	timeout time.Duration
	now     atomic.Pointer[wheelSlot]
	stop    chan struct{}
	ended   chan struct{}
}

// wheelSlot is a deadline that calls of the same tick share.
type wheelSlot struct{ expired chan struct{} }

// wheelTicks is how many ticks a timeout has. Calls time out at most that part of it late.
const wheelTicks = 16

// newWheel returns a running wheel.
func newWheel(timeout time.Duration) *wheel {
	w := &wheel{timeout: timeout, stop: make(chan struct{}), ended: make(chan struct{})}
	w.now.Store(&wheelSlot{make(chan struct{})})
	go w.turn()
	return w
}

func (w *wheel) turn() {
	defer close(w.ended)
	ticker := time.NewTicker(max(w.timeout/wheelTicks, time.Millisecond))
	defer ticker.Stop()
	slots := []*wheelSlot{w.now.Load()}
	for {
		select {
		case <-w.stop:
			for _, s := range slots {
				close(s.expired)
			}
			return
		case <-ticker.C:
			next := &wheelSlot{make(chan struct{})}
			slots = append(slots, next)
			w.now.Store(next)
			// The first slot was the current one for a whole tick; its last call began when that ended.
			if len(slots) > wheelTicks+1 {
				close(slots[0].expired)
				slots = slots[1:]
			}
		}
	}
}

// deadline returns a channel that is closed when the timeout has passed from now, or up to a tick later.
func (w *wheel) deadline() <-chan struct{} { return w.now.Load().expired }

// close ends the wheel. Deadlines that calls still wait for come at once.
func (w *wheel) close() {
	close(w.stop)
	<-w.ended
}
