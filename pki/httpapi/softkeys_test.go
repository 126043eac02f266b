package httpapi_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// countedKeys counts what software keys are asked for, and refuses all if err is set.
type countedKeys struct {
	pkihttp.SoftwareKeys
	imported, discarded, restored int
	err                           error
}

func (k *countedKeys) Import(ctx context.Context, m *managedkey.Mount, key crypto.Signer) (string, error) {
	k.imported++
	if k.err != nil {
		return "", k.err
	}
	return k.SoftwareKeys.Import(ctx, m, key)
}

func (k *countedKeys) Restore(ctx context.Context, m *managedkey.Mount, name string, key crypto.Signer) error {
	if k.err != nil {
		return k.err
	}
	k.restored++
	return k.SoftwareKeys.Restore(ctx, m, name, key)
}

func (k *countedKeys) Discard(ctx context.Context, m *managedkey.Mount, name string) error {
	k.discarded++
	return k.SoftwareKeys.Discard(ctx, m, name)
}

// softRig is a rig whose program allows keys in software, and whose mount doesn't yet.
func softRig(t *testing.T) (*rig, *countedKeys) {
	keys := new(countedKeys)
	g := newRig(t, func(o *pkihttp.Options) { o.Software, o.AllowUnsealed = keys, true })
	made, err := pkihttp.NewSoftwareKeys(g.keys, g.soft)
	require.NoError(t, err)
	keys.SoftwareKeys = made
	return g, keys
}

// privateKey returns the key in a text.
func keyIn(t testing.TB, text string) crypto.Signer {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	require.NotNil(t, block)
	assert.Empty(t, strings.TrimSpace(string(rest)))
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	require.NoError(t, err)
	return key.(crypto.Signer)
}

