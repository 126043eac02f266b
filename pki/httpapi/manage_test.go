package httpapi_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestKeys: keys are known by id and name, and forgotten only when no issuer has them.
func TestKeys(t *testing.T) {
	g := newRig(t, nil)
	g.must(404, "LIST", "pki/keys", nil)
	made := g.must(200, "POST", "pki/keys/generate/kms", fields{"managed_key_name": "sub", "key_name": "first"})
	assert.Equal(t, "ec", made.str("key_type"))
	assert.EqualValues(t, 256, made.data["key_bits"])
	assert.Equal(t, "sub", made.str("managed_key_name"))
	id := made.str("key_id")
	assert.Equal(t, made.data, g.must(200, "GET", "pki/key/first", nil).data)
	assert.Equal(t, made.data, g.must(200, "GET", "pki/key/"+id, nil).data)
	g.must(404, "GET", "pki/key/none", nil)
	a := g.must(200, "POST", "pki/root/generate/existing", fields{"common_name": "Root", "key_ref": "first", "issuer_name": "r"})
	assert.Equal(t, id, a.str("key_id"))
	assert.Equal(t, "first", a.str("key_name"))
	assert.Equal(t, id, g.must(200, "GET", "pki/config/keys", nil).str("default"))
	g.must(200, "POST", "pki/key/first", fields{"key_name": "second"})
	assert.Equal(t, "second", g.must(200, "GET", "pki/key/default", nil).str("key_name"))
	g.must(200, "POST", "pki/config/keys", fields{"default": "second"})
	list := g.must(200, "LIST", "pki/keys", nil)
	assert.Equal(t, map[string]any{id: map[string]any{"key_name": "second", "is_default": true}}, list.data["key_info"])
	g.must(409, "DELETE", "pki/key/second", nil)
	g.must(200, "DELETE", "pki/issuer/r", nil)
	g.must(204, "DELETE", "pki/key/second", nil)
	g.must(204, "DELETE", "pki/key/second", nil)
	assert.Empty(t, g.must(200, "GET", "pki/config/keys", nil).str("default"))
}

// TestIssuers: an issuer is read, changed in part and as a whole, and removed.
func TestIssuers(t *testing.T) {
	g := newRig(t, nil)
	first := g.root("root")
	g.root("rsa")
	id := first.str("issuer_id")
	info := g.must(200, "LIST", "pki/issuers", nil).data["key_info"].(map[string]any)
	assert.Equal(t, map[string]any{"issuer_name": "root-root", "is_default": true, "serial_number": first.str("serial_number"), "key_id": first.str("key_id"), "key_type": "ec"}, info[id])
	a := g.must(200, "GET", "pki/issuer/"+id, nil)
	assert.Equal(t, "err", a.str("leaf_not_after_behavior"))
	assert.Equal(t, "crl-signing,issuing-certificates,ocsp-signing,read-only", a.str("usage"))
	a = g.must(200, "PATCH", "pki/issuer/"+id, fields{"usage": "read-only,crl-signing", "revocation_signature_algorithm": "ECDSAWithSHA512", "crl_distribution_points": "http://x.example/{{issuer_id}}.crl"})
	assert.Equal(t, "crl-signing,read-only", a.str("usage"))
	assert.Equal(t, "root-root", a.str("issuer_name"), "it stays")
	assert.Equal(t, true, a.data["enable_aia_url_templating"])
	list, err := x509.ParseRevocationList(g.do("GET", "pki/issuer/"+id+"/crl/der", "", nil).body)
	require.NoError(t, err)
	assert.Equal(t, x509.ECDSAWithSHA512, list.SignatureAlgorithm)
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec", "issuer_ref": "root-root"})
	g.must(403, "POST", "pki/issue/web", fields{"common_name": "a.example"})
	g.must(200, "POST", "pki/issuer/root-rsa/issue/web", fields{"common_name": "a.example"})
	a = g.must(200, "POST", "pki/issuer/"+id, fields{"issuer_name": "renamed", "leaf_not_after_behavior": "permit"})
	assert.Equal(t, "crl-signing,issuing-certificates,ocsp-signing,read-only", a.str("usage"), "what isn't given has its default")
	assert.Empty(t, a.data["crl_distribution_points"])
	g.must(404, "GET", "pki/issuer/root-root", nil)

	a = g.must(200, "POST", "pki/config/issuers", fields{"default": "root-rsa", "default_follows_latest_issuer": true})
	assert.Equal(t, true, a.data["default_follows_latest_issuer"])
	latest := g.must(200, "POST", "pki/issuers/generate/root/kms", fields{"common_name": "Latest", "managed_key_name": "sub"})
	assert.Equal(t, latest.str("issuer_id"), g.must(200, "GET", "pki/config/issuers", nil).str("default"))
	assert.Len(t, g.must(200, "DELETE", "pki/issuer/default", nil).warnings, 1)
	g.must(204, "DELETE", "pki/issuer/renamed", nil)
	g.must(204, "DELETE", "pki/issuer/renamed", nil)
}

