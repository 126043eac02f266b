package httpapi_test

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/pki"

	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// TestRootToCRL is the life of a certificate: root on a managed key, role, issue, read, revoke, CRL.
func TestRootToCRL(t *testing.T) {
	g := newRig(t, nil)
	a := g.root("root")
	root := a.cert("certificate")
	assert.Equal(t, "Example Root", root.Subject.CommonName)
	assert.Empty(t, root.DNSNames, "a CA is no host")
	assert.Equal(t, pki.FormatSerial(root.SerialNumber), a.str("serial_number"))
	assert.EqualValues(t, root.NotAfter.Unix(), a.data["expiration"])
	assert.Equal(t, a.str("certificate"), a.str("issuing_ca"))
	assert.Equal(t, "root-root", a.str("issuer_name"))
	assert.NotContains(t, a.data, "private_key")
	key, err := g.keys.Key(t.Context(), ref("root"))
	require.NoError(t, err)
	assert.Equal(t, key.Public(), root.PublicKey, "the certificate's key is the managed one")

	g.must(200, "POST", "pki/roles/web", fields{"allowed_domains": "example.com,example.org", "allow_subdomains": "true", "key_type": "ec", "max_ttl": "720h"})
	a = g.must(200, "POST", "pki/issue/web", fields{"common_name": "www.example.com", "alt_names": "a.example.org", "ttl": "24h"})
	leaf := a.cert("certificate")
	assert.Equal(t, []string{"a.example.org", "www.example.com"}, leaf.DNSNames)
	assert.Equal(t, "ec", a.str("private_key_type"))
	assert.Equal(t, []any{a.str("issuing_ca")}, a.data["ca_chain"])
	require.NoError(t, leaf.CheckSignatureFrom(root))
	assert.WithinDuration(t, time.Now().Add(24*time.Hour), leaf.NotAfter, time.Minute)
	block, _ := pem.Decode([]byte(a.str("private_key")))
	require.NotNil(t, block)
	private, err := x509.ParseECPrivateKey(block.Bytes)
	require.NoError(t, err)
	assert.Equal(t, leaf.PublicKey, private.Public())

	serial := a.str("serial_number")
	a = g.must(200, "GET", "pki/cert/"+serial, nil)
	assert.Equal(t, leaf, a.cert("certificate"))
	assert.EqualValues(t, 0, a.data["revocation_time"])
	assert.Equal(t, leaf.Raw, g.do("GET", "pki/cert/"+strings.ReplaceAll(serial, ":", "-")+"/raw", "", nil).body)
	assert.Contains(t, g.must(200, "LIST", "pki/certs", nil).data["keys"], serial)

	revoked := g.must(200, "POST", "pki/revoke", fields{"serial_number": serial, "reason": "keyCompromise"})
	assert.Equal(t, "revoked", revoked.str("state"))
	again := g.must(200, "POST", "pki/revoke", fields{"serial_number": serial})
	assert.Equal(t, revoked.data, again.data, "a second revocation changes nothing")
	assert.Equal(t, revoked.data["revocation_time"], g.must(200, "GET", "pki/cert/"+serial, nil).data["revocation_time"])
	assert.Equal(t, []any{serial}, g.must(200, "LIST", "pki/certs/revoked", nil).data["keys"])
	raw := g.do("GET", "pki/crl", "", nil)
	assert.Equal(t, "application/pkix-crl", raw.header.Get("Content-Type"))
	list, err := x509.ParseRevocationList(raw.body)
	require.NoError(t, err)
	require.NoError(t, list.CheckSignatureFrom(root))
	require.Len(t, list.RevokedCertificateEntries, 1)
	assert.Equal(t, leaf.SerialNumber, list.RevokedCertificateEntries[0].SerialNumber)
	assert.Equal(t, pki.ReasonKeyCompromise, list.RevokedCertificateEntries[0].ReasonCode)
}

