package software

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
)

const testPassphrase = "correct horse battery staple"

// cheap makes key derivation fast enough for tests.
var cheap = &Options{Argon2id: Argon2id{Time: 1, MemoryKiB: 64, Threads: 1}}

var (
	rsaSigns = []x509.SignatureAlgorithm{
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	}
	ecdsaSigns   = []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512}
	extraDigests = []crypto.Hash{crypto.SHA224, crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512}
	testOAEP     = []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512}
	testMACs     = []backend.MACAlgorithm{
		backend.HMACSHA1, backend.HMACSHA224, backend.HMACSHA256, backend.HMACSHA384, backend.HMACSHA512,
		backend.HMACSHA3_224, backend.HMACSHA3_256, backend.HMACSHA3_384, backend.HMACSHA3_512,
	}
	everyKind = []backendtest.Key{
		{Params: Params{KeyType: RSA, KeyBits: 2048}, Algorithm: "RSA-2048", Signs: rsaSigns, Digests: extraDigests, OAEP: testOAEP, OAEPLabels: true, Wraps: true},
		{Params: Params{KeyType: RSA, KeyBits: 3072}, Algorithm: "RSA-3072", Signs: rsaSigns, Digests: extraDigests, OAEP: testOAEP, OAEPLabels: true, Wraps: true},
		{Params: Params{KeyType: ECDSA, Curve: P256}, Algorithm: "ECDSA P-256", Signs: ecdsaSigns, Digests: extraDigests, Agrees: true},
		{Params: Params{KeyType: ECDSA, Curve: P384}, Algorithm: "ECDSA P-384", Signs: ecdsaSigns, Digests: extraDigests, Agrees: true},
		{Params: Params{KeyType: ECDSA, Curve: P521}, Algorithm: "ECDSA P-521", Signs: ecdsaSigns, Digests: extraDigests, Agrees: true},
		{Params: Params{KeyType: Ed25519}, Algorithm: "Ed25519", Signs: []x509.SignatureAlgorithm{x509.PureEd25519}, Digests: []crypto.Hash{crypto.SHA512}, SignatureContexts: true},
		{Params: Params{KeyType: MLDSA, ParameterSet: 44}, Algorithm: "ML-DSA-44", SignatureContexts: true},
		{Params: Params{KeyType: MLDSA, ParameterSet: 65}, Algorithm: "ML-DSA-65", SignatureContexts: true},
		{Params: Params{KeyType: MLDSA, ParameterSet: 87}, Algorithm: "ML-DSA-87", SignatureContexts: true},
		{Params: Params{KeyType: MLKEM, ParameterSet: 768}, Algorithm: "ML-KEM-768", Decapsulates: true},
		{Params: Params{KeyType: MLKEM, ParameterSet: 1024}, Algorithm: "ML-KEM-1024", Decapsulates: true},
		{Params: Params{KeyType: AES, KeyBits: 128}, Algorithm: "AES-128", AEAD: true, Wraps: true},
		{Params: Params{KeyType: AES, KeyBits: 256}, Algorithm: "AES-256", AEAD: true, Wraps: true},
		{Params: Params{KeyType: HMAC, KeyBits: 256}, Algorithm: "HMAC", MACs: testMACs},
		{Params: Params{KeyType: HMAC, KeyBits: 4096}, Algorithm: "HMAC", MACs: testMACs},
	}
)

