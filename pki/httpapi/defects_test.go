package httpapi_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey"
)

// The tests of this file are of defects that Vault or OpenBao had where CAs have managed keys, or of what they let pass.

func parseCSR(t testing.TB, text string) *x509.CertificateRequest {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	require.NotNil(t, block)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	require.NoError(t, err)
	return request
}

// TestSignatureBitsOfManagedKeys: signature_bits was ignored on managed keys (Vault, PR 17328).
func TestSignatureBitsOfManagedKeys(t *testing.T) {
	g := newRig(t, nil)
	for bits, want := range map[int]x509.SignatureAlgorithm{0: x509.SHA256WithRSA, 384: x509.SHA384WithRSA, 512: x509.SHA512WithRSA} {
		a := g.root("rsa", "signature_bits", bits, "issuer_name", "")
		assert.Equal(t, want, a.cert("certificate").SignatureAlgorithm)
		a = g.root("rsa", "signature_bits", bits, "use_pss", true, "issuer_name", "")
		assert.Equal(t, want+(x509.SHA256WithRSAPSS-x509.SHA256WithRSA), a.cert("certificate").SignatureAlgorithm)
	}
	assert.Equal(t, x509.ECDSAWithSHA512, g.root("root", "signature_bits", 512, "issuer_name", "").cert("certificate").SignatureAlgorithm)
	g.must(200, "POST", "pki/roles/pss", fields{"allow_any_name": true, "key_type": "any", "use_pss": true, "signature_bits": 512})
	text, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example"}})
	a := g.must(200, "POST", "pki/sign/pss", fields{"csr": text})
	assert.Equal(t, x509.SHA512WithRSAPSS, a.cert("certificate").SignatureAlgorithm)
	a = g.must(200, "POST", "pki/root/sign-intermediate", fields{"csr": text, "common_name": "Sub", "use_pss": true, "signature_bits": "384"})
	assert.Equal(t, x509.SHA384WithRSAPSS, a.cert("certificate").SignatureAlgorithm)
}

// TestPSSRequests: requests with PSS failed with keys of PKCS#11 and GCP.
func TestPSSRequests(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	a := g.must(200, "POST", "pki/intermediate/generate/kms", fields{"common_name": "Sub", "managed_key_name": "rsa", "use_pss": true, "signature_bits": 384})
	request := parseCSR(t, a.str("csr"))
	assert.Equal(t, x509.SHA384WithRSAPSS, request.SignatureAlgorithm)
	require.NoError(t, request.CheckSignature())
	g.must(200, "POST", "pki/root/sign-intermediate", fields{"csr": a.str("csr"), "use_csr_values": true})
}

// TestDeletedIssuersKey: the managed key of a deleted issuer was looked up, and what else there was failed (Vault, PR 21316).
func TestDeletedIssuersKey(t *testing.T) {
	g := newRig(t, nil)
	g.root("rsa")
	g.root("root")
	g.must(200, "DELETE", "pki/issuer/root-rsa", nil) // a warning: it was the default one
	g.withoutKey("rsa")
	g.must(200, "POST", "pki/config/issuers", fields{"default": "root-root"})
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"})
	assert.Empty(t, g.must(200, "GET", "pki/crl/rotate", nil).warnings)
	assert.Len(t, g.must(200, "LIST", "pki/keys", nil).data["keys"], 2)
	for _, id := range g.must(200, "LIST", "pki/keys", nil).data["keys"].([]any) {
		g.must(200, "GET", "pki/key/"+id.(string), nil) // one has a warning
	}
}

// withoutKey takes a managed key away from the mount, and out of the registry.
func (g *rig) withoutKey(name string) {
	g.Helper()
	m, err := g.keys.OpenMount("", "pki")
	require.NoError(g, err)
	require.NoError(g, g.keys.Revoke(g.Context(), m, name))
	require.NoError(g, g.keys.Delete(g.Context(), ref(name)))
}

