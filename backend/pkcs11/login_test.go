package pkcs11

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// TestWrongPINOnce: the token sees a wrong PIN once, whoever asks and however the token is named.
func TestWrongPINOnce(t *testing.T) {
	r := newRig(t)
	a, b := r.client(t), r.client(t)
	wrong := withPIN(r.p256("key"), "wrong-pin")
	bySlot := wrong
	bySlot.TokenLabel, bySlot.Slot = "", "00"+r.token.Slot

	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			_, err := a.Open(context.Background(), wrong)
			wants(t, err, backend.ErrCredentials)
		})
	}
	wg.Wait()
	r.ResetCounts()
	for range 3 {
		_, err := a.Open(t.Context(), wrong)
		wants(t, err, backend.ErrCredentials, "CKR_PIN_INCORRECT", "not tried again")
		_, err = b.Open(t.Context(), wrong)
		wants(t, err, backend.ErrCredentials, "CKR_PIN_INCORRECT")
	}
	if counts := r.Counts(); len(counts) > 0 {
		t.Errorf("the module was called although the PIN was known to be wrong: %v", counts)
	}
	_, err := b.Open(t.Context(), bySlot)
	wants(t, err, backend.ErrCredentials, "C_Login", "CKR_PIN_INCORRECT")
	r.logsIn(t, 1, 1)

	signsWell(t, mustGenerate(t, a, r.p256("key"))) // another PIN is tried
	r.logsIn(t, 2, 1)
	_, err = a.Open(t.Context(), wrong)
	wants(t, err, backend.ErrCredentials)
	_, err = b.Open(t.Context(), withPIN(wrong, "wrong-pin-too"))
	wants(t, err, backend.ErrCredentials, "another PIN")
	r.logsIn(t, 2, 1) // a login stands, with which the token would take any PIN
}

func TestCloseForgivesPIN(t *testing.T) {
	r := newRig(t)
	for i := range 2 {
		b := r.client(t)
		_, err := b.Open(t.Context(), withPIN(r.p256("key"), "wrong-pin"))
		wants(t, err, backend.ErrCredentials)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		r.logsIn(t, i+1, i+1)
	}
}

// TestRefusalsAreRemembered: what says that the PIN is at fault is remembered, and what doesn't, isn't.
func TestRefusalsAreRemembered(t *testing.T) {
	for _, test := range []struct {
		code   ckr
		want   error
		logins int
	}{
		{ckrPINIncorrect, backend.ErrCredentials, 1},
		{ckrPINLocked, backend.ErrCredentials, 1},
		{ckrPINExpired, backend.ErrCredentials, 1},
		{ckrPINLenRange, backend.ErrCredentials, 1},
		{ckrUserPINNotInitialized, backend.ErrCredentials, 1},
		{ckrUserAlreadyLoggedIn, backend.ErrCredentials, 2},
		{0x030, backend.ErrUnavailable, 2}, // device error
		{ckrTokenNotPresent, backend.ErrUnavailable, 2},
	} {
		t.Run(test.code.Error(), func(t *testing.T) {
			r := newRig(t)
			b := r.client(t)
			r.failing("C_Login", test.code)
			for range 2 {
				_, err := b.Open(t.Context(), r.p256("key"))
				wants(t, err, test.want, "C_Login", test.code.Error(), r.token.Label, "slot "+r.token.Slot)
			}
			if n := r.Count("C_Login"); n != test.logins {
				t.Errorf("C_Login was called %d times, want %d", n, test.logins)
			}
			if n := r.Sessions(); n != 0 {
				t.Errorf("%d sessions are open", n)
			}
		})
	}
}

