package transit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestDeriveKey: the peer, with the standard library, derives the key that the transit key has, from a software key and a managed
// one alike.
func TestDeriveKey(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	h.addManaged(t, "p384", allUsages|backend.UsageDerive)
	h.addManaged(t, "p384-signs", allUsages)
	h.create(t, "p384", KeyOptions{ManagedKey: "p384"})
	h.create(t, "p384-signs", KeyOptions{ManagedKey: "p384-signs"})
	h.create(t, "p256", KeyOptions{Type: TypeP256})
	h.create(t, "ed25519", KeyOptions{Type: TypeEd25519})
	for base, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384()} {
		peer, err := ecdsa.GenerateKey(curve, rand.Reader)
		fatal(t, err)
		spki, err := x509.MarshalPKIXPublicKey(peer.Public())
		fatal(t, err)
		encoded := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
		fatal(t, e.DeriveKey(ctx, "from-"+base, base, DeriveRequest{PeerPublicKey: encoded, Info: []byte("orders")}, KeyOptions{Type: TypeAES256, Exportable: true}))
		info, err := e.Key(base)
		fatal(t, err)
		ours, err := info.Versions[0].PublicKey.(*ecdsa.PublicKey).ECDH()
		fatal(t, err)
		theirs, err := peer.ECDH()
		fatal(t, err)
		secret, err := theirs.ECDH(ours)
		fatal(t, err)
		want, err := hkdf.Key(sha256.New, secret, nil, "orders", 32)
		fatal(t, err)
		wantError(t, e.Rotate(ctx, "from-"+base, ""), backend.ErrNotPermitted, "does not allow rotation")
		if got, err := e.Export(ctx, "from-"+base, ExportEncryptionKey, 0); err != nil || got[1] != base64.StdEncoding.EncodeToString(want) {
			t.Errorf("%s: got %v, %v; want %x", base, got, err, want)
		}

		wantError(t, e.DeriveKey(ctx, "from-"+base, base, DeriveRequest{PeerPublicKey: spki}, KeyOptions{Type: TypeHMAC}), backend.ErrKeyExists)
		other := map[string]string{"p256": "p384", "p384": "p256"}[base]
		wantError(t, e.DeriveKey(ctx, "new", other, DeriveRequest{PeerPublicKey: spki}, KeyOptions{Type: TypeAES128}), backend.ErrInvalidParams, "the peer's public key is of type ecdsa-"+base)
		wantError(t, e.DeriveKey(ctx, "new", base, DeriveRequest{PeerPublicKey: spki[1:]}, KeyOptions{Type: TypeAES128}), backend.ErrInvalidParams, "derive: public key can't be parsed")
		wantError(t, e.DeriveKey(ctx, "new", base, DeriveRequest{PeerPublicKey: spki}, KeyOptions{Type: TypeP256}), backend.ErrUnsupported, "symmetric software types")
		wantError(t, e.DeriveKey(ctx, "new", base, DeriveRequest{PeerPublicKey: spki}, KeyOptions{Type: TypeAES128, AutoRotatePeriod: time.Hour}), backend.ErrInvalidParams, "auto_rotate_period")
		wantError(t, e.DeriveKey(ctx, "new", base, DeriveRequest{PeerPublicKey: spki, KeyVersion: 2}, KeyOptions{Type: TypeAES128}), backend.ErrInvalidParams, "higher than the latest")
		wantError(t, e.DeriveKey(ctx, "new", "ed25519", DeriveRequest{PeerPublicKey: spki}, KeyOptions{Type: TypeAES128}), backend.ErrUnsupported, "does not agree on secrets")
		wantError(t, e.DeriveKey(ctx, "new", "nobody", DeriveRequest{PeerPublicKey: spki}, KeyOptions{Type: TypeAES128}), backend.ErrKeyNotFound, "base key not found")
		if base == "p384" {
			wantError(t, e.DeriveKey(ctx, "new", "p384-signs", DeriveRequest{PeerPublicKey: spki}, KeyOptions{Type: TypeAES128}), backend.ErrNotPermitted, "derive")
		}
	}
}

