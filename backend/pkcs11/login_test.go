package pkcs11

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

func withPIN(p Params, pin backend.Secret) Params { p.PIN = pin; return p }

// TestWrongPINOnce: the token sees a wrong PIN once, whoever asks and however the token is named.
func TestWrongPINOnce(t *testing.T) {
	m := newFake()
	m.add(ecSpec)
	shared := m.shared()
	a, b := fakeBackend(t, shared), fakeBackend(t, shared)
	wrong := withPIN(ecParams, "wrong-pin")
	bySlot := wrong
	bySlot.TokenLabel, bySlot.Slot = "", "01"

	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			_, err := a.Open(context.Background(), wrong)
			wants(t, err, backend.ErrCredentials)
		})
	}
	wg.Wait()
	looked := m.count("C_GetTokenInfo")
	for range 3 {
		_, err := a.Open(t.Context(), wrong)
		wants(t, err, backend.ErrCredentials, "CKR_PIN_INCORRECT", "not tried again")
		_, err = b.Open(t.Context(), wrong)
		wants(t, err, backend.ErrCredentials, "CKR_PIN_INCORRECT")
	}
	if n := m.count("C_GetTokenInfo"); n != looked {
		t.Errorf("the token was looked at %d times more although its PIN was known to be wrong", n-looked)
	}
	_, err := b.Open(t.Context(), bySlot)
	wants(t, err, backend.ErrCredentials, "CKR_PIN_INCORRECT")
	if n := m.count("C_Login"); n != 1 {
		t.Errorf("C_Login was called %d times, want 1", n)
	}

	signsWell(t, mustOpen(t, a, ecParams)) // another PIN is tried
	if n := m.count("C_Login"); n != 2 {
		t.Errorf("C_Login was called %d times, want 2", n)
	}
	_, err = a.Open(t.Context(), wrong)
	wants(t, err, backend.ErrCredentials)
	_, err = b.Open(t.Context(), withPIN(ecParams, "third-pin"))
	wants(t, err, backend.ErrCredentials, "another PIN")
	if n := m.count("C_Login"); n != 2 {
		t.Errorf("C_Login was called %d times, want 2: a login stands", n)
	}
}

func TestCloseForgivesPIN(t *testing.T) {
	m := newFake()
	m.add(ecSpec)
	shared := m.shared()
	for i := range 2 {
		b := fakeBackend(t, shared)
		_, err := b.Open(t.Context(), withPIN(ecParams, "wrong-pin"))
		wants(t, err, backend.ErrCredentials)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if n := m.count("C_Login"); n != i+1 {
			t.Errorf("C_Login was called %d times, want %d", n, i+1)
		}
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
		{ckrUserAlreadyLoggedIn, backend.ErrCredentials, 2},
		{0x030, backend.ErrUnavailable, 2}, // device error
		{0x0E0, backend.ErrUnavailable, 2}, // token not present
	} {
		t.Run(test.code.Error(), func(t *testing.T) {
			m := newFake()
			m.fails("C_Login", test.code)
			b := fakeBackend(t, m.shared())
			for range 2 {
				_, err := b.Open(t.Context(), ecParams)
				wants(t, err, test.want, "C_Login", test.code.Error(), `"one" in slot 1`)
			}
			if n := m.count("C_Login"); n != test.logins {
				t.Errorf("C_Login was called %d times, want %d", n, test.logins)
			}
			if n := m.isOpen(); n != 0 {
				t.Errorf("%d tokens are open", n)
			}
		})
	}
}

func TestPINReference(t *testing.T) {
	m := newFake()
	m.add(ecSpec)
	b := fakeBackend(t, m.shared())
	t.Setenv("PKCS11_TEST_PIN", "")
	_, err := b.Open(t.Context(), withPIN(ecParams, "env:PKCS11_TEST_PIN"))
	wants(t, err, backend.ErrCredentials, "pin", "PKCS11_TEST_PIN")
	if n := m.count("C_Login"); n != 0 {
		t.Errorf("C_Login was called %d times without a PIN", n)
	}
	t.Setenv("PKCS11_TEST_PIN", fakePIN)
	signsWell(t, mustOpen(t, b, withPIN(ecParams, "env:PKCS11_TEST_PIN")))
}

