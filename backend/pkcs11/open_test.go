package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// TestHangingLogin: callers leave when their context ends, and what hangs does no harm when it comes back.
func TestHangingLogin(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	r.Set(faultp11.Rule{Function: "C_Login", Hang: true, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for range 4 {
		go func() { _, err := b.Open(ctx, r.p256("key")); errs <- err }()
	}
	comesToHold(t, func() bool { return r.Hanging() == 1 })
	cancel()
	for range 4 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want context.Canceled", err)
		}
	}
	expired, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := b.Open(expired, r.p256("key"))
	wants(t, err, backend.ErrUnavailable)
	wants(t, err, context.DeadlineExceeded)
	r.Release()
	signsWell(t, mustGenerate(t, b, r.p256("key")))
	r.logsIn(t, 1, 0)
}

// TestNoLoginForNobody: who left while the module was busy causes no login.
func TestNoLoginForNobody(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	r.Set(faultp11.Rule{Function: "C_GetTokenInfo", Hang: true, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := b.Open(ctx, r.p256("key")); done <- err }()
	comesToHold(t, func() bool { return r.Hanging() == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	r.Release()
	tokensOf(t, b) // when the abandoned call is done
	r.logsIn(t, 0, 0)
	signsWell(t, mustGenerate(t, b, r.p256("key")))
	r.logsIn(t, 1, 0)
}

// TestOpenFailures: what fails while a key is opened is named, and leaves nothing that is in the way later.
func TestOpenFailures(t *testing.T) {
	for _, function := range []string{"C_GetSlotList", "C_GetTokenInfo", "C_GetMechanismList", "C_OpenSession", "C_GetSessionInfo", "C_FindObjectsInit",
		"C_FindObjects", "C_GetAttributeValue", "C_SignInit", "C_Sign"} {
		t.Run(function, func(t *testing.T) {
			r := newRig(t)
			maker := r.client(t)
			mustGenerate(t, maker, r.p256("key"))
			if err := maker.Close(); err != nil {
				t.Fatal(err)
			}
			b := r.client(t)
			for _, code := range []ckr{0x030, 0x80000042} {
				r.failing(function, code)
				_, err := b.Open(t.Context(), r.p256("key"))
				wants(t, err, backend.ErrUnavailable, function, code.Error())
			}
			r.Set()
			comesToHold(t, func() bool { _, err := b.Open(t.Context(), r.p256("key")); return err == nil })
			signsWell(t, mustOpen(t, b, r.p256("key")))
			if n := r.WrongPINs(); n != 0 {
				t.Errorf("%d wrong PINs", n)
			}
		})
	}
}

// TestOpenHalfMadeKey: a public key that comes to stand beside its private key a moment later is found by the same Open.
func TestOpenHalfMadeKey(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	mustGenerate(t, b, r.p256("key"))
	c := connectionTo(t, b, r.p256("key"))
	for searches := 1; searches <= maxAlone; searches++ {
		r.SetAttribute("key", uint64(classPublic), attrClass, ulongs(0))
		c.renumber() // what was found before is forgotten
		r.ResetCounts()
		r.Set(faultp11.Rule{Function: "C_FindObjectsInit", Skip: searches, Hang: true, Times: 1})
		done := make(chan error, 1)
		go func() {
			_, err := b.Open(t.Context(), r.p256("key"))
			done <- err
		}()
		comesToHold(t, func() bool { return r.Hanging() == 1 })
		r.RestoreAttributes()
		r.Release()
		if err := <-done; err != nil {
			t.Errorf("found beside its public key in search %d: %v", searches+1, err)
		}
	}
	r.SetAttribute("key", uint64(classPublic), attrClass, ulongs(0))
	c.renumber()
	r.ResetCounts()
	_, err := b.Open(t.Context(), r.p256("key"))
	wants(t, err, backend.ErrUnsupported, "neither a public key nor a certificate")
	if n := r.Count("C_FindObjectsInit"); n != 1+maxAlone {
		t.Errorf("%d searches for what is not there, want %d", n, 1+maxAlone)
	}
}

// TestOpenRefusesBeforeAnyCall: parameters are judged before the module is.
func TestOpenRefusesBeforeAnyCall(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	for name, test := range map[string]struct {
		p    backend.Params
		want error
	}{
		"nil":                   {nil, backend.ErrInvalidParams},
		"pointer":               {&Params{}, backend.ErrInvalidParams},
		"empty":                 {Params{}, backend.ErrInvalidParams},
		"no key":                {r.with("", ECDSA), backend.ErrInvalidParams},
		"control character":     {r.with("a\x00", ECDSA), backend.ErrInvalidParams},
		"unsupported mechanism": {r.with("key", 0x1042), backend.ErrUnsupported},
		"vendor's mechanism":    {r.with("key", 1<<40), backend.ErrUnsupported},
	} {
		_, err := b.Open(t.Context(), test.p)
		wants(t, err, test.want)
		if _, err = b.Generate(t.Context(), test.p, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: Generate: %v", name, err)
		}
		if _, err = b.Import(t.Context(), test.p, nil, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: Import: %v", name, err)
		}
		if err = b.Delete(t.Context(), test.p); !errors.Is(err, test.want) {
			t.Errorf("%s: Delete: %v", name, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Open(cancelled, r.p256("key")); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	if counts := r.Counts(); len(counts) > 0 {
		t.Errorf("the module was called: %v", counts)
	}
}

// TestList: keys of all kinds come in order, with parameters that open them, whatever else is on the token.
func TestList(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	makeObject(t, b, withBits(r.with("b", RSAPKCS), 2048), "\x02")
	makeObject(t, b, r.p256("b"), "\x01")
	makeObject(t, b, withBits(r.with("", AESGCM), 256), "\x07")
	makeObject(t, b, r.with("ed", EdDSA), "")
	makeObject(t, b, withBits(r.with("mac", SHA256HMAC), 256), "\x03")
	makeObject(t, b, r.p256(""), "")        // without a name
	makeObject(t, b, r.p256("dsa"), "\x09") // of no use
	r.SetAttribute("dsa", uint64(classPrivate), attrKeyType, ulongs(1))
	scope := Params{Library: "SOFT", Slot: r.token.Slot, PIN: backend.Secret(r.token.PIN)}
	var got []string
	for info, err := range b.List(t.Context(), scope) {
		if err != nil {
			t.Fatal(err)
		}
		p := info.Params.(Params)
		got = append(got, fmt.Sprintf("%s/%s/%s", p.KeyLabel, p.KeyID, p.Mechanism))
		if key := mustOpen(t, b, p); key.ID() != info.ID {
			t.Errorf("ID is %s, and that of the key %s", info.ID, key.ID())
		}
	}
	want := "[/0x07/CKM_AES_GCM b/0x01/CKM_ECDSA b/0x02/CKM_RSA_PKCS_PSS ed//CKM_EDDSA mac/0x03/CKM_SHA256_HMAC]"
	if fmt.Sprint(got) != want {
		t.Errorf("List gives %s, want %s", got, want)
	}
	for range b.List(t.Context(), scope) {
		break // must not go on
	}
	for name, test := range map[string]struct {
		scope backend.Params
		want  error
	}{
		"nil":         {nil, backend.ErrInvalidParams},
		"no PIN":      {withPIN(scope, ""), backend.ErrInvalidParams},
		"no slot":     {Params{Library: "soft", PIN: scope.PIN}, backend.ErrInvalidParams},
		"no token":    {Params{Library: "soft", PIN: scope.PIN, TokenLabel: "absent"}, backend.ErrUnavailable},
		"other PIN":   {withPIN(scope, "wrong-pin"), backend.ErrCredentials},
		"no library":  {Params{Library: "hard", PIN: scope.PIN, Slot: scope.Slot}, backend.ErrInvalidParams},
		"other thing": {struct{ backend.Params }{}, backend.ErrInvalidParams},
	} {
		n := 0
		for _, err := range b.List(t.Context(), test.scope) {
			n++
			wants(t, err, test.want)
		}
		if n != 1 {
			t.Errorf("%s: %d items, want one error", name, n)
		}
	}
}

// TestPing: the tokens that keys were opened on are asked, and no others.
func TestPing(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	if err := b.Ping(t.Context()); err != nil || len(r.Counts()) > 0 {
		t.Errorf("without a connection: error %v, calls %v", err, r.Counts())
	}
	mustGenerate(t, b, r.p256("key"))
	r.ResetCounts()
	if err := b.Ping(t.Context()); err != nil || r.Count("C_GetSessionInfo") != 1 {
		t.Errorf("error %v after %v", err, r.Counts())
	}
	r.failing("C_GetSessionInfo", 0x030)
	wants(t, b.Ping(t.Context()), backend.ErrUnavailable, "CKR_DEVICE_ERROR", r.token.Label)
	r.Set()
	comesToHold(t, func() bool { return b.Ping(t.Context()) == nil })
	if err := r.Logout(); err != nil {
		t.Fatal(err)
	}
	logins := r.UserLogins()
	if err := b.Ping(t.Context()); err != nil {
		t.Errorf("a login that was lost is not renewed: %v", err)
	}
	r.logsIn(t, logins+1, 0)
}