// TestEd25519ph: a digest by SHA-512 is signed as RFC 8032 has it, with a context or none, by a key of its own and a derived one.
func TestEd25519ph(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	h.addManaged(t, "ed25519", allUsages)
	h.create(t, "managed", KeyOptions{ManagedKey: "ed25519"})
	h.create(t, "own", KeyOptions{Type: TypeEd25519})
	h.create(t, "derived", KeyOptions{Type: TypeEd25519, Derived: true})
	h.create(t, "mldsa", KeyOptions{Type: TypeMLDSA44})
	sum := sha512.Sum512([]byte("message"))
	for _, name := range []string{"managed", "own", "derived"} {
		for _, context := range []string{"", "context"} {
			r := SignRequest{Input: sum[:], Prehashed: true, SignatureContext: context}
			if name == "derived" {
				r.Context = []byte("user")
			}
			signature, err := e.Sign(ctx, name, r)
			fatal(t, err)
			r.HashAlgorithm = "sha2-512" // which is what it means
			if ok, err := e.Verify(ctx, name, signature, r); !ok || err != nil {
				t.Errorf("%s: got %t, %v", name, ok, err)
			}
			for _, other := range []SignRequest{
				{Input: sum[:], Context: r.Context, SignatureContext: context},
				{Input: sum[:], Context: r.Context, Prehashed: true, SignatureContext: context + "x"},
			} {
				if ok, err := e.Verify(ctx, name, signature, other); ok || err != nil {
					t.Errorf("%s: verified as something else: got %t, %v", name, ok, err)
				}
			}
			if name == "derived" {
				continue
			}
			info, err := e.Key(name)
			fatal(t, err)
			_, encoded, _ := parse("signature", signature)
			raw, _ := decode(encoded, base64.StdEncoding)
			err = ed25519.VerifyWithOptions(info.Versions[0].PublicKey.(ed25519.PublicKey), sum[:], raw, &ed25519.Options{Hash: crypto.SHA512, Context: context})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	_, err := e.Sign(ctx, "own", SignRequest{Input: sum[:20], Prehashed: true})
	wantError(t, err, backend.ErrInvalidParams, "got 20 bytes")
	_, err = e.Sign(ctx, "own", SignRequest{Input: sum[:], Prehashed: true, HashAlgorithm: "sha2-256"})
	wantError(t, err, backend.ErrUnsupported, "a digest by sha2-512")
	_, err = e.Sign(ctx, "mldsa", SignRequest{Input: sum[:], Prehashed: true})
	wantError(t, err, backend.ErrUnsupported, "signs the input itself")
}

func TestDataKeysAndUpsert(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	for _, want := range []bool{true, false} {
		if made, err := e.Upsert(ctx, "k", KeyOptions{Type: TypeXChaCha20Poly1305}); err != nil || made != want {
			t.Fatalf("got %t, %v; want %t", made, err, want)
		}
	}
	_, err := e.Upsert(ctx, "other", KeyOptions{Type: "rot13"})
	wantError(t, err, backend.ErrInvalidParams, "rot13")
	keys, err := e.NewDataKeys(ctx, "k", DataKeyRequest{Bits: 128, AssociatedData: []byte("a")}, 20)
	if err != nil || len(keys) != 20 {
		t.Fatalf("got %d, %v", len(keys), err)
	}
	seen := map[string]bool{}
	for _, k := range keys {
		got, err := e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: k.Ciphertext, AssociatedData: []byte("a")})
		if err != nil || !bytes.Equal(got, k.Plaintext) || len(got) != 16 {
			t.Errorf("got %x, %v; want %x", got, err, k.Plaintext)
		}
		seen[string(got)] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d different keys", len(seen))
	}
	for _, count := range []int{0, -1, MaxDataKeys + 1} {
		_, err = e.NewDataKeys(ctx, "k", DataKeyRequest{}, count)
		wantError(t, err, backend.ErrInvalidParams, "data keys; it takes 1 to 1000")
	}
	_, err = e.NewDataKeys(ctx, "k", DataKeyRequest{Bits: 100}, 1)
	wantError(t, err, backend.ErrInvalidParams, "invalid bit length")
	_, err = e.NewDataKeys(ctx, "k", DataKeyRequest{KeyVersion: 9}, 2)
	wantError(t, err, backend.ErrInvalidParams, "higher than the latest")
}

