package pkcs11

import (
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// initializations returns how often the module was initialised and finalised since the counts were reset.
func (r *rig) initializations() [2]int {
	return [2]int{r.Count("C_Initialize"), r.Count("C_Finalize")}
}

// TestTokenMissedAtStart: a token that the module did not see when it was initialised, and sees when that is done again, is
// found by the same Open.
func TestTokenMissedAtStart(t *testing.T) {
	r := newRig(t)
	maker := r.client(t)
	mustGenerate(t, maker, r.p256("key"))
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	b := r.client(t)
	r.ResetCounts()
	r.Set(faultp11.Rule{Function: "C_Finalize", Hang: true, Times: 1})
	type opened struct {
		key backend.Key
		err error
	}
	done := make(chan opened, 1)
	go func() {
		key, err := b.Open(t.Context(), r.p256("key"))
		done <- opened{key, err}
	}()
	comesToHold(t, func() bool { return r.Hanging() == 1 })
	r.Insert()
	r.Release()
	o := <-done
	if o.err != nil {
		t.Fatal(o.err)
	}
	signsWell(t, o.key)
	if got, want := r.initializations(), [2]int{2, 1}; got != want {
		t.Errorf("initialised and finalised %v times, want %v", got, want)
	}
}

// TestAbsentTokenCostsLittle: asking again and again for a token that is not there initialises the module once for each
// time, and a few times more each second.
func TestAbsentTokenCostsLittle(t *testing.T) {
	r := newRig(t)
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	b := r.client(t)
	i := b.libraries["soft"].instance
	opens := func(least, most int) {
		t.Helper()
		r.ResetCounts()
		_, err := b.Open(t.Context(), r.p256("key"))
		wants(t, err, backend.ErrUnavailable, "names no token that is present", r.token.Label)
		if n := r.initializations(); n[0] != n[1] || n[0] < least || n[0] > most {
			t.Errorf("initialised and finalised %v times, want %d to %d times", n, least, most)
		}
	}
	began := time.Now()
	opens(2, 1+maxAfresh)
	if i.rest.Before(began.Add(restPause)) {
		t.Errorf("it may be initialised for nothing again after %v, want at least %v", i.rest.Sub(began), restPause)
	}
	i.rest = time.Now().Add(time.Hour) // however slow this machine is
	opens(1, 1)
	opens(1, 1)
	i.rest = time.Now()
	opens(2, 1+maxAfresh)
	i.rest = time.Now()
	r.Set(faultp11.Rule{Function: "C_Initialize", Delay: afreshTime})
	began = time.Now()
	opens(2, 2) // of a module that takes long
	if least := restFactor * afreshTime; i.rest.Before(began.Add(least)) {
		t.Errorf("it may be initialised for nothing again after %v, want at least %v", i.rest.Sub(began), least)
	}
	r.Set()
	r.Insert()
	i.rest = time.Now().Add(time.Hour)
	mustGenerate(t, b, r.p256("key"))
}

// TestAbsentTokenDisturbsNobody: while a token of the module is in use, one that is not there is just not there. When all
// are away, asking for another may initialise the module, and theirs recover.
func TestAbsentTokenDisturbsNobody(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	key := mustGenerate(t, b, r.p256("key"))
	absent := r.p256("key")
	absent.TokenLabel = "absent"
	b.libraries["soft"].instance.rest = time.Time{}
	r.ResetCounts()
	logins := r.UserLogins()
	_, err := b.Open(t.Context(), absent)
	wants(t, err, backend.ErrUnavailable, `token_label "absent"`, r.token.Label)
	signsWell(t, key)
	if got := r.initializations(); got != [2]int{} {
		t.Errorf("initialised and finalised %v times under a key that is in use", got)
	}
	r.logsIn(t, logins, 0)

	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	wants(t, signOnce(t.Context(), key), backend.ErrUnavailable)
	r.ResetCounts()
	_, err = b.Open(t.Context(), absent)
	wants(t, err, backend.ErrUnavailable, `token_label "absent"`)
	if n := r.initializations(); n[0] < 1 || n[0] != n[1] {
		t.Errorf("initialised and finalised %v times under keys that are away, want it to be tried", n)
	}
	r.Insert()
	comesToHold(t, func() bool { return signOnce(t.Context(), key) == nil })
	if n := r.WrongPINs(); n != 0 {
		t.Errorf("%d wrong PINs", n)
	}
}

// TestAbsentTokenWhenInitialisingFails: the error says both.
func TestAbsentTokenWhenInitialisingFails(t *testing.T) {
	r := newRig(t)
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	b := r.client(t)
	r.Set(faultp11.Rule{Function: "C_Initialize", Code: 0x030, Skip: 1, Times: 1})
	_, err := b.Open(t.Context(), r.p256("key"))
	wants(t, err, backend.ErrUnavailable, "names no token", "C_Initialize", "CKR_DEVICE_ERROR")
	r.Set()
	r.Insert()
	mustGenerate(t, b, r.p256("key"))
}

// TestFirstLoginIsTriedAgain: an error that says nothing is not the last word, unless the token has counted a wrong PIN.
func TestFirstLoginIsTriedAgain(t *testing.T) {
	for _, test := range []struct {
		name  string
		when  faultp11.When
		code  ckr
		times int
		flags uint64
		least int // calls of C_Login
		most  int
		opens bool
	}{
		{"once", faultp11.Before, ckrGeneralError, 1, 0, 2, 2, true},
		{"once, its reply lost", faultp11.After, ckrGeneralError, 1, 0, 2, 2, true},
		{"for good", faultp11.Before, ckrGeneralError, 0, 0, 2, 1 + maxAfresh, false},
		{"for good, their replies lost", faultp11.After, ckrGeneralError, 0, 0, 2, 1 + maxAfresh, false},
		{"a wrong PIN was given", faultp11.Before, ckrGeneralError, 1, flagUserPINCountLow, 1, 1, false},
		{"one try is left", faultp11.Before, ckrGeneralError, 1, flagUserPINFinalTry, 1, 1, false},
		{"another error", faultp11.Before, 0x030, 1, 0, 1, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			maker := r.client(t)
			mustGenerate(t, maker, r.p256("key"))
			if err := maker.Close(); err != nil {
				t.Fatal(err)
			}
			b := r.client(t)
			r.TokenFlags(test.flags, 0)
			r.ResetCounts()
			r.Set(faultp11.Rule{Function: "C_Login", When: test.when, Code: uint64(test.code), Times: test.times})
			key, err := b.Open(t.Context(), r.p256("key"))
			if test.opens && err != nil {
				t.Fatal(err)
			} else if test.opens {
				signsWell(t, key)
			} else {
				wants(t, err, backend.ErrUnavailable, "C_Login", test.code.Error())
			}
			if n := r.Count("C_Login"); n < test.least || n > test.most {
				t.Errorf("C_Login was called %d times, want %d to %d", n, test.least, test.most)
			}
			if n := r.Count("C_Initialize"); n > test.most+1 {
				t.Errorf("the module was initialised %d times", n)
			}
			if n := r.WrongPINs(); n != 0 {
				t.Errorf("%d wrong PINs", n)
			}
			r.Set()
			r.TokenFlags(0, 0)
			mustOpen(t, b, r.p256("key"))
		})
	}
}

// TestFirstLoginBesideOthers: where the module can't be initialised again, because another of its tokens is in use, the
// login is tried again as it is.
func TestFirstLoginBesideOthers(t *testing.T) {
	r := newRig(t)
	other := softhsm.Require(t)
	b := r.client(t)
	key := mustGenerate(t, b, r.p256("key"))
	b.libraries["soft"].instance.rest = time.Time{}
	r.ResetCounts()
	r.Set(faultp11.Rule{Function: "C_Login", Code: uint64(ckrGeneralError), Times: 1})
	signsWell(t, mustGenerate(t, b, withCurve(on(other, "key", ECDSA), "P256")))
	signsWell(t, key)
	if n := r.Count("C_Login"); n != 2 {
		t.Errorf("C_Login was called %d times, want 2", n)
	}
	if got := r.initializations(); got != [2]int{} {
		t.Errorf("initialised and finalised %v times under a key that is in use", got)
	}
}
