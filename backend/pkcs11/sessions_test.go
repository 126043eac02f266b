package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// watch samples how many sessions are open until it is called.
func (f *faulty) watch() (most func() int) {
	var worst atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(100 * time.Microsecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				worst.Store(max(worst.Load(), int64(f.Sessions())))
			}
		}
	}()
	return func() int {
		close(stop)
		<-done
		return int(worst.Load())
	}
}

// TestSessionLimits: there are never more sessions than the stanza or the token allows, and everything works with one.
func TestSessionLimits(t *testing.T) {
	for _, limit := range []int{1, 2, 4} {
		for _, by := range []string{"the stanza", "the token, which says so", "the token, which doesn't say so"} {
			t.Run(fmt.Sprintf("%d by %s", limit, by), func(t *testing.T) {
				f := newFaulty(t)
				lib := Library{}
				switch by {
				case "the stanza":
					lib.MaxSessions = limit
				default:
					f.LimitSessions(limit, by == "the token, which says so")
				}
				b := f.connect(t, lib)
				most := f.watch()
				key := mustGenerate(t, b, f.on("key"))
				var wg sync.WaitGroup
				for n := range 64 {
					wg.Go(func() {
						for range 5 {
							if err := signOnce(context.Background(), key); err != nil {
								t.Errorf("signature: %v", err)
							}
						}
						if n%16 == 0 {
							made, err := b.Generate(context.Background(), f.on(fmt.Sprint("key-", n)), nil)
							if err != nil {
								t.Errorf("generation: %v", err)
							} else if err := signOnce(context.Background(), made); err != nil {
								t.Errorf("signature of a new key: %v", err)
							}
						}
					})
				}
				wg.Wait()
				if n := most(); n > limit {
					t.Errorf("%d sessions were open, want at most %d", n, limit)
				}
			})
		}
	}
}

// TestOneSession: everything works on a token that has one session, also when the login or the session is lost.
func TestOneSession(t *testing.T) {
	for name, report := range map[string]bool{"reported": true, "not reported": false} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			f.LimitSessions(1, report)
			b := f.connect(t, Library{})
			key, opener := mustGenerate(t, b, f.on("key")), mustGenerate(t, b, f.oaep("opener"))
			check := func(when string) {
				t.Helper()
				if err := errors.Join(signOnce(t.Context(), key), decryptsOnce(t.Context(), opener), b.Ping(t.Context())); err != nil {
					t.Errorf("%s: %v", when, err)
				}
				if _, err := b.Open(t.Context(), f.on("key")); err != nil {
					t.Errorf("%s: Open: %v", when, err)
				}
			}
			check("at first")
			for n, lose := range []func() error{f.Logout, f.CloseAllSessions, f.Logout} {
				if err := lose(); err != nil {
					t.Fatal(err)
				}
				check(fmt.Sprint("after loss ", n))
			}
			for _, function := range []string{"C_SignInit", "C_Sign"} {
				f.Set(ruleOnce(function, 0x30))
				check("after an error of " + function)
			}
			f.Set()
			mustGenerate(t, b, f.on("another"))
			for info, err := range b.List(t.Context(), on(f.token, "", 0)) {
				if err != nil {
					t.Errorf("List: %v, %v", info, err)
				}
			}
			if n := f.Sessions(); n != 1 {
				t.Errorf("%d sessions", n)
			}
		})
	}
}

// TestIdleSessions: sessions that nobody uses are closed but for MinIdle, and those are kept alive.
func TestIdleSessions(t *testing.T) {
	const idle, minIdle = 50 * time.Millisecond, 2
	f := newFaulty(t)
	b := f.connect(t, Library{IdleTimeout: idle, MinIdle: minIdle, KeepAlive: idle})
	key := mustGenerate(t, b, f.on("key"))
	f.manySessions(t, b, key, 6)
	eventually(t, "idle sessions are closed", func() bool { return f.Sessions() == minIdle })
	logins := f.UserLogins()
	f.ResetCounts()
	eventually(t, "signs of life", func() bool { return f.Count("C_GetSessionInfo") >= 3*minIdle })
	if n := f.Sessions(); n != minIdle {
		t.Errorf("%d sessions are left, want %d", n, minIdle)
	}
	signsWell(t, key)
	if n := f.UserLogins() - logins; n != 0 {
		t.Errorf("%d logins, although sessions were kept", n)
	}

	// A session that the token has closed gives no sign of life, and is replaced.
	if err := f.CloseAllSessions(); err != nil {
		t.Fatal(err)
	}
	f.ResetCounts()
	eventually(t, "signs of life", func() bool { return f.Count("C_GetSessionInfo") >= 2*minIdle })
	signsWell(t, key)
}

// manySessions has that many sessions be open at once.
func (f *faulty) manySessions(tb testing.TB, b *Backend, key backend.Key, sessions int) {
	tb.Helper()
	// Calls that wait don't compute, so that the pool gets wide.
	f.Set(faultp11.Rule{Function: "C_Sign", Delay: 2 * time.Millisecond})
	defer f.Set()
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := make(chan struct{})
	defer close(stop)
	for range 2 * sessions {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := signOnce(context.Background(), key); err != nil {
						tb.Error(err)
					}
				}
			}
		})
	}
	eventually(tb, fmt.Sprintf("%d sessions are open", sessions), func() bool { return f.Sessions() >= sessions })
}

// TestReadWriteSessions: after a key was opened with force_rw_session, no read-only session is used.
func TestReadWriteSessions(t *testing.T) {
	f := newFaulty(t)
	maker := f.connect(t, Library{})
	mustGenerate(t, maker, f.on("key"))
	closeAll(t, maker)
	for _, force := range []bool{false, true} {
		t.Run(fmt.Sprint(force), func(t *testing.T) {
			b := f.connect(t, Library{})
			p := f.on("key")
			p.ForceRWSession = force
			key := mustOpen(t, b, p)
			f.manySessions(t, b, key, 4)
			if err := f.CloseAllSessions(); err != nil {
				t.Fatal(err)
			}
			f.manySessions(t, b, key, 4)
			c := theConn(t, b)
			eventually(t, "the pool is idle", func() bool { return c.pool.alive() >= 0 })
			c.pool.mu.Lock()
			for n, w := range c.pool.idle {
				if w.open && w.rw != force {
					t.Errorf("session %d: read/write is %v, want %v", n, w.rw, force)
				}
			}
			c.pool.mu.Unlock()
			closeAll(t, b)
		})
	}
}

// TestLimitHoldsInTrouble: errors and losses don't make the pool open more sessions than it may. While a recovery looks
// after the login there may be one more.
func TestLimitHoldsInTrouble(t *testing.T) {
	const limit = 3
	f := newFaulty(t)
	b := f.connect(t, Library{MaxSessions: limit})
	key := mustGenerate(t, b, f.on("key"))
	f.manySessions(t, b, key, limit)
	most := f.watch()
	s := newSwarm(t, 16, key)
	for range 20 {
		f.Set(ruleOnce("C_Sign", 0x30), ruleOnce("C_SignInit", ckrGeneralError))
		eventually(t, "signatures", func() bool { return s.successes() > 0 })
		s.more(20, "with errors")
	}
	f.Set()
	for range 5 {
		if err := f.Logout(); err != nil {
			t.Fatal(err)
		}
		s.more(20, "after a logout")
	}
	s.stop()
	if n := most(); n > limit+1 {
		t.Errorf("%d sessions were open, want at most %d", n, limit+1)
	}
}
