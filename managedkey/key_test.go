package managedkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// rsaKey is a key as drivers build them, over a private key in memory.
type rsaKey struct {
	*backend.Handle
	backend.SignOps
	backend.DecryptOps
}

var rsaPrivate = sync.OnceValue(func() *rsa.PrivateKey {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return private
})

func newRSAKey(caps backend.Capabilities) rsaKey {
	private := rsaPrivate()
	caps.Algorithm = "RSA-2048"
	h := backend.NewHandle(backend.HandleConfig{ID: "rsa", Public: &private.PublicKey, Capabilities: caps})
	return rsaKey{h,
		h.Signing(func(ctx context.Context, req backend.SignRequest) ([]byte, error) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return rsa.SignPKCS1v15(nil, private, req.Hash, req.Digest)
		}),
		h.Decrypting(func(_ context.Context, req backend.DecryptRequest) ([]byte, error) {
			out, err := rsa.DecryptOAEP(req.Hash.New(), nil, private, req.Ciphertext, req.Label)
			if err != nil {
				return nil, fmt.Errorf("rsa: %w: %w", backend.ErrDecryption, err)
			}
			return out, nil
		}),
	}
}

var rsaCaps = backend.Capabilities{
	Usages:     allUsages,
	Signatures: []backend.SignatureAlgorithm{{Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA256}},
	OAEPHashes: []crypto.Hash{crypto.SHA256, crypto.SHA512},
}

// handleOf returns a handle to key with those usages.
func handleOf(t *testing.T, key backend.Key, usages backend.Usage) *Key {
	t.Helper()
	v := newVault()
	v.set("a/k", key)
	r := NewRegistry()
	mustCreate(t, r, entryOf(newClient(v), "a/k", usages))
	return mustKey(t, r, "a/k")
}

// TestEveryOperationNeedsItsUsage tries every operation with every usage alone, and with all others.
func TestEveryOperationNeedsItsUsage(t *testing.T) {
	covered := backend.Usage(0)
	for _, op := range operations {
		covered |= op.usage
		t.Run(op.name, func(t *testing.T) {
			for u := backend.Usage(1); u <= allUsages; u <<= 1 {
				_, err := op.run(handleOf(t, fakeKey{"k"}, u))
				if op.usage == u || op.usage == 0 {
					check(t, err, nil)
				} else {
					check(t, err, backend.ErrNotPermitted, "usage "+op.usage.String()+" is not allowed", "allows "+u.String())
				}
			}
			if op.usage != 0 {
				_, err := op.run(handleOf(t, fakeKey{"k"}, allUsages&^op.usage))
				check(t, err, backend.ErrNotPermitted, op.usage.String())
			}
		})
	}
	if covered != allUsages {
		t.Errorf("no operation needs %s", allUsages&^covered)
	}
	_, err := handleOf(t, newRSAKey(rsaCaps), allUsages&^backend.UsageEncrypt).EncryptContext(bg, nil, nil)
	check(t, err, backend.ErrNotPermitted, "usage encrypt")
}

// TestKeysThatCannot has a key without any operation.
func TestKeysThatCannot(t *testing.T) {
	k := handleOf(t, backend.NewHandle(backend.HandleConfig{ID: "bare", Capabilities: backend.Capabilities{Algorithm: "None"}}), allUsages)
	for _, op := range operations {
		out, err := op.run(k)
		check(t, err, backend.ErrUnsupported)
		check(t, err, errors.ErrUnsupported, `"a/k" (fake)`)
		if op.name != "VerifyContext" && op.name != "VerifyMAC" && len(out) > 0 {
			t.Errorf("%s returned %q", op.name, out)
		}
	}
	_, err := k.EncryptContext(bg, nil, nil)
	check(t, err, backend.ErrUnsupported, "None")
}

