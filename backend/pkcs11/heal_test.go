package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// swarm signs with the keys in turn on many goroutines until stop is called, and counts. It fails the test if a signature
// is not the key's.
type swarm struct {
	tb      testing.TB
	stopped context.Context
	end     context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	signed int
	failed map[string]int
	worst  time.Duration // of an operation that failed
}

func newSwarm(tb testing.TB, goroutines int, keys ...backend.Key) *swarm {
	s := &swarm{tb: tb, failed: map[string]int{}}
	s.stopped, s.end = context.WithCancel(context.Background())
	for g := range goroutines {
		s.wg.Go(func() {
			for n := g; s.stopped.Err() == nil; n++ {
				began := time.Now()
				s.count(time.Since(began), signOnce(context.Background(), keys[n%len(keys)]))
			}
		})
	}
	return s
}

func (s *swarm) count(took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.signed++
		return
	}
	s.failed[verdict(err)]++
	s.worst = max(s.worst, took)
	if !errors.Is(err, backend.ErrUnavailable) {
		s.tb.Errorf("a signature failed: %v", err)
	}
}

func (s *swarm) successes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signed
}

// more waits for that many more signatures.
func (s *swarm) more(n int, when string) {
	s.tb.Helper()
	want := s.successes() + n
	eventually(s.tb, fmt.Sprintf("%d signatures %s", n, when), func() bool { return s.successes() >= want })
}

// stop ends the swarm and waits for it.
func (s *swarm) stop() {
	s.end()
	s.wg.Wait()
	s.tb.Logf("%d signatures, failures: %v", s.signed, s.failed)
}

// TestTokenAway: while the token is away operations fail at once, and few calls are made; soon after it is back they
// succeed.
func TestTokenAway(t *testing.T) {
	f := newFaulty(t)
	b := f.connect(t, Library{})
	key := mustGenerate(t, b, f.on("key"))
	logins := f.UserLogins()
	for round := range 3 {
		if err := f.Remove(); err != nil {
			t.Fatal(err)
		}
		wants(t, signOnce(t.Context(), key), backend.ErrUnavailable)
		wants(t, b.Ping(t.Context()), backend.ErrUnavailable)

		f.ResetCounts()
		const tries = 2000
		began, worst := time.Now(), time.Duration(0)
		for range tries {
			start := time.Now()
			wants(t, signOnce(t.Context(), key), backend.ErrUnavailable)
			worst = max(worst, time.Since(start))
		}
		took, calls := time.Since(began), 0
		for _, n := range f.Counts() {
			calls += n
		}
		// One recovery in each delay, with a handful of calls.
		if most := 20 * (2 + int(took/firstDelay)); calls > most {
			t.Errorf("round %d: %d operations in %v made %d calls, want at most %d: %v", round, tries, took, calls, most, f.Counts())
		}
		t.Logf("round %d: %d operations failed in %v, the slowest in %v, and made %d calls", round, tries, took, worst, calls)

		f.Insert()
		if took := heals(t, "after the token came back", func() error { return signOnce(t.Context(), key) }); took > soon {
			t.Errorf("round %d: service was back only %v after the token", round, took)
		}
		if err := b.Ping(t.Context()); err != nil {
			t.Errorf("round %d: Ping after the token came back: %v", round, err)
		}
	}
	if n := f.UserLogins() - logins; n != 3 {
		t.Errorf("%d logins for 3 absences", n)
	}
}

// TestTokenAwayLong: service is back within a second also after many failed recoveries.
func TestTokenAwayLong(t *testing.T) {
	f := newFaulty(t)
	b := f.connect(t, Library{})
	key := mustGenerate(t, b, f.on("key"))
	c := theConn(t, b)
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "six recoveries have failed", func() bool {
		wants(t, signOnce(t.Context(), key), backend.ErrUnavailable)
		c.healing.Lock()
		defer c.healing.Unlock()
		return c.healing.failed >= 6
	})
	f.Insert()
	if took := heals(t, "after the token came back", func() error { return signOnce(t.Context(), key) }); took > soon {
		t.Errorf("service was back only %v after the token", took)
	}
}

// TestLossUnderLoad: other code logs out and closes all sessions while many sign. Some calls may fail; all signatures are
// right, and service goes on.
func TestLossUnderLoad(t *testing.T) {
	f := newFaulty(t)
	b := f.connect(t, Library{MaxSessions: 8})
	keys := []backend.Key{mustGenerate(t, b, f.on("a")), mustGenerate(t, b, f.on("b")), mustGenerate(t, b, f.on("c"))}
	logins := f.UserLogins()
	for name, lose := range map[string]func() error{"Logout": f.Logout, "CloseAllSessions": f.CloseAllSessions} {
		t.Run(name, func(t *testing.T) {
			s := newSwarm(t, 16, keys...)
			defer s.stop()
			for range 10 {
				s.more(50, "before the loss")
				if err := lose(); err != nil {
					t.Fatal(err)
				}
			}
			s.more(50, "after the losses")
		})
	}
	if n := f.UserLogins() - logins; n > 60 {
		t.Errorf("%d logins for 20 losses", n)
	}
	c := theConn(t, b)
	alive := -1
	eventually(t, "the pool is idle", func() bool { alive = c.pool.alive(); return alive >= 0 })
	if n := f.Sessions(); n != alive || n > 8 {
		t.Errorf("the module has %d sessions, the pool %d", n, alive)
	}
}

// TestSessionOfAnErrorServesNobody: the session of a call that failed is closed and another one opened.
func TestSessionOfAnErrorServesNobody(t *testing.T) {
	f := newFaulty(t)
	b := f.connect(t, Library{MaxSessions: 4})
	key := mustGenerate(t, b, f.on("key"))
	signsWell(t, key)
	for _, function := range []string{"C_SignInit", "C_Sign"} {
		f.ResetCounts()
		sessions := f.Sessions()
		const faults = 20
		for range faults {
			f.Set(ruleOnce(function, ckrGeneralError))
			signsWell(t, key)
		}
		f.Set()
		opened, closed, more := f.Count("C_OpenSession"), f.Count("C_CloseSession"), f.Sessions()-sessions
		if closed != faults || opened != faults+more {
			t.Errorf("%d errors of %s: %d sessions opened and %d closed, and %d more are open", faults, function, opened, closed, more)
		}
		if n := f.Count("C_Login"); n != 0 {
			t.Errorf("%d logins", n)
		}
	}
}

// TestPingHeals: Ping restores a login that was lost, so that the next operation finds it there.
func TestPingHeals(t *testing.T) {
	f := newFaulty(t)
	b := f.connect(t, Library{})
	key := mustGenerate(t, b, f.on("key"))
	for name, lose := range map[string]func() error{"Logout": f.Logout, "CloseAllSessions": f.CloseAllSessions, "Reinitialize": f.Reinitialize} {
		t.Run(name, func(t *testing.T) {
			if err := lose(); err != nil {
				t.Fatal(err)
			}
			f.ResetCounts()
			if err := b.Ping(t.Context()); err != nil {
				t.Errorf("Ping: %v", err)
			}
			if n := f.Count("C_Login"); n != 1 {
				t.Errorf("Ping logged in %d times, want 1", n)
			}
			signsWell(t, key)
			if n := f.Count("C_Login"); n != 1 {
				t.Errorf("%d logins after the first signature, want 1", n)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Ping with a cancelled context: %v", err)
	}
}
