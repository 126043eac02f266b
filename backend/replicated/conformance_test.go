package replicated_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"testing"

	"filippo.io/mldsa"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
	"github.com/managedkeys/managedkeys/backend/replicated"
	"github.com/managedkeys/managedkeys/backend/software"
)

// A C call that hangs because its server was killed can't be ended; its goroutine was written off.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/managedkeys/managedkeys/backend/pkcs11.(*worker).loop"))
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

var sha2 = []crypto.Hash{crypto.SHA224, crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512}

// kinds are keys of every kind, and what they are made of.
var kinds = []struct {
	key      backendtest.Key
	params   software.Params
	material func() any
}{
	{backendtest.Key{
		Name: "rsa", Algorithm: "RSA-2048", Digests: sha2, OAEPLabels: true, Wraps: true,
		Signs: []x509.SignatureAlgorithm{
			x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
			x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		},
		OAEP: []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512},
	}, software.Params{KeyType: software.RSA}, func() any { return must(rsa.GenerateKey(rand.Reader, 2048)) }},
	{backendtest.Key{
		Name: "ec", Algorithm: "ECDSA P-256", Digests: sha2, Agrees: true,
		Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512},
	}, software.Params{KeyType: software.ECDSA}, func() any { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }},
	{backendtest.Key{
		Name: "ed", Algorithm: "Ed25519", Signs: []x509.SignatureAlgorithm{x509.PureEd25519}, Digests: []crypto.Hash{crypto.SHA512}, SignatureContexts: true,
	}, software.Params{KeyType: software.Ed25519}, func() any { return ed25519.NewKeyFromSeed(randomBytes(32)) }},
	{backendtest.Key{Name: "mldsa", Algorithm: "ML-DSA-44", SignatureContexts: true},
		software.Params{KeyType: software.MLDSA}, func() any { return must(mldsa.GenerateKey(mldsa.MLDSA44())) }},
	{backendtest.Key{Name: "mlkem", Algorithm: "ML-KEM-768", Decapsulates: true},
		software.Params{KeyType: software.MLKEM}, func() any { return must(mlkem.GenerateKey768()) }},
	{backendtest.Key{Name: "aes", Algorithm: "AES-256", AEAD: true, Wraps: true},
		software.Params{KeyType: software.AES}, func() any { return randomBytes(32) }},
	{backendtest.Key{Name: "hmac", Algorithm: "HMAC", MACs: []backend.MACAlgorithm{
		backend.HMACSHA1, backend.HMACSHA224, backend.HMACSHA256, backend.HMACSHA384, backend.HMACSHA512,
		backend.HMACSHA3_224, backend.HMACSHA3_256, backend.HMACSHA3_384, backend.HMACSHA3_512,
	}}, software.Params{KeyType: software.HMAC}, func() any { return randomBytes(32) }},
}

// at returns the parameters of the key of that name at both places.
func at(name string) replicated.Params {
	return replicated.Params{Places: []replicated.At{
		{Place: "near", Params: software.Params{KeyName: name}}, {Place: "far", Params: software.Params{KeyName: name}},
	}}
}

// TestConformance: keys at two places are keys like all others.
func TestConformance(t *testing.T) {
	near, far := software.New(nil), software.New(nil)
	t.Cleanup(func() { near.Close(); far.Close() })
	cfg := backendtest.Config{
		New: func(tb testing.TB) backend.Backend {
			return must(replicated.New([]replicated.Place{{Name: "near", Backend: near}, {Name: "far", Backend: far}}, nil))
		},
		Absent: at("absent"),
		Invalid: map[string]backend.Params{
			"no place":       replicated.Params{},
			"one place":      replicated.Params{Places: at("rsa").Places[:1]},
			"unknown place":  replicated.Params{Places: append(at("rsa").Places[:1:1], replicated.At{Place: "moon", Params: software.Params{KeyName: "rsa"}})},
			"a place twice":  replicated.Params{Places: append(at("rsa").Places, at("rsa").Places[0])},
			"no params":      replicated.Params{Places: append(at("rsa").Places[:1:1], replicated.At{Place: "far"})},
			"invalid params": at(""),
		},
	}
	for _, k := range kinds {
		material := k.material()
		k.params.KeyName = k.key.Name
		for _, b := range []*software.Backend{near, far} {
			_, err := b.Import(t.Context(), k.params, material, nil)
			require.NoError(t, err)
		}
		k.key.Params, k.key.Random = at(k.key.Name), true
		cfg.Keys = append(cfg.Keys, k.key)
	}
	backendtest.Run(t, cfg)
}
