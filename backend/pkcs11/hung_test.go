package pkcs11

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// hangs has the next calls of a function hang, or all if times is 0.
func (f *faulty) hangs(function string, times int) {
	f.Set(faultp11.Rule{Function: function, Hang: true, Times: times})
}

// within calls fn and fails the test if it takes much longer than it may.
func within(tb testing.TB, limit time.Duration, fn func() error) error {
	tb.Helper()
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		if took := time.Since(began); took > limit+soon {
			tb.Errorf("took %v, want at most about %v", took, limit)
		}
		return err
	case <-time.After(limit + patience):
		tb.Fatalf("hangs for %v, want at most about %v", time.Since(began), limit)
		return nil
	}
}

// TestHungSignature: a caller gets its answer in time although the module keeps the call, others go on, and in the end all
// is given back.
func TestHungSignature(t *testing.T) {
	const timeout = 300 * time.Millisecond
	f := newFaulty(t)
	b := f.connect(t, Library{CallTimeout: timeout, MaxSessions: 4})
	key := mustGenerate(t, b, f.on("key"))
	c := theConn(t, b)

	f.hangs("C_Sign", 3)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	err := within(t, timeout, func() error { return signOnce(ctx, key) })
	wants(t, err, backend.ErrUnavailable)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}
	wants(t, within(t, timeout, func() error { return signOnce(context.Background(), key) }), backend.ErrUnavailable, "call timeout")
	ctx, cancel = context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() { cancelled <- signOnce(ctx, key) }()
	eventually(t, "three calls hang", func() bool { return f.Hanging() == 3 })
	cancel()
	err = within(t, 0, func() error { return <-cancelled })
	if !errors.Is(err, context.Canceled) || errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("with a cancelled context: %v", err)
	}

	for range 20 {
		signsWell(t, key) // in other sessions
	}
	if n := f.Hanging(); n != 3 {
		t.Errorf("%d calls hang, want 3", n)
	}
	f.Release()
	f.Set()
	alive := -1
	eventually(t, "the workers are given back", func() bool { alive = c.pool.alive(); return alive >= 0 && f.Sessions() == alive })
	if alive > 4 {
		t.Errorf("the pool has %d sessions of 4", alive)
	}
	signsWell(t, key)
}

// TestManyHungSignatures: up to maxStuck workers are replaced, whatever the session limit; with more, callers get errors in
// time; when the module lets go, all is as before.
func TestManyHungSignatures(t *testing.T) {
	const timeout, callers = 200 * time.Millisecond, maxStuck + 14
	f := newFaulty(t)
	b := f.connect(t, Library{CallTimeout: timeout, MaxSessions: 4})
	key := mustGenerate(t, b, f.on("key"))
	c := theConn(t, b)
	f.hangs("C_Sign", 0)
	for round := 0; f.Hanging() < maxStuck; round++ {
		if round > 3*callers {
			t.Fatalf("only %d calls hang after %d rounds", f.Hanging(), round)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				wants(t, within(t, timeout, func() error { return signOnce(context.Background(), key) }), backend.ErrUnavailable)
			})
		}
		wg.Wait()
	}
	// No more than these and one pool of sessions hang for ever, and all who come now leave in time.
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			wants(t, within(t, timeout, func() error { return signOnce(context.Background(), key) }), backend.ErrUnavailable)
		})
	}
	wg.Wait()
	if n, most := f.Hanging(), maxStuck+4; n > most {
		t.Errorf("%d calls hang, want at most %d", n, most)
	}
	if n, most := f.Sessions(), maxStuck+4; n > most {
		t.Errorf("%d sessions are open, want at most %d", n, most)
	}
	f.Set()
	heals(t, "after the module let go", func() error { return signOnce(t.Context(), key) })
	alive := -1
	eventually(t, "the workers are given back", func() bool { alive = c.pool.alive(); return alive >= 0 && f.Sessions() == alive })
	if alive > 4 {
		t.Errorf("the pool has %d sessions of 4", alive)
	}
}