func TestNarrowValues(t *testing.T) {
	v := newVault("a/all")
	v.set("a/bare", struct{ backend.Key }{fakeKey{"bare"}})
	caps := rsaCaps
	caps.Usages = backend.UsageVerify
	v.set("a/idle", newRSAKey(caps))
	r := NewRegistry()
	for _, name := range []string{"a/all", "a/bare", "a/idle"} {
		mustCreate(t, r, entryOf(newClient(v), name, allUsages))
	}
	mustCreate(t, r, Entry{Ref: ref("a/none"), Backend: newClient(v), Params: params{Label: "a/all"}, Usages: backend.UsageVerify})

	s, err := r.Signer(t.Context(), ref("a/all"))
	check(t, err, nil)
	if _, ok := s.(crypto.MessageSigner); !ok {
		t.Error("the signer is no crypto.MessageSigner")
	}
	type contextSigner interface {
		SignContext(context.Context, []byte, crypto.SignerOpts) ([]byte, error)
		SignMessageContext(context.Context, []byte, crypto.SignerOpts) ([]byte, error)
	}
	if _, ok := s.(contextSigner); !ok {
		t.Error("the signer has no SignContext")
	}
	if _, ok := s.(crypto.Decrypter); ok {
		t.Error("the signer is a crypto.Decrypter")
	}
	d, err := r.Decrypter(t.Context(), ref("a/all"))
	check(t, err, nil)
	if _, ok := d.(crypto.Signer); ok {
		t.Error("the decrypter is a crypto.Signer")
	}
	for what, run := range map[string]func() ([]byte, error){
		"sign":         func() ([]byte, error) { return s.Sign(nil, nil, crypto.Hash(0)) },
		"sign ":        func() ([]byte, error) { return s.(contextSigner).SignContext(bg, nil, crypto.Hash(0)) },
		"sign message": func() ([]byte, error) { return s.(crypto.MessageSigner).SignMessage(nil, nil, crypto.Hash(0)) },
		"sign message ": func() ([]byte, error) {
			return s.(contextSigner).SignMessageContext(bg, nil, crypto.Hash(0))
		},
		"decrypt": func() ([]byte, error) { return d.Decrypt(nil, nil, nil) },
		"decrypt ": func() ([]byte, error) {
			return d.(interface {
				DecryptContext(context.Context, []byte, crypto.DecrypterOpts) ([]byte, error)
			}).DecryptContext(bg, nil, nil)
		},
	} {
		if out, err := run(); err != nil || string(out) != "a/all#1 "+strings.TrimSpace(what) {
			t.Errorf("%s gave %q, %v", what, out, err)
		}
	}
	for what, narrow := range map[string]any{"signer": s, "decrypter": d} {
		says, ok := narrow.(interface{ Capabilities() backend.Capabilities })
		if !ok || !says.Capabilities().Usages.Has(backend.UsageSign|backend.UsageDecrypt) {
			t.Errorf("the %s doesn't say what the key can do", what)
		}
	}
	if !s.Public().(ed25519.PublicKey).Equal(d.Public()) {
		t.Error("signer and decrypter have different public keys")
	}
	for name, want := range map[string]error{
		"a/bare": backend.ErrUnsupported, "a/idle": backend.ErrUnsupported,
		"a/none": backend.ErrNotPermitted, "a/absent": backend.ErrKeyNotFound,
	} {
		s, err := r.Signer(t.Context(), ref(name))
		check(t, err, want, "managedkey: open")
		d, err2 := r.Decrypter(t.Context(), ref(name))
		check(t, err2, want, "managedkey: open")
		if s != nil || d != nil {
			t.Errorf("%s: got %v and %v", name, s, d)
		}
	}
}

