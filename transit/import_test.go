package transit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"

	"github.com/managedkeys/managedkeys/backend"
)

// wrapped returns a key as the ciphertext of an import.
func wrapped(tb testing.TB, e *Engine, hash crypto.Hash, key any) []byte {
	tb.Helper()
	material, ok := key.([]byte)
	if !ok {
		der, err := mldsax509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			tb.Fatal(err)
		}
		material = der
	}
	public, err := e.WrappingKey(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	out, err := wrapFor(public, hash, material)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Keys of every type are imported, each hash of OAEP is taken, and what they sign is of the key that was imported.
func TestImport(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	public, err := e.WrappingKey(ctx)
	if err != nil || public.N.BitLen() != 4096 {
		t.Fatalf("got %v, %v", public, err)
	}
	again, err := e.WrappingKey(ctx)
	if err != nil || !again.Equal(public) {
		t.Error("another wrapping key", err)
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	ecKey, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 3072)
	mlKey, err := mldsa.GenerateKey(mldsa.MLDSA44())
	if err != nil {
		t.Fatal(err)
	}
	hashes := []string{"SHA1", "SHA224", "SHA256", "SHA384", "SHA512", ""}
	for name, key := range map[string]any{
		TypeEd25519: edKey, TypeP521: ecKey, TypeRSA3072: rsaKey, TypeMLDSA44: mlKey, TypeAES128: make([]byte, 16), TypeAES256: bytes.Repeat([]byte{1}, 32),
		TypeChaCha20Poly1305: bytes.Repeat([]byte{2}, 32), TypeHMAC: bytes.Repeat([]byte{3}, 100), TypeAES192CMAC: bytes.Repeat([]byte{4}, 24),
	} {
		hash := hashes[len(name)%len(hashes)]
		in := Import{Ciphertext: wrapped(t, e, importHashes[hash], key), HashFunction: hash}
		if err := e.ImportKey(ctx, name, in, KeyOptions{Type: name, Exportable: true}, false); err != nil {
			t.Errorf("%s with %q: %v", name, hash, err)
			continue
		}
		info, err := e.Key(name)
		if err != nil || !info.Imported || info.AllowRotation {
			t.Errorf("%s: got %+v, %v", name, info, err)
		}
		if signer, ok := key.(crypto.Signer); ok {
			if !samePublic(signer.Public(), info.Versions[0].PublicKey) {
				t.Errorf("%s: another public key", name)
			}
			signature, err := e.Sign(ctx, name, SignRequest{Input: []byte("m")})
			if err != nil {
				t.Error(err)
				continue
			}
			checkSignature(t, e, name, signature, []byte("m"))
		}
		wantError(t, e.Rotate(ctx, name, ""), backend.ErrNotPermitted, "does not allow rotation")
	}
}

func TestImportRefused(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	good := wrapped(t, e, crypto.SHA256, make([]byte, 32))
	changed := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]bool{}
	for name, c := range map[string]struct {
		in       Import
		kind     string
		sentinel error
		text     string
	}{
		"nothing":     {Import{}, TypeAES256, backend.ErrInvalidParams, "either a ciphertext or a public key"},
		"both":        {Import{Ciphertext: good, PublicKey: good}, TypeAES256, backend.ErrInvalidParams, "either a ciphertext or a public key"},
		"short":       {Import{Ciphertext: good[:512]}, TypeAES256, backend.ErrInvalidParams, "ciphertext of 512 bytes"},
		"long":        {Import{Ciphertext: make([]byte, 1<<20)}, TypeAES256, backend.ErrInvalidParams, "ciphertext of 1048576 bytes"},
		"hash":        {Import{Ciphertext: good, HashFunction: "MD5"}, TypeAES256, backend.ErrInvalidParams, `unsupported hash function "MD5"`},
		"other hash":  {Import{Ciphertext: good, HashFunction: "SHA1"}, TypeAES256, backend.ErrDecryption, "decryption failed"},
		"RSA part":    {Import{Ciphertext: changed(511)}, TypeAES256, backend.ErrDecryption, "decryption failed"},
		"KWP part":    {Import{Ciphertext: changed(513)}, TypeAES256, backend.ErrDecryption, "decryption failed"},
		"cut":         {Import{Ciphertext: good[:len(good)-8]}, TypeAES256, backend.ErrDecryption, "decryption failed"},
		"size":        {Import{Ciphertext: good}, TypeAES128, backend.ErrInvalidParams, "key of 32 bytes; type aes128-gcm96 takes 16"},
		"PKCS #8":     {Import{Ciphertext: good}, TypeP256, backend.ErrInvalidParams, "can't be parsed as PKCS #8"},
		"other type":  {Import{Ciphertext: wrapped(t, e, crypto.SHA256, small)}, TypeRSA4096, backend.ErrInvalidParams, "not one of type rsa-4096"},
		"public PEM":  {Import{PublicKey: []byte("-----BEGIN X-----\n-----END X-----\n")}, TypeP256, backend.ErrInvalidParams, "it takes one PUBLIC KEY"},
		"public DER":  {Import{PublicKey: []byte("hello")}, TypeP256, backend.ErrInvalidParams, "public key can't be parsed"},
		"public of":   {Import{PublicKey: publicPEM(t, small.Public())}, TypeP256, backend.ErrInvalidParams, "public key is of type"},
		"public of b": {Import{PublicKey: publicPEM(t, small.Public())}, TypeAES256, backend.ErrInvalidParams, "symmetric or derived"},
	} {
		t.Run(name, func(t *testing.T) {
			err := e.ImportKey(ctx, "k", c.in, KeyOptions{Type: c.kind}, false)
			wantError(t, err, c.sentinel, c.text)
			if c.sentinel == backend.ErrDecryption {
				texts[err.Error()] = true
			}
		})
	}
	if len(texts) != 1 {
		t.Errorf("failed decryptions differ: %v", texts)
	}
	if got := e.List(); len(got) != 0 {
		t.Errorf("there are %v", got)
	}
	wantError(t, e.ImportKey(ctx, "k", Import{Ciphertext: good}, KeyOptions{ManagedKey: "x"}, false), backend.ErrKeyNotFound, "import: managed key")
}