// TestCloseWhileCallsHang: Close returns in time and says so, and what hangs is cleaned up when it returns.
func TestCloseWhileCallsHang(t *testing.T) {
	const timeout = 200 * time.Millisecond
	f := newFaulty(t)
	b := newBackendOf(t, f, Library{CallTimeout: timeout})
	b.closeTimeout = timeout
	key := mustGenerate(t, b, f.on("key"))
	instance := theConn(t, b).instance
	f.hangs("C_Sign", 2)
	for range 2 {
		wants(t, within(t, timeout, func() error { return signOnce(context.Background(), key) }), backend.ErrUnavailable)
	}
	wants(t, within(t, timeout, b.Close), backend.ErrUnavailable, "closing")
	if err := b.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	wants(t, signOnce(context.Background(), key), backend.ErrClosed)
	f.Release()
	eventually(t, "the sessions are closed", func() bool { return f.Sessions() == 0 })
	if n := f.OverlappingFinalizes(); n != 0 {
		t.Errorf("the module was finalised %d times while calls ran", n)
	}
	f.Set()

	// The next backend goes on with what is there, and its Close ends it.
	next := f.connect(t, Library{})
	signsWell(t, mustOpen(t, next, f.on("key")))
	closeAll(t, next)
	if instance.up {
		t.Error("the module is not finalised")
	}
}

// newBackendOf is connect without Close at the end.
func newBackendOf(tb testing.TB, f *faulty, lib Library) *Backend {
	tb.Helper()
	lib.Name, lib.Path = "soft", f.Path()
	b, err := New(lib)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// TestHungOpen: Open returns at its deadline, whatever hangs, and succeeds when the module lets go.
func TestHungOpen(t *testing.T) {
	const timeout = 200 * time.Millisecond
	f := newFaulty(t)
	maker := f.connect(t, Library{})
	mustGenerate(t, maker, f.on("key"))
	closeAll(t, maker)
	for _, function := range []string{"C_Initialize", "C_GetSlotList", "C_OpenSession", "C_Login", "C_FindObjects", "C_GetAttributeValue", "C_SignInit"} {
		t.Run(function, func(t *testing.T) {
			b := f.connect(t, Library{CallTimeout: timeout})
			logins := f.UserLogins()
			f.hangs(function, 1)
			for range 2 { // the second waits for the first, or not
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				if err := within(t, timeout, func() error { _, err := b.Open(ctx, f.on("key")); return err }); err != nil {
					wants(t, err, backend.ErrUnavailable)
				}
			}
			f.Set()
			heals(t, "after the module let go", func() error {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				key, err := b.Open(ctx, f.on("key"))
				if err != nil {
					return err
				}
				return signOnce(ctx, key)
			})
			if n := f.UserLogins() - logins; n > 2 {
				t.Errorf("%d logins", n)
			}
			closeAll(t, b)
			eventually(t, "the sessions are closed", func() bool { return f.Sessions() == 0 })
		})
	}
}

// TestHungRecovery: a recovery that hangs blocks nobody beyond the call timeout, and no more than maxHeals hang.
func TestHungRecovery(t *testing.T) {
	const timeout = 100 * time.Millisecond
	for _, function := range []string{"C_Login", "C_OpenSession"} {
		t.Run(function, func(t *testing.T) {
			f := newFaulty(t)
			b := f.connect(t, Library{CallTimeout: timeout})
			key := mustGenerate(t, b, f.on("key"))
			c := theConn(t, b)
			f.hangs(function, 0)
			if err := f.CloseAllSessions(); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			eventually(t, "recoveries hang", func() bool {
				wants(t, within(t, timeout, func() error { return signOnce(context.Background(), key) }), backend.ErrUnavailable)
				return f.Hanging() >= maxHeals || time.Since(began) > soon
			})
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					wants(t, within(t, timeout, func() error { return signOnce(context.Background(), key) }), backend.ErrUnavailable)
				})
			}
			wg.Wait()
			c.healing.Lock()
			hung := len(c.healing.hung)
			c.healing.Unlock()
			if hung > maxHeals {
				t.Errorf("%d recoveries hang, want at most %d", hung, maxHeals)
			}
			f.Set()
			heals(t, "after the module let go", func() error { return signOnce(t.Context(), key) })
			alive := -1
			eventually(t, "the sessions are those of the pool", func() bool { alive = c.pool.alive(); return alive >= 0 && f.Sessions() == alive })
		})
	}
}
