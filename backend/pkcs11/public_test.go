package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"
)

func mustDER(t *testing.T, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestParseEC(t *testing.T) {
	oids := map[string]asn1.ObjectIdentifier{
		"P256": {1, 2, 840, 10045, 3, 1, 7}, "P384": {1, 3, 132, 0, 34}, "P521": {1, 3, 132, 0, 35},
	}
	for name, curve := range curves {
		t.Run(name, func(t *testing.T) {
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			point, err := key.PublicKey.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			params := mustDER(t, oids[name])
			for form, p := range map[string][]byte{"DER": mustDER(t, point), "bare": point} {
				if got := parseEC(params, p); got == nil || !key.PublicKey.Equal(got) {
					t.Errorf("%s point: got %v", form, got)
				}
			}
			off := append([]byte(nil), point...)
			off[len(off)-1] ^= 1
			for form, input := range map[string][2][]byte{
				"off the curve":        {params, mustDER(t, off)},
				"bare off the curve":   {params, off},
				"infinity":             {params, mustDER(t, []byte{0})},
				"empty":                {params, nil},
				"short":                {params, point[:len(point)-1]},
				"trailing":             {params, append(mustDER(t, point), 0)},
				"no parameters":        {nil, point},
				"parameters not DER":   {[]byte{6, 200}, point},
				"trailing parameters":  {append(params[:len(params):len(params)], 0), point},
				"curve that is absent": {mustDER(t, asn1.ObjectIdentifier{1, 3, 132, 0, 10}), point},
			} {
				if got := parseEC(input[0], input[1]); got != nil {
					t.Errorf("%s: got %v", form, got)
				}
			}
		})
	}
}

func TestParseRSA(t *testing.T) {
	key := rsaKeys()[0]
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

func TestParseCertificate(t *testing.T) {
	certify := func(key crypto.Signer) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if got := parseCertificate(certify(ec)); got == nil || !ec.PublicKey.Equal(got) {
		t.Errorf("EC: got %v", got)
	}
	if got := parseCertificate(certify(rsaKeys()[0])); got == nil || !rsaKeys()[0].PublicKey.Equal(got) {
		t.Errorf("RSA: got %v", got)
	}
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{"nothing": nil, "garbage": []byte("x"), "Ed25519": certify(ed), "P-224": certify(p224)} {
		if got := parseCertificate(der); got != nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestLeftmost(t *testing.T) {
	for _, test := range []struct {
		curve           elliptic.Curve
		length, shorter int
	}{{elliptic.P256(), 64, 32}, {elliptic.P256(), 28, 28}, {elliptic.P384(), 64, 48}, {elliptic.P521(), 64, 64}} {
		if got := len(leftmost(make([]byte, test.length), &ecdsa.PublicKey{Curve: test.curve})); got != test.shorter {
			t.Errorf("%s: %d of %d bytes, want %d", test.curve.Params().Name, got, test.length, test.shorter)
		}
	}
}
