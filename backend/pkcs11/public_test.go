package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"sync"
	"testing"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

func mustDER(tb testing.TB, v any) []byte {
	tb.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// anRSAKey is made once.
var anRSAKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// ecPoint returns a new key on a curve and its point.
func ecPoint(tb testing.TB, curve elliptic.Curve) (*ecdsa.PublicKey, []byte) {
	tb.Helper()
	if curve == backend.Secp256k1() {
		g := curve.Params()
		size := 32
		point := append([]byte{4}, append(g.Gx.FillBytes(make([]byte, size)), g.Gy.FillBytes(make([]byte, size))...)...)
		pub, err := backend.ParseSecp256k1(point)
		if err != nil {
			tb.Fatal(err)
		}
		return pub, point
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	return &key.PublicKey, point
}

func TestParseEC(t *testing.T) {
	for name, curve := range curves {
		t.Run(name, func(t *testing.T) {
			pub, point := ecPoint(t, curve)
			params, err := ecParams(name)
			if err != nil {
				t.Fatal(err)
			}
			for form, p := range map[string][]byte{"DER": mustDER(t, point), "bare": point} {
				if got := parseEC(params, p); got == nil || !pub.Equal(got) {
					t.Errorf("%s point: got %v", form, got)
				}
			}
			off := append([]byte(nil), point...)
			off[len(off)-1] ^= 1
			compressed := append([]byte{2 + point[len(point)-1]&1}, point[1:1+len(point)/2]...)
			for form, input := range map[string][2][]byte{
				"off the curve":        {params, mustDER(t, off)},
				"bare off the curve":   {params, off},
				"infinity":             {params, mustDER(t, []byte{0})},
				"zeros":                {params, make([]byte, len(point))},
				"empty":                {params, nil},
				"short":                {params, point[:len(point)-1]},
				"compressed":           {params, compressed},
				"trailing":             {params, append(mustDER(t, point), 0)},
				"no parameters":        {nil, point},
				"parameters not DER":   {[]byte{6, 200}, point},
				"explicit parameters":  {mustDER(t, struct{ Version int }{1}), point},
				"implicit parameters":  {asn1.NullBytes, point},
				"trailing parameters":  {append(params[:len(params):len(params)], 0), point},
				"curve that is absent": {mustDER(t, asn1.ObjectIdentifier{1, 3, 36, 3, 3, 2, 8, 1, 1, 7}), point},
			} {
				if got := parseEC(input[0], input[1]); got != nil {
					t.Errorf("%s: got %v", form, got)
				}
			}
		})
	}
}

func TestParseRSA(t *testing.T) {
	key := anRSAKey()
	n, e := key.N.Bytes(), []byte{1, 0, 1}
	for _, exponent := range [][]byte{e, {0, 0, 0, 0, 1, 0, 1}} {
		if got := parseRSA(append([]byte{0}, n...), exponent); got == nil || !key.PublicKey.Equal(got) {
			t.Errorf("exponent %x: got %v", exponent, got)
		}
	}
	for name, input := range map[string][2][]byte{
		"no modulus":     {nil, e},
		"zero modulus":   {make([]byte, 256), e},
		"huge modulus":   {new(big.Int).Lsh(big.NewInt(1), maxModulus).Bytes(), e},
		"no exponent":    {n, nil},
		"exponent one":   {n, []byte{1}},
		"even exponent":  {n, []byte{4}},
		"large exponent": {n, []byte{1, 0, 0, 0, 1}},
	} {
		if got := parseRSA(input[0], input[1]); got != nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestParseEd25519(t *testing.T) {
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, params := range ed25519Params {
		for form, point := range map[string][]byte{"bare": pub, "DER": mustDER(t, []byte(pub))} {
			if got := parseEd25519(params, point); got == nil || !pub.Equal(got) {
				t.Errorf("%s, %x: got %v", form, params, got)
			}
		}
	}
	ed448 := []byte{0x13, 10, 'e', 'd', 'w', 'a', 'r', 'd', 's', '4', '4', '8'}
	for name, input := range map[string][2][]byte{
		"no parameters": {nil, pub}, "other curve": {ed448, pub}, "short": {ed25519Params[0], pub[:31]}, "long": {ed25519Params[0], append(pub[:32:32], 0)},
		"empty": {ed25519Params[0], nil}, "wrong DER": {ed25519Params[0], append([]byte{3, 32}, pub...)},
	} {
		if got := parseEd25519(input[0], input[1]); got != nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestParseMLDSA(t *testing.T) {
	for set, params := range mldsaParams {
		key, err := mldsa.GenerateKey(params)
		if err != nil {
			t.Fatal(err)
		}
		value, number := key.PublicKey().Bytes(), uint64(mldsaSet(set))
		if got := parseMLDSA(number, value); got == nil || !key.PublicKey().Equal(got) {
			t.Errorf("%d: got %v", set, got)
		}
		for _, wrong := range []uint64{0, number%3 + 1, 4, ^uint64(0)} {
			if got := parseMLDSA(wrong, value); got != nil {
				t.Errorf("%d as set number %d: got %v", set, wrong, got)
			}
		}
		if got := parseMLDSA(number, value[1:]); got != nil {
			t.Errorf("%d, short: got %v", set, got)
		}
	}
	if mldsaSet(0) != 0 || mldsaSet(1) != 0 {
		t.Error("a set that is none has a number")
	}
}

// TestPublicKeyOfMaterial: whatever an object has is used, if it is of the right kind.
func TestPublicKeyOfMaterial(t *testing.T) {
	certify := func(key crypto.Signer) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	info := func(pub any) []byte {
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{ec, ed, anRSAKey()} {
		pub := key.Public()
		kind := kindOf(pub)
		for name, m := range map[string]material{
			"CKA_PUBLIC_KEY_INFO":     {info: info(pub)},
			"certificate":             {value: certify(key)},
			"damaged and certificate": {info: []byte{1, 2}, params: []byte{3}, point: []byte{4}, modulus: []byte{5}, value: certify(key)},
		} {
			if got := m.publicKey(kind); got == nil || !same(got, pub) {
				t.Errorf("%s, %s: got %v", kind, name, got)
			}
			for _, other := range []keyType{keyRSA, keyEC, keyEdDSA, keyMLDSA, keyAES, keyGeneric, 0x99} {
				if got := m.publicKey(other); other != kind && got != nil {
					t.Errorf("%s, %s, for an %s key: got %v", kind, name, other, got)
				}
			}
		}
	}
	huge := &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 100_000), big.NewInt(1)), E: 65537}
	for name, m := range map[string]material{"nothing": {}, "huge modulus": {info: info(huge)}, "garbage": {info: []byte("x"), value: []byte("y")}} {
		for _, kind := range []keyType{keyRSA, keyEC, keyEdDSA, keyMLDSA, keyAES} {
			if got := m.publicKey(kind); got != nil {
				t.Errorf("%s: got %v", name, got)
			}
		}
	}
}

func TestLeftmost(t *testing.T) {
	for _, test := range []struct {
		curve           elliptic.Curve
		length, shorter int
	}{{elliptic.P224(), 64, 28}, {elliptic.P256(), 64, 32}, {elliptic.P256(), 28, 28}, {elliptic.P384(), 64, 48}, {elliptic.P521(), 64, 64}, {backend.Secp256k1(), 48, 32}} {
		if got := len(leftmost(make([]byte, test.length), &ecdsa.PublicKey{Curve: test.curve})); got != test.shorter {
			t.Errorf("%s: %d of %d bytes, want %d", test.curve.Params().Name, got, test.length, test.shorter)
		}
	}
}