// TestKeyOfOneIssuerAway: an issuer whose key is gone blocks neither revocation nor the CRLs of others.
func TestKeyOfOneIssuerAway(t *testing.T) {
	g := newRig(t, nil)
	g.root("rsa")
	g.root("root")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	old := g.must(200, "POST", "pki/issuer/root-rsa/issue/web", fields{"common_name": "a.example"}).str("serial_number")
	other := g.must(200, "POST", "pki/issuer/root-root/issue/web", fields{"common_name": "b.example"}).str("serial_number")
	g.withoutKey("rsa")
	g.must(200, "POST", "pki/revoke", fields{"serial_number": old})
	g.must(200, "POST", "pki/revoke", fields{"serial_number": other})
	a := g.must(200, "GET", "pki/crl/rotate", nil)
	assert.Len(t, a.warnings, 1)
	crl := g.do("GET", "pki/issuer/root-root/crl/der", "", nil)
	list, err := x509.ParseRevocationList(crl.body)
	require.NoError(t, err)
	assert.Len(t, list.RevokedCertificateEntries, 1)
	assert.Equal(t, 400, g.do("GET", "pki/issuer/root-rsa/crl/der", "", nil).status, "it never had a list")
	for _, path := range []string{"issuer/root-rsa", "issuer/root-rsa/json", "cert/" + old} {
		g.must(200, "GET", "pki/"+path, nil)
	}
}

// TestIPsOfRequests: networks that a role allows bound the addresses of a CSR too (OpenBao 2.6.2 mended that).
func TestIPsOfRequests(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	g.must(200, "POST", "pki/roles/net", fields{"allow_any_name": true, "key_type": "any", "require_cn": false, "allowed_ip_sans_cidr": "10.0.0.0/8"})
	inside, _ := csr(t, &x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(10, 1, 2, 3)}})
	outside, _ := csr(t, &x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}})
	g.must(200, "POST", "pki/sign/net", fields{"csr": inside})
	a := g.must(400, "POST", "pki/sign/net", fields{"csr": outside})
	assert.Contains(t, a.errors[0], "allowed_ip_sans_cidr")
	g.must(400, "POST", "pki/sign/net", fields{"csr": inside, "ip_sans": "not-an-address"})
}

// TestLeafProfile: what zlint has against OpenBao's defaults: key usages that a key can't have, and a second too much.
func TestLeafProfile(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	for kind, want := range map[string]x509.KeyUsage{
		"ec": x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement, "rsa": x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		"ed25519": x509.KeyUsageDigitalSignature,
	} {
		g.must(200, "POST", "pki/roles/"+kind, fields{"allow_any_name": true, "key_type": kind, "not_before_duration": "1s",
			"key_usage": []string{"DigitalSignature", "KeyAgreement", "KeyEncipherment"}})
		leaf := g.must(200, "POST", "pki/issue/"+kind, fields{"common_name": "a.example", "ttl": "3600s"}).cert("certificate")
		assert.Equal(t, want, leaf.KeyUsage, kind)
		assert.Equal(t, time.Hour, leaf.NotAfter.Sub(leaf.NotBefore), "a second before its issue, and both ends count")
	}
}

// TestForeignManagedKeys: a mount reaches keys that it has a grant for, in its own namespace, and no others.
func TestForeignManagedKeys(t *testing.T) {
	g := newRig(t, nil)
	g.mount("bare")
	body := fields{"common_name": "Root", "managed_key_name": "root"}
	assert.Contains(t, g.must(403, "POST", "bare/root/generate/kms", body).errors[0], "grant")
	_, err := g.keys.CreateMount(t.Context(), managedkey.MountSpec{Namespace: "team-a", Path: "pki", Type: "pki"})
	require.NoError(t, err)
	assert.NotContains(t, g.must(400, "POST", "team-a/pki/root/generate/kms", body).errors[0], "grant", "it must not learn that there is one")
	id, err := g.keys.Key(t.Context(), ref("root"))
	require.NoError(t, err)
	g.must(400, "POST", "team-a/pki/root/generate/kms", fields{"common_name": "Root", "managed_key_id": id.UUID()})
	g.must(200, "POST", "pki/root/generate/kms", fields{"common_name": "Root", "managed_key_id": id.UUID()})
	assert.Equal(t, 404, g.do("LIST", "team-a/pki/issuers", "", nil).status)
}

