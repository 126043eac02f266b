package gcpckms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
)

// kinds are keys of every kind, and what they can do. Of algorithms that differ in the size of an RSA key only, one is here:
// TestEveryAlgorithm has the others.
var kinds = []struct {
	alg   Algorithm
	level ProtectionLevel
	key   backendtest.Key
}{
	{"RSA_SIGN_PSS_2048_SHA256", Software, backendtest.Key{Algorithm: "RSA-2048", Signs: []x509.SignatureAlgorithm{x509.SHA256WithRSAPSS}, SaltEqualsHash: true}},
	{"RSA_SIGN_PKCS1_2048_SHA256", HSM, backendtest.Key{Algorithm: "RSA-2048", Signs: []x509.SignatureAlgorithm{x509.SHA256WithRSA}}},
	{"RSA_SIGN_RAW_PKCS1_2048", Software, backendtest.Key{
		Algorithm: "RSA-2048", Signs: []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA},
		Digests: []crypto.Hash{
			crypto.SHA1, crypto.SHA224, crypto.SHA512_224, crypto.SHA512_256, crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512,
		},
	}},
	{"RSA_SIGN_PSS_4096_SHA512", Software, backendtest.Key{Algorithm: "RSA-4096", Signs: []x509.SignatureAlgorithm{x509.SHA512WithRSAPSS}, SaltEqualsHash: true}},
	{"RSA_DECRYPT_OAEP_2048_SHA256", Software, backendtest.Key{Algorithm: "RSA-2048", OAEP: []crypto.Hash{crypto.SHA256}, Wraps: true}},
	{"RSA_DECRYPT_OAEP_2048_SHA1", HSM, backendtest.Key{Algorithm: "RSA-2048", OAEP: []crypto.Hash{crypto.SHA1}}},
	{"RSA_DECRYPT_OAEP_4096_SHA512", Software, backendtest.Key{Algorithm: "RSA-4096", OAEP: []crypto.Hash{crypto.SHA512}}},
	{"EC_SIGN_P256_SHA256", Software, backendtest.Key{Algorithm: "ECDSA P-256", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA256}}},
	{"EC_SIGN_P384_SHA384", HSM, backendtest.Key{Algorithm: "ECDSA P-384", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA384}}},
	{"EC_SIGN_SECP256K1_SHA256", HSM, backendtest.Key{Algorithm: "ECDSA secp256k1", Schemes: []backend.Scheme{backend.ECDSA}, Digests: []crypto.Hash{crypto.SHA256}}},
	{"EC_SIGN_ED25519", Software, backendtest.Key{Algorithm: "Ed25519", Signs: []x509.SignatureAlgorithm{x509.PureEd25519}}},
	{"PQ_SIGN_ML_DSA_44", Software, backendtest.Key{Algorithm: "ML-DSA-44"}},
	{"PQ_SIGN_ML_DSA_44_EXTERNAL_MU", Software, backendtest.Key{Algorithm: "ML-DSA-44", SignatureContexts: true}},
	{"PQ_SIGN_ML_DSA_65_EXTERNAL_MU", Software, backendtest.Key{Algorithm: "ML-DSA-65", SignatureContexts: true}},
	{"PQ_SIGN_ML_DSA_87_EXTERNAL_MU", Software, backendtest.Key{Algorithm: "ML-DSA-87", SignatureContexts: true}},
	{"ML_KEM_768", HSM, backendtest.Key{Algorithm: "ML-KEM-768", Decapsulates: true}},
	{"ML_KEM_1024", Software, backendtest.Key{Algorithm: "ML-KEM-1024", Decapsulates: true}},
	{"HMAC_SHA1", Software, backendtest.Key{Algorithm: "HMAC", MACs: []backend.MACAlgorithm{backend.HMACSHA1}}},
	{"HMAC_SHA256", HSM, backendtest.Key{Algorithm: "HMAC", MACs: []backend.MACAlgorithm{backend.HMACSHA256}}},
	{"HMAC_SHA512", Software, backendtest.Key{Algorithm: "HMAC", MACs: []backend.MACAlgorithm{backend.HMACSHA512}}},
	{"GOOGLE_SYMMETRIC_ENCRYPTION", Software, backendtest.Key{Algorithm: "AES-256", AEAD: true}},
	{"AES_128_GCM", Software, backendtest.Key{Algorithm: "AES-128", AEAD: true}},
	{"AES_256_GCM", HSM, backendtest.Key{Algorithm: "AES-256", AEAD: true}},
}