// TestIntermediate: a request leaves one mount, is signed by another, comes back, and issues.
func TestIntermediate(t *testing.T) {
	g := newRig(t, nil)
	g.mount("sub", "sub")
	g.root("root")
	a := g.must(200, "POST", "sub/intermediate/generate/kms", fields{"common_name": "Example Sub", "organization": "Example", "country": "SE",
		"managed_key_name": "sub", "add_basic_constraints": true, "key_name": "sub-key"})
	assert.NotContains(t, a.data, "private_key")
	keyID := a.str("key_id")
	request := a.str("csr")
	signed := g.must(200, "POST", "pki/root/sign-intermediate", fields{"csr": request, "common_name": "Example Sub", "organization": "Example", "country": "SE", "ttl": "43800h", "max_path_length": 0})
	sub := signed.cert("certificate")
	assert.True(t, sub.IsCA)
	assert.True(t, sub.MaxPathLenZero)
	assert.Len(t, signed.data["ca_chain"], 2)
	chain := signed.str("certificate") + "\n" + signed.str("issuing_ca")
	a = g.must(200, "POST", "sub/intermediate/set-signed", fields{"certificate": chain})
	require.Len(t, a.data["imported_issuers"], 1)
	id := a.data["imported_issuers"].([]any)[0].(string)
	assert.Equal(t, map[string]any{id: keyID}, a.data["mapping"])
	require.Len(t, a.warnings, 1, "the root is no issuer of this mount")
	a = g.must(200, "POST", "sub/intermediate/set-signed", fields{"certificate": chain})
	assert.Equal(t, []any{id}, a.data["existing_issuers"])

	g.must(200, "POST", "sub/roles/any", fields{"allow_any_name": true, "key_type": "any"})
	text, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example.com"}, DNSNames: []string{"a.example.com"}})
	a = g.must(200, "POST", "sub/sign/any", fields{"csr": text, "remove_roots_from_chain": true, "format": "pem_bundle"})
	assert.Len(t, a.data["ca_chain"], 1)
	assert.Equal(t, 2, strings.Count(a.str("certificate"), "BEGIN CERTIFICATE"))
	leaf := a.cert("certificate")
	require.NoError(t, leaf.CheckSignatureFrom(sub))
	chainText := string(g.do("GET", "sub/ca_chain", "", nil).body)
	assert.Equal(t, 2, strings.Count(chainText, "BEGIN CERTIFICATE"))
	// use_csr_values takes the subject as the request has it.
	a = g.must(200, "POST", "pki/root/sign-intermediate", fields{"csr": request, "use_csr_values": true})
	assert.Equal(t, "Example Sub", a.cert("certificate").Subject.CommonName)
}

// TestFormats: each form that certificates and keys can be had in.
func TestFormats(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	for kind, blockType := range map[string]string{"rsa": "RSA PRIVATE KEY", "ec": "EC PRIVATE KEY", "ed25519": "PRIVATE KEY"} {
		g.must(200, "POST", "pki/roles/"+kind, fields{"allow_any_name": true, "key_type": kind})
		a := g.must(200, "POST", "pki/issue/"+kind, fields{"common_name": "a.example"})
		assert.True(t, strings.HasPrefix(a.str("private_key"), "-----BEGIN "+blockType+"-----"), kind)
		assert.False(t, strings.HasSuffix(a.str("private_key"), "\n"))
		a = g.must(200, "POST", "pki/issue/"+kind, fields{"common_name": "a.example", "private_key_format": "pkcs8", "format": "pem_bundle"})
		assert.True(t, strings.HasPrefix(a.str("certificate"), "-----BEGIN PRIVATE KEY-----"), kind)
		assert.Equal(t, 2, strings.Count(a.str("certificate"), "BEGIN CERTIFICATE"), "the leaf and the root")
		a = g.must(200, "POST", "pki/issue/"+kind, fields{"common_name": "a.example", "private_key_format": "pkcs8", "format": "der"})
		der, err := base64.StdEncoding.DecodeString(a.str("private_key"))
		require.NoError(t, err)
		key, err := x509.ParsePKCS8PrivateKey(der)
		require.NoError(t, err)
		der, err = base64.StdEncoding.DecodeString(a.str("certificate"))
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		assert.Equal(t, cert.PublicKey, key.(crypto.Signer).Public(), kind)
		assert.Equal(t, kind, a.str("private_key_type"))
		assert.Equal(t, []string{"a.example"}, cert.DNSNames)
	}
}

