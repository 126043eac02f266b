package pkcs11

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// rig is a SoftHSM2 token behind a module that misbehaves on demand.
type rig struct {
	*faultp11.Module
	token *softhsm.Token
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	token := softhsm.Require(tb)
	return &rig{faultp11.Require(tb, token.Module), token}
}

// client returns a backend over the rig's module, closed when the test ends.
func (r *rig) client(tb testing.TB) *Backend {
	tb.Helper()
	return connectWith(tb, Library{Path: r.Path()})
}

// with returns parameters of a key on the rig's token.
func (r *rig) with(label string, m Mechanism) Params { return on(r.token, label, m) }

// p256 returns parameters of an ECDSA key.
func (r *rig) p256(label string) Params { return withCurve(r.with(label, ECDSA), "P256") }

// failing makes each call of a function fail.
func (r *rig) failing(function string, code ckr) {
	r.Set(faultp11.Rule{Function: function, Code: uint64(code)})
}

// logsIn checks how many logins reached the token, and how many of them with a wrong PIN.
func (r *rig) logsIn(tb testing.TB, logins, wrong int) {
	tb.Helper()
	if n := r.UserLogins(); n != logins {
		tb.Errorf("%d logins reached the token, want %d", n, logins)
	}
	if n := r.WrongPINs(); n != wrong {
		tb.Errorf("%d of them had a wrong PIN, want %d", n, wrong)
	}
}

func withPIN(p Params, pin backend.Secret) Params { p.PIN = pin; return p }

// connectionTo returns b's connection to the token that p names.
func connectionTo(tb testing.TB, b *Backend, p Params) *conn {
	tb.Helper()
	c, _, err := b.connection(tb.Context(), p)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// objectsOf returns the handles of the token's objects that have all the attributes.
func objectsOf(tb testing.TB, b *Backend, p Params, attributes ...cryptoki.Attribute) (found []cryptoki.Handle) {
	tb.Helper()
	c := connectionTo(tb, b, p)
	err := c.do(context.WithoutCancel(tb.Context()), false, false, func(w *worker) (err error) {
		found, err = c.instance.module().Find(w.session, attributes...)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

// has checks how many objects are on the token.
func has(tb testing.TB, b *Backend, p Params, want int) {
	tb.Helper()
	if n := len(objectsOf(tb, b, p)); n != want {
		tb.Errorf("%d objects are on the token, want %d", n, want)
	}
}

func labelled(label string) cryptoki.Attribute {
	return cryptoki.Attribute{Type: attrLabel, Value: label}
}

func ofClass(c class) cryptoki.Attribute { return cryptoki.Attribute{Type: attrClass, Value: uint(c)} }

func same(a, b crypto.PublicKey) bool {
	return a.(interface{ Equal(crypto.PublicKey) bool }).Equal(b)
}

// signSHA256 signs a digest of zeros.
func signSHA256(tb testing.TB, key backend.Key) ([]byte, error) {
	tb.Helper()
	return key.(backend.Signer).SignContext(tb.Context(), make([]byte, 32), crypto.SHA256)
}

// comesToHold waits until a condition holds.
func comesToHold(tb testing.TB, holds func() bool) {
	tb.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatal("it doesn't come to hold")
		}
	}
}

var oaepSHA1 = &rsa.OAEPOptions{Hash: crypto.SHA1}

// encryptOAEP encrypts for the key as SoftHSM2 can decrypt it.
func encryptOAEP(tb testing.TB, key backend.Key) []byte {
	tb.Helper()
	ciphertext, err := rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, key.Public().(*rsa.PublicKey), []byte("message"), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return ciphertext
}

// run runs a program and returns its output. The arguments are not shown, since they have the PIN.
func run(tb testing.TB, program string, args ...string) string {
	tb.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", filepath.Base(program), err, out)
	}
	return string(out)
}
