package pkcs11

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/requires"
)

// bothRSA makes an RSA key that signs and decrypts.
func (r *rig) bothRSA(tb testing.TB, b *Backend) Params {
	tb.Helper()
	p := withBits(r.with("rsa", RSAPKCS), 2048)
	makeObject(tb, b, p, "rsa", Attribute{attrDecrypt, true})
	return p
}

// digestOf returns a digest of a message.
func digestOf(h crypto.Hash) []byte {
	d := h.New()
	d.Write([]byte("message"))
	return d.Sum(nil)
}

// TestPreference: the mechanism decides what comes first, and nothing else.
func TestPreference(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	p := r.bothRSA(t, b)
	pss, pkcs1 := backend.RSAPSS, backend.RSAPKCS1v15
	for mechanism, want := range map[Mechanism][]backend.Scheme{RSAPKCS: {pkcs1, pss}, RSAPKCSPSS: {pss, pkcs1}, RSAPKCSOAEP: {pss, pkcs1}} {
		p.Mechanism = mechanism
		if got := schemesOf(mustOpen(t, b, p).Capabilities()); !slices.Equal(got, want) {
			t.Errorf("%s: schemes %v, want %v", mechanism, got, want)
		}
	}
	for curve, want := range map[string]crypto.Hash{"P224": crypto.SHA256, "P256": crypto.SHA256, "P384": crypto.SHA384, "P521": crypto.SHA512} {
		if got := mustGenerate(t, b, withCurve(r.with(curve, ECDSA), curve)).Capabilities().Signatures[0].Hash; got != want {
			t.Errorf("%s: %v comes first, want %v", curve, got, want)
		}
	}
}

// TestPSSSalts: salts of any length are right, up to the longest that there is room for (RFC 8017, Section 9.1.1).
func TestPSSSalts(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	key := mustOpen(t, b, r.bothRSA(t, b))
	pub := key.Public().(*rsa.PublicKey)
	for _, h := range []crypto.Hash{crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		longest := pub.Size() - h.Size() - 2
		for salt, want := range map[int]int{rsa.PSSSaltLengthAuto: h.Size(), rsa.PSSSaltLengthEqualsHash: h.Size(), 1: 1, 20: 20, longest: longest} {
			opts := &rsa.PSSOptions{SaltLength: salt, Hash: h}
			signature, err := key.(backend.Signer).SignContext(t.Context(), digestOf(h), opts)
			if err != nil {
				t.Errorf("%v, salt %d: %v", h, salt, err)
				continue
			}
			if err := rsa.VerifyPSS(pub, h, digestOf(h), signature, &rsa.PSSOptions{SaltLength: want}); err != nil {
				t.Errorf("%v, salt %d: not of a salt of %d bytes: %v", h, salt, want, err)
			}
		}
		r.ResetCounts()
		_, err := key.(backend.Signer).SignContext(t.Context(), digestOf(h), &rsa.PSSOptions{SaltLength: longest + 1, Hash: h})
		wants(t, err, backend.ErrInvalidParams)
		if counts := r.Counts(); len(counts) > 0 {
			t.Errorf("%v: the module was called with too long a salt: %v", h, counts)
		}
	}
}