// TestImportManaged: a wrapped key goes into the key manager, if the entry allows it, and is used there.
func TestImportManaged(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	entry := func(name string, params software.Params, allow bool) {
		params.KeyName = name
		fatal(t, h.registry.Create(ctx, managedkey.Entry{Ref: namespace.Ref{Name: name}, Backend: h.software, Params: params, Usages: allUsages, AllowStoreKey: allow, AnyMount: true}))
	}
	entry("ec", software.Params{KeyType: software.ECDSA}, true)
	entry("aes", software.Params{KeyType: software.AES}, true)
	entry("closed", software.Params{KeyType: software.ECDSA}, false)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	in := Import{Ciphertext: wrapped(t, e, crypto.SHA256, key)}
	fatal(t, e.ImportKey(ctx, "ec", in, KeyOptions{ManagedKey: "ec"}, false))
	info, err := e.Key("ec")
	if err != nil || !info.Managed || !info.Imported || !key.PublicKey.Equal(info.Versions[0].PublicKey) {
		t.Errorf("got %+v, %v", info, err)
	}
	signature, err := e.Sign(ctx, "ec", SignRequest{Input: []byte("m"), Marshaling: MarshalingASN1})
	fatal(t, err)
	_, encoded, _ := parse("signature", signature)
	raw, _ := decode(encoded, base64.StdEncoding)
	if sum := sha256.Sum256([]byte("m")); !ecdsa.VerifyASN1(&key.PublicKey, sum[:], raw) {
		t.Error("a signature by another key")
	}
	fatal(t, e.ImportKey(ctx, "aes", Import{Ciphertext: wrapped(t, e, crypto.SHA256, make([]byte, 32))}, KeyOptions{ManagedKey: "aes"}, true))
	if info, err := e.Key("aes"); err != nil || info.Type != TypeAES256 {
		t.Errorf("got %+v, %v", info, err)
	}

	wantError(t, e.ImportKey(ctx, "ec", in, KeyOptions{ManagedKey: "closed"}, false), backend.ErrKeyExists)
	wantError(t, e.ImportKey(ctx, "new", in, KeyOptions{ManagedKey: "closed"}, false), backend.ErrNotPermitted, "allow_store_key")
	wantError(t, e.ImportKey(ctx, "new", in, KeyOptions{ManagedKey: "nobody"}, false), backend.ErrKeyNotFound)
	wantError(t, e.ImportKey(ctx, "new", Import{PublicKey: []byte("x")}, KeyOptions{ManagedKey: "closed"}, false), backend.ErrInvalidParams, "no public key")
	bad := Import{Ciphertext: bytes.Clone(in.Ciphertext)}
	bad.Ciphertext[600] ^= 1
	wantError(t, e.ImportKey(ctx, "new", bad, KeyOptions{ManagedKey: "closed"}, false), backend.ErrDecryption)
}

// TestPKCS1v15Managed: with a token that decrypts without padding, a wrong padding has the same plaintext each time, and each
// engine, so that asking somebody else tells nothing either.
func TestPKCS1v15Managed(t *testing.T) {
	token := softhsm.Require(t)
	for _, raw := range []bool{true, false} {
		b, err := pkcs11.New(pkcs11.Library{Name: "hsm1", Path: token.Module, RawRSA: raw})
		fatal(t, err)
		r := managedkey.NewRegistry()
		mount, err := r.Mount(t.Context(), "", "transit")
		fatal(t, err)
		fatal(t, r.Create(t.Context(), managedkey.Entry{
			Ref: namespace.Ref{Name: "rsa"}, Backend: b, AllowGenerateKey: true, AnyMount: true, Usages: backend.UsageEncrypt | backend.UsageDecrypt,
			Params: pkcs11.Params{Library: "hsm1", Slot: token.Slot, PIN: backend.Secret(token.PIN), KeyLabel: "raw", Mechanism: pkcs11.RSAPKCSOAEP, KeyBits: 2048},
		}))
		var wrong []string
		for range 2 {
			e := New(mount, &Options{AllowPKCS1v15: true})
			fatal(t, e.CreateKey(t.Context(), "rsa", KeyOptions{ManagedKey: "rsa"}))
			text, err := e.Encrypt(t.Context(), "rsa", EncryptRequest{Plaintext: []byte("secret"), PaddingScheme: PaddingPKCS1v15})
			fatal(t, err)
			got, err := e.Decrypt(t.Context(), "rsa", DecryptRequest{Ciphertext: text, PaddingScheme: PaddingPKCS1v15})
			if !raw {
				wantError(t, err, backend.ErrUnsupported, "doesn't decrypt without a padding scheme")
				break
			}
			if err != nil || string(got) != "secret" {
				t.Errorf("got %q, %v", got, err)
			}
			text = format(1, append(make([]byte, 255), 2), base64.StdEncoding)
			for range 2 {
				got, err := e.Decrypt(t.Context(), "rsa", DecryptRequest{Ciphertext: text, PaddingScheme: PaddingPKCS1v15})
				fatal(t, err)
				wrong = append(wrong, string(got))
			}
		}
		if raw && (wrong[0] != wrong[1] || wrong[0] != wrong[2] || wrong[0] != wrong[3]) {
			t.Errorf("got different plaintexts %x", wrong)
		}
		fatal(t, b.Close())
	}
}
