package azurekeyvault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
)

var (
	rsaSigns = []x509.SignatureAlgorithm{
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	}
	oaep    = []crypto.Hash{crypto.SHA256, crypto.SHA1}
	macs    = []backend.MACAlgorithm{backend.HMACSHA256, backend.HMACSHA384, backend.HMACSHA512}
	decrypt = []*azkeys.KeyOperation{ptr(azkeys.KeyOperationDecrypt)}
	unwrap  = []*azkeys.KeyOperation{ptr(azkeys.KeyOperationUnwrapKey)}
	signs   = []*azkeys.KeyOperation{ptr(azkeys.KeyOperationSign), ptr(azkeys.KeyOperationVerify)}
)

// declared is a key of a conformance run, how it is made, and what it can do.
type declared struct {
	create azkeys.CreateKeyParameters
	bits   int // for Params, where the service doesn't tell
	key    backendtest.Key
}

func rsaParams(kty azkeys.KeyType, bits int32, ops []*azkeys.KeyOperation) azkeys.CreateKeyParameters {
	return azkeys.CreateKeyParameters{Kty: &kty, KeySize: &bits, KeyOps: ops}
}

func ecParams(kty azkeys.KeyType, curve azkeys.CurveName) azkeys.CreateKeyParameters {
	return azkeys.CreateKeyParameters{Kty: &kty, Curve: &curve}
}

func octParams(bits int32, ops []*azkeys.KeyOperation) azkeys.CreateKeyParameters {
	return azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeOctHSM), KeySize: &bits, KeyOps: ops}
}

var vaultKeys = []declared{
	{rsaParams(azkeys.KeyTypeRSA, 2048, nil), 0, backendtest.Key{Name: "rsa-2048", Algorithm: "RSA-2048", Signs: rsaSigns, SaltEqualsHash: true, OAEP: oaep, Wraps: true}},
	{rsaParams(azkeys.KeyTypeRSAHSM, 2048, signs), 0, backendtest.Key{Name: "rsa-signs", Algorithm: "RSA-2048", Signs: rsaSigns, SaltEqualsHash: true}},
	{rsaParams(azkeys.KeyTypeRSA, 2048, decrypt), 0, backendtest.Key{Name: "rsa-decrypts", Algorithm: "RSA-2048", OAEP: oaep, Wraps: true}},
	{rsaParams(azkeys.KeyTypeRSA, 2048, unwrap), 0, backendtest.Key{Name: "rsa-unwraps", Algorithm: "RSA-2048", OAEP: oaep, Wraps: true}},
	{ecParams(azkeys.KeyTypeEC, azkeys.CurveNameP256), 0, backendtest.Key{Name: "p256", Algorithm: "ECDSA P-256", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA256}}},
	{ecParams(azkeys.KeyTypeECHSM, azkeys.CurveNameP384), 0, backendtest.Key{Name: "p384", Algorithm: "ECDSA P-384", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA384}}},
	{ecParams(azkeys.KeyTypeEC, azkeys.CurveNameP521), 0, backendtest.Key{Name: "p521", Algorithm: "ECDSA P-521", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA512}}},
	{ecParams(azkeys.KeyTypeEC, azkeys.CurveNameP256K), 0, backendtest.Key{Name: "p256k", Algorithm: "ECDSA secp256k1", Digests: []crypto.Hash{crypto.SHA256}, Schemes: []backend.Scheme{backend.ECDSA}}},
}

var hsmKeys = []declared{
	{rsaParams(azkeys.KeyTypeRSAHSM, 2048, nil), 0, backendtest.Key{Name: "rsa-2048", Algorithm: "RSA-2048", Signs: rsaSigns, SaltEqualsHash: true, OAEP: oaep, Wraps: true, Random: true}},
	{ecParams(azkeys.KeyTypeECHSM, azkeys.CurveNameP256), 0, backendtest.Key{Name: "p256", Algorithm: "ECDSA P-256", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA256}, Random: true}},
	{ecParams(azkeys.KeyTypeECHSM, azkeys.CurveNameP256K), 0, backendtest.Key{Name: "p256k", Algorithm: "ECDSA secp256k1", Digests: []crypto.Hash{crypto.SHA256}, Schemes: []backend.Scheme{backend.ECDSA}, Random: true}},
	{octParams(128, nil), 128, backendtest.Key{Name: "aes-128", Algorithm: "AES-128", AEAD: true, Wraps: true, Random: true}},
	{octParams(192, nil), 192, backendtest.Key{Name: "aes-192", Algorithm: "AES-192", AEAD: true, Wraps: true, Random: true}},
	{octParams(256, nil), 0, backendtest.Key{Name: "aes-256", Algorithm: "AES-256", AEAD: true, Wraps: true, Random: true}},
	{octParams(256, signs), 0, backendtest.Key{Name: "hmac", Algorithm: "HMAC", MACs: macs, Random: true}},
}