// TestUnauthenticated: what everybody may read, and nothing else.
func TestUnauthenticated(t *testing.T) {
	g := newRig(t, nil)
	for _, path := range []string{"ca", "ca/pem", "ca_chain", "crl", "crl/pem"} {
		assert.Equal(t, 204, g.do("GET", "pki/"+path, "", nil).status, "%s of an empty mount", path)
	}
	serial := g.root("root").str("serial_number")
	for path, kind := range map[string]string{
		"ca": "application/pkix-cert", "ca/pem": "application/pem-certificate-chain", "ca_chain": "application/pkix-cert",
		"crl": "application/pkix-crl", "crl/pem": "application/x-pem-file", "cert/ca": "application/json", "cert/ca_chain": "application/json",
		"cert/crl": "application/json", "cert/" + serial: "application/json", "cert/" + serial + "/raw": "application/pkix-cert",
		"cert/" + serial + "/raw/pem": "application/pem-certificate-chain", "issuer/default/json": "application/json",
		"issuer/root-root/der": "application/pkix-cert", "issuer/root-root/pem": "application/pem-certificate-chain",
		"issuer/root-root/crl": "application/json", "issuer/root-root/crl/der": "application/pkix-crl", "issuer/root-root/crl/pem": "application/x-pem-file",
		"cert/ca/raw": "application/pkix-cert", "cert/ca/raw/pem": "application/pem-certificate-chain", "cert/crl/raw": "application/pkix-crl",
	} {
		a := g.do("GET", "pki/"+path, "", nil)
		assert.Equal(t, 200, a.status, path)
		assert.Equal(t, kind, a.header.Get("Content-Type"), path)
		assert.NotEmpty(t, a.body, path)
		head := g.do("HEAD", "pki/"+path, "", nil)
		assert.Equal(t, 200, head.status, path)
		assert.Empty(t, head.body, path)
	}
	assert.Equal(t, 200, g.do("LIST", "pki/issuers", "", nil).status)
	for _, path := range []string{"issuer/default", "certs?list=true", "roles?list=true", "keys?list=true", "config/urls", "config/crl", "crl/rotate",
		"tidy-status", "certs/revoked?list=true", "no/such/path", "config/issuers", "key/default"} {
		assert.Equal(t, 403, g.do("GET", "pki/"+path, "", nil).status, path)
	}
	for _, path := range []string{"revoke", "revoke-with-key", "issue/web", "sign/web", "root/generate/kms", "ca", "crl", "tidy", "issuer/default/crl"} {
		assert.Equal(t, 403, g.do("POST", "pki/"+path, "", fields{}).status, path)
	}
}

// TestNotModified: who has the newest CRL or certificate isn't sent it again.
func TestNotModified(t *testing.T) {
	var clock clock
	clock.set(time.Now())
	g := newRig(t, func(o *pkihttp.Options) { o.Now = clock.now })
	g.root("root")
	g.must(200, "GET", "pki/crl", nil)
	clock.set(clock.now().Add(time.Hour))
	for _, path := range []string{"ca", "ca/pem", "ca_chain", "crl", "crl/pem", "issuer/default/der", "issuer/root-root/pem", "issuer/default/crl/pem", "cert/crl/raw"} {
		a := g.do("GET", "pki/"+path, "", nil)
		at := a.header.Get("Last-Modified")
		require.NotEmpty(t, at, path)
		a = g.do("GET", "pki/"+path, "", nil, "If-Modified-Since", at)
		assert.Equal(t, 304, a.status, path)
		assert.Empty(t, a.body, path)
		before := time.Now().Add(-10 * time.Hour).UTC().Format(http.TimeFormat)
		assert.Equal(t, 200, g.do("GET", "pki/"+path, "", nil, "If-Modified-Since", before).status, path)
		assert.Equal(t, 200, g.do("GET", "pki/"+path, "", nil, "If-Modified-Since", "yesterday").status, path)
	}
}

// TestSudo: what ends a CA, and what signs for another one, takes sudo.
func TestSudo(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	assert.Equal(t, 403, g.do("DELETE", "pki/root", issueToken, nil).status)
	a := g.must(200, "DELETE", "pki/root", nil)
	assert.Len(t, a.warnings, 1)
	g.must(204, "DELETE", "pki/root", nil)
	assert.Equal(t, 404, g.do("LIST", "pki/issuers", "", nil).status)
	assert.Equal(t, 404, g.must(404, "LIST", "pki/keys", nil).status)
	g.root("root") // its managed key is still there
}
