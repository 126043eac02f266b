//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// withSession calls fn with a session of the test's own on a token that b is logged in to.
func withSession(t *testing.T, b *Backend, p Params, fn func(*pkcs11.Ctx, pkcs11.SessionHandle)) {
	t.Helper()
	_, err := withToken(t.Context(), b, p, func(c *conn, _ library) (struct{}, error) {
		l := c.token.(*login)
		fn(l.module.ctx, l.session)
		return struct{}{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUnrelatedPublicKey: the public key of one pair beside the private key of another is found out.
func TestUnrelatedPublicKey(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	p := on(token, "a", ECDSA)
	own := mustGenerate(t, b, withCurve(p, "P256"))
	mustGenerate(t, b, withCurve(on(token, "b", ECDSA), "P256"))
	set := func(class uint, label string, attribute uint, value []byte) {
		withSession(t, b, p, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) {
			if err := ctx.FindObjectsInit(s, criteria(class, nil, label)); err != nil {
				t.Fatal(err)
			}
			found, _, err := ctx.FindObjects(s, 2)
			if err != nil || len(found) != 1 {
				t.Fatalf("found %d objects; error %v", len(found), err)
			}
			if err := ctx.FindObjectsFinal(s); err != nil {
				t.Fatal(err)
			}
			if err := ctx.SetAttributeValue(s, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, value)}); err != nil {
				t.Fatal(err)
			}
		})
	}
	set(pkcs11.CKO_PRIVATE_KEY, "a", pkcs11.CKA_ID, []byte("same"))
	set(pkcs11.CKO_PUBLIC_KEY, "b", pkcs11.CKA_ID, []byte("same"))
	_, err := b.Open(t.Context(), p)
	wants(t, err, backend.ErrKeyChanged, "not its own", `label "a"`)

	set(pkcs11.CKO_PUBLIC_KEY, "a", pkcs11.CKA_ID, []byte("same")) // now both stand beside it
	if key := mustOpen(t, b, p); !same(key.Public(), own.Public()) {
		t.Error("opened with another public key")
	}

	// The private key of RSA knows its modulus.
	ofRSA := mustGenerate(t, b, withBits(on(token, "rsa", RSAPKCS), 2048))
	withSession(t, b, p, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) {
		if err := ctx.FindObjectsInit(s, criteria(pkcs11.CKO_PUBLIC_KEY, nil, "rsa")); err != nil {
			t.Fatal(err)
		}
		found, _, err := ctx.FindObjects(s, 2)
		if err != nil || len(found) != 1 {
			t.Fatalf("found %d objects; error %v", len(found), err)
		}
		if err := ctx.FindObjectsFinal(s); err != nil {
			t.Fatal(err)
		}
		if err := ctx.DestroyObject(s, found[0]); err != nil {
			t.Fatal(err)
		}
	})
	if key := mustOpen(t, b, on(token, "rsa", RSAPKCS)); !same(key.Public(), ofRSA.Public()) {
		t.Error("opened with another public key")
	}
}

// TestWrongPINOnToken: SoftHSM2 notes a failed attempt in a flag of the token.
func TestWrongPINOnToken(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	wrong := on(token, "a", ECDSA)
	wrong.PIN = "wrong-pin"
	for range 3 {
		_, err := b.Open(t.Context(), wrong)
		wants(t, err, backend.ErrCredentials, "C_Login: CKR_PIN_INCORRECT")
		if strings.Contains(err.Error(), token.PIN) {
			t.Error("error shows the PIN")
		}
	}
	mustGenerate(t, b, withCurve(on(token, "a", ECDSA), "P256"))
	other := connectTo(t, token)
	_, err := other.Open(t.Context(), wrong)
	wants(t, err, backend.ErrCredentials)
	third := wrong
	third.PIN = "third-pin"
	_, err = other.Open(t.Context(), third) // crypto11 would open it
	wants(t, err, backend.ErrCredentials, "another PIN")
	signsWell(t, mustOpen(t, other, on(token, "a", ECDSA)))
}

func TestAbsentToken(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	p := on(token, "a", ECDSA)
	p.TokenLabel = "absent"
	_, err := b.Open(t.Context(), p)
	wants(t, err, backend.ErrUnavailable, `token_label "absent"`, token.Label)
	p.TokenLabel, p.Slot = "", "424242"
	_, err = b.Open(t.Context(), p)
	wants(t, err, backend.ErrUnavailable, "slot 424242", token.Label)
	p.Slot = token.Slot
	_, err = b.Open(t.Context(), p)
	wants(t, err, backend.ErrKeyNotFound, "slot "+token.Slot)
}

