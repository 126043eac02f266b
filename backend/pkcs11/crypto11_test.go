//go:build cgo

package pkcs11

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/ThalesGroup/crypto11"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// crypto11Task is the environment variable that has this test program do a task with crypto11 and nothing else: two
// libraries can't share a module in one process.
const crypto11Task = "PKCS11_TEST_CRYPTO11"

// task is what the other process does: sign a digest of zeros with each key, and make keys of its own.
type task struct {
	Module, Token, PIN string
	Sign               []string // labels
	Ciphertext         []byte   // for the RSA key "oaep", with SHA-1
}

// outcome is what it made: public keys and signatures by label, and the plaintext.
type outcome struct {
	Public, Signatures map[string][]byte
	Plaintext          []byte
}

func init() {
	text := os.Getenv(crypto11Task)
	if text == "" {
		return
	}
	var do task
	err := json.Unmarshal([]byte(text), &do)
	if err == nil {
		var done outcome
		if done, err = do.run(); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(done)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run does the task with crypto11.
func (do task) run() (outcome, error) {
	done := outcome{Public: make(map[string][]byte), Signatures: make(map[string][]byte)}
	ctx, err := crypto11.Configure(&crypto11.Config{Path: do.Module, TokenLabel: do.Token, Pin: do.PIN})
	if err != nil {
		return done, err
	}
	defer ctx.Close()
	add := func(label string, key crypto.Signer, err error) error {
		if err != nil {
			return err
		}
		if done.Public[label], err = backend.SubjectPublicKeyInfo(key.Public()); err != nil {
			return err
		}
		done.Signatures[label], err = key.Sign(nil, make([]byte, 32), crypto.SHA256)
		return err
	}
	for _, label := range do.Sign {
		key, err := ctx.FindKeyPair(nil, []byte(label))
		if err == nil && key == nil {
			err = fmt.Errorf("crypto11 finds no key pair %q", label)
		}
		if err := add(label, key, err); err != nil {
			return done, err
		}
	}
	ec, err := ctx.GenerateECDSAKeyPairWithLabel([]byte("1"), []byte("their-ec"), elliptic.P384())
	if err := add("their-ec", ec, err); err != nil {
		return done, err
	}
	rsaKey, err := ctx.GenerateRSAKeyPairWithLabel([]byte("2"), []byte("their-rsa"), 2048)
	if err := add("their-rsa", rsaKey, err); err != nil {
		return done, err
	}
	if _, err := ctx.GenerateSecretKeyWithLabel([]byte("3"), []byte("their-aes"), 256, crypto11.CipherAES); err != nil {
		return done, err
	}
	decrypter, err := ctx.FindRSAPrivateKey(nil, []byte("oaep"))
	if err != nil {
		return done, err
	}
	done.Plaintext, err = decrypter.Decrypt(nil, do.Ciphertext, oaepSHA1)
	return done, err
}

// TestCrypto11: keys made here are used by crypto11, and its keys here, with the same results.
func TestCrypto11(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	own := make(map[string]backend.Key)
	do := task{Module: token.Module, Token: token.Label, PIN: token.PIN}
	for _, p := range []Params{withCurve(on(token, "p256", ECDSA), "P256"), withCurve(on(token, "p521", ECDSA), "P521"),
		withBits(on(token, "rsa", RSAPKCS), 2048), withBits(on(token, "oaep", RSAPKCSOAEP), 2048)} {
		own[p.KeyLabel] = mustGenerate(t, b, p)
		if p.Mechanism != RSAPKCSOAEP {
			do.Sign = append(do.Sign, p.KeyLabel)
		}
	}
	do.Ciphertext = encryptOAEP(t, own["oaep"])
	text, err := json.Marshal(do)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), crypto11Task+"="+string(text))
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var done outcome
	if err := json.Unmarshal(out, &done); err != nil {
		t.Fatal(err)
	}

	if len(done.Signatures) != len(do.Sign)+2 {
		t.Errorf("%d signatures", len(done.Signatures))
	}
	if string(done.Plaintext) != "message" {
		t.Errorf("crypto11 decrypts %q", done.Plaintext)
	}
	for label, der := range done.Public {
		pub, err := backend.ParsePublicKey(der)
		if err != nil {
			t.Fatal(err)
		}
		key := own[label]
		if key == nil { // theirs
			m := ECDSA
			if _, ok := pub.(*rsa.PublicKey); ok {
				m = RSAPKCS
			}
			key = mustOpen(t, b, on(token, label, m))
		}
		if !same(pub, key.Public()) {
			t.Errorf("%s: crypto11 sees another public key", label)
		}
		if err := backend.Verify(key.Public(), make([]byte, 32), done.Signatures[label], crypto.SHA256); err != nil {
			t.Errorf("%s: crypto11's signature: %v", label, err)
		}
		signsWell(t, key)
		if _, ok := pub.(*rsa.PublicKey); ok {
			// PKCS#1 v1.5 has one signature only.
			if signature, err := signSHA256(t, key); err != nil || string(signature) != string(done.Signatures[label]) {
				t.Errorf("%s: another signature than crypto11's; error %v", label, err)
			}
		}
	}
	seals(t, mustOpen(t, b, on(token, "their-aes", AESGCM)))
}
