package transit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
)

// newSoftHouse is a house whose engine allows software keys.
func newSoftHouse(tb testing.TB) *house {
	tb.Helper()
	h := &house{software: software.New(nil), registry: managedkey.NewRegistry()}
	tb.Cleanup(func() { h.software.Close() })
	mount, err := h.registry.Mount(tb.Context(), "", "transit")
	if err != nil {
		tb.Fatal(err)
	}
	h.mount, h.engine = mount, New(mount, &Options{Software: h.software})
	return h
}

// create makes software keys of the types that their names begin with.
func (h *house) create(tb testing.TB, name string, opts KeyOptions) {
	tb.Helper()
	if err := h.engine.CreateKey(tb.Context(), name, opts); err != nil {
		tb.Fatal(err)
	}
}

// Every type of software key does what it can, refuses the rest, and what it makes is checked with the exported key by the
// standard library.
func TestSoftwareTypes(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx, message := h.engine, t.Context(), []byte("message")
	for _, name := range e.Types() {
		if name == TypeManaged {
			continue
		}
		t.Run(name, func(t *testing.T) {
			h.create(t, name, KeyOptions{Type: name, Exportable: true})
			info, err := e.Key(name)
			if err != nil || info.Type != name || info.Managed {
				t.Fatalf("got %+v, %v", info, err)
			}
			kind := softTypes[name]
			ciphertext, err := e.Encrypt(ctx, name, EncryptRequest{Plaintext: message})
			if encrypts := kind.nonce > 0 || kind.keyType == "RSA"; !encrypts {
				wantError(t, err, backend.ErrUnsupported, "message encryption not supported for key type "+name)
				_, err := e.Decrypt(ctx, name, DecryptRequest{Ciphertext: "vault:v1:AAAA"})
				wantError(t, err, backend.ErrUnsupported, "message encryption not supported for key type "+name)
			} else if err != nil {
				t.Error(err)
			} else {
				checkCiphertext(t, e, name, ciphertext, message)
			}
			signature, err := e.Sign(ctx, name, SignRequest{Input: message})
			if !kind.public {
				wantError(t, err, backend.ErrUnsupported, "does not support signing")
				_, err := e.Verify(ctx, name, "vault:v1:AAAA", SignRequest{Input: message})
				wantError(t, err, backend.ErrUnsupported, "does not support signing")
			} else if err != nil {
				t.Error(err)
			} else {
				checkSignature(t, e, name, signature, message)
			}
			mac, err := e.CMAC(ctx, name, CMACRequest{Input: message})
			if !kind.cmac() {
				wantError(t, err, backend.ErrUnsupported, "CMAC not supported for key type "+name)
			} else if ok, verr := e.VerifyCMAC(ctx, name, mac, CMACRequest{Input: message}); err != nil || verr != nil || !ok {
				t.Errorf("CMAC %s: %v, %t, %v", mac, err, ok, verr)
			}
			mac, err = e.HMAC(ctx, name, MACRequest{Input: message, HashAlgorithm: "sha2-384"})
			if kind.cmac() {
				wantError(t, err, backend.ErrUnsupported, "HMAC not supported for key type "+name)
				return
			}
			keys, kerr := e.Export(ctx, name, ExportHMACKey, 1)
			if err != nil || kerr != nil {
				t.Fatal(err, kerr)
			}
			secret, _ := base64.StdEncoding.DecodeString(keys[1])
			own := hmac.New(sha512.New384, secret)
			own.Write(message)
			if want := format(1, own.Sum(nil), base64.StdEncoding); mac != want {
				t.Errorf("HMAC %s; want %s", mac, want)
			}
			if ok, err := e.VerifyHMAC(ctx, name, mac, MACRequest{Input: message, HashAlgorithm: "sha2-384"}); !ok || err != nil {
				t.Errorf("verify HMAC: %t, %v", ok, err)
			}
		})
	}
}