// TestPKCS1Hashes: DigestInfo is right for each hash, as other implementations see it.
func TestPKCS1Hashes(t *testing.T) {
	openssl := requires.Tool(t, "openssl", "openssl")
	r := newRig(t)
	b := r.client(t)
	key := mustOpen(t, b, r.bothRSA(t, b))
	pub := key.Public().(*rsa.PublicKey)
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pubFile := file("pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	message := file("message", []byte("message"))
	names := map[crypto.Hash]string{crypto.SHA224: "sha224", crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512",
		crypto.SHA512_256: "sha512-256", crypto.SHA3_224: "sha3-224", crypto.SHA3_256: "sha3-256", crypto.SHA3_384: "sha3-384", crypto.SHA3_512: "sha3-512"}
	for _, h := range pkcs1Hashes {
		signature, err := key.(backend.Signer).SignContext(t.Context(), digestOf(h), h)
		if err != nil {
			t.Errorf("%v: %v", h, err)
			continue
		}
		if err := rsa.VerifyPKCS1v15(pub, h, digestOf(h), signature); err != nil {
			t.Errorf("%v: %v", h, err)
		}
		run(t, openssl, "dgst", "-"+names[h], "-verify", pubFile, "-signature", file("signature", signature), message)
	}
	_, err = key.(backend.Signer).SignContext(t.Context(), digestOf(crypto.SHA1), crypto.SHA1)
	wants(t, err, backend.ErrUnsupported)
}

// TestDigestsOfECDSA: what is longer than the order of the curve is cut before the token sees it.
func TestDigestsOfECDSA(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	for curve := range curves {
		key := mustGenerate(t, b, withCurve(r.with(curve, ECDSA), curve))
		for _, h := range ecdsaHashes {
			signature, err := key.(backend.MessageSigner).SignMessage(nil, []byte("message"), h)
			if err == nil {
				err = backend.Verify(key.Public(), digestOf(h), signature, h)
			}
			if err != nil {
				t.Errorf("%s, %v: %v", curve, h, err)
			}
		}
	}
}

// TestRefusedMechanisms: what the token lists and doesn't do is not offered.
func TestRefusedMechanisms(t *testing.T) {
	for _, test := range []struct {
		name    string
		rules   []faultp11.Rule
		removed Mechanism
		schemes []backend.Scheme
		hashes  int // of the first scheme
		salt    backend.SaltRule
		oaep    []crypto.Hash
	}{
		{"nothing", nil, 0, []backend.Scheme{backend.RSAPKCS1v15, backend.RSAPSS}, 9, 0, []crypto.Hash{crypto.SHA1}},
		// The trials are, in this order: the proof, a DigestInfo of SHA-3, PSS with four hashes, PSS without salt.
		{"DigestInfo of SHA-3", []faultp11.Rule{{Function: "C_Sign", Code: 0x021, Skip: 1, Times: 1}}, 0,
			[]backend.Scheme{backend.RSAPKCS1v15, backend.RSAPSS}, 4, 0, []crypto.Hash{crypto.SHA1}},
		{"PSS at all", []faultp11.Rule{{Function: "C_SignInit", Code: 0x071, Skip: 2}}, 0,
			[]backend.Scheme{backend.RSAPKCS1v15}, 9, 0, []crypto.Hash{crypto.SHA1}},
		{"PSS with one hash", []faultp11.Rule{{Function: "C_SignInit", Code: 0x071, Skip: 1, Times: 1}}, RSAPKCS, // the proof is PSS with the first hash, which counts as well

			[]backend.Scheme{backend.RSAPSS}, 3, 0, []crypto.Hash{crypto.SHA1}},
		{"PSS without salt", []faultp11.Rule{{Function: "C_SignInit", Code: 0x071, Skip: 6, Times: 1}}, 0,
			[]backend.Scheme{backend.RSAPKCS1v15, backend.RSAPSS}, 9, backend.SaltEqualsHash, []crypto.Hash{crypto.SHA1}},
		{"PKCS#1 v1.5", nil, RSAPKCS, []backend.Scheme{backend.RSAPSS}, 4, 0, []crypto.Hash{crypto.SHA1}},
		{"OAEP", nil, RSAPKCSOAEP, []backend.Scheme{backend.RSAPKCS1v15, backend.RSAPSS}, 9, 0, nil},
		{"OAEP when tried", []faultp11.Rule{{Function: "C_DecryptInit", Code: 0x007}}, 0, []backend.Scheme{backend.RSAPKCS1v15, backend.RSAPSS}, 9, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			b := r.client(t)
			p := r.bothRSA(t, b)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if test.removed != 0 {
				r.RemoveMechanism(uint64(test.removed))
			}
			b = r.client(t)
			r.Set(test.rules...)
			key := mustOpen(t, b, p)
			r.Set()
			caps := key.Capabilities()
			if got := schemesOf(caps); !slices.Equal(got, test.schemes) {
				t.Fatalf("schemes %v, want %v", got, test.schemes)
			}
			hashes := 0
			for _, a := range caps.Signatures {
				if a.Scheme == test.schemes[0] {
					hashes++
				}
				if a.Scheme == backend.RSAPSS && a.Salt != test.salt {
					t.Errorf("%v: salt rule %v, want %v", a.Hash, a.Salt, test.salt)
				}
			}
			if hashes != test.hashes {
				t.Errorf("%d hashes with %v, want %d: %v", hashes, test.schemes[0], test.hashes, caps.Signatures)
			}
			if !slices.Equal(caps.OAEPHashes, test.oaep) || caps.OAEPLabels {
				t.Errorf("OAEP with %v, labels %t; want %v without", caps.OAEPHashes, caps.OAEPLabels, test.oaep)
			}
			if _, ok := key.(backend.Decrypter); ok != (test.oaep != nil) {
				t.Errorf("the key is a Decrypter: %t", ok)
			}
			if test.salt == backend.SaltEqualsHash {
				_, err := key.(backend.Signer).SignContext(t.Context(), digestOf(crypto.SHA256), &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256})
				wants(t, err, backend.ErrUnsupported)
				signature, err := key.(backend.Signer).SignContext(t.Context(), digestOf(crypto.SHA256), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
				if err != nil || len(signature) != 256 {
					t.Error(err)
				}
			}
		})
	}
}