// TestOneModule: the same file by another path, two tokens, backends that come and go.
func TestOneModule(t *testing.T) {
	token, second := softhsm.Require(t), softhsm.Require(t)
	link := filepath.Join(t.TempDir(), "link.so")
	if err := os.Symlink(token.Module, link); err != nil {
		t.Fatal(err)
	}
	a := connectTo(t, token)
	b, err := New(Library{Name: "soft", Path: link})
	if err != nil {
		t.Fatal(err)
	}
	p := on(token, "a", ECDSA)
	ofA := mustGenerate(t, a, withCurve(p, "P256"))
	ofB := mustOpen(t, b, p)
	other := mustGenerate(t, b, withCurve(on(second, "a", ECDSA), "P256"))
	signsWell(t, ofA)
	signsWell(t, ofB)
	signsWell(t, other)
	if same(ofA.Public(), other.Public()) {
		t.Error("two tokens have the same key")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	signsWell(t, ofB)
	signsWell(t, other)
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []backend.Key{ofA, ofB, other} {
		_, err := key.(backend.Signer).Sign(nil, make([]byte, 32), crypto.SHA256)
		wants(t, err, backend.ErrClosed)
	}
	signsWell(t, mustOpen(t, connectTo(t, token), p)) // initialised anew
}

// TestForeignInitialisation: other code of the program has initialised the module, or finalises it.
func TestForeignInitialisation(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	p := on(token, "a", ECDSA)
	foreign := pkcs11.New(token.Module)
	if foreign == nil {
		t.Fatal("module can't be loaded")
	}
	defer foreign.Destroy()
	if err := foreign.Initialize(); err != nil {
		t.Fatal(err)
	}
	_, err := b.Open(t.Context(), p)
	wants(t, err, backend.ErrUnavailable, "other code of this program", "CKR_CRYPTOKI_ALREADY_INITIALIZED")
	if err := foreign.Finalize(); err != nil {
		t.Fatal(err)
	}

	key := mustGenerate(t, b, withCurve(p, "P256"))
	signsWell(t, key)
	if err := foreign.Finalize(); err != nil {
		t.Fatal(err)
	}
	_, err = key.(backend.Signer).Sign(nil, make([]byte, 32), crypto.SHA256)
	wants(t, err, backend.ErrUnavailable, "CKR_CRYPTOKI_NOT_INITIALIZED")
	wants(t, b.Ping(t.Context()), backend.ErrUnavailable)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	signsWell(t, mustOpen(t, connectTo(t, token), p))
}

// TestFailedLoginLeavesNothing: with another token of the module in use, a refused login must not keep a session.
func TestFailedLoginLeavesNothing(t *testing.T) {
	token, second := softhsm.Require(t), softhsm.Require(t)
	b := connectTo(t, token)
	mustGenerate(t, b, withCurve(on(token, "a", ECDSA), "P256"))
	wrong := on(second, "a", ECDSA)
	wrong.PIN = "wrong-pin"
	_, err := b.Open(t.Context(), wrong)
	wants(t, err, backend.ErrCredentials)
	sessions := -1
	withSession(t, b, on(token, "a", ECDSA), func(ctx *pkcs11.Ctx, _ pkcs11.SessionHandle) {
		// A token that has sessions can't be initialised anew.
		slots, err := ctx.GetSlotList(true)
		if err != nil {
			t.Fatal(err)
		}
		for _, slot := range slots {
			if info, err := ctx.GetTokenInfo(slot); err == nil && info.Label == second.Label {
				if err := ctx.InitToken(slot, second.SOPIN, second.Label); err != nil {
					t.Errorf("a session is left: %v", err)
				}
				sessions = 0
			}
		}
	})
	if sessions != 0 {
		t.Error("the token was not found")
	}
}

// TestLongDigests: digests longer than the order of the curve, which some tokens refuse, and long random output.
func TestLongDigests(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	key := mustGenerate(t, b, withCurve(on(token, "ec", ECDSA), "P256")).(backend.MessageSigner)
	for _, h := range ecdsaHashes {
		sig, err := key.SignMessageContext(t.Context(), []byte("message"), h)
		if err != nil {
			t.Errorf("%v: %v", h, err)
			continue
		}
		digest := h.New()
		digest.Write([]byte("message"))
		if err := backend.Verify(key.Public(), digest.Sum(nil), sig, h); err != nil {
			t.Errorf("%v: %v", h, err)
		}
	}
	random := mustOpen(t, b, on(token, "ec", ECDSA)).(backend.Random)
	out, err := random.GenerateRandom(t.Context(), 3*randomChunk+1)
	if err != nil || len(out) != 3*randomChunk+1 {
		t.Fatalf("%d bytes, %v", len(out), err)
	}
	for i := 0; i+32 < len(out); i += 32 {
		if bytes.Equal(out[i:i+32], make([]byte, 32)) {
			t.Fatalf("bytes %d and on are zero", i)
		}
	}
}

// TestDecryptionFailures: SoftHSM2's answers to a bad ciphertext look like all others.
func TestDecryptionFailures(t *testing.T) {
	token := softhsm.Require(t)
	key := mustGenerate(t, connectTo(t, token), withBits(on(token, "oaep", RSAPKCSOAEP), 2048)).(backend.Decrypter)
	if _, ok := key.(backend.Signer); ok {
		t.Error("a key that was made for decryption signs")
	}
	pub := key.Public().(*rsa.PublicKey)
	ciphertext, err := rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, pub, []byte("plaintext"), nil)
	if err != nil {
		t.Fatal(err)
	}
	opts := &rsa.OAEPOptions{Hash: crypto.SHA1}
	if plaintext, err := key.DecryptContext(t.Context(), ciphertext, opts); err != nil || string(plaintext) != "plaintext" {
		t.Errorf("%q, %v", plaintext, err)
	}
	tooLarge := bytes.Repeat([]byte{0xff}, len(ciphertext))
	for name, c := range map[string][]byte{"zero": make([]byte, 256), "larger than the modulus": tooLarge, "changed": append([]byte{ciphertext[0] ^ 1}, ciphertext[1:]...), "empty": nil} {
		if _, err := key.DecryptContext(t.Context(), c, opts); err != backend.ErrDecryption {
			t.Errorf("%s: error = %v, want exactly ErrDecryption", name, err)
		}
	}
	if plaintext, err := key.DecryptContext(t.Context(), ciphertext, opts); err != nil || string(plaintext) != "plaintext" {
		t.Errorf("afterwards: %q, %v", plaintext, err)
	}
}

