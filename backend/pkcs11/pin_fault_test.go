package pkcs11

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// pinCodes are the return values that say that the PIN would be refused again.
func pinCodes() []ckr {
	var codes []ckr
	for c, r := range ckrs {
		if r.trouble == pinRefused {
			codes = append(codes, c)
		}
	}
	slices.Sort(codes)
	return codes
}

// allRefused calls fn from many goroutines and checks that each gets ErrCredentials.
func allRefused(tb testing.TB, goroutines int, fn func(n int) error) {
	tb.Helper()
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for n := range goroutines {
		wg.Go(func() { errs[n] = fn(n) })
	}
	wg.Wait()
	for n, err := range errs {
		if !errors.Is(err, backend.ErrCredentials) {
			tb.Fatalf("call %d: error = %v, want ErrCredentials", n, err)
		}
	}
}

// oneLogin checks how many times the PIN was given since the counts were reset, and that the token never saw a wrong one.
func (f *faulty) oneLogin(tb testing.TB, when string) {
	tb.Helper()
	if n := f.Count("C_Login"); n != 1 {
		tb.Errorf("%s: %d calls of C_Login, want 1", when, n)
	}
	if n := f.WrongPINs(); n != 0 {
		tb.Errorf("%s: %d wrong PINs", when, n)
	}
}

// TestRefusedPIN: a PIN that the token refused at the first login is not given again, however the token is named, until
// the backend is closed.
func TestRefusedPIN(t *testing.T) {
	f := newFaulty(t)
	maker := f.connect(t, Library{})
	mustGenerate(t, maker, f.on("key"))
	closeAll(t, maker)
	for _, code := range pinCodes() {
		t.Run(code.Error(), func(t *testing.T) {
			bySlot := f.on("key")
			bySlot.TokenLabel, bySlot.Slot = "", f.token.Slot

			b := f.connect(t, Library{})
			f.ResetCounts()
			f.Set(faultp11.Rule{Function: "C_Login", Code: uint64(code)})
			open := func(n int) error {
				p := f.on("key")
				if n%2 == 1 {
					p = bySlot
				}
				_, err := b.Open(t.Context(), p)
				return err
			}
			allRefused(t, 20, open)
			allRefused(t, 1, open)
			f.oneLogin(t, "with 21 keys to open")

			f.Set()
			allRefused(t, 2, open) // the token would take it now, but nobody can know
			f.oneLogin(t, "after the fault")
			closeAll(t, b)
			f.ResetCounts()
			next := f.connect(t, Library{})
			signsWell(t, mustOpen(t, next, f.on("key")))
			f.oneLogin(t, "with a new backend")
			closeAll(t, next)
		})
	}
}

// TestRefusedPINLater: a PIN that the token refuses when the login was lost is given once by all keys and calls together,
// until the backend is closed.
func TestRefusedPINLater(t *testing.T) {
	f := newFaulty(t)
	maker := f.connect(t, Library{})
	mustGenerate(t, maker, f.on("key"))
	closeAll(t, maker)
	for _, code := range pinCodes() {
		t.Run(code.Error(), func(t *testing.T) {
			b := f.connect(t, Library{})
			key := mustOpen(t, b, f.on("key"))
			signsWell(t, key)
			f.ResetCounts()
			f.Set(faultp11.Rule{Function: "C_Login", Code: uint64(code)})
			if err := f.Logout(); err != nil {
				t.Fatal(err)
			}
			use := func(n int) error {
				switch n % 3 {
				case 0:
					_, err := b.Open(t.Context(), f.on("key"))
					return err
				case 1:
					return b.Ping(t.Context())
				}
				return signOnce(t.Context(), key)
			}
			allRefused(t, 50, use)
			for n := range 9 {
				allRefused(t, 1, func(int) error { return use(n) })
			}
			f.oneLogin(t, "after the logout")
			f.Set()
			allRefused(t, 3, use)
			f.oneLogin(t, "after the fault")
			closeAll(t, b)
			f.ResetCounts()
			next := f.connect(t, Library{})
			signsWell(t, mustOpen(t, next, f.on("key")))
			f.oneLogin(t, "with a new backend")
			closeAll(t, next)
		})
	}
}

// TestWrongPIN: the token itself refuses a PIN, once.
func TestWrongPIN(t *testing.T) {
	f := newFaulty(t)
	b := f.connect(t, Library{})
	p := f.on("key")
	p.PIN = "wrong-pin"
	for range 3 {
		_, err := b.Generate(context.Background(), p, nil)
		wants(t, err, backend.ErrCredentials)
	}
	if logins, wrong := f.UserLogins(), f.WrongPINs(); logins != 1 || wrong != 1 {
		t.Errorf("%d logins and %d wrong PINs reached the token, want 1 and 1", logins, wrong)
	}
	mustGenerate(t, b, f.on("key")) // another PIN is another matter
}

func closeAll(tb testing.TB, bs ...*Backend) {
	tb.Helper()
	for _, b := range bs {
		if err := b.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	}
}