// TestTrialsAreKept: hashes are tried once for each token, and trouble is not taken for a limit.
func TestTrialsAreKept(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	p := r.bothRSA(t, b)
	r.failing("C_Decrypt", ckrTokenNotPresent)
	_, err := b.Open(t.Context(), p)
	wants(t, err, backend.ErrUnavailable, "CKR_TOKEN_NOT_PRESENT")
	r.Set()
	caps := mustOpen(t, b, p).Capabilities()
	if want := []crypto.Hash{crypto.SHA1}; !slices.Equal(caps.OAEPHashes, want) {
		t.Errorf("hashes %v, want %v", caps.OAEPHashes, want)
	}
	r.ResetCounts()
	if again := mustOpen(t, b, p).Capabilities(); fmt.Sprint(again) != fmt.Sprint(caps) {
		t.Errorf("opened again, the key can do %v and not %v", again, caps)
	}
	if signs, decrypts := r.Count("C_Sign"), r.Count("C_Decrypt"); signs != 1 || decrypts != 0 {
		t.Errorf("%d trial signatures and %d decryptions for the second handle, want 1 and 0", signs, decrypts)
	}
}

// TestRandom: a token without random numbers offers none.
func TestRandom(t *testing.T) {
	r := newRig(t)
	maker := r.client(t)
	key := mustGenerate(t, maker, r.p256("key"))
	for _, n := range []int{1, 2, 1023, 1024, 1025, maxRandom} {
		out, err := key.(backend.Random).GenerateRandom(t.Context(), n)
		if err != nil || len(out) != n || n > 16 && slices.Max(out[n-16:]) == 0 {
			t.Errorf("%d bytes: got %d, error %v", n, len(out), err)
		}
	}
	for _, n := range []int{-1, 0, maxRandom + 1} {
		_, err := key.(backend.Random).GenerateRandom(t.Context(), n)
		wants(t, err, backend.ErrInvalidParams)
	}
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	r.TokenFlags(0, flagRNG)
	key = mustOpen(t, r.client(t), r.p256("key"))
	if key.Capabilities().Usages.Has(backend.UsageGenerateRandom) {
		t.Error("the key claims random numbers")
	}
	_, err := key.(backend.Random).GenerateRandom(t.Context(), 8)
	wants(t, err, backend.ErrUnsupported)
}
