//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/managedkeys/managedkeys/backend"
)

// stranger is other code of the process that uses the same module.
type stranger struct {
	tb  testing.TB
	ctx *pkcs11.Ctx
	f   *faulty
}

func newStranger(tb testing.TB, f *faulty) *stranger {
	s := &stranger{tb, pkcs11.New(f.Path()), f}
	if s.ctx == nil {
		tb.Fatal("the module can't be loaded twice")
	}
	tb.Cleanup(s.ctx.Destroy)
	return s
}

func (s *stranger) session() pkcs11.SessionHandle {
	s.tb.Helper()
	slot, err := strconv.ParseUint(s.f.token.Slot, 10, 64)
	if err != nil {
		s.tb.Fatal(err)
	}
	session, err := s.ctx.OpenSession(uint(slot), pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		s.tb.Fatal(err)
	}
	return session
}

// takeOver initialises the module again and arranges for the private key that is called label to have a number. The module
// gives numbers to sessions and objects in turn. It keeps the sessions with the numbers that are to be kept, or else one
// that is not in the pool's hands, and stays logged in.
func (s *stranger) takeOver(label string, number uint, taken []uint, keep bool) {
	s.tb.Helper()
	if err := s.f.Reinitialize(); err != nil {
		s.tb.Fatal(err)
	}
	var sessions []pkcs11.SessionHandle
	for len(sessions) == 0 || uint(sessions[len(sessions)-1]) < number-1 {
		sessions = append(sessions, s.session())
	}
	last := sessions[len(sessions)-1]
	if err := s.ctx.Login(last, pkcs11.CKU_USER, s.f.token.PIN); err != nil {
		s.tb.Fatal(err)
	}
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}
	if err := s.ctx.FindObjectsInit(last, template); err != nil {
		s.tb.Fatal(err)
	}
	found, _, err := s.ctx.FindObjects(last, 2)
	if err != nil || len(found) != 1 || uint(found[0]) != number {
		s.tb.Fatalf("found %v, %v; want the handle %d", found, err, number)
	}
	if err := s.ctx.FindObjectsFinal(last); err != nil {
		s.tb.Fatal(err)
	}
	for _, session := range sessions {
		if slices.Contains(taken, uint(session)) && !keep {
			if session == last {
				s.tb.Fatalf("the pool has the session %d", last)
			}
			if err := s.ctx.CloseSession(session); err != nil {
				s.tb.Fatal(err)
			}
		}
	}
}

// handleOf returns the number of a private key, which b has looked for, and those of the pool's sessions.
func handleOf(tb testing.TB, b *Backend, label string) (number uint, sessions []uint) {
	tb.Helper()
	c := theConn(tb, b)
	x, err := c.indexed(tb.Context(), time.Time{})
	if err != nil {
		tb.Fatal(err)
	}
	found := x.where("", label, func(e entry) bool { return e.class == classPrivate })
	if len(found) != 1 {
		tb.Fatalf("the token has %d keys %q", len(found), label)
	}
	eventually(tb, "the pool is idle", func() bool { return c.pool.alive() >= 0 })
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	for _, w := range c.pool.idle {
		sessions = append(sessions, uint(w.session))
	}
	return uint(found[0].handle), sessions
}

// TestImpostors: other code initialises the module again, so that the handle of a key becomes that of another one, and is
// logged in. What was signed with the other key does not leave.
func TestImpostors(t *testing.T) {
	for name, keep := range map[string]bool{"sessions are lost": false, "sessions are others' as well": true} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			b := f.connect(t, Library{})
			mustGenerate(t, b, f.on("a"))
			mustGenerate(t, b, f.on("b"))
			closeAll(t, b) // the numbers begin anew
			b = f.connect(t, Library{})
			a, other := mustOpen(t, b, f.on("a")), mustOpen(t, b, f.on("b"))
			if !keep {
				// These signatures are verified, and those of the next second would not be. What follows is seen.
				signsWell(t, a)
				signsWell(t, other)
			}
			number, sessions := handleOf(t, b, "a")
			impostor := "b"
			if n, _ := handleOf(t, b, "b"); n > number { // sessions have low numbers
				a, other, impostor, number = other, a, "a", n
			}
			newStranger(t, f).takeOver(impostor, number, sessions, keep)

			f.ResetCounts()
			err := signOnce(t.Context(), a)
			if f.Count("C_Sign") == 0 {
				t.Error("the handle was not used again, so that this test shows nothing")
			}
			if err != nil && !errors.Is(err, backend.ErrKeyChanged) && !errors.Is(err, backend.ErrUnavailable) {
				t.Errorf("the first signature: %v", err)
			}
			for range 50 {
				for _, key := range []backend.Key{a, other} {
					signsWell(t, key)
				}
			}
			if keep && !theConn(t, b).instance.foreign.Load() {
				t.Error("that others use the module was not noticed")
			}
		})
	}
}

// TestModuleTakenAway: other code finalises the module, and initialises it again or not, while no call is in the module:
// otherwise the standard leaves that undefined, and SoftHSM2 crashes. Nothing but signatures of the right keys leaves, and
// service goes on.
func TestModuleTakenAway(t *testing.T) {
	f := newFaulty(t)
	b := f.connect(t, Library{})
	var keys []backend.Key
	for n := range 6 {
		keys = append(keys, mustGenerate(t, b, f.on(fmt.Sprint("key-", n))))
	}
	c := theConn(t, b)
	for name, take := range map[string]func() error{"Finalize": f.Finalize, "Reinitialize": f.Reinitialize} {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				eventually(t, "no call is in the module", func() bool { return c.pool.alive() >= 0 })
				if err := take(); err != nil {
					t.Fatal(err)
				}
				signsWell(t, keys[0]) // which finds out
				s := newSwarm(t, 8, keys...)
				s.more(50, "after the module was taken away")
				s.stop()
			}
		})
	}
	if !c.instance.foreign.Load() {
		t.Error("that others finalise the module was not noticed")
	}
	// From now on each signature is verified, so that one of another key can't leave.
	for range 20 {
		for _, key := range keys {
			signsWell(t, key)
		}
	}
}
