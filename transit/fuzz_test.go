package transit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"testing"

	mldsax509 "filippo.io/mldsa/x509"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// No ciphertext but those that the engine has made is ever decrypted, and none makes it panic.
func FuzzDecrypt(f *testing.F) {
	h := newSoftHouse(f)
	for _, kind := range []string{TypeAES256, TypeRSA2048, TypeChaCha20Poly1305} {
		h.create(f, kind, KeyOptions{Type: kind})
		text, err := h.engine.Encrypt(f.Context(), kind, EncryptRequest{Plaintext: []byte("m")})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(kind, text[:len(text)-2], []byte(nil))
		f.Add(kind, text, []byte("x"))
	}
	f.Add(TypeAES256, "vault:v1:", []byte(nil))
	f.Fuzz(func(t *testing.T, kind, text string, data []byte) {
		_, err := h.engine.Decrypt(t.Context(), kind, DecryptRequest{Ciphertext: text, AssociatedData: data})
		if !errors.Is(err, backend.ErrDecryption) && !errors.Is(err, backend.ErrInvalidParams) && !errors.Is(err, backend.ErrKeyNotFound) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// What is taken as an ECDSA signature has one form: encoding it again gives the same bytes.
func FuzzECDSASignature(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := ecdsa.SignASN1(rand.Reader, key, make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	raw, err := joinECDSA(&key.PublicKey, der)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der, false)
	f.Add(raw, true)
	f.Add(append(bytes.Clone(der), 0), false)
	f.Add([]byte{0x30, 8, 2, 1, 1, 2, 1, 1, 5, 0}, false)
	f.Fuzz(func(t *testing.T, signature []byte, jws bool) {
		der, ok := splitECDSA(&key.PublicKey, signature, jws)
		if !ok {
			return
		}
		again, err := joinECDSA(&key.PublicKey, der)
		if err != nil {
			t.Fatalf("%x was taken but can't be encoded: %v", signature, err)
		}
		if jws && !bytes.Equal(again, signature) {
			t.Errorf("%x was taken as %x", signature, again)
		}
		if one, err := asn1.Marshal(ecdsaSignature{new(big.Int).SetBytes(again[:32]), new(big.Int).SetBytes(again[32:])}); err != nil || !bytes.Equal(one, der) {
			t.Errorf("%x was taken, and its DER is %x, %v", der, one, err)
		}
		if back, ok := splitECDSA(&key.PublicKey, again, true); !ok || !bytes.Equal(back, der) {
			t.Errorf("%x was taken, and is %x", der, back)
		}
	})
}

// Records that are read can be used, and written again as they are.
func FuzzRecord(f *testing.F) {
	h := newSoftHouse(f)
	for _, opts := range []KeyOptions{{Type: TypeP256}, {Type: TypeAES256, Derived: true, Convergent: true}, {Type: TypeHMAC, KeySize: 64}} {
		h.create(f, "k-"+opts.Type, opts)
		f.Add(encoded(f, h.engine.known("k-"+opts.Type).rec))
	}
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := decodeRecord(data)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Error(err)
			}
			return
		}
		text := encoded(t, rec)
		again, err := decodeRecord(text)
		if err != nil || !bytes.Equal(encoded(t, again), text) {
			t.Errorf("%s becomes %+v, %v", data, again, err)
		}
		k, err := newKey("k", 1, rec, nil)
		if err == nil && len(k.versions) != len(rec.Versions) {
			t.Error("versions are missing")
		}
	})
}

// Backups, ours and Vault's, are read or refused.
func FuzzBackup(f *testing.F) {
	h := newSoftHouse(f)
	h.create(f, "k", KeyOptions{Type: TypeEd25519, Exportable: true, AllowPlaintextBackup: true})
	text, err := h.engine.Backup(f.Context(), "k")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, v := range readVectors(f) {
		f.Add(v.Backup)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := readBackup(t.Context(), text)
		if err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) && !errors.Is(err, backend.ErrUnsupported) {
				t.Error(err)
			}
			return
		}
		if err := b.Key.check(); err != nil {
			t.Error(err)
		}
		data, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readBackup(t.Context(), base64.StdEncoding.EncodeToString(data)) // as Backup writes it
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if same, err := json.Marshal(again); err != nil || !bytes.Equal(same, data) {
			t.Errorf("%s becomes %s, %v", data, same, err)
		}
	})
}