func inPEM(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// softRequests are all requests that would have a key in software.
func softRequests(t testing.TB) map[string]fields {
	out := map[string]fields{"keys/import": {"pem_bundle": inPEM(t, ecKey(t))}, "issuers/import/bundle": {"pem_bundle": inPEM(t, ecKey(t))}, "config/ca": {"pem_bundle": inPEM(t, ecKey(t))}}
	for _, kind := range []string{"internal", "exported"} {
		for _, path := range []string{"root/generate/", "issuers/generate/root/", "root/rotate/", "intermediate/generate/", "issuers/generate/intermediate/"} {
			out[path+kind] = fields{"common_name": "Soft", "key_type": "ec"}
		}
		out["keys/generate/"+kind] = fields{"key_type": "ec"}
	}
	return out
}

// TestNoSoftwareKeys: none slips in unless program and mount both allow it, and neither what the mount says otherwise nor who asks matters.
func TestNoSoftwareKeys(t *testing.T) {
	g, keys := softRig(t)
	h := newRig(t, nil) // the program doesn't allow it, but the mount does
	h.option(pkihttp.OptionSoftwareKeys, "true")
	g.root("root")
	h.root("root")
	for _, value := range []string{"", "false", "yes", "TRUE", "1"} {
		if value != "" {
			g.option(pkihttp.OptionSoftwareKeys, value)
		}
		for path, body := range softRequests(t) {
			for _, g := range []*rig{g, h} {
				a := g.must(400, "POST", "pki/"+path, body)
				assert.Contains(t, a.errors[0], "software_keys", path)
				assert.NotContains(t, string(a.body), "BEGIN", path)
			}
		}
	}
	g.option(pkihttp.OptionSoftwareKeys, "true")
	for _, path := range []string{"issuers/import/cert", "intermediate/set-signed"} { // these take certificates only, even so
		for _, field := range []string{"pem_bundle", "certificate"} {
			g.must(400, "POST", "pki/"+path, fields{field: inPEM(t, ecKey(t))})
		}
	}
	g.must(400, "POST", "pki/issuer/default/ocsp-responder", fields{"key_type": "ec"})
	assert.Zero(t, keys.imported)
	assert.Len(t, g.must(200, "LIST", "pki/keys", nil).data["keys"], 1)
	_, err := pkihttp.NewSoftwareKeys(g.keys, struct{ backend.Backend }{g.soft})
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
}

// TestGenerateInSoftware: internal keys are never given out, exported ones once, in each format, and they are those of the certificates.
func TestGenerateInSoftware(t *testing.T) {
	for name, client := range map[string]func(*rig) stock{"vault": (*rig).vault, "openbao": (*rig).bao} {
		t.Run(name, func(t *testing.T) {
			g, _ := softRig(t)
			g.option(pkihttp.OptionSoftwareKeys, "true")
			c := client(g)
			out, _, err := c.write("pki/root/generate/internal", fields{"common_name": "Inner", "ttl": "100h", "key_name": "inner"})
			require.NoError(t, err)
			assert.NotContains(t, out, "private_key")
			assert.Equal(t, 2048, parse(t, out["certificate"].(string)).PublicKey.(*rsa.PublicKey).N.BitLen(), "the default")
			key, err := c.read("pki/key/inner")
			require.NoError(t, err)
			assert.Equal(t, "rsa", key["key_type"])
			assert.NotContains(t, key, "private_key")

			out, _, err = c.write("pki/root/generate/exported", fields{"common_name": "Outer", "ttl": "100h", "key_type": "ec", "key_bits": 384, "issuer_name": "outer"})
			require.NoError(t, err)
			assert.Equal(t, "ec", out["private_key_type"])
			cert := parse(t, out["certificate"].(string))
			assert.Equal(t, cert.PublicKey, keyIn(t, out["private_key"].(string)).Public())
			read, err := c.read("pki/issuer/outer")
			require.NoError(t, err)
			assert.NotContains(t, read, "private_key")
			g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec", "issuer_ref": "outer"})
			leaf := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example", "ttl": "1h"}).cert("certificate")
			require.NoError(t, leaf.CheckSignatureFrom(cert))

			out, _, err = c.write("pki/intermediate/generate/exported", fields{"common_name": "Sub", "key_type": "ed25519", "private_key_format": "pkcs8"})
			require.NoError(t, err)
			assert.Equal(t, parseCSR(t, out["csr"].(string)).PublicKey, keyIn(t, out["private_key"].(string)).Public())
			out, _, err = c.write("pki/intermediate/generate/internal", fields{"common_name": "Sub", "key_type": "ec"})
			require.NoError(t, err)
			assert.NotContains(t, out, "private_key")
			out, _, err = c.write("pki/keys/generate/exported", fields{"key_type": "ec", "key_name": "loose"})
			require.NoError(t, err)
			assert.NotNil(t, keyIn(t, out["private_key"].(string)))

			a := g.must(200, "POST", "pki/root/generate/exported", fields{"common_name": "DER", "ttl": "100h", "key_type": "ec", "format": "der"})
			der, err := base64.StdEncoding.DecodeString(a.str("private_key"))
			require.NoError(t, err)
			_, err = x509.ParseECPrivateKey(der)
			require.NoError(t, err)
			a = g.must(200, "POST", "pki/root/rotate/exported", fields{"ttl": "50h", "key_type": "ec", "format": "pem_bundle"})
			assert.Equal(t, 2, strings.Count(a.str("certificate"), "BEGIN"), "key and certificate")
			assert.NotNil(t, keyIn(t, a.str("private_key")))
		})
	}
}

// TestSoftwareKeysRefused: a request that is refused leaves no key behind.
func TestSoftwareKeysRefused(t *testing.T) {
	g, keys := softRig(t)
	g.option(pkihttp.OptionSoftwareKeys, "true")
	g.root("root")
	g.must(200, "POST", "pki/keys/generate/kms", fields{"managed_key_name": "sub", "key_name": "taken"})
	for _, c := range []struct {
		path string
		body fields
		kept bool // before it is refused
	}{
		{"root/generate/internal", fields{"common_name": "R", "key_type": "dsa"}, false},
		{"root/generate/internal", fields{"common_name": "R", "key_type": "ec", "key_bits": 2048}, false},
		{"root/generate/internal", fields{"common_name": "R", "key_type": "rsa", "key_bits": 1024}, false},
		{"root/generate/exported", fields{"common_name": "R", "key_type": "ec", "use_pss": true}, false},
		{"root/generate/exported", fields{"common_name": "R", "key_type": "ec", "key_name": "taken"}, false},
		{"root/generate/exported", fields{"common_name": "R", "key_type": "ec", "key_name": "a/b"}, false},
		{"root/generate/exported", fields{"common_name": "R", "key_type": "ec", "country": "Sweden"}, true},
		{"root/rotate/exported", fields{"key_type": "ec", "issuer_name": "root-root"}, true},
		{"intermediate/generate/exported", fields{"common_name": "S\x00", "key_type": "ec"}, true},
		{"intermediate/generate/internal", fields{"common_name": "S", "key_type": "ec", "key_name": "taken"}, false},
		{"keys/generate/internal", fields{"key_type": "ec", "key_name": "taken"}, false},
		{"keys/generate/internal", fields{"key_type": "ec", "managed_key_name": "sub"}, false},
		{"keys/import", fields{"pem_bundle": inPEM(t, ecKey(t)), "key_name": "taken"}, false},
		{"keys/import", fields{"pem_bundle": inPEM(t, ecKey(t)) + inPEM(t, ecKey(t))}, false},
		{"keys/import", fields{"pem_bundle": g.must(200, "GET", "pki/cert/ca", nil).str("certificate")}, false},
		{"keys/import", fields{}, false},
	} {
		keys.imported, keys.discarded = 0, 0
		a := g.must(400, "POST", "pki/"+c.path, c.body)
		assert.NotContains(t, string(a.body), "BEGIN", c.path)
		if c.kept {
			assert.Equal(t, 1, keys.imported, "%s %v", c.path, c.body)
		}
		assert.Equal(t, keys.imported, keys.discarded, "%s %v", c.path, c.body)
		assert.Len(t, g.must(200, "LIST", "pki/keys", nil).data["keys"], 2, "%s %v", c.path, c.body)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	g.must(400, "POST", "pki/keys/import", fields{"pem_bundle": inPEM(t, weak)})
	for _, name := range g.keys.List("") {
		assert.False(t, strings.HasPrefix(name, "pki-"), name)
	}
	keys.err = backend.ErrUnavailable
	a := g.must(503, "POST", "pki/keys/import", fields{"pem_bundle": inPEM(t, ecKey(t))})
	assert.NotContains(t, string(a.body), "BEGIN")
}

// TestImportKeys: private keys are imported alone, and in bundles with the certificates of their CAs, which then issue.
func TestImportKeys(t *testing.T) {
	g, keys := softRig(t)
	g.option(pkihttp.OptionSoftwareKeys, "true")
	key := ecKey(t)
	a := g.must(200, "POST", "pki/keys/import", fields{"pem_bundle": inPEM(t, key), "key_name": "brought"})
	assert.Equal(t, "ec", a.str("key_type"))
	assert.Equal(t, a.data, g.must(200, "GET", "pki/key/brought", nil).data)
	assert.NotContains(t, string(a.body), "PRIVATE")
	again := g.must(200, "POST", "pki/keys/import", fields{"pem_bundle": inPEM(t, key), "key_name": "other"})
	assert.Equal(t, a.data, again.data, "the key that is there, under its name")
	assert.Len(t, again.warnings, 1)
	root := g.must(200, "POST", "pki/root/generate/existing", fields{"common_name": "Brought", "key_ref": "brought", "ttl": "100h"}).cert("certificate")
	assert.Equal(t, key.Public(), root.PublicKey)

	other := ecKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1 << 60), Subject: pkix.Name{CommonName: "Old CA", Organization: []string{"Example"}, Country: []string{"SE"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature, SubjectKeyId: []byte{1, 2, 3, 4}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, other.Public(), other)
	require.NoError(t, err)
	bundle := inPEM(t, other) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	for i, path := range []string{"config/ca", "issuers/import/bundle"} {
		a = g.must(200, "POST", "pki/"+path, fields{"pem_bundle": bundle})
		assert.Len(t, a.data["imported_keys"], 1-i)
		assert.Len(t, a.data["existing_keys"], i)
		assert.Len(t, a.data["imported_issuers"], 1-i)
		assert.Len(t, a.data["existing_issuers"], i)
		assert.Len(t, a.data["mapping"], 1)
	}
	g.must(200, "POST", "pki/config/issuers", fields{"default": a.data["existing_issuers"].([]any)[0]})
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	old, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	require.NoError(t, g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example", "ttl": "1h"}).cert("certificate").CheckSignatureFrom(old))

	// A bundle that is wrong leaves none of its keys.
	keys.imported, keys.discarded = 0, 0
	template.KeyUsage = x509.KeyUsageDigitalSignature
	unfit := ecKey(t)
	der, err = x509.CreateCertificate(rand.Reader, template, template, unfit.Public(), unfit)
	require.NoError(t, err)
	before := g.must(200, "LIST", "pki/keys", nil).data
	g.must(400, "POST", "pki/issuers/import/bundle", fields{"pem_bundle": inPEM(t, ecKey(t)) + inPEM(t, unfit) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))})
	assert.Equal(t, before, g.must(200, "LIST", "pki/keys", nil).data)
	assert.Equal(t, 2, keys.imported)
	assert.Equal(t, 2, keys.discarded)
	// Taking the option away ends new ones; what is there goes on.
	g.option(pkihttp.OptionSoftwareKeys, "false")
	g.must(400, "POST", "pki/keys/import", fields{"pem_bundle": inPEM(t, ecKey(t))})
	g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example", "ttl": "1h"})
}
