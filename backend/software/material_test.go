//lint:file-ignore SA1019 damaged keys can be built in no other way than by their fields

package software

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

func unhex(s string) []byte { return must(hex.DecodeString(strings.ReplaceAll(s, " ", ""))) }

func TestImportRefuses(t *testing.T) {
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	otherRSA := must(rsa.GenerateKey(rand.Reader, 2048))
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	otherEC := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	_, otherEd, _ := ed25519.GenerateKey(rand.Reader)

	with := func(change func(k *rsa.PrivateKey)) *rsa.PrivateKey {
		k := &rsa.PrivateKey{PublicKey: rsaKey.PublicKey, D: rsaKey.D, Primes: bigs(rsaKey.Primes)}
		change(k)
		return k
	}
	withEC := func(change func(k *ecdsa.PrivateKey)) *ecdsa.PrivateKey {
		k := &ecdsa.PrivateKey{PublicKey: ec.PublicKey, D: ec.D}
		change(k)
		return k
	}
	halves := append(ed[:32:32], otherEd[32:]...)
	var nobody struct{ crypto.PrivateKey }

	for _, test := range []struct {
		name     string
		params   Params
		material any
		want     error
		says     string
	}{
		{"nil", Params{}, nil, backend.ErrUnsupported, "<nil>"},
		{"unknown type", Params{}, nobody, backend.ErrUnsupported, "*rsa.PrivateKey"},
		{"public key", Params{}, &rsaKey.PublicKey, backend.ErrUnsupported, "*rsa.PublicKey"},
		{"string", Params{KeyType: AES}, "0123456789abcdef", backend.ErrUnsupported, "string"},
		{"Ed25519 by pointer", Params{}, &ed, backend.ErrUnsupported, "*ed25519.PrivateKey"},

		{"nil RSA", Params{}, (*rsa.PrivateKey)(nil), backend.ErrInvalidParams, "nil"},
		{"empty RSA", Params{}, &rsa.PrivateKey{}, backend.ErrInvalidParams, "modulus"},
		{"RSA 1024", Params{}, weakRSA(1024), backend.ErrInvalidParams, "1024 bits; it takes 2048"},
		{"RSA 2056", Params{}, weakRSA(2056), backend.ErrInvalidParams, "2056 bits"},
		{"RSA e=3", Params{}, with(func(k *rsa.PrivateKey) { k.E = 3 }), backend.ErrInvalidParams, "exponent is 3"},
		{"RSA even e", Params{}, with(func(k *rsa.PrivateKey) { k.E = 65538 }), backend.ErrInvalidParams, "exponent is 65538"},
		{"RSA other e", Params{}, with(func(k *rsa.PrivateKey) { k.E = 65539 }), backend.ErrInvalidParams, ""},
		{"RSA no primes", Params{}, with(func(k *rsa.PrivateKey) { k.Primes = nil }), backend.ErrInvalidParams, "0 primes"},
		{"RSA nil prime", Params{}, with(func(k *rsa.PrivateKey) { k.Primes[1] = nil }), backend.ErrInvalidParams, "not prime"},
		{"RSA composite", Params{}, with(func(k *rsa.PrivateKey) { k.Primes = []*big.Int{k.N, big.NewInt(1)} }), backend.ErrInvalidParams, "not prime"},
		{"RSA composite factor", Params{}, rsaKeyOf(2048, func() *big.Int {
			return new(big.Int).Mul(must(rand.Prime(rand.Reader, 512)), must(rand.Prime(rand.Reader, 512)))
		}), backend.ErrInvalidParams, "not prime"},
		{"RSA other N", Params{}, with(func(k *rsa.PrivateKey) { k.N = otherRSA.N }), backend.ErrInvalidParams, ""},
		{"RSA other D", Params{}, with(func(k *rsa.PrivateKey) { k.D = otherRSA.D }), backend.ErrInvalidParams, ""},
		{"RSA other primes", Params{}, with(func(k *rsa.PrivateKey) { k.Primes = otherRSA.Primes }), backend.ErrInvalidParams, ""},

		{"nil ECDSA", Params{}, (*ecdsa.PrivateKey)(nil), backend.ErrInvalidParams, "nil"},
		{"empty ECDSA", Params{}, &ecdsa.PrivateKey{}, backend.ErrInvalidParams, "no curve"},
		{"P-224", Params{}, must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)), backend.ErrUnsupported, "P-224"},
		{"ECDSA no D", Params{}, withEC(func(k *ecdsa.PrivateKey) { k.D = nil }), backend.ErrInvalidParams, ""},
		{"ECDSA D=0", Params{}, withEC(func(k *ecdsa.PrivateKey) { k.D = new(big.Int) }), backend.ErrInvalidParams, ""},
		{"ECDSA D=n", Params{}, withEC(func(k *ecdsa.PrivateKey) { k.D = k.Params().N }), backend.ErrInvalidParams, ""},
		{"ECDSA no point", Params{}, withEC(func(k *ecdsa.PrivateKey) { k.X, k.Y = nil, nil }), backend.ErrInvalidParams, ""},
		{"ECDSA other point", Params{}, withEC(func(k *ecdsa.PrivateKey) { k.PublicKey = otherEC.PublicKey }), backend.ErrInvalidParams, "does not belong"},

		{"nil Ed25519", Params{}, ed25519.PrivateKey(nil), backend.ErrInvalidParams, "got 0 bytes; it has 64"},
		{"Ed25519 seed", Params{}, ed[:32], backend.ErrInvalidParams, "got 32 bytes; it has 64"},
		{"Ed25519 other half", Params{}, halves, backend.ErrInvalidParams, "does not belong"},

		{"nil ML-DSA", Params{}, (*mldsa.PrivateKey)(nil), backend.ErrInvalidParams, ""},
		{"empty ML-DSA", Params{}, &mldsa.PrivateKey{}, backend.ErrInvalidParams, ""},

		{"bytes without type", Params{}, make([]byte, 32), backend.ErrInvalidParams, "AES, HMAC"},
		{"bytes for RSA", Params{KeyType: RSA}, make([]byte, 32), backend.ErrInvalidParams, "AES, HMAC"},
		{"no bytes", Params{KeyType: AES}, []byte(nil), backend.ErrInvalidParams, "0 bytes"},
		{"AES-192", Params{KeyType: AES}, make([]byte, 24), backend.ErrInvalidParams, "24 bytes for key_type AES, which takes 128, 256 bits"},
		{"short HMAC", Params{KeyType: HMAC}, make([]byte, 31), backend.ErrInvalidParams, "31 bytes"},
		{"long HMAC", Params{KeyType: HMAC}, make([]byte, 513), backend.ErrInvalidParams, "513 bytes"},

		{"type differs", Params{KeyType: ECDSA}, ed, backend.ErrInvalidParams, "key_type: got ECDSA, but the imported key has ED25519"},
		{"curve differs", Params{KeyType: ECDSA, Curve: P384}, ec, backend.ErrInvalidParams, "curve: got P384, but the imported key has P256"},
		{"size differs", Params{KeyType: AES, KeyBits: 128}, make([]byte, 32), backend.ErrInvalidParams, "key_bits: got 128, but the imported key has 256"},
		{"store differs", Params{Store: "x"}, ec, backend.ErrInvalidParams, `store: got "x"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := New(nil)
			defer b.Close()
			test.params.KeyName = "k"
			key, err := b.Import(t.Context(), test.params, test.material, nil)
			wantError(t, err, test.want, test.says)
			if key != nil {
				t.Error("a key came with the error")
			}
			wantNames(t, b)
		})
	}
}

func bigs(in []*big.Int) []*big.Int {
	out := make([]*big.Int, len(in))
	for i, n := range in {
		out[i] = new(big.Int).Set(n)
	}
	return out
}

// weakRSA makes a sound key of a size that crypto/rsa itself may refuse to make.
func weakRSA(bits int) *rsa.PrivateKey {
	return rsaKeyOf(bits, func() *big.Int { return must(rand.Prime(rand.Reader, bits/2)) })
}

// rsaKeyOf makes a key of a prime and what factor returns, whose values fit each other.
func rsaKeyOf(bits int, factor func() *big.Int) *rsa.PrivateKey {
	e, one := big.NewInt(65537), big.NewInt(1)
	for {
		p, q := factor(), must(rand.Prime(rand.Reader, bits/2))
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(e, phi)
		if n := new(big.Int).Mul(p, q); d != nil && n.BitLen() == bits {
			return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: d, Primes: []*big.Int{p, q}}
		}
	}
}

// TestImportCopies checks that the store shares nothing with what was handed in.
func TestImportCopies(t *testing.T) {
	b := New(nil)
	defer b.Close()
	secret := randomBytes(32)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	pub := bytes.Clone(ed[32:])
	mac := must(b.Import(t.Context(), Params{KeyName: "mac", KeyType: HMAC}, secret, nil)).(backend.MAC)
	want := must(mac.ComputeMAC(t.Context(), backend.HMACSHA256, []byte("m")))
	signer := must(b.Import(t.Context(), Params{KeyName: "ed"}, ed, nil)).(backend.Signer)

	clear(secret)
	clear(ed)
	if err := mac.VerifyMAC(t.Context(), backend.HMACSHA256, []byte("m"), want); err != nil {
		t.Errorf("after the caller cleared the HMAC key: %v", err)
	}
	sig, err := signer.SignContext(t.Context(), []byte("m"), crypto.Hash(0))
	if err != nil || !ed25519.Verify(pub, []byte("m"), sig) {
		t.Errorf("after the caller cleared the Ed25519 key: %v, or a wrong signature", err)
	}
}

// TestImportLeavesRSAKeyAlone checks that the caller's key, which others may be using, is not written to.
func TestImportLeavesRSAKeyAlone(t *testing.T) {
	b := New(nil)
	defer b.Close()
	made := must(rsa.GenerateKey(rand.Reader, 2048))
	k := &rsa.PrivateKey{PublicKey: made.PublicKey, D: made.D, Primes: made.Primes}
	if _, err := b.Import(t.Context(), Params{KeyName: "k"}, k, nil); err != nil {
		t.Fatal(err)
	}
	if k.Precomputed.Dp != nil {
		t.Error("Import wrote to Precomputed")
	}
}

func TestGenerateEveryKind(t *testing.T) {
	b := New(nil)
	defer b.Close()
	for _, p := range []Params{
		{KeyType: RSA, KeyBits: 4096}, {KeyType: ECDSA, Curve: P384}, {KeyType: Ed25519},
		{KeyType: MLDSA, ParameterSet: 44}, {KeyType: AES, KeyBits: 128}, {KeyType: HMAC, KeyBits: 264},
	} {
		p.KeyName = string(p.KeyType)
		first := must(b.Generate(t.Context(), p, nil))
		second := must(b.Generate(t.Context(), p, &backend.GenerateOptions{Replace: true}))
		if first.ID() == second.ID() {
			t.Errorf("%s: two keys have the ID %q", p.KeyType, first.ID())
		}
		e := b.store.entries[p.KeyName]
		want := p
		want.KeyName = ""
		if e.kind != want {
			t.Errorf("%s: made %+v, want %+v", p.KeyType, e.kind, want)
		}
		if bits := len(e.material.Load().secret) * 8; e.public == nil && bits != p.KeyBits {
			t.Errorf("%s: made %d bits, want %d", p.KeyType, bits, p.KeyBits)
		}
	}
}

func TestWipe(t *testing.T) {
	for _, p := range []Params{{KeyType: AES, KeyBits: 256}, {KeyType: Ed25519}, {KeyType: RSA, KeyBits: 2048}} {
		b := New(nil)
		p.KeyName = "k"
		must(b.Generate(t.Context(), p, nil))
		m := b.store.entries["k"].material.Load()
		key, _ := m.signer.(ed25519.PrivateKey)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.secret, make([]byte, len(m.secret))) || !bytes.Equal(key, make([]byte, len(key))) {
			t.Errorf("%s: the key is still there after Close", p.KeyType)
		}
		if m.signer != nil || m.gcm != nil || m.kwp != nil {
			t.Errorf("%s: the prepared key is still there after Close", p.KeyType)
		}
	}
}

func TestErrFormatIsUnavailable(t *testing.T) {
	if !errors.Is(ErrFormat, backend.ErrUnavailable) {
		t.Error("ErrFormat wraps no sentinel of package backend")
	}
}
