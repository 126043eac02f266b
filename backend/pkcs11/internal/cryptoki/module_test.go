//go:build cgo

package cryptoki

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/p11kit"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// TestLayout has the compiler compare the declarations with the standard's.
func TestLayout(t *testing.T) { compile(t, "layout.c") }

func TestLoadRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		path string
		want error
		says string
	}{
		"absent file":                  {filepath.Join(t.TempDir(), "absent.so"), ErrRefused, "absent.so"},
		"no module":                    {faultp11.NotAModule(t), ErrNoModule, ""},
		"refuses":                      {faultp11.Refusing(t), ErrNoList, "CKR 0x5"},
		"no list":                      {faultp11.NoList(t), ErrNoList, "CKR 0x0"},
		"crashes in C_GetFunctionList": {compile(t, "liar.c", "-DCRASHES"), ErrCrashed, "signal 11"},
	} {
		for range 2 {
			m, err := Load(test.path)
			if m != nil || !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: module %v, error %v; want %v that says %q", name, m, err, test.want, test.says)
			}
		}
	}
	goesOn(t)
}

// goesOn checks that this program's own faults are still its own.
func goesOn(tb testing.TB) {
	tb.Helper()
	defer func() {
		if r := recover(); r == nil {
			tb.Error("a nil pointer is not found out")
		}
	}()
	var nothing *rig
	_ = nothing.slot
}

// TestCrashGuard: a module that crashes while it starts is an error, and is not called again.
func TestCrashGuard(t *testing.T) {
	for name, path := range map[string]string{"signal 11": faultp11.Crashing(t), "signal 6": faultp11.Aborting(t)} {
		m, err := Load(path)
		must(t, err)
		if _, err := m.Initialize(); !errors.Is(err, ErrCrashed) || !strings.Contains(err.Error(), name) {
			t.Errorf("error = %v, want that it crashed with %s", err, name)
		}
		for range 2 {
			if _, err := m.Initialize(); !errors.Is(err, ErrDangerous) {
				t.Errorf("error = %v, want ErrDangerous", err)
			}
		}
		goesOn(t)
	}
	newRig(t) // another module starts
}

// TestInitialize: that others have done it is no error.
func TestInitialize(t *testing.T) {
	r := newRig(t)
	again, err := Load(r.Path())
	must(t, err)
	if already, err := again.Initialize(); err != nil || !already {
		t.Errorf("already %t, error %v", already, err)
	}
	must(t, r.m.Finalize())
	_, err = r.m.Tokens()
	fails(t, err, "C_GetSlotList", 0x190)
	r.Set(faultp11.Rule{Function: "C_Initialize", Code: 5, Times: 1})
	_, err = r.m.Initialize()
	fails(t, err, "C_Initialize", 5)
	if already, err := r.m.Initialize(); err != nil || already {
		t.Errorf("already %t, error %v", already, err)
	}
	fails(t, r.m.CloseSession(r.session), "C_CloseSession", 0xB3)
}

// TestAnother: most modules have one instance, p11-kit's client as many as one likes.
func TestAnother(t *testing.T) {
	r := newRig(t)
	if other, err := r.m.Another(); err == nil {
		t.Errorf("SoftHSM2 gives another instance: %v", other)
	}
	must(t, r.m.Finalize())

	server := p11kit.Require(t, r.token)
	m, err := Load(server.Module())
	must(t, err)
	other, err := m.Another()
	must(t, err)
	for _, m := range []*Module{m, other} {
		if already, err := m.Initialize(); err != nil || already {
			t.Fatalf("already %t, error %v", already, err)
		}
	}
	must(t, m.Finalize())
	if tokens, err := other.Tokens(); err != nil || len(tokens) != 1 || tokens[0].Label != r.token.Label {
		t.Errorf("the other instance sees %v; error %v", tokens, err)
	}
	must(t, other.Finalize())
}

func TestTokens(t *testing.T) {
	r := newRig(t)
	second, err := softhsm.New(r.token.Dir, "with blanks  ")
	must(t, err)
	must(t, r.m.Finalize())
	_, err = r.m.Initialize()
	must(t, err)
	r.LimitSessions(5, true)
	tokens, err := r.m.Tokens()
	must(t, err)
	labels := make(map[string]TokenInfo)
	for _, token := range tokens {
		labels[token.Label] = token
	}
	one := labels[r.token.Label]
	if one.Slot != r.slot || len(one.Serial) != 16 || one.Flags&0x400 == 0 || one.MaxSessions != 5 {
		t.Errorf("%+v", one)
	}
	if _, ok := labels[strings.TrimRight(second.Label, " ")]; !ok {
		t.Errorf("labels: %v", labels)
	}
	// One token in trouble doesn't hide the others, and the error of all is one.
	r.Set(faultp11.Rule{Function: "C_GetTokenInfo", Code: 0x30, Times: 1})
	if rest, err := r.m.Tokens(); err != nil || len(rest) != len(tokens)-1 {
		t.Errorf("%d of %d tokens; error %v", len(rest), len(tokens), err)
	}
	r.Set(faultp11.Rule{Function: "C_GetTokenInfo", Code: 0x30})
	_, err = r.m.Tokens()
	fails(t, err, "C_GetTokenInfo", 0x30)
}

func TestLogins(t *testing.T) {
	r := newRig(t)
	loggedIn := func(want bool) {
		t.Helper()
		if in, err := r.m.LoggedIn(r.session); err != nil || in != want {
			t.Errorf("logged in: %t; error %v", in, err)
		}
	}
	loggedIn(true)
	must(t, r.m.Logout(r.session))
	loggedIn(false)
	fails(t, r.m.Login(r.session, "wrong-pin"), "C_Login", 0xA0)
	loggedIn(false)
	_, err := r.m.LoggedIn(1 << 30)
	fails(t, err, "C_GetSessionInfo", 0xB3)
	_, err = r.m.OpenSession(1<<30, false)
	fails(t, err, "C_OpenSession", 3)
	if n := r.UserLogins(); n != 2 {
		t.Errorf("%d logins, want one C_Login for each", n)
	}
}

func TestMechanisms(t *testing.T) {
	r := newRig(t)
	r.AddMechanism(0x99999999, 0x800)
	r.RemoveMechanism(ckmECDSA)
	list, err := r.m.Mechanisms(r.slot)
	must(t, err)
	flags := make(map[uint]uint)
	for _, m := range list {
		flags[m.Type] = m.Flags
	}
	if flags[0x99999999] != 0x800 || flags[ckmECDSA] != 0 || flags[ckmRSA]&0x800 == 0 || len(flags) < 20 {
		t.Errorf("mechanisms: %x", flags)
	}
	_, err = r.m.Mechanisms(1 << 30)
	fails(t, err, "C_GetMechanismList", 3)
}

func TestRandom(t *testing.T) {
	r := newRig(t)
	a, b := make([]byte, 32), make([]byte, 32)
	must(t, r.m.Random(r.session, a))
	must(t, r.m.Random(r.session, b))
	if bytes.Equal(a, b) || bytes.Equal(a, make([]byte, 32)) {
		t.Errorf("%x and %x", a, b)
	}
	r.Set(faultp11.Rule{Function: "C_GenerateRandom", Code: 0x121})
	fails(t, r.m.Random(r.session, a), "C_GenerateRandom", 0x121)
}
