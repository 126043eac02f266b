package awskms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
)

var (
	rsaSigns = []x509.SignatureAlgorithm{
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	}
	oaep = []crypto.Hash{crypto.SHA1, crypto.SHA256}
)

// kinds are all kinds of keys that the backend supports, by name, with what the fake makes them of.
var kinds = []struct {
	backendtest.Key
	usage string
	spec  string
	p     Params
}{
	{backendtest.Key{Name: "rsa-2048", Algorithm: "RSA-2048", Signs: rsaSigns, SaltEqualsHash: true}, signVerify, "RSA_2048", Params{KeyType: RSA, KeyBits: 2048}},
	{backendtest.Key{Name: "rsa-4096", Algorithm: "RSA-4096", Signs: rsaSigns, SaltEqualsHash: true}, signVerify, "RSA_4096", Params{KeyType: RSA, KeyBits: 4096}},
	{backendtest.Key{Name: "oaep-2048", Algorithm: "RSA-2048", OAEP: oaep, Wraps: true}, encrypts, "RSA_2048", Params{KeyType: RSA, KeyBits: 2048, KeyUsage: encrypts}},
	{backendtest.Key{Name: "oaep-3072", Algorithm: "RSA-3072", OAEP: oaep, Wraps: true}, encrypts, "RSA_3072", Params{KeyType: RSA, KeyBits: 3072, KeyUsage: encrypts}},
	{backendtest.Key{Name: "p256", Algorithm: "ECDSA P-256", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA256}}, signVerify, "ECC_NIST_P256", Params{KeyType: ECDSA, Curve: "P256"}},
	{backendtest.Key{Name: "p384", Algorithm: "ECDSA P-384", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA384}}, signVerify, "ECC_NIST_P384", Params{KeyType: ECDSA, Curve: "P384"}},
	{backendtest.Key{Name: "p521", Algorithm: "ECDSA P-521", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA512}}, signVerify, "ECC_NIST_P521", Params{KeyType: ECDSA, Curve: "P521"}},
	{backendtest.Key{Name: "secp256k1", Algorithm: "ECDSA secp256k1", Digests: []crypto.Hash{crypto.SHA256}, Schemes: []backend.Scheme{backend.ECDSA}}, signVerify, "ECC_SECG_P256K1", Params{KeyType: ECDSA, Curve: "SECP256K1"}},
	{backendtest.Key{Name: "ecdh-p256", Algorithm: "ECDSA P-256", Agrees: true}, agreement, "ECC_NIST_P256", Params{KeyType: ECDSA, Curve: "P256", KeyUsage: agreement}},
	{backendtest.Key{Name: "ecdh-p384", Algorithm: "ECDSA P-384", Agrees: true}, agreement, "ECC_NIST_P384", Params{KeyType: ECDSA, Curve: "P384", KeyUsage: agreement}},
	{backendtest.Key{Name: "ecdh-p521", Algorithm: "ECDSA P-521", Agrees: true}, agreement, "ECC_NIST_P521", Params{KeyType: ECDSA, Curve: "P521", KeyUsage: agreement}},
	{backendtest.Key{Name: "ed25519", Algorithm: "Ed25519", Signs: []x509.SignatureAlgorithm{x509.PureEd25519}}, signVerify, "ECC_NIST_EDWARDS25519", Params{KeyType: Ed25519}},
	{backendtest.Key{Name: "ml-dsa-44", Algorithm: "ML-DSA-44", SignatureContexts: true}, signVerify, "ML_DSA_44", Params{KeyType: MLDSA, ParameterSet: 44}},
	{backendtest.Key{Name: "ml-dsa-65", Algorithm: "ML-DSA-65", SignatureContexts: true}, signVerify, "ML_DSA_65", Params{KeyType: MLDSA, ParameterSet: 65}},
	{backendtest.Key{Name: "ml-dsa-87", Algorithm: "ML-DSA-87", SignatureContexts: true}, signVerify, "ML_DSA_87", Params{KeyType: MLDSA, ParameterSet: 87}},
	{backendtest.Key{Name: "ml-kem-768", Algorithm: "ML-KEM-768", Decapsulates: true}, encapsulates, "ML_KEM_768", Params{KeyType: MLKEM, ParameterSet: 768}},
	{backendtest.Key{Name: "ml-kem-1024", Algorithm: "ML-KEM-1024", Decapsulates: true}, encapsulates, "ML_KEM_1024", Params{KeyType: MLKEM, ParameterSet: 1024}},
	{backendtest.Key{Name: "aes", Algorithm: "AES-256", AEAD: true, OwnCiphertexts: true}, encrypts, "SYMMETRIC_DEFAULT", Params{KeyType: AES, KeyBits: 256}},
	{backendtest.Key{Name: "hmac-224", Algorithm: "HMAC", MACs: []backend.MACAlgorithm{backend.HMACSHA224}}, macs, "HMAC_224", Params{KeyType: HMAC, KeyBits: 224}},
	{backendtest.Key{Name: "hmac-256", Algorithm: "HMAC", MACs: []backend.MACAlgorithm{backend.HMACSHA256}}, macs, "HMAC_256", Params{KeyType: HMAC, KeyBits: 256}},
	{backendtest.Key{Name: "hmac-384", Algorithm: "HMAC", MACs: []backend.MACAlgorithm{backend.HMACSHA384}}, macs, "HMAC_384", Params{KeyType: HMAC, KeyBits: 384}},
	{backendtest.Key{Name: "hmac-512", Algorithm: "HMAC", MACs: []backend.MACAlgorithm{backend.HMACSHA512}}, macs, "HMAC_512", Params{KeyType: HMAC, KeyBits: 512}},
}

