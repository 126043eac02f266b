package httpapi_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCommandLineIssuesCA: the requests of "pki issue" and "pki reissue", which send the same fields to both steps, and import the
// certificate and its issuer's one after the other.
func TestCommandLineIssuesCA(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	g.mount("sub", "sub")
	body := fields{"common_name": "Example Issuing", "managed_key_name": "sub", "ttl": "43800h", "max_path_length": "0", "permitted_dns_domains": "example.com",
		"exclude_cn_from_sans": true, "alt_names": ",", "ip_sans": "", "signature_bits": 0, "use_pss": false, "country": nil, "ou": nil}
	a := g.must(200, "PUT", "sub/intermediate/generate/kms", body)
	assert.Equal(t, []string{
		"field ttl: it is of the certificate, and not of the request for it, and was not used",
		"field permitted_dns_domains: it is of the certificate, and not of the request for it, and was not used",
	}, a.warnings, "what is 0 or empty says nothing")
	body["csr"] = a.str("csr")
	a = g.must(200, "PUT", "pki/issuer/default/sign-intermediate", body)
	assert.Equal(t, []string{"field managed_key_name: it is of the request, and not of the certificate for it, and was not used"}, a.warnings)
	cert := a.cert("certificate")
	assert.Equal(t, []string{"example.com"}, cert.PermittedDNSDomains)
	assert.True(t, cert.MaxPathLenZero)

	mapping := g.must(200, "PUT", "sub/issuers/import/cert", fields{"pem_bundle": a.str("certificate")}).data["mapping"].(map[string]any)
	require.Len(t, mapping, 1)
	for range 2 { // the second one for the next CA
		b := g.must(200, "PUT", "sub/issuers/import/cert", fields{"pem_bundle": a.str("issuing_ca")})
		assert.Empty(t, b.data["mapping"])
		assert.NotEmpty(t, b.warnings)
	}
	for id := range mapping {
		b := g.must(200, "PATCH", "sub/issuer/"+id, fields{"issuer_name": "issuing"}, "Content-Type", "application/merge-patch+json")
		assert.Len(t, b.data["ca_chain"], 2)
		g.must(200, "GET", "sub/issuer/"+id, nil)
	}
	g.must(400, "PUT", "sub/intermediate/generate/kms", fields{"common_name": "x", "managed_key_name": "sub", "tll": "1h"})

	// The key with its identifier gets another certificate.
	body = fields{"common_name": "Example Issuing", "key_ref": "default", "ttl": "8760h", "skid": hex.EncodeToString(cert.SubjectKeyId)}
	body["csr"] = g.must(200, "PUT", "sub/intermediate/generate/existing", body).str("csr")
	again := g.must(200, "PUT", "pki/issuer/root-root/sign-intermediate", body).cert("certificate")
	assert.Equal(t, cert.SubjectKeyId, again.SubjectKeyId)
	body["skid"] = "01:02:03"
	assert.Equal(t, []byte{1, 2, 3}, g.must(200, "PUT", "pki/root/sign-intermediate", body).cert("certificate").SubjectKeyId)
	body["skid"] = "1"
	assert.Contains(t, g.must(400, "PUT", "pki/root/sign-intermediate", body).errors[0], "skid")
}

// TestSignIntermediateNames: without a name, a CA has the one in its request, as in every tutorial.
func TestSignIntermediateNames(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	named, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Example Issuing", Organization: []string{"Not asked for"}}})
	cert := g.must(200, "POST", "pki/root/sign-intermediate", fields{"csr": named, "country": "SE", "format": "pem_bundle"}).cert("certificate")
	assert.Equal(t, "CN=Example Issuing,C=SE", cert.Subject.String())
	none, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"Example"}}})
	assert.Contains(t, g.must(400, "POST", "pki/root/sign-intermediate", fields{"csr": none}).errors[0], "common_name")
	g.must(400, "POST", "pki/root/sign-intermediate", fields{"csr": "x"})
}

// TestTutorialsName: the name of an issuer that a request is to become is known to be none of the request's.
func TestTutorialsName(t *testing.T) {
	g := newRig(t, nil)
	a := g.must(200, "POST", "pki/intermediate/generate/kms", fields{"common_name": "Sub", "managed_key_name": "sub", "issuer_name": "sub"})
	assert.Len(t, a.warnings, 1)
	g.must(404, "GET", "pki/issuer/sub", nil)
}
