package transitmatrix

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/transit"
)

// managedSoftware is the software backend as a key manager.
func managedSoftware(t *testing.T) *place {
	generate := func(name, row string, p software.Params, k key) request {
		p.KeyName, k.name, k.row = name, name, row
		return request{key: k, params: p}
	}
	give := func(name, row string, p software.Params, material any) request {
		r := generate(name, row, p, key{})
		r.material = material
		return r
	}
	rs := []request{give("rsa-2048", "RSA", software.Params{}, private(t, "rsa-2048"))}
	for _, curve := range []string{"p256", "p384", "p521"} {
		rs = append(rs, give(curve, "EC", software.Params{}, private(t, curve)))
	}
	rs = append(rs, give("ed25519", "Ed25519", software.Params{}, private(t, "ed25519")))
	for _, set := range []string{"ml-dsa-44", "ml-dsa-65", "ml-dsa-87"} {
		rs = append(rs, give(set, "ML-DSA", software.Params{}, private(t, set)))
	}
	rs = append(rs,
		generate("ml-kem-768", "ML-KEM", software.Params{KeyType: software.MLKEM, ParameterSet: 768}, key{}),
		give("aes-128", "AES", software.Params{KeyType: software.AES}, secret()[:16]),
		give("aes-256", "AES", software.Params{KeyType: software.AES}, secret()[:32]),
		give("hmac", "HMAC", software.Params{KeyType: software.HMAC}, secret()[:32]))
	return newPlace(t, "software", software.New(nil), rs)
}

func token(t *testing.T) *place {
	p, _ := tokenWith(t, "*")
	return p
}

// tokenWith is SoftHSM2 with keys of these names, behind a module that counts.
func tokenWith(t *testing.T, names ...string) (*place, *faultp11.Module) {
	hsm := softhsm.Require(t)
	shim := faultp11.Require(t, hsm.Module)
	b, err := pkcs11.New(pkcs11.Library{Name: "hsm", Path: shim.Path(), PlainImport: true, RawRSA: true})
	require.NoError(t, err)
	var rs []request
	for _, r := range []struct {
		name, row string
		mechanism pkcs11.Mechanism
		material  any
		key       key
	}{
		{"p224", "EC", pkcs11.ECDSA, private(t, "p224"), key{}},
		{"p256", "EC", pkcs11.ECDSA, private(t, "p256"), key{}},
		{"p384", "EC", pkcs11.ECDSA, private(t, "p384"), key{}},
		{"p521", "EC", pkcs11.ECDSA, private(t, "p521"), key{}},
		{"secp256k1", "EC", pkcs11.ECDSA, nil, key{}},
		{"ecdh-p256", "EC", pkcs11.ECDH, private(t, "p256"), key{}},
		{"ecdh-p384", "EC", pkcs11.ECDH, private(t, "p384"), key{}},
		{"ed25519", "Ed25519", pkcs11.EdDSA, private(t, "ed25519"), key{}},
		{"rsa-pkcs", "RSA", pkcs11.RSAPKCS, private(t, "rsa-2048"), key{}},
		{"rsa-pss", "RSA", pkcs11.RSAPKCSPSS, nil, key{}},
		{"rsa-oaep", "RSA", pkcs11.RSAPKCSOAEP, private(t, "rsa-2048"), key{oaep: hashes["sha1"]}},
		{"aes-256", "AES", pkcs11.AESGCM, secret()[:32], key{}},
		{"hmac-sha1", "HMAC", 0x0221, secret()[:20], key{}},
		{"hmac-sha256", "HMAC", pkcs11.SHA256HMAC, secret()[:32], key{}},
		{"hmac-sha512", "HMAC", 0x0271, secret()[:64], key{}},
		{"cmac-128", "AES", pkcs11.AESCMAC, secret()[:16], key{}},
		{"cmac-256", "AES", pkcs11.AESCMAC, secret()[:32], key{}},
	} {
		p := pkcs11.Params{Library: "hsm", TokenLabel: hsm.Label, PIN: backend.Secret(hsm.PIN), KeyLabel: r.name, Mechanism: r.mechanism}
		if r.name == "secp256k1" {
			p.Curve = "SECP256K1"
		}
		if r.name == "rsa-pss" {
			p.KeyBits = 2048
		}
		r.key.name, r.key.row = r.name, r.row
		rs = append(rs, request{r.key, p, r.material})
	}
	place := newPlace(t, "pkcs11", b, only(rs, names...))
	for _, k := range place.keys { // the first use of some keys proves that they are the right ones, with one more call
		_, signing := place.engine.Sign(t.Context(), k.name, transit.SignRequest{})
		agreeing := doDeriveKey(t, place, k, combination{&operation{dimensions: []dimension{{"type", nil}}}, []string{transit.TypeAES256}})
		require.True(t, signing == nil || agreeing == nil || k.row != "EC", "%v, %v", signing, agreeing)
	}
	place.reset = shim.ResetCounts
	place.detail = func() any { return shim.Counts() }
	place.calls = func() int {
		n := 0
		for _, function := range []string{
			"C_Sign", "C_Decrypt", "C_Encrypt", "C_Verify", "C_DeriveKey", "C_GenerateRandom", "C_FindObjectsInit",
			"C_Login", "C_WrapKey", "C_UnwrapKey", "C_CreateObject",
		} {
			n += shim.Count(function)
		}
		return n
	}
	return place, shim
}