// declare makes the keys in the vault at url and declares them to the suite; base says which vault that is.
func declare(tb testing.TB, srv *fakeazure.Server, url string, base Params, keys []declared) backendtest.Config {
	client := sdkClient(tb, srv, url)
	cfg := backendtest.Config{Secrets: []string{fakeazure.ClientSecret}}
	named := func(name string) Params {
		p := base
		p.KeyName = name
		return p
	}
	for _, d := range keys {
		makeKey(tb, client, d.key.Name, d.create)
		p := named(d.key.Name)
		if d.bits != 0 {
			p.KeyType, p.KeyBits = OctHSM, d.bits
		}
		d.key.Params = p
		cfg.Keys = append(cfg.Keys, d.key)
	}
	cfg.Absent = named("absent")
	with := func(p Params, change func(*Params)) Params {
		change(&p)
		return p
	}
	cfg.Invalid = map[string]backend.Params{
		"no name":        base,
		"bad name":       named("a/../b"),
		"bad version":    with(named("p256"), func(p *Params) { p.KeyVersion = "1" }),
		"RSA with curve": with(named("p256"), func(p *Params) { p.KeyType, p.Curve = RSA, P256 }),
		"other type":     with(named("p256"), func(p *Params) { p.KeyType = RSAHSM }),
		"other curve":    with(named("p256"), func(p *Params) { p.KeyType, p.Curve = keyTypeOf(keys, "p256"), P521 }),
		"other size":     with(named("rsa-2048"), func(p *Params) { p.KeyType, p.KeyBits = keyTypeOf(keys, "rsa-2048"), 4096 }),
		"bad vault":      with(named("p256"), func(p *Params) { p.VaultName = "evil.example/" }),
		"bad resource":   with(named("p256"), func(p *Params) { p.Resource = "vault.azure.net/x?" }),
		"no such cloud":  with(named("p256"), func(p *Params) { p.Environment = "AZUREGERMANCLOUD" }),
	}
	return cfg
}

func keyTypeOf(keys []declared, name string) KeyType {
	for _, d := range keys {
		if d.key.Name == name {
			return KeyType(*d.create.Kty)
		}
	}
	return ""
}

func generated(base Params, name, algorithm string, kind Params) backendtest.Generate {
	kind.TenantID, kind.ClientID, kind.ClientSecret = base.TenantID, base.ClientID, base.ClientSecret
	kind.VaultName, kind.Resource, kind.KeyName = base.VaultName, base.Resource, "generated-"+name
	return backendtest.Generate{Name: kind.KeyName, Params: kind, Algorithm: algorithm, Replaces: true}
}

func imported(base Params, name string, kind Params, material any) backendtest.Import {
	g := generated(base, name, "", kind)
	p := g.Params.(Params)
	p.KeyName = "imported-" + name
	return backendtest.Import{Name: p.KeyName, Params: p, Material: material, Replaces: true}
}

// TestConformanceVault runs the suite on a vault, with the credential and URL given.
func TestConformanceVault(t *testing.T) {
	t.Parallel()
	srv := newFake(t, &fakeazure.Options{PageSize: 3})
	cfg := declare(t, srv, vaultURL, Params{}, vaultKeys)
	cfg.New = func(tb testing.TB) backend.Backend { return newBackendAt(tb, srv, vaultURL, nil) }
	cfg.Generate = []backendtest.Generate{
		generated(Params{}, "rsa", "RSA-2048", Params{KeyType: RSA, KeyBits: 2048}),
		generated(Params{}, "p256", "ECDSA P-256", Params{KeyType: EC, Curve: P256}),
	}
	rsaKey, err := pooled(5)(2048)
	require.NoError(t, err)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	require.NoError(t, err)
	cfg.Import = []backendtest.Import{
		imported(Params{}, "rsa", Params{KeyType: RSA, KeyBits: 2048}, rsaKey),
		imported(Params{}, "p521", Params{KeyType: EC, Curve: P521}, p521),
	}
	backendtest.Run(t, cfg)
}

// TestConformanceManagedHSM runs the suite on a Managed HSM, connected to by parameters.
func TestConformanceManagedHSM(t *testing.T) {
	t.Parallel()
	srv := newFake(t, &fakeazure.Options{PageSize: 3})
	base := Params{
		TenantID: fakeazure.TenantID, ClientID: fakeazure.ClientID, ClientSecret: fakeazure.ClientSecret,
		VaultName: "test", Resource: "managedhsm.azure.net",
	}
	cfg := declare(t, srv, hsmURL, base, hsmKeys)
	cfg.New = func(tb testing.TB) backend.Backend {
		b, err := Connect(options(srv))
		require.NoError(tb, err)
		return b
	}
	cfg.Generate = []backendtest.Generate{
		generated(base, "p384", "ECDSA P-384", Params{KeyType: ECHSM, Curve: P384}),
		generated(base, "aes", "AES-128", Params{KeyType: OctHSM, KeyBits: 128}),
		generated(base, "hmac", "HMAC", Params{KeyType: OctHSM, KeyOps: "sign, verify"}),
	}
	p256k, err := secp256k1.GeneratePrivateKey()
	require.NoError(t, err)
	secret := make([]byte, 32)
	rand.Read(secret)
	cfg.Import = []backendtest.Import{
		imported(base, "hmac", Params{KeyType: OctHSM, KeyOps: "sign,verify"}, secret),
		imported(base, "aes", Params{KeyType: OctHSM, KeyBits: 256}, secret),
	}
	backendtest.Run(t, cfg)

	b := cfg.New(t).(*Backend)
	defer b.Close()
	p := imported(base, "p256k", Params{}, nil).Params.(Params)
	key, err := b.Import(t.Context(), p, p256k.ToECDSA(), nil)
	require.NoError(t, err)
	require.Equal(t, p256k.PubKey().ToECDSA(), key.Public())
}

func BenchmarkSign(b *testing.B) {
	srv := newFake(b, nil)
	cfg := declare(b, srv, vaultURL, Params{}, []declared{vaultKeys[0], vaultKeys[4]})
	cfg.Keys[0].Signs = rsaSigns[:1]
	cfg.New = func(tb testing.TB) backend.Backend { return newBackendAt(tb, srv, vaultURL, nil) }
	backendtest.BenchmarkSign(b, cfg)
}