// Keys that are imported can be used, and are the keys that they were.
func FuzzImportedKey(f *testing.F) {
	h := newSoftHouse(f)
	if _, err := h.engine.WrappingKey(f.Context()); err != nil { // making it takes longer than one input may
		f.Fatal(err)
	}
	for _, kind := range []string{TypeP256, TypeEd25519, TypeMLDSA44} {
		private, err := softTypes[kind].generate()
		if err != nil {
			f.Fatal(err)
		}
		der, err := mldsax509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(kind, der)
		f.Add(TypeRSA2048, der)
	}
	f.Add(TypeAES256, make([]byte, 32))
	f.Add(TypeHMAC, make([]byte, 33))
	f.Fuzz(func(t *testing.T, kind string, key []byte) {
		if softTypes[kind] == nil || len(key) < 16 {
			return
		}
		rec := &record{Format: recordFormat, ID: "fuzz", Type: kind, First: 1, MinDecryption: 1, KeySize: len(key)}
		v, err := h.engine.material(t.Context(), &Import{Ciphertext: wrapped(t, h.engine, crypto.SHA256, key)}, rec)
		if err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) && !errors.Is(err, backend.ErrUnsupported) {
				t.Errorf("%s, %x: %v", kind, key, err)
			}
			return
		}
		rec.append(v)
		k, err := newKey("k", 1, rec, nil)
		if err != nil {
			t.Fatalf("%s, %x: %v", kind, key, err)
		}
		if !softTypes[kind].public {
			if !bytes.Equal(v.Material, key) {
				t.Errorf("%x was imported as %x", key, v.Material)
			}
			return
		}
		private, err := mldsax509.ParsePKCS8PrivateKey(v.Material)
		if err != nil || !samePublic(private.(crypto.Signer).Public(), k.versions[0].public) {
			t.Errorf("%s, %x was imported as %x, %v", kind, key, v.Material, err)
		}
	})
}

// Whatever the data of a stream is replaced with, only what was written is read.
func FuzzStream(f *testing.F) {
	h := newSoftHouse(f)
	h.create(f, "k", KeyOptions{Type: TypeAES256})
	data := bytes.Repeat([]byte("attack at dawn. "), 800)
	stream := encryptStream(f, h.engine, "k", data, smallStream)
	f.Add(0, len(stream), []byte(nil))
	f.Add(20, 1, []byte("x"))
	f.Add(len(stream)-1, 1, []byte(nil))
	f.Add(len(stream), 0, []byte{0})
	f.Add(len(stream)/2, MinStreamSegment, stream[len(stream)/2:])
	f.Fuzz(func(t *testing.T, at, n int, with []byte) {
		at = max(0, min(at, len(stream)))
		n = max(0, min(n, len(stream)-at))
		bad := slices.Concat(stream[:at], with, stream[at+n:])
		got, err := decryptStream(t, h.engine, "k", bad, StreamOptions{})
		if !bytes.HasPrefix(data, got) || (err == nil) != bytes.Equal(bad, stream) || err == nil && len(got) != len(data) {
			t.Errorf("%d bytes at %d are %x: read %d bytes, %v", n, at, with, len(got), err)
		}
		if err != nil && !errors.Is(err, backend.ErrDecryption) && !errors.Is(err, backend.ErrInvalidParams) && !errors.Is(err, backend.ErrUnsupported) {
			t.Error(err)
		}
	})
}

// Import blobs are refused alike.
func FuzzImport(f *testing.F) {
	h := newSoftHouse(f)
	good := wrapped(f, h.engine, importHashes["SHA256"], make([]byte, 32))
	f.Add(good[:511], "SHA256")
	f.Add(append(bytes.Clone(good), 0), "SHA256")
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "SHA1")
	f.Fuzz(func(t *testing.T, data []byte, hash string) {
		for _, in := range []Import{{Ciphertext: data, HashFunction: hash}, {PublicKey: data}} {
			for _, kind := range []string{TypeAES256, TypeP256} {
				_, err := h.engine.material(t.Context(), &in, &record{Type: kind})
				if err == nil && in.PublicKey == nil && !bytes.Equal(data, good) {
					t.Errorf("%x is taken", data)
				}
				if err != nil && !errors.Is(err, backend.ErrInvalidParams) && !errors.Is(err, backend.ErrDecryption) {
					t.Error(err)
				}
			}
		}
	})
}

// encoded returns a record that can be stored as it is stored.
func encoded(tb testing.TB, r *record) []byte {
	tb.Helper()
	text, err := r.encode()
	if err != nil {
		tb.Fatal(err)
	}
	return text
}
