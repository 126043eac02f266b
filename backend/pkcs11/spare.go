package pkcs11

import (
	"slices"

	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// spare is an open session.
type spare struct {
	session cryptoki.Handle
	rw      bool
	line    uint64
}

// adopt keeps an open session, which holds the login, for the next worker that needs one. It returns false if another
// session holds it as well, so that this one is not needed. That is asked of the token: idle workers don't know that their
// sessions were closed.
func (p *pool) adopt(s spare) bool {
	w, old, ok := p.rival(s)
	if w == nil {
		if old != nil && old.line == s.line {
			p.conn.instance.module().CloseSession(old.session)
		}
		return ok
	}
	defer p.giveBack(w)
	in, err := p.conn.instance.module().LoggedIn(w.session)
	if err == nil && in {
		return false
	}
	if err == nil {
		p.conn.instance.module().CloseSession(w.session)
	}
	w.session, w.rw = s.session, s.rw
	return true
}

// rival takes an idle worker that has an open session, for giveBack. If there is none, it keeps s, unless the pool is
// closed, and returns what was kept before.
func (p *pool) rival(s spare) (w *worker, old *spare, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, false
	}
	n := slices.IndexFunc(p.idle, func(w *worker) bool { return w.open && w.line == s.line })
	if n < 0 {
		old, p.spare = p.spare, &s
		return nil, old, true
	}
	w = p.idle[n]
	p.idle = slices.Delete(p.idle, n, n+1)
	p.running++
	return w, nil, false
}

// recheck asks the token about the sessions of all idle workers, after one was found to be gone. The number of another one
// that is gone may be given to a new session, and modules crash if two use one session at once.
func (p *pool) recheck() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.running += len(idle)
	p.mu.Unlock()
	line := p.conn.line.Load()
	for _, w := range idle {
		if w.open && w.line == line {
			_, err := p.conn.instance.module().LoggedIn(w.session)
			w.open = err == nil
		}
		p.giveBack(w)
	}
}

// adopted returns the spare session, if there is one that will do.
func (p *pool) adopted(rw bool, line uint64) *spare {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.spare
	if s == nil || rw && !s.rw {
		return nil
	}
	p.spare = nil
	if s.line != line {
		return nil
	}
	return s
}

// closeSpare closes the spare session, if there is one.
func (p *pool) closeSpare(m *incarnation) {
	p.mu.Lock()
	s := p.spare
	p.spare = nil
	p.mu.Unlock()
	if s != nil && s.line == p.conn.line.Load() {
		m.CloseSession(s.session)
	}
}

// drain closes the sessions of idle workers and reports whether there were any.
func (p *pool) drain(m *incarnation) bool {
	line := p.conn.line.Load()
	var sessions []cryptoki.Handle
	p.mu.Lock()
	for _, w := range p.idle {
		if w.open && w.line == line {
			sessions = append(sessions, w.session)
		}
		w.open = false
	}
	p.mu.Unlock()
	for _, s := range sessions {
		m.CloseSession(s)
	}
	return len(sessions) > 0
}