// TestRotation: the next root is joined with the old one both ways, and becomes the default when it is told to.
func TestRotation(t *testing.T) {
	g := newRig(t, nil)
	old := g.root("root").cert("certificate")
	a := g.must(200, "POST", "pki/root/rotate/kms", fields{"managed_key_name": "rsa", "ttl": "8760h"})
	next := a.cert("certificate")
	assert.Equal(t, old.Subject.String(), next.Subject.String(), "without a name, the old one's")
	require.NoError(t, a.cert("new_by_old").CheckSignatureFrom(old))
	require.NoError(t, a.cert("old_by_new").CheckSignatureFrom(next))
	assert.Equal(t, "next", a.str("issuer_name"))
	assert.NotEqual(t, a.str("issuer_id"), g.must(200, "GET", "pki/config/issuers", nil).str("default"))
	assert.Equal(t, a.str("issuer_id"), g.must(200, "POST", "pki/root/replace", nil).str("default"))
	again := g.must(200, "POST", "pki/issuer/next/reissue", fields{"ttl": "100h"})
	assert.Equal(t, next.PublicKey, again.cert("certificate").PublicKey)
}

// TestCrossSign: a request for an issuer's key has its subject, and the other CA's certificate for it stands for the first.
func TestCrossSign(t *testing.T) {
	g := newRig(t, nil)
	g.mount("other", "rsa")
	first := g.root("root").cert("certificate")
	g.must(200, "POST", "other/root/generate/kms", fields{"common_name": "Other Root", "organization": "Other", "country": "SE", "managed_key_name": "rsa", "ttl": "87600h"})
	a := g.must(200, "POST", "pki/intermediate/cross-sign", nil)
	assert.Empty(t, a.warnings)
	assert.Equal(t, first.PublicKey, parseCSR(t, a.str("csr")).PublicKey)
	cross := g.must(200, "POST", "other/root/sign-intermediate", fields{"csr": a.str("csr"), "use_csr_values": true}).cert("certificate")
	assert.Equal(t, first.RawSubject, cross.RawSubject)
	assert.Equal(t, first.SubjectKeyId, cross.SubjectKeyId)
	assert.Len(t, g.must(200, "POST", "pki/intermediate/cross-sign", fields{"common_name": "Someone else"}).warnings, 1)
	g.must(200, "POST", "pki/keys/generate/kms", fields{"managed_key_name": "sub", "key_name": "unused"})
	g.must(400, "POST", "pki/intermediate/cross-sign", fields{"key_ref": "unused"})

	self := g.must(200, "GET", "pki/cert/ca", nil).str("certificate")
	a = g.must(200, "POST", "other/root/sign-self-issued", fields{"certificate": self})
	assert.Equal(t, first.RawSubject, a.cert("certificate").RawSubject)
	require.NoError(t, a.cert("certificate").CheckSignatureFrom(a.cert("issuing_ca")))
	a = g.must(400, "POST", "other/root/sign-self-issued", fields{"certificate": self, "require_matching_certificate_algorithms": true})
	assert.Contains(t, a.errors[0], "ECDSA")
}