func TestViews(t *testing.T) {
	k := handleOf(t, fakeKey{"k"}, allUsages)
	ctx, cancel := context.WithCancel(t.Context())
	view := k.WithContext(ctx)
	cancel()
	for name, run := range map[string]func(k *Key) ([]byte, error){
		"Sign":        func(k *Key) ([]byte, error) { return k.Sign(nil, nil, crypto.Hash(0)) },
		"SignMessage": func(k *Key) ([]byte, error) { return k.SignMessage(nil, nil, crypto.Hash(0)) },
		"Decrypt":     func(k *Key) ([]byte, error) { return k.Decrypt(nil, nil, nil) },
		"ECDH":        func(k *Key) ([]byte, error) { return k.ECDH(nil) },
	} {
		_, err := run(view)
		check(t, err, context.Canceled)
		if _, err = run(k); err != nil {
			t.Errorf("%s of the handle ended with its view: %v", name, err)
		}
		if _, err = run(view.WithContext(t.Context())); err != nil {
			t.Errorf("%s of a view of the view: %v", name, err)
		}
	}
	if _, err := view.SignContext(t.Context(), nil, crypto.Hash(0)); err != nil {
		t.Errorf("SignContext of the view has another context than was given: %v", err)
	}
}

// TestSignMessageOfDigestSigner hashes here what the backend's key can't.
func TestSignMessageOfDigestSigner(t *testing.T) {
	key := newRSAKey(rsaCaps)
	k := handleOf(t, struct{ backend.Signer }{key}, allUsages)
	message := []byte("a message")
	digest := sha256.Sum256(message)
	signature, err := k.SignMessage(nil, message, crypto.SHA256)
	check(t, err, nil)
	if err := rsa.VerifyPKCS1v15(key.Public().(*rsa.PublicKey), crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
	check(t, k.VerifyContext(bg, digest[:], signature, crypto.SHA256), nil)
	check(t, k.VerifyContext(bg, make([]byte, 32), signature, crypto.SHA256), backend.ErrInvalidSignature)
	ended, cancel := context.WithCancel(bg)
	cancel()
	check(t, k.VerifyContext(ended, digest[:], signature, crypto.SHA256), context.Canceled)
	for _, tt := range []struct {
		opts crypto.SignerOpts
		want error
	}{
		{nil, backend.ErrInvalidParams},
		{(*rsa.PSSOptions)(nil), backend.ErrInvalidParams},
		{crypto.MD4, backend.ErrUnsupported},
		{crypto.Hash(0), backend.ErrUnsupported},
		{crypto.SHA384, backend.ErrUnsupported},
	} {
		signature, err := k.SignMessage(nil, message, tt.opts)
		check(t, err, tt.want)
		if signature != nil {
			t.Errorf("%v: got a signature", tt.opts)
		}
	}
}

func TestHandleSignsCertificates(t *testing.T) {
	k := handleOf(t, newRSAKey(rsaCaps), 0)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"example.com"}}, k)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		t.Errorf("the request is not signed: %v, %v", err, csr.CheckSignature())
	}
}

func TestOAEP(t *testing.T) {
	k := handleOf(t, newRSAKey(rsaCaps), allUsages)
	for _, opts := range []*rsa.OAEPOptions{nil, {Hash: crypto.SHA256}, {Hash: crypto.SHA512}, {Hash: crypto.SHA512, MGFHash: crypto.SHA512}} {
		decrypt := opts
		if opts == nil {
			decrypt = &rsa.OAEPOptions{Hash: crypto.SHA256}
		}
		longest := 256 - 2*decrypt.Hash.Size() - 2
		for _, n := range []int{0, 1, longest} {
			plaintext := bytes.Repeat([]byte{7}, n)
			ciphertext, err := k.EncryptContext(bg, plaintext, opts)
			check(t, err, nil)
			got, err := k.Decrypt(nil, ciphertext, decrypt)
			check(t, err, nil)
			if !bytes.Equal(got, plaintext) {
				t.Errorf("%v: got %x, want %x", opts, got, plaintext)
			}
		}
		_, err := k.EncryptContext(bg, make([]byte, longest+1), opts)
		check(t, err, backend.ErrInvalidParams, fmt.Sprintf("at most %d", longest))
	}
	for name, opts := range map[string]*rsa.OAEPOptions{
		"hash": {Hash: crypto.SHA1}, "no hash": {}, "label": {Hash: crypto.SHA256, Label: []byte("label")},
		"MGF1": {Hash: crypto.SHA256, MGFHash: crypto.SHA1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.EncryptContext(bg, nil, opts)
			check(t, err, backend.ErrUnsupported)
		})
	}
	ended, cancel := context.WithCancel(bg)
	cancel()
	_, err := k.EncryptContext(ended, nil, nil)
	check(t, err, context.Canceled)
	labels := rsaCaps
	labels.OAEPLabels = true
	opts := &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("label")}
	k = handleOf(t, newRSAKey(labels), allUsages)
	ciphertext, err := k.EncryptContext(bg, []byte("x"), opts)
	check(t, err, nil)
	got, err := k.DecryptContext(bg, ciphertext, opts)
	if check(t, err, nil); string(got) != "x" {
		t.Errorf("got %q", got)
	}
}

