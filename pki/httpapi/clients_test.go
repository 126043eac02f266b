package httpapi_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestClientRequests: what cert-manager, Terraform's provider and Vault's agent send, field by field: empty strings for nothing, truth
// as a string, defaults spelled out.
func TestClientRequests(t *testing.T) {
	g := newRig(t, nil)
	// Terraform: vault_pki_secret_backend_root_cert and …_role.
	g.must(200, "POST", "pki/root/generate/kms", fields{
		"common_name": "Root", "alt_names": "", "ip_sans": "", "uri_sans": "", "other_sans": "", "ttl": "315360000", "format": "pem", "private_key_format": "der",
		"max_path_length": -1, "exclude_cn_from_sans": true, "ou": "", "organization": "Example", "country": "", "locality": "", "province": "",
		"street_address": "", "postal_code": "", "managed_key_name": "root", "issuer_name": "tf", "permitted_dns_domains": []string{}, "signature_bits": 0, "use_pss": false,
	})
	g.must(200, "POST", "pki/roles/tf", fields{
		"issuer_ref": "default", "ttl": "86400", "max_ttl": "7776000", "allow_localhost": true, "allowed_domains": []string{"example.com"},
		"allowed_domains_template": false, "allow_bare_domains": false, "allow_subdomains": true, "allow_glob_domains": false, "allow_any_name": false,
		"allow_wildcard_certificates": true, "enforce_hostnames": true, "allow_ip_sans": true, "allowed_uri_sans": nil, "allowed_uri_sans_template": false,
		"allowed_other_sans": []string{}, "allowed_user_ids": []string{}, "server_flag": true, "client_flag": true, "code_signing_flag": false, "email_protection_flag": false,
		"key_type": "rsa", "key_bits": 2048, "signature_bits": 0, "use_pss": false, "key_usage": []string{"DigitalSignature", "KeyAgreement", "KeyEncipherment"},
		"ext_key_usage": []string{}, "ext_key_usage_oids": []string{}, "use_csr_common_name": true, "use_csr_sans": true, "ou": []string{}, "organization": []string{},
		"country": []string{}, "locality": []string{}, "province": []string{}, "street_address": []string{}, "postal_code": []string{}, "generate_lease": false,
		"no_store": false, "no_store_metadata": false, "require_cn": true, "cn_validations": []string{"email", "hostname"}, "policy_identifiers": []string{},
		"basic_constraints_valid_for_non_ca": false, "not_before_duration": "30s", "not_after": "", "serial_number_source": "json-csr",
		"not_before_bound": "permit", "not_after_bound": "permit", "allowed_serial_numbers": []string{},
	})
	// Vault's agent.
	a := g.must(200, "PUT", "pki/issue/tf", fields{"common_name": "agent.example.com", "ttl": "24h", "format": "pem"})
	assert.Equal(t, "rsa", a.str("private_key_type"))

	// cert-manager, whose requests have names and no subject.
	g.must(200, "POST", "pki/roles/cm", fields{"allowed_domains": "example.com", "allow_subdomains": true, "require_cn": false, "key_type": "any", "allowed_uri_sans": "spiffe://*"})
	spiffe, err := url.Parse("spiffe://cluster.local/ns/a")
	require.NoError(t, err)
	text, key := csr(t, &x509.CertificateRequest{DNSNames: []string{"a.example.com"}, URIs: []*url.URL{spiffe}})
	a = g.must(200, "POST", "pki/sign/cm", fields{"common_name": "", "alt_names": "a.example.com", "ip_sans": "", "uri_sans": "spiffe://cluster.local/ns/a",
		"ttl": "720h0m0s", "csr": text, "exclude_cn_from_sans": "true"})
	leaf := a.cert("certificate")
	assert.Equal(t, key.Public(), leaf.PublicKey)
	assert.Equal(t, []string{"a.example.com"}, leaf.DNSNames)
	assert.Equal(t, spiffe.String(), leaf.URIs[0].String())
	assert.Empty(t, leaf.Subject.CommonName)
	assert.WithinDuration(t, time.Now().Add(720*time.Hour), leaf.NotAfter, time.Minute)
	assert.Len(t, a.data["ca_chain"], 1)
	// Consul asks for its intermediate by a request that says what it is.
	text, _ = csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "pri-1.ca.consul"}})
	a = g.must(200, "PUT", "pki/root/sign-intermediate", fields{"csr": text, "use_csr_values": true, "format": "pem_bundle", "ttl": "8760h"})
	assert.True(t, a.cert("certificate").IsCA)
	assert.Len(t, a.data["ca_chain"], 2)
	// And everybody: an empty body, and null.
	for _, body := range []any{nil, "", "{}", "null"} {
		assert.Equal(t, 400, g.do("POST", "pki/issue/tf", rootToken, body).status)
	}
}
