//go:build cgo

package pkcs11

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/managedkeys/managedkeys/backend"
)

// others is other code of this program that uses the rig's module.
type others struct {
	*pkcs11.Ctx
	tb      testing.TB
	r       *rig
	session pkcs11.SessionHandle
}

func (r *rig) others(tb testing.TB) *others {
	tb.Helper()
	ctx := pkcs11.New(r.Path())
	if ctx == nil {
		tb.Fatal("the module can't be loaded")
	}
	return &others{Ctx: ctx, tb: tb, r: r}
}

func (o *others) must(err error) {
	o.tb.Helper()
	if err != nil {
		o.tb.Fatal(err)
	}
}

// initialize initialises the module, and finalises it when the test ends.
func (o *others) initialize() {
	o.tb.Helper()
	o.must(o.Initialize())
	o.tb.Cleanup(func() { o.Finalize() })
}

// open opens a session.
func (o *others) open() {
	o.tb.Helper()
	slot, err := strconv.ParseUint(o.r.token.Slot, 10, 64)
	o.must(err)
	o.session, err = o.OpenSession(uint(slot), pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	o.must(err)
}

// TestModuleOfOthers: a module that other code of the program has initialised is used all the same, never finalised, and
// each signature is verified.
func TestModuleOfOthers(t *testing.T) {
	r := newRig(t)
	o := r.others(t)
	o.initialize()
	b := r.client(t)
	key := mustGenerate(t, b, r.p256("key"))
	signsWell(t, key)
	c := connectionTo(t, b, r.p256("key"))
	if !c.instance.foreign.Load() {
		t.Error("the module is not known to be others' as well")
	}
	k := liveKey{conn: c}
	for n := range 3 {
		if !k.checks() {
			t.Errorf("signature %d is not verified", n+1)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if n := r.Count("C_Finalize"); n != 0 {
		t.Errorf("the others' module was finalised %d times", n)
	}
	if n := r.Sessions(); n != 0 {
		t.Errorf("%d sessions are left open", n)
	}
	o.open() // it still works
	signsWell(t, mustOpen(t, r.client(t), r.p256("key")))
}

// TestModuleOfOurs: the other way round, signatures are verified now and then only.
func TestModuleOfOurs(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	mustGenerate(t, b, r.p256("key"))
	k := liveKey{conn: connectionTo(t, b, r.p256("key"))}
	checks := 0
	for range 1000 {
		if k.checks() {
			checks++
		}
	}
	if checks == 0 || checks > 100 { // once a second
		t.Errorf("%d of 1000 signatures are verified", checks)
	}
}

// TestLoginOfOthers: while other code is logged in, the token would take any PIN.
func TestLoginOfOthers(t *testing.T) {
	r := newRig(t)
	o := r.others(t)
	o.initialize()
	o.open()
	o.must(o.Login(o.session, pkcs11.CKU_USER, r.token.PIN))
	b := r.client(t)
	for _, pin := range []string{"wrong-pin", r.token.PIN} {
		_, err := b.Open(t.Context(), withPIN(r.p256("key"), backend.Secret(pin)))
		wants(t, err, backend.ErrCredentials, "other code of this program is logged in", r.token.Label, "slot "+r.token.Slot)
	}
	r.logsIn(t, 1, 0) // the others'
	o.must(o.Logout(o.session))
	signsWell(t, mustGenerate(t, b, r.p256("key")))
	_, err := b.Open(t.Context(), withPIN(r.p256("key"), "wrong-pin"))
	wants(t, err, backend.ErrCredentials, "another PIN")
}

// TestModuleFinalizedByOthers: handles are found again, and from then on nothing is trusted.
func TestModuleFinalizedByOthers(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	key := mustGenerate(t, b, r.p256("key"))
	o := r.others(t)
	o.must(o.Finalize())
	signsWell(t, key)
	if !connectionTo(t, b, r.p256("key")).instance.foreign.Load() {
		t.Error("the module is not known to be others' as well")
	}
	r.logsIn(t, 2, 0)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	o.must(o.Finalize()) // it is not finalised here any more: others may use it
}

// TestPINRotated: a PIN that changes where it is kept is read again at the next login, and opens keys from then on.
func TestPINRotated(t *testing.T) {
	const newPIN = "a-new-pin-9"
	r := newRig(t)
	b := r.client(t)
	file := filepath.Join(t.TempDir(), "pin")
	write := func(pin string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(pin), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(r.token.PIN)
	p := withPIN(r.p256("key"), backend.Secret("file:"+file))
	key := mustGenerate(t, b, p)
	o := r.others(t)
	o.open()
	o.must(o.SetPIN(o.session, r.token.PIN, newPIN))
	signsWell(t, key) // the login stands

	if err := r.Logout(); err != nil {
		t.Fatal(err)
	}
	_, err := signSHA256(t, key)
	wants(t, err, backend.ErrCredentials, "C_Login", "CKR_PIN_INCORRECT")
	for range 3 {
		_, err := signSHA256(t, key)
		wants(t, err, backend.ErrCredentials, "not tried again")
	}
	r.logsIn(t, 2, 1)

	write(newPIN)
	comesToHold(t, func() bool { return signOnce(t.Context(), key) == nil })
	r.logsIn(t, 3, 1)
	signsWell(t, mustOpen(t, b, p))
	_, err = b.Open(t.Context(), r.p256("key")) // with the old PIN
	wants(t, err, backend.ErrCredentials)
	r.logsIn(t, 3, 1)
}
