package software

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// TestHMACVectors has test cases 6 and 7 of RFC 4231, Section 4; the keys of the others are shorter than the 256 bits
// that this backend takes. The values for SHA-1 and SHA-3, which the RFC doesn't have, were computed with OpenSSL 3.0.
func TestHMACVectors(t *testing.T) {
	b := New(nil)
	defer b.Close()
	secret := bytes.Repeat([]byte{0xaa}, 131)
	key := must(b.Import(t.Context(), Params{KeyName: "k", KeyType: HMAC}, secret, nil)).(backend.MAC)
	const case6 = "Test Using Larger Than Block-Size Key - Hash Key First"
	const case7 = "This is a test using a larger than block-size key and a larger than block-size data. " +
		"The key needs to be hashed before being used by the HMAC algorithm."
	for _, test := range []struct {
		alg     backend.MACAlgorithm
		message string
		want    string
	}{
		{backend.HMACSHA224, case6, "95e9a0db962095adaebe9b2d6f0dbce2d499f112f2d2b7273fa6870e"},
		{backend.HMACSHA224, case7, "3a854166ac5d9f023f54d517d0b39dbd946770db9c2b95c9f6f565d1"},
		{backend.HMACSHA256, case6, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		{backend.HMACSHA256, case7, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
		{backend.HMACSHA384, case6, "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952"},
		{backend.HMACSHA384, case7, "6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5a678cc31e799176d3860e6110c46523e"},
		{backend.HMACSHA512, case6, "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352" +
			"6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"},
		{backend.HMACSHA512, case7, "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944" +
			"b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58"},
		{backend.HMACSHA1, case6, "90d0dace1c1bdc957339307803160335bde6df2b"},
		{backend.HMACSHA3_224, case6, "b4a1f04c00287a9b7f6075b313d279b833bc8f75124352d05fb9995f"},
		{backend.HMACSHA3_256, case6, "ed73a374b96c005235f948032f09674a58c0ce555cfc1f223b02356560312c3b"},
		{backend.HMACSHA3_384, case6, "0fc19513bf6bd878037016706a0e57bc528139836b9a42c3d419e498e0e1fb9616fd669138d33a1105e07c72b6953bcc"},
		{backend.HMACSHA3_512, case6, "00f751a9e50695b090ed6911a4b65524951cdc15a73a5d58bb55215ea2cd839a" +
			"c79d2b44a39bafab27e83fde9e11f6340b11d991b1b91bf2eee7fc872426c3a4"},
	} {
		got, err := key.ComputeMAC(t.Context(), test.alg, []byte(test.message))
		if err != nil || !bytes.Equal(got, unhex(test.want)) {
			t.Errorf("%s: got %x, %v, want %s", test.alg, got, err, test.want)
		}
	}
}

// TestKeyWrapVectors has values that OpenSSL 3.0 computed (EVP_aes_128_wrap_pad and EVP_aes_256_wrap_pad), checked there
// against RFC 5649, Section 6. The RFC's own examples have a 192-bit key, which this backend doesn't take.
func TestKeyWrapVectors(t *testing.T) {
	b := New(nil)
	defer b.Close()
	for _, test := range []struct {
		kek, material int // the bytes 0, 1, 2 … and 255, 254, 253 …
		want          string
	}{
		{16, 16, "a3491cd23cec2b151f6f99664da16b02fa503425235cfae2"},
		{16, 20, "28454aee0a21bd9eef1e64b559ce27dfb327585742d559810f0fcbd35c8c57dc"},
		{16, 24, "ac5dc51010692e98b2ba102e13f06e6b50d0caf6c3ff9e1360e59ca9d727d844"},
		{16, 33, "cd4d84f268998162ea2c34b731904508dd32549fe9cc0af28afd3f6494f4af6bc0486532ffea0154c7a8c9a187620aa4"},
		{32, 16, "0e2a6513949aa6045d359065d975612ea3b70adcc6ed79d7"},
		{32, 20, "e20f97f734f443b493c47ddf0885529f65dbad3020a4a520c8df739cdda82176"},
		{32, 24, "2444053707eb369dbe97b9cd7f740df4288332abe0970e43cada219742a02b9d"},
		{32, 33, "5d96149e28d39519e3a7bcb48d459a03325643e09da029bfc0befbcc2bda07b3dde2910a77818286c61121a77a01fe11"},
	} {
		kek, material := make([]byte, test.kek), make([]byte, test.material)
		for i := range kek {
			kek[i] = byte(i)
		}
		for i := range material {
			material[i] = byte(255 - i)
		}
		key := must(b.Import(t.Context(), Params{KeyName: "k", KeyType: AES}, kek, &backend.ImportOptions{Replace: true})).(backend.Wrapper)
		got, err := key.UnwrapKey(t.Context(), unhex(test.want))
		if err != nil || !bytes.Equal(got, material) {
			t.Errorf("unwrap %d bytes with %d: got %x, %v", test.material, test.kek, got, err)
		}
		wrapped, err := key.WrapKey(t.Context(), material) // AES-KWP is deterministic
		if err != nil || !bytes.Equal(wrapped, unhex(test.want)) {
			t.Errorf("wrap %d bytes with %d: got %x, %v", test.material, test.kek, wrapped, err)
		}
	}
}

// TestAESGCMVector opens test case 16 of the GCM specification (McGrew, Viega), an AES-256 key with a 96-bit nonce, in
// the form nonce ‖ ciphertext ‖ tag.
func TestAESGCMVector(t *testing.T) {
	b := New(nil)
	defer b.Close()
	key := must(b.Import(t.Context(), Params{KeyName: "k", KeyType: AES},
		unhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"), nil)).(backend.AEAD)
	plaintext := unhex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")
	aad := unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
	sealed := unhex("cafebabefacedbaddecaf888" +
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" +
		"76fc6ece0f4e1768cddf8853bb2d551b")
	got, err := key.Open(t.Context(), sealed, aad)
	if err != nil || !bytes.Equal(got, plaintext) {
		t.Errorf("got %x, %v", got, err)
	}
	again := must(key.Seal(t.Context(), plaintext, aad))
	if len(again) != 12+len(plaintext)+16 || bytes.Equal(again[:12], sealed[:12]) {
		t.Errorf("sealed to %d bytes, with nonce %x", len(again), again[:12])
	}
}

// TestECDHVector is the example of RFC 5903, Section 8.1.
func TestECDHVector(t *testing.T) {
	b := New(nil)
	defer b.Close()
	private := must(ecdsa.ParseRawPrivateKey(elliptic.P256(), unhex("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433")))
	key := must(b.Import(t.Context(), Params{KeyName: "k", KeyType: ECDSA, Curve: P256}, private, nil)).(backend.KeyAgreer)
	peer := must(ecdh.P256().NewPublicKey(unhex("04d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63" +
		"56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab")))
	want := unhex("d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de")
	if got, err := key.ECDH(peer); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, %v, want %x", got, err, want)
	}
	if _, err := b.Import(t.Context(), Params{KeyName: "k", KeyType: ECDSA}, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		&backend.ImportOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	if got, err := key.ECDH(peer); !errors.Is(err, backend.ErrKeyChanged) || got != nil {
		t.Errorf("a handle of the key that was replaced: got %x, %v", got, err)
	}
}

func TestWrapLimits(t *testing.T) {
	b := New(nil)
	defer b.Close()
	for _, test := range []struct {
		params    Params
		low, high int
	}{
		{Params{KeyName: "aes", KeyType: AES, KeyBits: 256}, 16, 8192},
		{Params{KeyName: "rsa", KeyType: RSA, KeyBits: 2048}, 1, 190}, // 256 - 2*32 - 2
	} {
		key := must(b.Generate(t.Context(), test.params, nil)).(backend.Wrapper)
		for _, n := range []int{test.low, test.high} {
			material := randomBytes(n)
			got, err := key.UnwrapKey(t.Context(), must(key.WrapKey(t.Context(), material)))
			if err != nil || !bytes.Equal(got, material) {
				t.Errorf("%s: %d bytes: %v, or other material", test.params.KeyName, n, err)
			}
		}
		for _, n := range []int{test.low - 1, test.high + 1} {
			_, err := key.WrapKey(t.Context(), make([]byte, n))
			wantError(t, err, backend.ErrInvalidParams, "wrap", "takes", test.params.KeyName)
		}
		for _, n := range []int{0, 1, 16, 23, 25, 256, 9000} {
			if _, err := key.UnwrapKey(t.Context(), make([]byte, n)); err != backend.ErrDecryption {
				t.Errorf("%s: unwrap of %d zero bytes: %v", test.params.KeyName, n, err)
			}
		}
	}
}

func TestSHA1SignaturesRefused(t *testing.T) {
	b := New(nil)
	defer b.Close()
	for _, p := range []Params{{KeyName: "rsa", KeyType: RSA, KeyBits: 2048}, {KeyName: "ec", KeyType: ECDSA, Curve: P256}} {
		key := must(b.Generate(t.Context(), p, nil)).(backend.Signer)
		for _, opts := range []crypto.SignerOpts{crypto.SHA1, crypto.MD5SHA1, &rsa.PSSOptions{Hash: crypto.SHA1}} {
			if _, err := key.SignContext(t.Context(), make([]byte, opts.HashFunc().Size()), opts); !errors.Is(err, backend.ErrUnsupported) {
				t.Errorf("%s with %T %v: %v", p.KeyName, opts, opts.HashFunc(), err)
			}
		}
	}
}

// TestReplacedKeyStops checks that no operation of a handle answers for the key that took its key's place.
func TestReplacedKeyStops(t *testing.T) {
	b := New(nil)
	defer b.Close()
	ctx, digest := t.Context(), make([]byte, 32)
	for _, k := range everyKind {
		p := k.Params.(Params)
		p.KeyName = "k"
		old := must(b.Generate(ctx, p, &backend.GenerateOptions{Replace: true}))
		must(b.Generate(ctx, Params{KeyName: "k", KeyType: Ed25519}, &backend.GenerateOptions{Replace: true}))
		var errs []error
		try := func(_ []byte, err error) { errs = append(errs, err) }
		if s, ok := old.(backend.MessageSigner); ok {
			opts := crypto.SignerOpts(crypto.SHA256)
			if old.Capabilities().SignsMessages() {
				opts = crypto.Hash(0)
			}
			try(s.SignContext(ctx, digest, opts))
			try(s.SignMessageContext(ctx, digest, opts))
		}
		if d, ok := old.(backend.Decrypter); ok {
			try(d.DecryptContext(ctx, make([]byte, old.Public().(*rsa.PublicKey).Size()), &rsa.OAEPOptions{Hash: crypto.SHA256}))
		}
		if a, ok := old.(backend.AEAD); ok {
			try(a.Seal(ctx, digest, nil))
			try(a.Open(ctx, make([]byte, 64), nil))
		}
		if w, ok := old.(backend.Wrapper); ok {
			try(w.WrapKey(ctx, digest))
			try(w.UnwrapKey(ctx, make([]byte, 256)))
		}
		if m, ok := old.(backend.MAC); ok {
			try(m.ComputeMAC(ctx, backend.HMACSHA256, digest))
		}
		try(old.(backend.Random).GenerateRandom(ctx, 8))
		for i, err := range errs {
			if !errors.Is(err, backend.ErrKeyChanged) {
				t.Errorf("%s: operation %d of the replaced key: %v", k.Algorithm, i, err)
			}
		}
	}
}

func TestReplaceRules(t *testing.T) {
	b := New(nil)
	defer b.Close()
	p := Params{KeyName: "k", KeyType: Ed25519}
	old := must(b.Generate(t.Context(), p, nil)).(backend.Signer)
	_, err := b.Generate(t.Context(), p, &backend.GenerateOptions{})
	wantError(t, err, backend.ErrKeyExists, old.ID(), `"memory"`)
	_, err = b.Import(t.Context(), Params{KeyName: "k", KeyType: HMAC}, make([]byte, 32), nil)
	wantError(t, err, backend.ErrKeyExists, old.ID())
	if _, err := old.SignContext(t.Context(), []byte("m"), crypto.Hash(0)); err != nil {
		t.Errorf("the key after it was not replaced: %v", err)
	}
	// A replacement of another type is a replacement all the same.
	must(b.Import(t.Context(), Params{KeyName: "k", KeyType: HMAC}, make([]byte, 32), &backend.ImportOptions{Replace: true}))
	if got := must(b.Open(t.Context(), Params{KeyName: "k"})).Capabilities().Algorithm; got != "HMAC" {
		t.Errorf("after the import there is a key of algorithm %q", got)
	}
}

// TestReplaceWhileInUse checks that each signature made during replacements is one of the handle's own key.
func TestReplaceWhileInUse(t *testing.T) {
	b := New(nil)
	defer b.Close()
	p := Params{KeyName: "k", KeyType: Ed25519}
	must(b.Generate(t.Context(), p, nil))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				key := must(b.Open(t.Context(), p)).(backend.Signer)
				for range 4 {
					sig, err := key.SignContext(t.Context(), []byte("m"), crypto.Hash(0))
					if errors.Is(err, backend.ErrKeyChanged) {
						break
					}
					if err == nil {
						err = backend.Verify(key.Public(), []byte("m"), sig, crypto.Hash(0))
					}
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 100 {
		must(b.Generate(t.Context(), p, &backend.GenerateOptions{Replace: true}))
	}
	wg.Wait()
}

func TestConcurrentUse(t *testing.T) {
	b := New(nil)
	defer b.Close()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			p := Params{KeyName: "k" + string(rune('a'+i%8)), KeyType: AES, KeyBits: 256}
			_, err := b.Generate(t.Context(), p, nil)
			if err != nil && !errors.Is(err, backend.ErrKeyExists) {
				t.Error(err)
			}
			key := must(b.Open(t.Context(), p)).(backend.AEAD)
			sealed := must(key.Seal(t.Context(), []byte("text"), nil))
			if got, err := key.Open(t.Context(), sealed, nil); string(got) != "text" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			for _, err := range b.List(t.Context(), nil) {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantNames(t, b, strings.Split("ka kb kc kd ke kf kg kh", " ")...)
}

func TestRandomIsRandom(t *testing.T) {
	b := New(nil)
	defer b.Close()
	key := must(b.Generate(context.Background(), Params{KeyName: "k", KeyType: AES, KeyBits: 128}, nil)).(backend.Random)
	one, two := must(key.GenerateRandom(t.Context(), MaxRandom)), must(key.GenerateRandom(t.Context(), MaxRandom))
	if len(one) != MaxRandom || bytes.Equal(one, two) {
		t.Errorf("two calls return %d bytes, equal: %t", len(one), bytes.Equal(one, two))
	}
	_, err := key.GenerateRandom(t.Context(), MaxRandom+1)
	wantError(t, err, backend.ErrInvalidParams, "131072")
}
