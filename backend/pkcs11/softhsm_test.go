package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// makeObject makes a key on the token past all checks: label, id and attributes are the caller's.
func makeObject(tb testing.TB, b *Backend, p Params, id string, change ...Attribute) {
	tb.Helper()
	c, _, err := b.connection(tb.Context(), p)
	if err != nil {
		tb.Fatal(err)
	}
	t, err := c.template(p, []byte(id))
	if err != nil {
		tb.Fatal(err)
	}
	t.private, _ = t.private.of(change)
	err = c.do(tb.Context(), true, true, func(w *worker) error {
		if t.use == useGenerate {
			_, err := c.instance.module().GenerateKey(w.session, uint(t.generator), t.private)
			return err
		}
		_, _, err := c.instance.module().GenerateKeyPair(w.session, uint(t.generator), t.public, t.private)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
}

var (
	signsPKCS1 = []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA}
	signsPSS   = []x509.SignatureAlgorithm{x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS}
	signsECDSA = []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512}

	hmacs = []backend.MACAlgorithm{backend.HMACSHA1, backend.HMACSHA224, backend.HMACSHA256, backend.HMACSHA384, backend.HMACSHA512}
)

// softhsmKeys makes keys on a token and returns what SoftHSM2 does with them: OAEP with SHA-1 only and without label, and
// PSS without SHA-3.
func softhsmKeys(tb testing.TB, b *Backend, token *softhsm.Token) []backendtest.Key {
	rsaBoth, pss, oaep := on(token, "rsa", RSAPKCS), on(token, "pss", RSAPKCSPSS), on(token, "oaep", RSAPKCSOAEP)
	makeObject(tb, b, withBits(rsaBoth, 2048), "\x01", Attribute{attrDecrypt, true})
	byID := rsaBoth
	byID.KeyLabel, byID.KeyID = "", "0x01"
	mustGenerate(tb, b, withBits(pss, 3072))
	mustGenerate(tb, b, withBits(oaep, 2048))
	keys := []backendtest.Key{
		{Name: "RSA", Params: rsaBoth, Algorithm: "RSA-2048", Signs: append(signsPKCS1[:3:3], signsPSS...),
			Digests: []crypto.Hash{crypto.SHA224}, PKCS1Digests: pkcs1Hashes[4:], OAEP: []crypto.Hash{crypto.SHA1}, Random: true},
		{Name: "RSAByID", Params: byID, Algorithm: "RSA-2048", Signs: append(signsPKCS1[:3:3], signsPSS...),
			Digests: []crypto.Hash{crypto.SHA224}, PKCS1Digests: pkcs1Hashes[4:], OAEP: []crypto.Hash{crypto.SHA1}, Random: true},
		{Name: "PSS", Params: pss, Algorithm: "RSA-3072", Signs: append(signsPKCS1[:3:3], signsPSS...),
			Digests: []crypto.Hash{crypto.SHA224}, PKCS1Digests: pkcs1Hashes[4:], Random: true},
		{Name: "OAEP", Params: oaep, Algorithm: "RSA-2048", OAEP: []crypto.Hash{crypto.SHA1}, Random: true},
	}
	for curve, name := range map[string]string{"P256": "ECDSA P-256", "P384": "ECDSA P-384", "P521": "ECDSA P-521"} {
		p := withCurve(on(token, curve, ECDSA), curve)
		mustGenerate(tb, b, p)
		keys = append(keys, backendtest.Key{Name: curve, Params: p, Algorithm: name, Signs: signsECDSA, Digests: ecdsaHashes[3:], Random: true})
	}
	p224, k1, ecdh := withCurve(on(token, "P224", ECDSA), "P224"), withCurve(on(token, "k1", ECDSA), "SECP256K1"), withCurve(on(token, "ecdh", ECDH), "P384")
	for _, p := range []Params{p224, k1, ecdh} {
		mustGenerate(tb, b, p)
	}
	both := withCurve(on(token, "both", ECDSA), "P256")
	makeObject(tb, b, both, "both", Attribute{attrDerive, true})
	keys = append(keys,
		backendtest.Key{Name: "P224", Params: p224, Algorithm: "ECDSA P-224", Signs: signsECDSA, Digests: ecdsaHashes[3:], Random: true},
		backendtest.Key{Name: "secp256k1", Params: k1, Algorithm: "ECDSA secp256k1", Schemes: []backend.Scheme{backend.ECDSA}, Digests: ecdsaHashes, Random: true},
		backendtest.Key{Name: "ECDH", Params: ecdh, Algorithm: "ECDSA P-384", Agrees: true, Random: true},
		backendtest.Key{Name: "ECDSAAndECDH", Params: both, Algorithm: "ECDSA P-256", Signs: signsECDSA, Digests: ecdsaHashes[3:], Agrees: true, Random: true})
	ed := on(token, "ed", EdDSA)
	mustGenerate(tb, b, ed)
	keys = append(keys, backendtest.Key{Name: "Ed25519", Params: ed, Algorithm: "Ed25519", Signs: []x509.SignatureAlgorithm{x509.PureEd25519}, Random: true})
	for _, bits := range []int{128, 256} {
		p := withBits(on(token, "aes", AESGCM), bits)
		p.KeyLabel = map[int]string{128: "aes-128", 256: "aes-256"}[bits]
		mustGenerate(tb, b, p)
		keys = append(keys, backendtest.Key{Name: p.KeyLabel, Params: p, Algorithm: map[int]string{128: "AES-128", 256: "AES-256"}[bits], AEAD: true, Random: true})
	}
	hmac, cmac := withBits(on(token, "hmac", SHA256HMAC), 512), withBits(on(token, "cmac", AESCMAC), 256)
	for _, p := range []Params{hmac, cmac} {
		mustGenerate(tb, b, p)
	}
	return append(keys,
		backendtest.Key{Name: "HMAC", Params: hmac, Algorithm: "HMAC", MACs: hmacs, Random: true},
		backendtest.Key{Name: "CMAC", Params: cmac, Algorithm: "AES-256", MACs: []backend.MACAlgorithm{backend.AESCMAC}, Random: true})
}