// TestSignVerbatim: it is off unless the mount allows it, and makes no CA.
func TestSignVerbatim(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	text, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example", Organization: []string{"As it is"}}, DNSNames: []string{"a.example"}})
	assert.Contains(t, g.must(403, "POST", "pki/sign-verbatim", fields{"csr": text}).errors[0], "allow_sign_verbatim")
	g.option("allow_sign_verbatim", "true")
	leaf := g.must(200, "POST", "pki/sign-verbatim", fields{"csr": text, "ttl": "1h"}).cert("certificate")
	assert.Equal(t, []string{"As it is"}, leaf.Subject.Organization)
	assert.False(t, leaf.IsCA)
	ca, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example"}, DNSNames: []string{"a.example"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}})
	assert.Contains(t, g.must(400, "POST", "pki/sign-verbatim", fields{"csr": ca}).errors[0], "CA certificate")
	g.must(400, "POST", "pki/sign-verbatim/none", fields{"csr": text})
	g.option("allow_sign_verbatim", "false")
	g.must(403, "POST", "pki/issuer/default/sign-verbatim", fields{"csr": text})
}

// TestRevokeWithKey: who has the private key may revoke, and nobody learns anything of one that is wrong.
func TestRevokeWithKey(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	g.must(200, "POST", "pki/roles/any", fields{"allow_any_name": true, "key_type": "rsa"})
	a := g.must(200, "POST", "pki/issue/any", fields{"common_name": "a.example"})
	b := g.must(200, "POST", "pki/issue/any", fields{"common_name": "b.example", "private_key_format": "pkcs8"})
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	weak.D.SetInt64(1) // no key at all
	broken := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(&rsa.PrivateKey{PublicKey: weak.PublicKey, D: weak.D, Primes: weak.Primes})}))
	for _, key := range []string{"", "text", b.str("certificate"), broken, a.str("private_key") + "\n" + a.str("private_key")} {
		e := g.must(400, "POST", "pki/revoke-with-key", fields{"serial_number": a.str("serial_number"), "private_key": key})
		assert.NotContains(t, string(e.body), "PRIVATE KEY-----")
	}
	g.must(403, "POST", "pki/revoke-with-key", fields{"serial_number": a.str("serial_number"), "private_key": b.str("private_key")})
	assert.EqualValues(t, 0, g.must(200, "GET", "pki/cert/"+a.str("serial_number"), nil).data["revocation_time"])
	g.must(200, "POST", "pki/revoke-with-key", fields{"serial_number": a.str("serial_number"), "private_key": a.str("private_key")})
	g.must(200, "POST", "pki/revoke-with-key", fields{"certificate": b.str("certificate"), "private_key": b.str("private_key")})
}

// TestNoOutliving: no CA outlives its issuer, which Vault only warns of, and the path length counts down to none.
func TestNoOutliving(t *testing.T) {
	g := newRig(t, nil)
	g.root("root", "max_path_length", 0, "ttl", "100h")
	text, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Sub"}})
	assert.Contains(t, g.must(400, "POST", "pki/root/sign-intermediate", fields{"csr": text, "common_name": "Sub", "ttl": "50h"}).errors[0], "path length")
	g.root("rsa", "max_path_length", 1, "ttl", "100h")
	sign := "pki/issuer/root-rsa/sign-intermediate"
	assert.Contains(t, g.must(400, "POST", sign, fields{"csr": text, "common_name": "Sub", "ttl": "101h"}).errors[0], "after the issuer's")
	sub := g.must(200, "POST", sign, fields{"csr": text, "common_name": "Sub", "ttl": "99h"}).cert("certificate")
	assert.True(t, sub.MaxPathLenZero)
	// The issuer's name is taken byte for byte.
	root := g.must(200, "GET", "pki/issuer/root-rsa/json", nil).cert("certificate")
	assert.True(t, bytes.Equal(sub.RawIssuer, root.RawSubject))
}
