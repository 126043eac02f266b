package pkcs11

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// asksAlways has the key take the PIN for each operation.
var asksAlways = Attribute{attrAlwaysAuthenticate, true}

// TestAlwaysAuthenticate: keys that take the PIN for each operation sign and decrypt, by many goroutines.
func TestAlwaysAuthenticate(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	rsaParams := withBits(r.with("rsa", RSAPKCS), 2048)
	makeObject(t, b, r.p256("ec"), "ec", asksAlways)
	makeObject(t, b, rsaParams, "rsa", asksAlways, Attribute{attrDecrypt, true})
	makeObject(t, b, r.with("ed", EdDSA), "ed", asksAlways)
	for _, p := range []Params{r.p256("ec"), rsaParams, r.with("ed", EdDSA)} {
		key := mustOpen(t, b, p)
		before := r.UserLogins()
		const operations = 8
		var wg sync.WaitGroup
		for range operations {
			wg.Go(func() {
				if err := signOnce(context.Background(), key); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := r.UserLogins() - before; n != operations {
			t.Errorf("%s: %d logins for %d operations", p.KeyLabel, n, operations)
		}
	}
	message := []byte("message")
	key := mustOpen(t, b, rsaParams)
	ciphertext, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key.Public().(*rsa.PublicKey), message, nil)
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := key.(backend.Decrypter).DecryptContext(t.Context(), ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA1})
	if err != nil || string(plaintext) != string(message) {
		t.Errorf("decrypted %q; error %v", plaintext, err)
	}
	// The login of the connection is as it was.
	signsWell(t, mustGenerate(t, b, r.p256("without PIN")))
	if n := r.WrongPINs(); n != 0 {
		t.Errorf("%d wrong PINs", n)
	}
}

// TestAlwaysAuthenticateHeals: a session that is lost between operations is replaced, as for any other key.
func TestAlwaysAuthenticateHeals(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	makeObject(t, b, r.p256("ec"), "ec", asksAlways)
	key := mustOpen(t, b, r.p256("ec"))
	signsWell(t, key)
	if err := r.CloseAllSessions(); err != nil {
		t.Fatal(err)
	}
	signsWell(t, key)
	if n := r.WrongPINs(); n != 0 {
		t.Errorf("%d wrong PINs", n)
	}
}

// TestAlwaysAuthenticateWrongPIN: a PIN that became wrong is presented once, however many operations want it.
func TestAlwaysAuthenticateWrongPIN(t *testing.T) {
	const env = "PKCS11_TEST_PIN"
	r := newRig(t)
	b := r.client(t)
	t.Setenv(env, r.token.PIN)
	p := withPIN(r.p256("ec"), "env:"+env)
	makeObject(t, b, p, "ec", asksAlways)
	key := mustOpen(t, b, p)
	signsWell(t, key)

	t.Setenv(env, "wrong-pin")
	before := r.UserLogins()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			wants(t, signOnce(context.Background(), key), backend.ErrCredentials, "CKR_PIN_INCORRECT", r.token.Label)
		})
	}
	wg.Wait()
	wants(t, signOnce(t.Context(), key), backend.ErrCredentials, "not tried again")
	_, err := b.Open(t.Context(), withPIN(p, backend.Secret(r.token.PIN)))
	wants(t, err, backend.ErrCredentials)
	r.logsIn(t, before+1, 1)

	t.Setenv(env, "")
	wants(t, signOnce(t.Context(), key), backend.ErrCredentials, env)
	r.logsIn(t, before+1, 1)

	t.Setenv(env, r.token.PIN)
	signsWell(t, key)
	mustOpen(t, b, p)
	if n := r.WrongPINs(); n != 1 {
		t.Errorf("%d wrong PINs, want 1", n)
	}
}

// TestAlwaysAuthenticateWrongPINWhenOpening: opening makes trials, and these give a wrong PIN once as well.
func TestAlwaysAuthenticateWrongPINWhenOpening(t *testing.T) {
	const env = "PKCS11_TEST_PIN"
	r := newRig(t)
	b := r.client(t)
	t.Setenv(env, r.token.PIN)
	makeObject(t, b, withPIN(r.p256("ec"), "env:"+env), "ec", asksAlways)
	t.Setenv(env, "wrong-pin")
	before := r.UserLogins()
	for range 3 {
		_, err := b.Open(t.Context(), r.p256("ec"))
		wants(t, err, backend.ErrCredentials, "CKR_PIN_INCORRECT")
	}
	r.logsIn(t, before+1, 1)
}

// TestAlwaysAuthenticateSecretKeys: there is no such thing for secret keys, so one that says so is refused.
func TestAlwaysAuthenticateSecretKeys(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	p := withBits(r.with("aes", AESGCM), 256)
	mustGenerate(t, b, p)
	r.SetAttribute("aes", uint64(classSecret), attrAlwaysAuthenticate, []byte{1})
	_, err := b.Open(t.Context(), p)
	wants(t, err, backend.ErrUnsupported, "CKA_ALWAYS_AUTHENTICATE")
}