// TestPINReferences: a reference is read when it is needed, and one that gives nothing costs no login.
func TestPINReferences(t *testing.T) {
	const env = "PKCS11_TEST_PIN"
	r := newRig(t)
	b := r.client(t)
	file := filepath.Join(t.TempDir(), "pin")
	byEnv, byFile := withPIN(r.p256("key"), "env:"+env), withPIN(r.p256("key"), backend.Secret("file:"+file))

	t.Setenv(env, "")
	_, err := b.Open(t.Context(), byEnv)
	wants(t, err, backend.ErrCredentials, "pin", env)
	_, err = b.Open(t.Context(), byFile)
	wants(t, err, backend.ErrCredentials, "pin", file)
	_, err = b.Open(t.Context(), withPIN(byEnv, ""))
	wants(t, err, backend.ErrInvalidParams, "pin: is missing")
	r.logsIn(t, 0, 0)

	t.Setenv(env, r.token.PIN)
	if err := os.WriteFile(file, []byte(r.token.PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	signsWell(t, mustGenerate(t, b, byEnv))
	signsWell(t, mustOpen(t, b, byFile))
	signsWell(t, mustOpen(t, b, r.p256("key")))
	r.logsIn(t, 1, 0)
}

// TestNoLoginWithoutHope: what the token says of itself is believed before an attempt is spent.
func TestNoLoginWithoutHope(t *testing.T) {
	for _, test := range []struct {
		name       string
		set, clear uint64
		want       error
		says       string
	}{
		{"locked", flagUserPINLocked, 0, backend.ErrCredentials, "CKF_USER_PIN_LOCKED"},
		{"PIN not set", 0, flagUserPINSet, backend.ErrCredentials, "never set"},
		{"not initialised", 0, flagInitialized, backend.ErrUnavailable, "not initialised"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			b := r.client(t)
			p := r.p256("key")
			p.TokenLabel, p.Slot = "", r.token.Slot
			r.TokenFlags(test.set, test.clear)
			_, err := b.Open(t.Context(), p)
			wants(t, err, test.want, test.says, "slot "+r.token.Slot)
			r.logsIn(t, 0, 0)

			r.TokenFlags(0, 0) // the officer has set it right
			signsWell(t, mustGenerate(t, b, p))
		})
	}
}

// TestSharedLogin: backends share one login, and it ends with the last of them.
func TestSharedLogin(t *testing.T) {
	r := newRig(t)
	a, b := r.client(t), r.client(t)
	ofA := mustGenerate(t, a, r.p256("key"))
	var wg sync.WaitGroup
	for range 8 {
		for _, x := range []*Backend{a, b} {
			wg.Go(func() {
				if _, err := x.Open(context.Background(), r.p256("key")); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	ofB := mustOpen(t, b, r.p256("key"))
	bySlot := r.p256("key")
	bySlot.TokenLabel, bySlot.Slot = "", r.token.Slot
	mustOpen(t, b, bySlot) // counts once all the same
	r.logsIn(t, 1, 0)

	for range 2 {
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if r.Sessions() == 0 {
		t.Fatal("the login ended while it was in use")
	}
	signsWell(t, ofB)
	_, err := signSHA256(t, ofA)
	wants(t, err, backend.ErrClosed)
	_, err = a.Open(t.Context(), r.p256("key"))
	wants(t, err, backend.ErrClosed)
	wants(t, a.Ping(t.Context()), backend.ErrClosed)
	if n := r.Count("C_Finalize"); n != 0 {
		t.Fatal("the module was finalised while it was in use")
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if r.Sessions() != 0 || r.Count("C_Finalize") != 1 || r.Count("C_Initialize") != 1 || r.OverlappingFinalizes() != 0 {
		t.Errorf("after Close %d sessions are open; calls: %v", r.Sessions(), r.Counts())
	}
	signsWell(t, mustOpen(t, r.client(t), r.p256("key"))) // and again
	r.logsIn(t, 2, 0)
	if n := r.Count("C_Initialize"); n != 2 {
		t.Errorf("the module was initialised %d times, want 2", n)
	}
}

// TestOneModuleByManyPaths: links and other paths lead to the same module, and the same login.
func TestOneModuleByManyPaths(t *testing.T) {
	r := newRig(t)
	dir := filepath.Dir(r.Path())
	link, hard := filepath.Join(dir, "link.so"), filepath.Join(dir, "hard.so")
	if err := os.Symlink(filepath.Base(r.Path()), link); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(r.Path(), hard); err != nil {
		t.Fatal(err)
	}
	signsWell(t, mustGenerate(t, r.client(t), r.p256("key")))
	for _, path := range []string{link, hard, filepath.Join(dir, "..", filepath.Base(dir), filepath.Base(r.Path()))} {
		b := connectWith(t, Library{Path: path})
		signsWell(t, mustOpen(t, b, r.p256("key")))
		_, err := b.Open(t.Context(), withPIN(r.p256("key"), "wrong-pin"))
		wants(t, err, backend.ErrCredentials, "another PIN")
	}
	r.logsIn(t, 1, 0)
	if n := r.Count("C_Initialize"); n != 1 {
		t.Errorf("the module was initialised %d times, want once", n)
	}
}

// TestLostReplyOfLogin: a login whose reply was lost is not repeated blindly, and the next one finds it.
func TestLostReplyOfLogin(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	r.Set(faultp11.Rule{Function: "C_Login", When: faultp11.After, Code: 0x030, Times: 1})
	_, err := b.Open(t.Context(), r.p256("key"))
	wants(t, err, backend.ErrUnavailable, "C_Login", "CKR_DEVICE_ERROR")
	if n := r.Sessions(); n != 0 {
		t.Errorf("%d sessions are open, and the login with them", n)
	}
	signsWell(t, mustGenerate(t, b, r.p256("key")))
	r.logsIn(t, 2, 0)
}