// TestFailedDecryptionSaysNothing compares the texts of decryptions that failed for different reasons.
func TestFailedDecryptionSaysNothing(t *testing.T) {
	careless, rsaHandle := handleOf(t, fakeKey{"k"}, allUsages), handleOf(t, newRSAKey(rsaCaps), allUsages)
	opts := &rsa.OAEPOptions{Hash: crypto.SHA256}
	for name, run := range map[string]func(ciphertext []byte) ([]byte, error){
		"Decrypt":        func(c []byte) ([]byte, error) { return careless.Decrypt(nil, c, opts) },
		"DecryptContext": func(c []byte) ([]byte, error) { return careless.DecryptContext(bg, c, opts) },
		"Open":           func(c []byte) ([]byte, error) { return careless.Open(bg, c, nil) },
		"UnwrapKey":      func(c []byte) ([]byte, error) { return careless.UnwrapKey(bg, c) },
		"RSA":            func(c []byte) ([]byte, error) { return rsaHandle.Decrypt(nil, c, opts) },
	} {
		texts := map[string]bool{}
		for _, ciphertext := range [][]byte{{1}, {2, 3}, make([]byte, 256), bytes.Repeat([]byte{1}, 256), make([]byte, 1000)} {
			out, err := run(ciphertext)
			check(t, err, backend.ErrDecryption)
			texts[err.Error()] = true
			if out != nil {
				t.Errorf("%s returned %q", name, out)
			}
			var e *Error
			if errors.As(err, &e); e.Err != backend.ErrDecryption {
				t.Errorf("%s: there is more in the chain: %v", name, e.Err)
			}
		}
		if len(texts) != 1 {
			t.Errorf("%s: %v", name, texts)
		}
	}
}

func TestCapabilities(t *testing.T) {
	caps := rsaCaps
	caps.Usages = backend.UsageSign | backend.UsageDecrypt
	k := handleOf(t, newRSAKey(caps), backend.UsageSign|backend.UsageVerify)
	got := k.Capabilities()
	if got.Usages != backend.UsageSign || got.Algorithm != "RSA-2048" || len(got.OAEPHashes) != 2 {
		t.Errorf("got %+v", got)
	}
	if newRSAKey(caps).Capabilities().Usages != caps.Usages {
		t.Error("the backend's capabilities were changed")
	}
}

func TestErrorText(t *testing.T) {
	for _, tt := range []struct {
		err  Error
		want string
	}{
		{Error{"sign", ref("a/ca"), "pkcs11", io.EOF}, `managedkey: sign "a/ca" (pkcs11): EOF`},
		{Error{"open", ref("ca"), "", io.EOF}, `managedkey: open "ca": EOF`},
		{Error{"mount", namespace.Ref{Namespace: "a"}, "", io.EOF}, `managedkey: mount in namespace "a": EOF`},
	} {
		if got := tt.err.Error(); got != tt.want || !errors.Is(&tt.err, io.EOF) {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