// checkCiphertext decrypts with the exported key, and with the engine.
func checkCiphertext(t *testing.T, e *Engine, name, ciphertext string, want []byte) {
	t.Helper()
	keys, err := e.Export(t.Context(), name, ExportEncryptionKey, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(ciphertext, "vault:v1:"))
	var got []byte
	if block, _ := pem.Decode([]byte(keys[1])); block != nil {
		key, perr := x509.ParsePKCS1PrivateKey(block.Bytes)
		if perr != nil {
			t.Fatal(perr)
		}
		got, err = rsa.DecryptOAEP(sha256.New(), nil, key, raw, nil)
	} else {
		secret, _ := base64.StdEncoding.DecodeString(keys[1])
		var aead cipher.AEAD
		if strings.HasPrefix(name, "aes") {
			block, berr := aes.NewCipher(secret)
			if berr != nil {
				t.Fatal(berr)
			}
			aead, err = cipher.NewGCM(block)
		} else if aead, err = chacha20poly1305.New(secret); name == TypeXChaCha20Poly1305 {
			aead, err = chacha20poly1305.NewX(secret)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err = aead.Open(nil, raw[:aead.NonceSize()], raw[aead.NonceSize():], nil)
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the exported key decrypts to %q, %v", got, err)
	}
	got, err = e.Decrypt(t.Context(), name, DecryptRequest{Ciphertext: ciphertext})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

// checkSignature verifies with the exported public key, and with the engine.
func checkSignature(t *testing.T, e *Engine, name, signature string, message []byte) {
	t.Helper()
	keys, err := e.Export(t.Context(), name, ExportPublicKey, 0)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(keys[1]))
	raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "vault:v1:"))
	public, err := mldsax509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum, valid := sha256.Sum256(message), false
	switch pub := public.(type) {
	case *rsa.PublicKey:
		valid = rsa.VerifyPSS(pub, crypto.SHA256, sum[:], raw, nil) == nil
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(pub, sum[:], raw)
	case ed25519.PublicKey:
		valid = ed25519.Verify(pub, message, raw)
	case *mldsa.PublicKey:
		valid = mldsa.Verify(pub, message, raw, nil) == nil
	}
	if !valid {
		t.Errorf("%T: not verified", public)
	}
	if ok, err := e.Verify(t.Context(), name, signature, SignRequest{Input: message}); !ok || err != nil {
		t.Errorf("got %t, %v", ok, err)
	}
	if ok, err := e.Verify(t.Context(), name, signature, SignRequest{Input: []byte("other")}); ok || err != nil {
		t.Errorf("another message: %t, %v", ok, err)
	}
}

// Without Options.Software there are no software keys, by no way.
func TestSoftwareRefused(t *testing.T) {
	soft := newSoftHouse(t)
	soft.create(t, "aes", KeyOptions{Type: TypeAES256, Exportable: true, AllowPlaintextBackup: true})
	text, err := soft.engine.Backup(t.Context(), "aes")
	if err != nil {
		t.Fatal(err)
	}
	e := newHouse(t).engine
	wantError(t, e.CreateKey(t.Context(), "k", KeyOptions{Type: TypeAES256}), backend.ErrUnsupported, "Options.Software is nil")
	wantError(t, e.ImportKey(t.Context(), "k", Import{Ciphertext: make([]byte, 600)}, KeyOptions{Type: TypeAES256}, false), backend.ErrUnsupported, "Options.Software is nil")
	wantError(t, e.Restore(t.Context(), "k", text, false), backend.ErrUnsupported, "Options.Software is nil")
	_, err = e.WrappingKey(t.Context())
	wantError(t, err, backend.ErrUnsupported, "Options.Software is nil")
	if got := e.Types(); len(got) != 1 || got[0] != TypeManaged {
		t.Errorf("types are %v", got)
	}
	if got := e.List(); len(got) != 0 {
		t.Errorf("there are %v", got)
	}
}

