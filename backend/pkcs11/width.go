package pkcs11

import (
	"runtime"
	"time"
)

// observe is told what a call took of the processor and of time, in nanoseconds, and sets the width: calls that compute
// here for most of their time are only as many as there are processors. What is measured while more run than there are
// processors says nothing, because they wait for each other.
func (p *pool) observe(cpu, wall uint) {
	if wall == 0 {
		return
	}
	share := int32(min(100, cpu*100/wall))
	if before := p.load.Load(); before >= 0 {
		share = (3*before + share) / 4
	}
	p.load.Store(share)
	p.mu.Lock()
	defer p.mu.Unlock()
	width := p.limit
	if share >= 30 {
		width = min(width, runtime.GOMAXPROCS(0))
	}
	p.width.Store(int32(width))
	p.dispatch()
}

// measures reports whether the next call is to be measured: the first ones, and then some.
func (p *pool) measures() bool {
	n := p.ticks.Add(1)
	return (n <= 4 || n%64 == 0) && p.isNarrow()
}

func (p *pool) isNarrow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running <= runtime.GOMAXPROCS(0)
}

// retire ends w, which got no session, if there are others, and reports whether it did.
func (p *pool) retire(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.open || p.workers <= 1 || w.era != p.era {
		return false
	}
	p.workers--
	p.running--
	p.narrow()
	p.dispatch()
	return true
}

// narrow keeps to the number of sessions that there are, for a while. mu is held.
func (p *pool) narrow() {
	p.refused = time.Now()
	p.limit = p.workers
	p.width.Store(min(p.width.Load(), int32(p.limit)))
}

// hasRoom reports whether a worker may open another session before it closes its own.
func (p *pool) hasRoom() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers < p.most
}

// hasOne reports whether there is one session only.
func (p *pool) hasOne() bool { return p.most == 1 }

// exhaustedPause is how long to wait before a token that has no session or memory left is asked again.
const exhaustedPause = 20 * time.Millisecond

// relieve returns nil when it is time to try again after the token said, with err, that it has no session or memory left.
func (p *pool) relieve(d deadline, err error) error {
	pause := time.NewTimer(exhaustedPause)
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-d.ctx.Done():
	case <-d.expired:
	}
	return err
}