// conformance makes keys on a new token and returns what they can do.
func conformance(tb testing.TB) backendtest.Config { return conformanceOn(tb, softhsm.Require(tb)) }

// conformanceOn is conformance with a token that is there.
func conformanceOn(tb testing.TB, token *softhsm.Token) backendtest.Config {
	b := connectTo(tb, token)
	cfg := backendtest.Config{
		New: func(tb testing.TB) backend.Backend {
			b, err := New(Library{Name: "soft", Path: token.Module})
			if err != nil {
				tb.Fatal(err)
			}
			return b
		},
		Keys:      softhsmKeys(tb, b, token),
		Absent:    on(token, "absent", ECDSA),
		Ambiguous: on(token, "twice", ECDSA),
		Secrets:   []string{token.PIN, token.SOPIN},
	}
	for _, id := range []string{"a", "b"} {
		makeObject(tb, b, withCurve(on(token, "twice", ECDSA), "P256"), id)
	}
	for name, p := range map[string]Params{
		"RSA-2048":    withBits(on(token, "new-rsa", RSAPKCS), 2048),
		"ECDSA P-256": withCurve(on(token, "new-p256", ECDSA), "P256"),
		"Ed25519":     on(token, "new-ed", EdDSA),
		"AES-256":     withBits(on(token, "new-aes", AESGCM), 256),
		"HMAC":        withBits(on(token, "new-hmac", SHA256HMAC), 256),
	} {
		cfg.Generate = append(cfg.Generate, backendtest.Generate{Name: p.KeyLabel, Params: p, Algorithm: name, Replaces: true})
	}
	cfg.Generate = append(cfg.Generate, backendtest.Generate{Name: "new-oaep", Params: withBits(on(token, "new-oaep", RSAPKCSOAEP), 2048), Algorithm: "RSA-2048", Replaces: true})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	for name, m := range map[string]struct {
		Mechanism
		material any
	}{
		"in-rsa": {RSAPKCSPSS, rsaKey}, "in-ec": {ECDSA, ecKey},
		"in-aes": {AESGCM, secret(32)}, "in-hmac": {SHA256HMAC, secret(48)},
	} {
		cfg.Import = append(cfg.Import, backendtest.Import{Name: name, Params: on(token, name, m.Mechanism), Material: m.material, Replaces: true})
	}
	ec := on(token, "P256", ECDSA)
	pin, library := ec, ec
	pin.PIN, library.Library = "", "nowhere"
	cfg.Invalid = map[string]backend.Params{
		"no PIN": pin, "key_bits of an EC key": withBits(ec, 2048), "unknown library": library,
		"other kind of key": on(token, "P256", RSAPKCS), "other curve": withCurve(ec, "P384"), "no key": on(token, "", ECDSA),
	}
	return cfg
}

// secret returns n random bytes.
func secret(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

func TestConformance(t *testing.T) { backendtest.Run(t, conformance(t)) }

func BenchmarkSign(b *testing.B)    { backendtest.BenchmarkSign(b, conformance(b)) }
func BenchmarkDecrypt(b *testing.B) { backendtest.BenchmarkDecrypt(b, conformance(b)) }