// TestRevokedIssuer: it issues nothing, and its own issuer's CRL has it.
func TestRevokedIssuer(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	request := g.must(200, "POST", "pki/intermediate/generate/kms", fields{"common_name": "Sub", "organization": "Example", "country": "SE", "managed_key_name": "sub"})
	signed := g.must(200, "POST", "pki/root/sign-intermediate", fields{"csr": request.str("csr"), "use_csr_values": true})
	a := g.must(200, "POST", "pki/issuers/import/cert", fields{"pem_bundle": signed.str("certificate")})
	id := a.data["imported_issuers"].([]any)[0].(string)
	assert.Len(t, g.must(200, "GET", "pki/issuer/"+id, nil).data["ca_chain"], 2, "what is known here is found")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	g.must(200, "POST", "pki/issuer/"+id+"/issue/web", fields{"common_name": "a.example"})
	a = g.must(200, "POST", "pki/issuer/"+id+"/revoke", nil)
	assert.Equal(t, true, a.data["revoked"])
	assert.NotZero(t, a.data["revocation_time"])
	g.must(403, "POST", "pki/issuer/"+id+"/issue/web", fields{"common_name": "a.example"})
	a = g.must(200, "POST", "pki/issuer/"+id, fields{"issuer_name": "gone"})
	assert.Equal(t, "crl-signing,ocsp-signing,read-only", a.str("usage"), "defaults don't bring it back")
	g.must(400, "PATCH", "pki/issuer/"+id, fields{"usage": "issuing-certificates"})
	assert.Equal(t, []any{signed.str("serial_number")}, g.must(200, "LIST", "pki/certs/revoked", nil).data["keys"])
}

// TestLeaseTimes: the mount's times count where role and request say nothing.
func TestLeaseTimes(t *testing.T) {
	g := newRig(t, nil)
	g.must(204, "POST", "sys/mounts/pki/tune", fields{"default_lease_ttl": "10h", "max_lease_ttl": "20h"})
	root := g.must(200, "POST", "pki/root/generate/kms", fields{"common_name": "Root", "managed_key_name": "root"})
	within := func(a answer, ttl time.Duration) {
		t.Helper()
		assert.WithinDuration(t, time.Now().Add(ttl), a.cert("certificate").NotAfter, time.Minute)
	}
	within(root, 10*time.Hour)
	g.root("rsa", "ttl", "1000h") // a CA may live longer than what it issues
	g.must(200, "POST", "pki/config/issuers", fields{"default": "root-rsa"})
	g.must(200, "POST", "pki/roles/plain", fields{"allow_any_name": true, "key_type": "ec"})
	g.must(200, "POST", "pki/roles/own", fields{"allow_any_name": true, "key_type": "ec", "ttl": "30h", "max_ttl": "40h"})
	g.must(200, "POST", "pki/roles/short", fields{"allow_any_name": true, "key_type": "ec", "max_ttl": "5h"})
	g.must(200, "POST", "pki/roles/long", fields{"allow_any_name": true, "key_type": "ec", "ttl": "30h"})
	issue := func(status int, role string, more fields) answer {
		t.Helper()
		body := fields{"common_name": "a.example"}
		for name, value := range more {
			body[name] = value
		}
		return g.must(status, "POST", "pki/issue/"+role, body)
	}
	within(issue(200, "plain", nil), 10*time.Hour)
	within(issue(200, "plain", fields{"ttl": "19h"}), 19*time.Hour)
	assert.Contains(t, issue(400, "plain", fields{"ttl": "21h"}).errors[0], "max_lease_ttl")
	issue(400, "plain", fields{"not_after": time.Now().Add(21 * time.Hour).Format(time.RFC3339)})
	assert.Contains(t, issue(400, "long", nil).errors[0], "max_lease_ttl")
	within(issue(200, "long", fields{"ttl": "1h"}), time.Hour)
	within(issue(200, "own", nil), 30*time.Hour)
	within(issue(200, "short", nil), 5*time.Hour)
	text, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example"}})
	within(g.must(200, "POST", "pki/sign/short", fields{"csr": text, "not_after": time.Now().Add(2 * time.Hour).Format(time.RFC3339)}), 2*time.Hour)
}