func publicPEM(tb testing.TB, public crypto.PublicKey) []byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// A public key verifies and encrypts; the private one that belongs to it, and no other, can follow.
func TestImportPublicKey(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.ImportKey(ctx, "k", Import{PublicKey: publicPEM(t, key.Public())}, KeyOptions{Type: TypeRSA2048}, true); err != nil {
		t.Fatal(err)
	}
	if info, err := e.Key("k"); err != nil || !info.Versions[0].PublicOnly {
		t.Errorf("got %+v, %v", info, err)
	}
	ciphertext, err := e.Encrypt(ctx, "k", EncryptRequest{Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: ciphertext})
	wantError(t, err, backend.ErrUnsupported, "only the public key was imported")
	_, err = e.Sign(ctx, "k", SignRequest{})
	wantError(t, err, backend.ErrUnsupported, "only the public key was imported")
	_, err = e.HMAC(ctx, "k", MACRequest{})
	wantError(t, err, backend.ErrUnsupported, "without a key for it")

	wantError(t, e.ImportVersion(ctx, "k", Import{Ciphertext: wrapped(t, e, crypto.SHA256, other)}, 1), backend.ErrInvalidParams, "belongs to its public key")
	private := Import{Ciphertext: wrapped(t, e, crypto.SHA256, key)}
	wantError(t, e.ImportVersion(ctx, "k", private, 2), backend.ErrInvalidParams, "there is no version 2")
	if err := e.ImportVersion(ctx, "k", private, 1); err != nil {
		t.Fatal(err)
	}
	wantError(t, e.ImportVersion(ctx, "k", private, 1), backend.ErrInvalidParams, "once")
	plaintext, err := e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: ciphertext})
	if err != nil || string(plaintext) != "secret" {
		t.Errorf("got %q, %v", plaintext, err)
	}
	if err := e.ImportVersion(ctx, "k", Import{Ciphertext: wrapped(t, e, crypto.SHA256, other)}, 0); err != nil {
		t.Fatal(err)
	}
	if err := e.Rotate(ctx, "k", ""); err != nil { // it was allowed
		t.Fatal(err)
	}
	if signature, err := e.Sign(ctx, "k", SignRequest{KeyVersion: 2}); err != nil || !strings.HasPrefix(signature, "vault:v2:") {
		t.Errorf("got %.9s, %v", signature, err)
	}
	h.create(t, "own", KeyOptions{Type: TypeRSA2048})
	wantError(t, e.ImportVersion(ctx, "own", private, 0), backend.ErrInvalidParams, "was not imported")
}

// What one engine exports wrapped another one imports; it is the same key then.
func TestExportWrapped(t *testing.T) {
	from, to := newSoftHouse(t), newSoftHouse(t)
	ctx := t.Context()
	for _, kind := range []string{TypeAES256, TypeP256, TypeRSA2048} {
		from.create(t, kind, KeyOptions{Type: kind, Exportable: true})
	}
	public, err := to.engine.WrappingKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := from.engine.ImportKey(ctx, "destination", Import{PublicKey: publicPEM(t, public)}, KeyOptions{Type: TypeRSA4096}, false); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{TypeAES256, TypeP256, TypeRSA2048} {
		blobs, err := from.engine.ExportWrapped(ctx, "destination", kind, "SHA384", 0)
		if err != nil || len(blobs) != 1 {
			t.Fatal(len(blobs), err)
		}
		if err := to.engine.ImportKey(ctx, kind, Import{Ciphertext: blobs[1], HashFunction: "SHA384"}, KeyOptions{Type: kind, Exportable: true}, false); err != nil {
			t.Fatal(err)
		}
		what := map[bool]string{true: ExportPublicKey, false: ExportEncryptionKey}[kind != TypeAES256]
		a, aerr := from.engine.Export(ctx, kind, what, 1)
		b, berr := to.engine.Export(ctx, kind, what, 1)
		if aerr != nil || berr != nil || a[1] != b[1] {
			t.Errorf("%s: %v, %v, the same: %t", kind, aerr, berr, a[1] == b[1])
		}
	}
	from.create(t, "kept", KeyOptions{Type: TypeAES256})
	_, err = from.engine.ExportWrapped(ctx, "destination", "kept", "", 0)
	wantError(t, err, backend.ErrNotPermitted, "private key material is not exportable")
	_, err = from.engine.ExportWrapped(ctx, TypeAES256, TypeP256, "", 0)
	wantError(t, err, backend.ErrInvalidParams, "not of RSA")
	_, err = from.engine.ExportWrapped(ctx, "destination", TypeP256, "MD5", 0)
	wantError(t, err, backend.ErrInvalidParams, "MD5")
}
