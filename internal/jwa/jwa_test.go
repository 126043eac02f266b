package jwa

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/transit"
)

// signers returns a signer of each type that signs.
func signers(tb testing.TB) map[string]*transit.Signer {
	tb.Helper()
	store := software.New(nil)
	tb.Cleanup(func() { store.Close() })
	mount, err := managedkey.NewRegistry().Mount(tb.Context(), "", "transit")
	if err != nil {
		tb.Fatal(err)
	}
	e, all := transit.New(mount, &transit.Options{Software: store}), map[string]*transit.Signer{}
	for _, kind := range []string{transit.TypeP256, transit.TypeP384, transit.TypeP521, transit.TypeEd25519, transit.TypeRSA2048, transit.TypeMLDSA44} {
		if err := e.CreateKey(tb.Context(), kind, transit.KeyOptions{Type: kind}); err != nil {
			tb.Fatal(err)
		}
		if all[kind], err = e.Signer(tb.Context(), kind, 0); err != nil {
			tb.Fatal(err)
		}
	}
	return all
}

// verify checks a signature as RFC 7518, Section 3 and RFC 8037, Section 3.1 say, with the standard library.
func verify(name string, public crypto.PublicKey, payload, signature []byte) bool {
	hash, ok := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[name[2:]]
	if !ok {
		return name == "EdDSA" && ed25519.Verify(public.(ed25519.PublicKey), payload, signature)
	}
	h := hash.New()
	h.Write(payload)
	digest := h.Sum(nil)
	switch name[:2] {
	case "ES":
		size := map[string]int{"ES256": 64, "ES384": 96, "ES512": 132}[name]
		r, s := new(big.Int).SetBytes(signature[:size/2]), new(big.Int).SetBytes(signature[size/2:])
		return len(signature) == size && ecdsa.Verify(public.(*ecdsa.PublicKey), digest, r, s)
	case "PS":
		return rsa.VerifyPSS(public.(*rsa.PublicKey), hash, digest, signature, &rsa.PSSOptions{SaltLength: hash.Size()}) == nil
	}
	return rsa.VerifyPKCS1v15(public.(*rsa.PublicKey), hash, digest, signature) == nil
}

// Each key has the algorithms of its type, in order of preference; it signs with them and refuses all others.
func TestSign(t *testing.T) {
	payload := []byte("eyJhbGciOiJFUzI1NiJ9.e30")
	for kind, s := range signers(t) {
		want := map[string]string{
			transit.TypeP256: "ES256", transit.TypeP384: "ES384", transit.TypeP521: "ES512", transit.TypeEd25519: "EdDSA", transit.TypeMLDSA44: "",
			transit.TypeRSA2048: "PS256 PS384 PS512 RS256 RS384 RS512",
		}[kind]
		if got := strings.Join(Of(s), " "); got != want {
			t.Errorf("%s: got %q; want %q", kind, got, want)
		}
		for _, name := range []string{"ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512", "EdDSA", "HS256", "none", "", "es256"} {
			signature, err := Sign(t.Context(), s, name, payload)
			if name == "" || !strings.Contains(" "+want+" ", " "+name+" ") {
				if signature != nil || !errors.Is(err, backend.ErrUnsupported) || !strings.Contains(err.Error(), "the key takes ["+want+"]") {
					t.Errorf("%s with %q: got %x, %v", kind, name, signature, err)
				}
				continue
			}
			if err != nil || !verify(name, s.Public(), payload, signature) {
				t.Errorf("%s with %s: %x is no signature, %v", kind, name, signature, err)
			}
			if verify(name, s.Public(), payload[1:], signature) {
				t.Errorf("%s with %s: a signature of anything", kind, name)
			}
		}
	}
}

// The error of the signer comes through.
func TestSignCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Sign(ctx, signers(t)[transit.TypeP256], "ES256", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Numbers are as long as the order, whatever they are, and come back as they were.
func TestJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		curve := rapid.SampledFrom([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}).Draw(t, "curve")
		n := (curve.Params().N.BitLen() + 7) / 8
		draw := func(name string) *big.Int {
			x := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, n).Draw(t, name))
			return x.Mod(x, curve.Params().N)
		}
		r, s := draw("r"), draw("s")
		der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		got, err := join(curve, der)
		if err != nil || len(got) != 2*n || r.Cmp(new(big.Int).SetBytes(got[:n])) != 0 || s.Cmp(new(big.Int).SetBytes(got[n:])) != 0 {
			t.Fatalf("%d, %d: got %x, %v", r, s, got, err)
		}
	})
}

// What is no ECDSA signature is an error, and neither a panic nor something shorter.
func TestJoinMalformed(t *testing.T) {
	one, long := []byte{2, 1, 1}, append([]byte{2, 34, 1}, make([]byte, 33)...)
	sequence := func(parts ...[]byte) []byte {
		all := bytes.Join(parts, nil)
		return append([]byte{0x30, byte(len(all))}, all...)
	}
	if got, err := join(elliptic.P256(), sequence(one, one)); err != nil || len(got) != 64 || got[31] != 1 || got[63] != 1 {
		t.Fatalf("got %x, %v", got, err)
	}
	for name, der := range map[string][]byte{
		"empty": nil, "one number": sequence(one), "no sequence": one, "null": {5, 0}, "cut": sequence(one, one)[:7],
		"negative r": sequence([]byte{2, 1, 0x80}, one), "negative s": sequence(one, []byte{2, 1, 0xff}), "not shortest": sequence([]byte{2, 2, 0, 1}, one),
		"too long r": sequence(long, one), "too long s": sequence(one, long), "octets": sequence([]byte{4, 1, 1}, one), "trailing": append(sequence(one, one), 0), "three numbers": sequence(one, one, one),
	} {
		got, err := join(elliptic.P256(), der)
		if got != nil || !errors.Is(err, backend.ErrInvalidSignature) || !strings.HasPrefix(err.Error(), "jws: ") {
			t.Errorf("%s: got %x, %v", name, got, err)
		}
	}
}

// FuzzJoin: what is taken has one form.
func FuzzJoin(f *testing.F) {
	f.Add([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Add([]byte{0x30, 9, 2, 1, 1, 2, 1, 1, 2, 1, 1})
	f.Fuzz(func(t *testing.T, der []byte) {
		got, err := join(elliptic.P384(), der)
		if err != nil {
			return
		}
		again, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(got[:48]), new(big.Int).SetBytes(got[48:])})
		if err != nil || !bytes.Equal(again, der) || len(got) != 96 {
			t.Errorf("%x becomes %x and then %x, %v", der, got, again, err)
		}
	})
}
