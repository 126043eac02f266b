//go:build cgo

package pkcs11

import (
	"crypto"
	"crypto/x509"
	"slices"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// connectTo returns a backend over the module of token, closed when the test ends.
func connectTo(tb testing.TB, token *softhsm.Token) *Backend {
	tb.Helper()
	b, err := New(Library{Name: "soft", Path: token.Module})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := b.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return b
}

// on returns parameters of a key on token.
func on(token *softhsm.Token, label string, m Mechanism) Params {
	return Params{Library: "soft", TokenLabel: token.Label, PIN: backend.Secret(token.PIN), KeyLabel: label, Mechanism: m}
}

// makeObject makes a key on the token as the specification says, past all checks.
func makeObject(tb testing.TB, b *Backend, p Params, spec keySpec) {
	tb.Helper()
	_, err := withToken(tb.Context(), b, p, func(c *conn, _ library) (struct{}, error) {
		return struct{}{}, c.do(tb.Context(), func() error { return c.token.generate(spec) })
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func withCurve(p Params, curve string) Params { p.Curve = curve; return p }
func withBits(p Params, bits int) Params      { p.KeyBits = bits; return p }

var (
	signsPKCS1 = []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA}
	signsPSS   = []x509.SignatureAlgorithm{x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS}
	signsECDSA = []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512}
)

// conformance makes keys on a new token and returns what they can do. SoftHSM2 knows OAEP with SHA-1 only, and no label.
func conformance(tb testing.TB) backendtest.Config {
	token := softhsm.Require(tb)
	b := connectTo(tb, token)
	rsaBoth := on(token, "rsa", RSAPKCS)
	ec256, ec384, ec521 := on(token, "p256", ECDSA), on(token, "p384", ECDSA), on(token, "p521", ECDSA)
	pss, oaep := on(token, "pss", RSAPKCSPSS), on(token, "oaep", RSAPKCSOAEP)
	makeObject(tb, b, rsaBoth, keySpec{id: []byte{1}, label: "rsa", kind: keyRSA, bits: 2048, sign: true, decrypt: true})
	for i := range 2 {
		makeObject(tb, b, ec256, keySpec{id: []byte{2, byte(i)}, label: "twice", kind: keyEC, curve: "P256", sign: true})
	}
	mustGenerate(tb, b, withCurve(ec256, "P256"))
	mustGenerate(tb, b, withCurve(ec384, "P384"))
	mustGenerate(tb, b, withCurve(ec521, "P521"))
	mustGenerate(tb, b, withBits(pss, 3072))
	mustGenerate(tb, b, withBits(oaep, 2048))

	byID := rsaBoth
	byID.KeyLabel, byID.KeyID = "", "0x01"
	pin, bits, library := ec256, withBits(ec256, 2048), ec256
	pin.PIN, library.Library = "", "nowhere"
	rsaSigns := slices.Concat(signsPKCS1, signsPSS)
	return backendtest.Config{
		New: func(tb testing.TB) backend.Backend {
			b, err := New(Library{Name: "soft", Path: token.Module})
			if err != nil {
				tb.Fatal(err)
			}
			return b
		},
		Keys: []backendtest.Key{
			{Name: "RSA", Params: rsaBoth, Algorithm: "RSA-2048", Signs: rsaSigns, Digests: []crypto.Hash{crypto.SHA224},
				OAEP: []crypto.Hash{crypto.SHA1}, Random: true},
			{Name: "RSAByID", Params: byID, Algorithm: "RSA-2048", Signs: rsaSigns, Digests: []crypto.Hash{crypto.SHA224},
				OAEP: []crypto.Hash{crypto.SHA1}, Random: true},
			{Name: "PSS", Params: pss, Algorithm: "RSA-3072", Signs: rsaSigns, Digests: []crypto.Hash{crypto.SHA224}, Random: true},
			{Name: "OAEP", Params: oaep, Algorithm: "RSA-2048", OAEP: []crypto.Hash{crypto.SHA1}, Random: true},
			{Name: "P256", Params: ec256, Algorithm: "ECDSA P-256", Signs: signsECDSA, Digests: ecdsaHashes[3:], Random: true},
			{Name: "P384", Params: ec384, Algorithm: "ECDSA P-384", Signs: signsECDSA, Digests: ecdsaHashes[3:], Random: true},
			{Name: "P521", Params: ec521, Algorithm: "ECDSA P-521", Signs: signsECDSA, Digests: ecdsaHashes[3:], Random: true},
		},
		Absent:    on(token, "absent", ECDSA),
		Ambiguous: on(token, "twice", ECDSA),
		Generate: []backendtest.Generate{
			{Name: "NewRSA", Params: withBits(on(token, "new-rsa", RSAPKCS), 2048), Algorithm: "RSA-2048", Replaces: true},
			{Name: "NewOAEP", Params: withBits(on(token, "new-oaep", RSAPKCSOAEP), 2048), Algorithm: "RSA-2048", Replaces: true},
			{Name: "NewP256", Params: withCurve(on(token, "new-p256", ECDSA), "P256"), Algorithm: "ECDSA P-256", Replaces: true},
		},
		Invalid: map[string]backend.Params{
			"no PIN": pin, "key_bits of an EC key": bits, "unknown library": library,
			"other kind of key": on(token, "p256", RSAPKCS), "other curve": withCurve(ec256, "P384"), "no key": on(token, "", ECDSA),
		},
		Secrets: []string{token.PIN, token.SOPIN},
	}
}

func TestConformance(t *testing.T) { backendtest.Run(t, conformance(t)) }

func BenchmarkSign(b *testing.B)    { backendtest.BenchmarkSign(b, conformance(b)) }
func BenchmarkDecrypt(b *testing.B) { backendtest.BenchmarkDecrypt(b, conformance(b)) }