func TestCreateSoftwareRefused(t *testing.T) {
	h := newSoftHouse(t)
	for name, c := range map[string]struct {
		opts KeyOptions
		text string
	}{
		"no type":            {KeyOptions{}, "no type either"},
		"unknown":            {KeyOptions{Type: "des"}, `unknown key type "des"`},
		"managed without":    {KeyOptions{Type: TypeManaged}, "managed key: no name"},
		"managed, derived":   {KeyOptions{ManagedKey: "x", Derived: true}, "not supported for keys of type managed_key"},
		"managed exportable": {KeyOptions{ManagedKey: "x", Exportable: true}, "can't leave its key manager"},
		"both":               {KeyOptions{Type: TypeAES256, ManagedKey: "x"}, "a key of type aes256-gcm96 has none"},
		"derived ecdsa":      {KeyOptions{Type: TypeP256, Derived: true}, "key derivation and convergent encryption not supported for keys of type ecdsa-p256"},
		"convergent ed25519": {KeyOptions{Type: TypeEd25519, Derived: true, Convergent: true}, "not supported for keys of type ed25519"},
		"convergent alone":   {KeyOptions{Type: TypeAES256, Convergent: true}, "requires derivation"},
		"size":               {KeyOptions{Type: TypeHMAC, KeySize: 31}, "takes 32 to 512"},
		"size of another":    {KeyOptions{Type: TypeAES256, KeySize: 32}, "others none"},
		"period":             {KeyOptions{Type: TypeAES256, AutoRotatePeriod: 59 * time.Minute}, "auto_rotate_period of 59m"},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, h.engine.CreateKey(t.Context(), "k", c.opts), backend.ErrInvalidParams, c.text)
		})
	}
	h.create(t, "k", KeyOptions{Type: TypeAES256})
	wantError(t, h.engine.CreateKey(t.Context(), "k", KeyOptions{Type: TypeHMAC}), backend.ErrKeyExists)
}

// What is deleted or trimmed is gone from the software backend, too.
func TestSoftwareForgotten(t *testing.T) {
	h := newSoftHouse(t)
	ctx := t.Context()
	h.create(t, "k", KeyOptions{Type: TypeAES256})
	if _, err := h.engine.Encrypt(ctx, "k", EncryptRequest{}); err != nil {
		t.Fatal(err)
	}
	k := h.engine.known("k")
	held := k.version(1).soft.key.Load()
	if _, err := held.Seal(ctx, nil, nil); err != nil {
		t.Fatal(err)
	}
	two, one := 2, 1
	for _, err := range []error{
		h.engine.Rotate(ctx, "k", ""),
		h.engine.Configure(ctx, "k", Config{MinDecryptionVersion: &one, MinEncryptionVersion: &two}),
		h.engine.Configure(ctx, "k", Config{MinDecryptionVersion: &two}),
		h.engine.Trim(ctx, "k", 2),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := held.Seal(ctx, nil, nil); !errors.Is(err, backend.ErrKeyChanged) {
		t.Errorf("the trimmed version gives %v; want ErrKeyChanged", err)
	}
}

// What was looked up before a key was deleted, and begins after it, such as an item of a batch, doesn't open it again: nobody would
// ever take it out of the software backend.
func TestSoftwareForgottenMeanwhile(t *testing.T) {
	h := newSoftHouse(t)
	allowed := true
	for _, kind := range []string{TypeAES256, TypeP256, TypeChaCha20Poly1305, TypeHMAC} {
		h.create(t, kind, KeyOptions{Type: kind})
		k := h.engine.known(kind)
		if err := h.engine.Configure(t.Context(), kind, Config{DeletionAllowed: &allowed}); err != nil {
			t.Fatal(err)
		}
		if err := h.engine.DeleteKey(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
		for what, open := range map[string]func(context.Context, *key, *version) (handle, error){"key": h.engine.software, "HMAC": h.engine.macKey} {
			if _, err := open(t.Context(), k, k.version(1)); !errors.Is(err, backend.ErrKeyNotFound) {
				t.Errorf("%s, %s: %v; want ErrKeyNotFound", kind, what, err)
			}
		}
		if k.version(1).soft.key.Load() != nil || k.version(1).soft.hmac.Load() != nil {
			t.Errorf("%s is open", kind)
		}
	}
}
