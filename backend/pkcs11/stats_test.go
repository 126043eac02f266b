package pkcs11

import (
	"context"
	"crypto"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// TestStats: what is in flight, waits, hangs and is down shows.
func TestStats(t *testing.T) {
	token := softhsm.Require(t)
	shim := faultp11.Require(t, token.Module)
	b := connectWith(t, Library{Path: shim.Path(), MaxSessions: 1})
	if len(b.Stats()) > 0 {
		t.Errorf("before the first key: %+v", b.Stats())
	}
	key := mustGenerate(t, b, withCurve(on(token, "ec", ECDSA), "P256")).(backend.Signer)
	eventually(t, "the session is idle", func() bool { return b.Stats()[0].Busy == 0 })
	if s := b.Stats(); len(s) != 1 || s[0].Token != token.Label || s[0].Serial == "" || s[0].Sessions != 1 || s[0].Busy+s[0].Waiting+s[0].Hung != 0 || s[0].Down {
		t.Errorf("at rest: %+v", s)
	}
	shim.Set(faultp11.Rule{Function: "C_Sign", Hang: true})
	sign := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := key.SignContext(ctx, make([]byte, 32), crypto.SHA256)
			done <- err
		}()
		return done
	}
	until := func(what string, ok func(Stats) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(b.Stats()[0]); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, b.Stats())
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := sign(ctx)
	until("one is busy", func(s Stats) bool { return s.Busy == 1 && s.Waiting == 0 })
	second := sign(t.Context())
	until("one waits", func(s Stats) bool { return s.Busy == 1 && s.Waiting == 1 })
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	until("one hangs, and the other has its place", func(s Stats) bool { return s.Hung == 1 && s.Waiting == 0 })
	shim.Set()
	if err := <-second; err != nil {
		t.Error(err)
	}
	until("all is over", func(s Stats) bool { return s.Busy+s.Waiting+s.Hung == 0 })

	if err := shim.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := <-sign(t.Context()); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	until("it is down", func(s Stats) bool { return s.Down })
	if l := b.Load(); len(l) != 1 || !strings.HasPrefix(l[0].Connection, token.Label+" (slot ") || l[0].Sessions != b.Stats()[0].Sessions || !l[0].Down {
		t.Errorf("load %+v", l)
	}
	shim.Insert()
}