// TestNoLoginWithoutHope: what the token says of itself is believed before an attempt is spent.
func TestNoLoginWithoutHope(t *testing.T) {
	for _, test := range []struct {
		name string
		info func(*tokenInfo)
		want error
		says string
	}{
		{"locked", func(i *tokenInfo) { i.pinLocked = true }, backend.ErrCredentials, "locked"},
		{"PIN not set", func(i *tokenInfo) { i.pinSet = false }, backend.ErrCredentials, "never set"},
		{"one session", func(i *tokenInfo) { i.sessions = 1 }, backend.ErrUnsupported, "allows 1 sessions; at least 3"},
		{"two sessions", func(i *tokenInfo) { i.sessions = 2 }, backend.ErrUnsupported, "at least 3"},
		{"not initialised", func(i *tokenInfo) { i.initialized = false }, backend.ErrUnavailable, "not initialised"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newFake()
			test.info(&m.infos[0])
			p := ecParams
			p.TokenLabel, p.Slot = "", "1"
			_, err := fakeBackend(t, m.shared()).Open(t.Context(), p)
			wants(t, err, test.want, test.says)
			if n := m.count("C_Login"); n != 0 {
				t.Errorf("C_Login was called %d times", n)
			}
		})
	}
}

func TestSessionLimit(t *testing.T) {
	for _, test := range []struct{ library, token, want int }{
		{0, 0, defaultSessions}, {0, 16, 16}, {8, 16, 8}, {8, 3, 3}, {100, 0, 100}, {0, 1000, defaultSessions},
	} {
		m := newFake()
		m.add(ecSpec)
		m.infos[0].sessions = test.token
		b := newBackend([]library{{Library{Name: "lib", MaxSessions: test.library}, m.shared()}})
		signsWell(t, mustOpen(t, b, ecParams))
		if m.sessions != test.want {
			t.Errorf("library allows %d and token %d: %d sessions, want %d", test.library, test.token, m.sessions, test.want)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestChooseToken(t *testing.T) {
	m := newFake()
	m.infos = []tokenInfo{fakeInfo(1, "one"), fakeInfo(2, "two"), fakeInfo(7, "twin"), fakeInfo(8, "twin"), {slot: 9, label: "blank"}}
	b := fakeBackend(t, m.shared())
	for _, test := range []struct {
		name, slot, label string
		want              error
		says              []string
	}{
		{"label", "", "two", backend.ErrKeyNotFound, []string{`token "two" in slot 2`}},
		{"slot", "7", "", backend.ErrKeyNotFound, []string{`token "twin" in slot 7`}},
		{"absent label", "", "three", backend.ErrUnavailable, []string{`token_label "three"`, `"one" in slot 1`, `"two" in slot 2`, `library "Lib"`}},
		{"absent slot", "3", "", backend.ErrUnavailable, []string{"slot 3", `"one" in slot 1`}},
		{"two of a name", "", "twin", backend.ErrInvalidParams, []string{"2 tokens", "slot 7", "slot 8"}},
		{"label of a blank token", "", "blank", backend.ErrUnavailable, []string{`token_label "blank"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := ecParams
			p.Slot, p.TokenLabel = test.slot, test.label
			_, err := b.Open(t.Context(), p)
			wants(t, err, test.want, test.says...)
		})
	}
}

func TestUnknownLibrary(t *testing.T) {
	p := ecParams
	p.Library = "other"
	_, err := fakeBackend(t, newFake().shared()).Open(t.Context(), p)
	wants(t, err, backend.ErrInvalidParams, `library: "other"`, `"Lib"`)
}

// TestSharedLogin: backends share one login, and it ends with the last of them.
func TestSharedLogin(t *testing.T) {
	m := newFake()
	m.add(ecSpec)
	shared := m.shared()
	a, b := fakeBackend(t, shared), fakeBackend(t, shared)
	var wg sync.WaitGroup
	for range 16 {
		for _, x := range []*Backend{a, b} {
			wg.Go(func() {
				if _, err := x.Open(context.Background(), ecParams); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	ofA, ofB := mustOpen(t, a, ecParams), mustOpen(t, b, ecParams)
	bySlot := ecParams
	bySlot.TokenLabel, bySlot.Slot = "", "1"
	mustOpen(t, b, bySlot) // counts once all the same
	if n := m.count("C_Login"); n != 1 {
		t.Errorf("C_Login was called %d times, want 1", n)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if n := m.count("C_Logout"); n != 0 {
		t.Fatal("the login ended while it was in use")
	}
	signsWell(t, ofB)
	_, err := ofA.(backend.Signer).Sign(nil, make([]byte, 32), hashSHA256)
	wants(t, err, backend.ErrClosed)
	_, err = a.Open(t.Context(), ecParams)
	wants(t, err, backend.ErrClosed)
	wants(t, a.Ping(t.Context()), backend.ErrClosed)
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if n := m.count("C_Logout"); n != 1 {
		t.Errorf("C_Logout was called %d times, want 1", n)
	}
	signsWell(t, mustOpen(t, fakeBackend(t, shared), ecParams)) // and again
}

// TestHangingLogin: callers leave when their context ends, and what hangs does no harm when it comes back.
func TestHangingLogin(t *testing.T) {
	m := newFake()
	m.add(ecSpec)
	release, entered := make(chan struct{}), make(chan struct{}, 8)
	m.on("C_Login", func() error { entered <- struct{}{}; <-release; return nil })
	b := fakeBackend(t, m.shared())
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for range 4 {
		go func() { _, err := b.Open(ctx, ecParams); errs <- err }()
	}
	<-entered
	cancel()
	for range 4 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want context.Canceled", err)
		}
	}
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(time.Millisecond))
	defer cancel()
	_, err := b.Open(expired, ecParams)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want context.DeadlineExceeded", err)
	}
	wants(t, err, backend.ErrUnavailable)
	close(release)
	signsWell(t, mustOpen(t, b, ecParams))
	if n := m.count("C_Login"); n != 1 {
		t.Errorf("C_Login was called %d times, want 1", n)
	}
}

// TestNoLoginForNobody: who left while the module was busy causes no login.
func TestNoLoginForNobody(t *testing.T) {
	m := newFake()
	m.add(ecSpec)
	b := fakeBackend(t, m.shared())
	ctx, cancel := context.WithCancel(t.Context())
	released := make(chan struct{})
	m.on("C_GetTokenInfo", func() error { cancel(); <-released; return nil })
	if _, err := b.Open(ctx, ecParams); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	m.on("C_GetTokenInfo", nil)
	close(released)
	shared := b.libraries["lib"].module
	shared.busy <- struct{}{} // when the abandoned call is done
	shared.busy.release()
	if n := m.count("C_Login"); n != 0 {
		t.Errorf("C_Login was called %d times for nobody", n)
	}
	signsWell(t, mustOpen(t, b, ecParams))
}

func TestOpenPanics(t *testing.T) {
	for _, function := range []string{"C_GetTokenInfo", "C_Login", "C_FindObjects", "C_GetAttributeValue", "key", "C_Sign"} {
		t.Run(function, func(t *testing.T) {
			m := newFake()
			m.add(ecSpec)
			m.on(function, func() error { panic("broken module") })
			b := fakeBackend(t, m.shared())
			_, err := b.Open(t.Context(), ecParams)
			wants(t, err, backend.ErrUnavailable, "panic", "broken module")
			m.on(function, nil)
			signsWell(t, mustOpen(t, b, ecParams)) // no lock is held
		})
	}
}

func TestOpenFailures(t *testing.T) {
	for _, function := range []string{"C_GetTokenInfo", "C_GetMechanismList", "C_FindObjects", "C_GetAttributeValue", "key", "C_Sign"} {
		t.Run(function, func(t *testing.T) {
			m := newFake()
			m.add(ecSpec)
			m.fails(function, 0x030)
			b := fakeBackend(t, m.shared())
			_, err := b.Open(t.Context(), ecParams)
			wants(t, err, backend.ErrUnavailable, function, "CKR_DEVICE_ERROR")
			m.on(function, nil)
			signsWell(t, mustOpen(t, b, ecParams))
			if n := m.isOpen(); n != 1 {
				t.Errorf("%d tokens are open, want 1", n)
			}
		})
	}
}

func TestOpenRefusesBeforeAnyCall(t *testing.T) {
	m := newFake()
	b := fakeBackend(t, m.shared())
	for name, test := range map[string]struct {
		p    backend.Params
		want error
	}{
		"nil":                   {nil, backend.ErrInvalidParams},
		"pointer":               {&Params{}, backend.ErrInvalidParams},
		"empty":                 {Params{}, backend.ErrInvalidParams},
		"unsupported mechanism": {func() Params { p := ecParams; p.Mechanism = EdDSA; return p }(), backend.ErrUnsupported},
		"vendor's mechanism":    {func() Params { p := ecParams; p.Mechanism = 1 << 40; return p }(), backend.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.Open(t.Context(), test.p)
			wants(t, err, test.want)
			_, err = b.Generate(t.Context(), test.p, nil)
			wants(t, err, test.want)
			_, err = b.Import(t.Context(), test.p, nil, nil)
			wants(t, err, test.want)
		})
	}
	if len(m.calls) != 0 {
		t.Errorf("calls: %v", m.calls)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Open(cancelled, ecParams); !errors.Is(err, context.Canceled) || len(m.calls) != 0 {
		t.Errorf("error = %v and calls %v, want context.Canceled and none", err, m.calls)
	}
}