// conformance declares a service to the suite.
func conformance(tb testing.TB) backendtest.Config {
	tb.Helper()
	server := newServer(tb, nil)
	cfg := backendtest.Config{
		New: func(tb testing.TB) backend.Backend {
			b, err := NewFromOptions(tb.Context(), nil, server.ClientOptions()...)
			require.NoError(tb, err)
			b.clock.pause = time.Millisecond
			return b
		},
		Absent:  testParams("absent", p256),
		Secrets: []string{testCredentials},
		Invalid: map[string]backend.Params{
			"no key":                  Params{Project: testProject, Region: testRegion, KeyRing: testRing},
			"a slash in the key":      testParams("a/b", p256),
			"a version that is none":  Params{Project: testProject, Region: testRegion, KeyRing: testRing, CryptoKey: "k", CryptoKeyVersion: "0"},
			"another algorithm":       testParams(lower("EC_SIGN_P384_SHA384"), p256),
			"unauthenticated AES":     testParams("k", "AES_256_CBC"),
			"credentials beside ours": Params{Credentials: testCredentials, Project: testProject, Region: testRegion, KeyRing: testRing, CryptoKey: lower(p256)},
			"another level":           Params{Project: testProject, Region: testRegion, KeyRing: testRing, CryptoKey: lower(p256), ProtectionLevel: HSM},
		},
	}
	for _, k := range kinds {
		key := k.key
		key.Name, key.Random = lower(k.alg), true
		key.Params = addKey(tb, server, key.Name, k.alg, k.level)
		cfg.Keys = append(cfg.Keys, key)
	}
	for alg, describes := range map[Algorithm]string{
		p256: "ECDSA P-256", "RSA_SIGN_PKCS1_2048_SHA256": "RSA-2048", "EC_SIGN_ED25519": "Ed25519",
		"PQ_SIGN_ML_DSA_65": "ML-DSA-65", "HMAC_SHA384": "HMAC", "AES_256_GCM": "AES-256", "GOOGLE_SYMMETRIC_ENCRYPTION": "AES-256",
	} {
		p := testParams("generated-"+lower(alg), alg)
		cfg.Generate = append(cfg.Generate, backendtest.Generate{Name: p.CryptoKey, Params: p, Algorithm: describes})
		p = testParams("latest-"+lower(alg), alg)
		p.CryptoKeyVersion = Latest
		cfg.Generate = append(cfg.Generate, backendtest.Generate{Name: p.CryptoKey, Params: p, Algorithm: describes, Replaces: true})
	}
	for alg, material := range map[Algorithm]any{
		"RSA_SIGN_PKCS1_2048_SHA256": must(rsa.GenerateKey(rand.Reader, 2048)), p256: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"EC_SIGN_ED25519": ed25519.NewKeyFromSeed(randomBytes(32)), "HMAC_SHA256": randomBytes(32), "AES_128_GCM": randomBytes(16),
	} {
		p := testParams("imported-"+lower(alg), alg)
		p.ProtectionLevel = HSM
		if alg == p256 {
			p.CryptoKeyVersion = Latest
		}
		cfg.Import = append(cfg.Import, backendtest.Import{
			Name: p.CryptoKey, Params: p, Material: material, Replaces: p.CryptoKeyVersion == Latest,
		})
	}
	return cfg
}

// testCredentials look like what must not be shown.
const testCredentials = `{"type":"service_account","private_key":"gcpckms-test-secret"}`

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func TestConformance(t *testing.T) { backendtest.Run(t, conformance(t)) }

func BenchmarkSign(b *testing.B) { backendtest.BenchmarkSign(b, conformance(b)) }

func BenchmarkDecrypt(b *testing.B) { backendtest.BenchmarkDecrypt(b, conformance(b)) }