// conformance declares a store to the suite. first is a Backend on it and stays open until the test ends; another
// returns a further one. kinds are the keys that it has.
func conformance(tb testing.TB, kinds []backendtest.Key, first *Backend, another func(testing.TB) backend.Backend) backendtest.Config {
	tb.Helper()
	cfg := backendtest.Config{
		New:     another,
		Absent:  Params{KeyName: "absent", KeyType: ECDSA, Curve: P256},
		Secrets: []string{testPassphrase},
		Invalid: map[string]backend.Params{
			"no name":         Params{},
			"RSA with curve":  Params{KeyName: "k", KeyType: RSA, Curve: P256},
			"unknown type":    Params{KeyName: "k", KeyType: "DSA"},
			"other store":     Params{KeyName: "ecdsa-p-256", Store: "elsewhere"},
			"other type":      Params{KeyName: "ecdsa-p-256", KeyType: Ed25519},
			"other curve":     Params{KeyName: "ecdsa-p-256", KeyType: ECDSA, Curve: P384},
			"other size":      Params{KeyName: "rsa-2048", KeyType: RSA, KeyBits: 4096},
			"other parameter": Params{KeyName: "ml-dsa-44", KeyType: MLDSA, ParameterSet: 65},
		},
	}
	for _, k := range kinds {
		p := k.Params.(Params)
		k.Name = strings.ToLower(strings.ReplaceAll(k.Algorithm, " ", "-"))
		if p.KeyType == HMAC {
			k.Name += fmt.Sprintf("-%d", p.KeyBits)
		}
		p.KeyName = k.Name
		k.Params, k.Random = p, true
		if _, err := first.Generate(tb.Context(), p, nil); err != nil {
			tb.Fatal(err)
		}
		cfg.Keys = append(cfg.Keys, k)
		if p.KeyBits == 3072 {
			continue // takes seconds to make, and is like RSA-2048
		}
		// A key of the same kind, to be made by the suite.
		p.KeyName = "generated-" + k.Name
		cfg.Generate = append(cfg.Generate, backendtest.Generate{Name: p.KeyName, Params: p, Algorithm: k.Algorithm, Replaces: true})
	}
	imported := func(p Params, material any) {
		p.KeyName = "imported-" + string(p.KeyType) + string(p.Curve)
		cfg.Import = append(cfg.Import, backendtest.Import{Name: p.KeyName, Params: p, Material: material, Replaces: true})
	}
	imported(Params{KeyType: RSA, KeyBits: 2048}, must(rsa.GenerateKey(rand.Reader, 2048)))
	imported(Params{KeyType: ECDSA, Curve: P256}, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	imported(Params{KeyType: ECDSA, Curve: P521}, must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)))
	imported(Params{KeyType: Ed25519}, ed25519.NewKeyFromSeed(randomBytes(32)))
	imported(Params{KeyType: MLDSA, ParameterSet: 65}, must(mldsa.GenerateKey(mldsa.MLDSA65())))
	imported(Params{KeyType: MLKEM, ParameterSet: 768}, must(mlkem.GenerateKey768()))
	imported(Params{KeyType: AES, KeyBits: 256}, randomBytes(32))
	imported(Params{KeyType: HMAC, KeyBits: 256}, randomBytes(32))
	return cfg
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func memoryConformance(tb testing.TB) backendtest.Config {
	first := New(nil)
	tb.Cleanup(func() { first.Close() })
	return conformance(tb, everyKind, first, func(testing.TB) backend.Backend { return first.Share() })
}

// storedKinds returns the smallest key of each type: what a file changes is where a key is, and TestFileKeepsKeys has all.
func storedKinds() []backendtest.Key {
	var kinds []backendtest.Key
	seen := make(map[KeyType]bool)
	for _, k := range everyKind {
		if t := k.Params.(Params).KeyType; !seen[t] {
			seen[t] = true
			kinds = append(kinds, k)
		}
	}
	return kinds
}

func fileConformance(tb testing.TB) backendtest.Config {
	path := filepath.Join(tb.TempDir(), "keys")
	open := func(tb testing.TB) *Backend {
		b, err := OpenFile(path, testPassphrase, cheap)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	first := open(tb)
	tb.Cleanup(func() { first.Close() })
	return conformance(tb, storedKinds(), first, func(tb testing.TB) backend.Backend { return open(tb) })
}

func TestConformanceMemory(t *testing.T) { backendtest.Run(t, memoryConformance(t)) }

func TestConformanceFile(t *testing.T) { backendtest.Run(t, fileConformance(t)) }

func BenchmarkSign(b *testing.B) { backendtest.BenchmarkSign(b, memoryConformance(b)) }

func BenchmarkDecrypt(b *testing.B) { backendtest.BenchmarkDecrypt(b, memoryConformance(b)) }
