package pkcs11

import (
	"context"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/p11kit"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// TestSoak signs with 64 goroutines while everything goes wrong that can. Whatever happens, each signature is that of the
// key that was opened, each failure says what kind it is, service is back soon after each outage, no PIN is wasted, and
// nothing is left over.
func TestSoak(t *testing.T) {
	t.Run("Shim", soakShim)
	t.Run("P11Kit", soakP11Kit)
}

// soakKeys makes the keys of a soak on a token, without keeping the module open.
func soakKeys(t *testing.T, token *softhsm.Token, more ...Params) (steady []Params, victim Params) {
	t.Helper()
	steady = append([]Params{withBits(on(token, "rsa", RSAPKCS), 2048), withCurve(on(token, "p256", ECDSA), "P256"),
		withCurve(on(token, "p384", ECDSA), "P384")}, more...)
	b := connectTo(t, token)
	for _, p := range steady {
		mustGenerate(t, b, p)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	victim = on(token, "victim", ECDSA)
	if err := replaceVictim(t, token, false); err != nil {
		t.Fatal(err)
	}
	return steady, victim
}

// replaceVictim has another program make the key that is replaced, in place of the one that is there, with the same label
// and id.
func replaceVictim(t *testing.T, token *softhsm.Token, old bool) error {
	program := requires.Tool(t, "opensc", "pkcs11-tool")
	login := []string{"--module", token.Module, "--token-label", token.Label, "--login", "--pin", token.PIN, "--label", "victim", "--id", "77"}
	var steps [][]string
	if old {
		steps = [][]string{{"--delete-object", "--type", "privkey"}, {"--delete-object", "--type", "pubkey"}}
	}
	for _, args := range append(steps, []string{"--keypairgen", "--key-type", "EC:prime256v1"}) {
		if err := exec.Command(program, append(login, args...)...).Run(); err != nil {
			return err
		}
	}
	return nil
}

// Return values that are injected: of a token in trouble, a lost session, login or handle, and one of no standard.
var soakCodes = []uint64{0x30, 0x31, 0x05, 0x06, 0x32, 0xB3, 0xB0, 0x101, 0x82, 0x60, 0x90, 0x91, 0xE0, 0x80001234}

func soakShim(t *testing.T) {
	token := softhsm.Require(t)
	steady, victim := soakKeys(t, token, on(token, "ed", EdDSA))
	module := faultp11.Require(t, token.Module)
	before := runtime.NumGoroutine()
	b := connectWith(t, Library{Path: module.Path(), CallTimeout: 3 * time.Second})
	s := newSoak(t, b)
	s.steady, s.victim = steady, victim
	inject := func(functions ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			module.Set(faultp11.Rule{Function: functions[s.rng.IntN(len(functions))], When: faultp11.When(s.rng.IntN(2)),
				Code: soakCodes[s.rng.IntN(len(soakCodes))], Skip: s.rng.IntN(20), Times: 1 + s.rng.IntN(10)})
			pause(ctx, s.between(10*time.Millisecond, 100*time.Millisecond))
			module.Set()
			return nil
		}
	}
	s.run([]outage{
		{"sessions closed", func(context.Context) error { return module.CloseAllSessions() }},
		{"logged out", func(context.Context) error { return module.Logout() }},
		{"token removed", func(ctx context.Context) error {
			if err := module.Remove(); err != nil {
				return err
			}
			pause(ctx, s.between(10*time.Millisecond, 500*time.Millisecond))
			module.Insert()
			return nil
		}},
		{"codes of operations", inject("C_SignInit", "C_Sign")},
		{"codes of sessions", inject("C_OpenSession", "C_CloseSession", "C_GetSessionInfo")},
		{"codes of searches", inject("C_FindObjectsInit", "C_FindObjects", "C_GetAttributeValue", "C_GetSlotList")},
		{"hangs", func(ctx context.Context) error {
			module.Set(faultp11.Rule{Function: "C_Sign", Hang: true, Times: 1 + s.rng.IntN(4)})
			pause(ctx, s.between(50*time.Millisecond, 400*time.Millisecond))
			module.Set()
			return nil
		}},
		{replaced, func(context.Context) error { return replaceVictim(t, token, true) }},
	})
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if n := module.Sessions(); n != 0 {
		t.Errorf("%d sessions are open after Close", n)
	}
	settles(t, before, func() int { return 0 })
	logins, wrong := module.UserLogins(), module.WrongPINs()
	t.Logf("%d logins for %d outages", logins, s.events())
	if most := 1 + 3*s.events(); wrong != 0 || logins > most {
		t.Errorf("%d logins with %d wrong PINs; want at most %d, and none", logins, wrong, most)
	}
	if n := module.OverlappingFinalizes(); n != 0 {
		t.Errorf("the module was finalised %d times while calls were in it", n)
	}
}

// soakP11Kit has no Ed25519 key, which p11-kit's protocol doesn't carry.
func soakP11Kit(t *testing.T) {
	token := softhsm.Require(t)
	steady, victim := soakKeys(t, token)
	server := p11kit.Require(t, token)
	before := runtime.NumGoroutine()
	b := connectWith(t, Library{Path: server.Module(), CallTimeout: 3 * time.Second})
	s := newSoak(t, b)
	s.steady, s.victim = steady, victim
	kill := func(least, most time.Duration) func(context.Context) error {
		return func(ctx context.Context) error {
			server.Kill()
			pause(ctx, s.between(least, most))
			return server.Start()
		}
	}
	s.run([]outage{
		{"server restarted", kill(0, time.Millisecond)},
		{"server away", kill(50*time.Millisecond, time.Second)},
		{replaced, func(context.Context) error { return replaceVictim(t, token, true) }},
	})
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	left := func() int {
		n := 0
		for _, l := range b.libraries {
			n += int(l.instance.left.Load())
		}
		return n
	}
	t.Logf("%d calls never returned", left())
	settles(t, before+8, left) // the server's output is read by a few
	direct := connectTo(t, token)
	mustOpen(t, direct, steady[0])
	if flags := direct.held[0].info.Flags; flags&flagUserPINCountLow != 0 {
		t.Errorf("the token's flags are 0x%x: a wrong PIN was given", flags)
	}
}
