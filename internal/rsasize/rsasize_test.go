package rsasize

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
	"testing"
)

// pkcs1 is RSAPrivateKey, with numbers that need not be those of a key.
func pkcs1(tb testing.TB, bits ...int) []byte {
	tb.Helper()
	key := struct{ Version, N, E, D, P, Q, DP, DQ, QI *big.Int }{}
	for i, at := range []**big.Int{&key.Version, &key.N, &key.E, &key.D, &key.P, &key.Q, &key.DP, &key.DQ, &key.QI} {
		*at = big.NewInt(0)
		if i > 0 && i <= len(bits) {
			*at = new(big.Int).Lsh(big.NewInt(1), uint(bits[i-1]-1))
		}
	}
	return marshal(tb, key)
}

func marshal(tb testing.TB, value any) []byte {
	tb.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func pkcs8(tb testing.TB, inner []byte) []byte {
	return marshal(tb, struct {
		Version   int
		Algorithm []asn1.ObjectIdentifier
		Key       []byte
	}{0, []asn1.ObjectIdentifier{{1, 2, 840, 113549, 1, 1, 1}}, inner})
}

func TestCheckPrivate(t *testing.T) {
	for _, test := range []struct {
		name string
		bits []int
		ok   bool
	}{
		{"longest", []int{Most, 17, Most, Most / 2, Most / 2}, true},
		{"modulus", []int{Most + 1, 17}, false},
		{"exponent", []int{Most, 17, 2 * Most}, false},
		{"prime", []int{2048, 17, 2048, 1024, 100_000}, false},
		{"last number", []int{2048, 17, 2048, 1024, 1024, 1024, 1024, 2 * Most}, false},
	} {
		der := pkcs1(t, test.bits...)
		for form, der := range map[string][]byte{"PKCS #1": der, "PKCS #8": pkcs8(t, der)} {
			if err := CheckPrivate(der); (err == nil) != test.ok {
				t.Errorf("%s in %s: %v", test.name, form, err)
			}
		}
	}
}

// Real keys, and what is none, are left to others.
func TestCheckPrivateOthers(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ders := [][]byte{nil, {0}, {0x30, 0}, {0x30, 3, 2, 1, 0}, []byte("no DER"), x509.MarshalPKCS1PrivateKey(rsaKey), pkcs8(t, pkcs8(t, pkcs8(t, nil)))}
	for _, key := range []any{rsaKey, ecKey, edKey} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		ders = append(ders, der, der[:len(der)-1])
	}
	for _, der := range ders {
		if err := CheckPrivate(der); err != nil {
			t.Errorf("%x: %v", der, err)
		}
	}
}

func TestCheckPublic(t *testing.T) {
	long := new(rsa.PublicKey)
	long.N = new(big.Int).Lsh(big.NewInt(1), Most)
	if CheckPublic(long) == nil {
		t.Error("a longer modulus is taken")
	}
	longest := &rsa.PublicKey{N: new(big.Int).Rsh(long.N, 1)}
	for _, public := range []crypto.PublicKey{nil, (*rsa.PublicKey)(nil), new(rsa.PublicKey), longest, ed25519.PublicKey{}} {
		if err := CheckPublic(public); err != nil {
			t.Errorf("%T: %v", public, err)
		}
	}
}