// slow are kinds that differ from others in sizes alone, and are left to the runs without the race detector, which makes their
// arithmetic many times slower.
var slow = []string{"rsa-4096", "oaep-3072", "p384", "p521", "ecdh-p384", "ecdh-p521", "ml-dsa-65", "ml-dsa-87", "ml-kem-1024", "hmac-224", "hmac-384", "hmac-512"}

// conformance declares the backend, against a fake of its own, to the suite.
func conformance(tb testing.TB) backendtest.Config {
	tb.Helper()
	srv := serve(tb, &fakeaws.Options{PageSize: 7})
	cfg := backendtest.Config{
		New: func(tb testing.TB) backend.Backend {
			isolate(tb)
			b, err := Connect(nil)
			require.NoError(tb, err)
			return b
		},
		Absent:  at(srv, Params{KMSKey: "alias/absent", KeyType: ECDSA, Curve: "P256"}),
		Secrets: []string{fakeaws.SecretKey, fakeaws.AccessKey},
	}
	var p256 string
	for _, k := range kinds {
		if raceEnabled && slices.Contains(slow, k.Name) {
			continue
		}
		arn := add(tb, srv, fakeaws.Key{Spec: k.spec, Usage: k.usage, Alias: "alias/" + k.Name})
		if k.Name == "p256" {
			p256 = arn
		}
		k.Random = true
		opened := k.p
		opened.KMSKey = "alias/" + k.Name
		k.Params = at(srv, opened)
		cfg.Keys = append(cfg.Keys, k.Key)
		if k.p.KeyBits > 2048 {
			continue // the fake has one key of each such size
		}
		made := k.p
		made.KMSKey = "alias/made/" + k.Name
		cfg.Generate = append(cfg.Generate, backendtest.Generate{Name: "generate-" + k.Name, Params: at(srv, made), Algorithm: k.Algorithm, Replaces: true})
	}
	cfg.Invalid = map[string]backend.Params{
		"no key":          at(srv, Params{}),
		"no prefix":       at(srv, Params{KMSKey: "p256"}),
		"other type":      at(srv, Params{KMSKey: p256, KeyType: RSA}),
		"other curve":     at(srv, Params{KMSKey: p256, KeyType: ECDSA, Curve: "P384"}),
		"other usage":     at(srv, Params{KMSKey: p256, KeyUsage: agreement}),
		"another Region":  Params{KMSKey: p256, Region: "us-west-2"},
		"half a key pair": Params{KMSKey: p256, AccessKey: "AKIA"},
	}
	imported := func(name string, p Params, material any) {
		p.KMSKey = "alias/imported/" + name
		cfg.Import = append(cfg.Import, backendtest.Import{Name: "import-" + name, Params: at(srv, p), Material: material, Replaces: true})
	}
	imported("rsa", Params{KeyType: RSA, KeyBits: 2048}, must(rsa.GenerateKey(rand.Reader, 2048)))
	imported("p256", Params{KeyType: ECDSA, Curve: "P256"}, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	if !raceEnabled {
		imported("p521", Params{KeyType: ECDSA, Curve: "P521"}, must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)))
		imported("oaep", Params{KeyType: RSA, KeyUsage: encrypts}, must(rsa.GenerateKey(rand.Reader, 2048)))
	}
	imported("ecdh", Params{KeyUsage: agreement}, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	imported("ed25519", Params{KeyType: Ed25519}, ed25519.NewKeyFromSeed(random(32)))
	imported("aes", Params{KeyType: AES}, random(32))
	imported("hmac-512", Params{KeyType: HMAC, KeyBits: 512}, random(64))
	return cfg
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func TestConformance(t *testing.T) { backendtest.Run(t, conformance(t)) }

func BenchmarkSign(b *testing.B) { backendtest.BenchmarkSign(b, conformance(b)) }

func BenchmarkDecrypt(b *testing.B) { backendtest.BenchmarkDecrypt(b, conformance(b)) }
