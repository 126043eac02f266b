package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// TestTwoCallsPerSignature: a signature takes C_SignInit and C_Sign, and nothing else.
func TestTwoCallsPerSignature(t *testing.T) {
	for name, lib := range map[string]Library{"workers": {}, "inline": {InlineCalls: true}} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			b := f.connect(t, lib)
			key := mustGenerate(t, b, f.on("key"))
			opener := mustGenerate(t, b, f.oaep("opener"))
			c := theConn(t, b)
			eventually(t, "the pool is idle", func() bool { return c.pool.alive() >= 0 })
			f.ResetCounts()
			const signatures, decryptions = 1000, 50
			for range signatures {
				signsWell(t, key)
			}
			for range decryptions {
				if err := decryptsOnce(t.Context(), opener); err != nil {
					t.Fatal(err)
				}
			}
			want := map[string]int{"C_SignInit": signatures, "C_Sign": signatures, "C_DecryptInit": decryptions, "C_Decrypt": decryptions}
			got := f.Counts()
			if got["C_OpenSession"] == 1 {
				delete(got, "C_OpenSession") // a call may begin before the worker of the last one is idle
			}
			if !maps.Equal(got, want) {
				t.Errorf("calls: %v, want %v", got, want)
			}
			if lib.InlineCalls {
				s := newSwarm(t, 8, key)
				s.more(500, "by many")
				if err := f.CloseAllSessions(); err != nil {
					t.Fatal(err)
				}
				s.more(500, "after the loss")
				s.stop()
			}
		})
	}
}

// TestOneSweep: opening many keys takes one search of the token.
func TestOneSweep(t *testing.T) {
	const keys = 60
	f := newFaulty(t)
	b := f.connect(t, Library{})
	for n := range keys {
		makeObject(t, b, f.on(fmt.Sprintf("key-%d", n)), fmt.Sprint(n))
	}
	closeAll(t, b)
	b = f.connect(t, Library{})
	if _, err := b.Open(t.Context(), f.on("key-0")); err != nil { // connects
		t.Fatal(err)
	}
	c := theConn(t, b)
	c.search <- struct{}{}
	c.index.until = time.Now().Add(time.Hour) // the test may take longer than the index lives
	<-c.search
	f.ResetCounts()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := g; n < keys; n += 4 {
				if _, err := b.Open(context.Background(), f.on(fmt.Sprintf("key-%d", n))); err != nil {
					t.Errorf("key %d: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	if n := f.Count("C_FindObjectsInit"); n != 0 {
		t.Errorf("%d searches for %d keys after the first, want 0", n, keys)
	}
	if n := f.Count("C_Login"); n != 0 {
		t.Errorf("%d logins after the first, want 0", n)
	}
}

// TestOpenReadsLittle: a key that is known to the index is opened with one reading of its attributes, and one of its public
// key if it does not say that itself.
func TestOpenReadsLittle(t *testing.T) {
	f := newFaulty(t)
	b := f.connect(t, Library{})
	for _, test := range []struct {
		p    Params
		want int
	}{
		{f.on("ec"), 2}, {on(f.token, "ed", EdDSA), 2}, {f.oaep("rsa"), 1}, {withBits(on(f.token, "aes", AESGCM), 256), 1},
	} {
		mustGenerate(t, b, test.p)
		mustOpen(t, b, test.p) // searches
		c := theConn(t, b)
		c.search <- struct{}{}
		c.index.until = time.Now().Add(time.Hour)
		<-c.search
		f.ResetCounts()
		mustOpen(t, b, test.p)
		if n := f.Count("C_GetAttributeValue"); n != test.want {
			t.Errorf("%s: attributes were read %d times, want %d", test.p.KeyLabel, n, test.want)
		}
		if n := f.Count("C_FindObjectsInit"); n != 0 {
			t.Errorf("%s: %d searches, want 0", test.p.KeyLabel, n)
		}
	}
}

// TestQueue: calls that wait are served in turn, and leave at once when their context ends.
func TestQueue(t *testing.T) {
	f := newFaulty(t)
	b := f.connect(t, Library{MaxSessions: 1})
	key := mustGenerate(t, b, f.on("key"))
	c := theConn(t, b)
	f.Set(faultp11.Rule{Function: "C_Sign", Hang: true, Times: 1})
	var wg sync.WaitGroup
	wg.Go(func() { signsWell(t, key) })
	eventually(t, "the session is busy", func() bool { return f.Hanging() == 1 })
	length := func() int {
		c.pool.mu.Lock()
		defer c.pool.mu.Unlock()
		return c.pool.queue.length
	}
	const waiters = 12
	var mu sync.Mutex
	var served []int
	cancels := make([]context.CancelFunc, waiters)
	left := make(chan int, waiters)
	for n := range waiters {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cancels[n] = cancel
		wg.Go(func() {
			// The index of a served call is noted by the worker, so that the order is that of the queue.
			err := c.do(ctx, false, false, func(*worker) error {
				mu.Lock()
				defer mu.Unlock()
				served = append(served, n)
				return nil
			})
			if errors.Is(err, context.Canceled) {
				left <- n
			} else if err != nil {
				t.Errorf("waiter %d: %v", n, err)
			}
		})
		eventually(t, "the call is queued", func() bool { return length() == n+1 })
	}
	for n := 0; n < waiters; n += 3 {
		cancels[n]()
		if got := <-left; got != n {
			t.Errorf("waiter %d left, want %d", got, n)
		}
	}
	if n := length(); n != waiters-4 {
		t.Errorf("%d calls wait, want %d", n, waiters-4)
	}
	if n := f.Hanging(); n != 1 {
		t.Errorf("%d calls hang, want 1", n)
	}
	f.Release()
	wg.Wait()
	for _, cancel := range cancels {
		cancel()
	}
	if got, want := fmt.Sprint(served), "[1 2 4 5 7 8 10 11]"; got != want {
		t.Errorf("served in the order %s, want %s", got, want)
	}
}

// TestClose: Close may be called twice and while keys are used, and ends all sessions.
func TestClose(t *testing.T) {
	f := newFaulty(t)
	b := f.connect(t, Library{MaxSessions: 4})
	key := mustGenerate(t, b, f.on("key"))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				err := signOnce(context.Background(), key)
				if errors.Is(err, backend.ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("before Close: %v", err)
					return
				}
			}
		})
	}
	eventually(t, "signatures", func() bool { return f.Count("C_Sign") > 100 })
	var closers sync.WaitGroup
	for range 3 {
		closers.Go(func() { closeAll(t, b) })
	}
	closers.Wait()
	wg.Wait()
	eventually(t, "the sessions are closed", func() bool { return f.Sessions() == 0 })
	if n := f.OverlappingFinalizes(); n != 0 {
		t.Errorf("the module was finalised %d times while calls ran", n)
	}
	f.ResetCounts()
	wants(t, signOnce(t.Context(), key), backend.ErrClosed)
	_, err := b.Open(t.Context(), f.on("key"))
	wants(t, err, backend.ErrClosed)
	_, err = b.Generate(t.Context(), f.on("new"), nil)
	wants(t, err, backend.ErrClosed)
	wants(t, b.Ping(t.Context()), backend.ErrClosed)
	closeAll(t, b)
	if n := len(f.Counts()); n != 0 {
		t.Errorf("calls after Close: %v", f.Counts())
	}
}