// poisoned is a crypto11 key whose sessions have an operation open, as many as fail.
type poisoned struct{ fail, calls int }

func (p *poisoned) KeyType() uint { return 0 }

func (p *poisoned) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	if p.calls++; p.calls <= p.fail {
		return nil, fmt.Errorf("crypto11: %w", pkcs11.Error(pkcs11.CKR_OPERATION_ACTIVE))
	}
	if p.fail < 0 {
		return nil, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)
	}
	return []byte("signature"), nil
}

// TestPoisonedSessions: crypto11 hands out sessions on which an earlier failure left an operation open.
func TestPoisonedSessions(t *testing.T) {
	for _, test := range []struct {
		fail, calls int
		want        error
	}{{0, 1, nil}, {3, 4, nil}, {99, 4, ckrOperationActive}, {-1, 1, ckr(0x030)}} {
		p := &poisoned{fail: test.fail}
		k := &cryptokiKey{&login{sessions: 4}, p}
		out, err := k.sign(backend.SignRequest{Scheme: backend.ECDSA, Hash: crypto.SHA256})
		if p.calls != test.calls || !errors.Is(err, test.want) || (err == nil) != (string(out) == "signature") {
			t.Errorf("%d sessions are poisoned: %q, %v after %d calls; want %v after %d", test.fail, out, err, p.calls, test.want, test.calls)
		}
	}
}

// TestReplaceWithoutID: an old key without an id shares nothing but its label with the new one, whose public key stays.
func TestReplaceWithoutID(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	p := withCurve(on(token, "a", ECDSA), "P256")
	makeObject(t, b, p, keySpec{id: []byte{1}, label: "a", kind: keyEC, curve: "P256", sign: true})
	count := 0
	withSession(t, b, p, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) {
		for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
			if err := ctx.FindObjectsInit(s, criteria(class, nil, "a")); err != nil {
				t.Fatal(err)
			}
			found, _, err := ctx.FindObjects(s, 2)
			if err != nil || len(found) != 1 {
				t.Fatalf("found %d objects; error %v", len(found), err)
			}
			if err := ctx.FindObjectsFinal(s); err != nil {
				t.Fatal(err)
			}
			if err := ctx.SetAttributeValue(s, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{})}); err != nil {
				t.Fatal(err)
			}
		}
	})
	old := mustOpen(t, b, p)
	signsWell(t, old)
	if _, err := b.Generate(t.Context(), p, replace); err != nil {
		t.Fatal(err)
	}
	if key := mustOpen(t, b, p); same(key.Public(), old.Public()) {
		t.Error("the key was not replaced")
	}
	withSession(t, b, p, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) {
		if err := ctx.FindObjectsInit(s, criteria(pkcs11.CKO_PUBLIC_KEY, nil, "a")); err != nil {
			t.Fatal(err)
		}
		found, _, _ := ctx.FindObjects(s, 8)
		count = len(found)
		if err := ctx.FindObjectsFinal(s); err != nil {
			t.Fatal(err)
		}
	})
	if count != 1 {
		t.Errorf("%d public keys, want 1", count)
	}
}
