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

// fromOpenBao are settings as OpenBao 2.6 answers them, all defaults among them, which people take along.
var fromOpenBao = map[string]string{
	"roles/taken": `{"allow_any_name":true,"allow_bare_domains":false,"allow_glob_domains":false,"allow_globs_in_identity_templates":false,
		"allow_ip_sans":true,"allow_localhost":true,"allow_subdomains":false,"allow_token_displayname":false,"allow_wildcard_certificates":true,
		"allowed_domains":[],"allowed_domains_template":false,"allowed_ip_sans_cidr":[],"allowed_other_sans":[],"allowed_serial_numbers":[],
		"allowed_uri_sans":[],"allowed_uri_sans_template":false,"allowed_user_ids":[],"basic_constraints_valid_for_non_ca":false,"client_flag":true,
		"cn_validations":["email","hostname"],"code_signing_flag":false,"country":[],"email_protection_flag":false,"enforce_hostnames":true,
		"ext_key_usage":[],"ext_key_usage_oids":[],"generate_lease":false,"issuer_ref":"default","key_bits":2048,"key_type":"rsa",
		"key_usage":["DigitalSignature","KeyAgreement","KeyEncipherment"],"locality":[],"max_ttl":0,"no_store":false,"not_after":"",
		"not_after_bound":"permit","not_before":"","not_before_bound":"permit","not_before_duration":30,"organization":[],"ou":[],
		"policy_identifiers":[],"postal_code":[],"province":[],"require_cn":true,"server_flag":true,"signature_bits":256,"street_address":[],
		"ttl":0,"use_csr_common_name":true,"use_csr_sans":true,"use_pss":false}`,
	"config/crl": `{"allow_expired_cert_revocation":false,"auto_rebuild":false,"auto_rebuild_grace_period":"12h","delta_rebuild_interval":"15m",
		"disable":false,"enable_delta":false,"expiry":"72h","ocsp_disable":false,"ocsp_expiry":"12h"}`,
	"config/auto-tidy": `{"acme_account_safety_buffer":2592000,"enabled":false,"interval_duration":43200,"issuer_safety_buffer":31536000,
		"maintain_stored_certificate_counts":false,"page_size":1000,"pause_duration":"0s","publish_stored_certificate_count_metrics":false,
		"revoked_safety_buffer":259200,"safety_buffer":259200,"tidy_acme":false,"tidy_cert_store":false,"tidy_expired_issuers":false,
		"tidy_invalid_certs":false,"tidy_move_legacy_ca_bundle":false,"tidy_revoked_cert_issuer_associations":false,"tidy_revoked_certs":false}`,
	"config/urls":    `{"crl_distribution_points":[],"delta_crl_distribution_points":[],"enable_templating":false,"issuing_certificates":[],"ocsp_servers":[]}`,
	"config/cluster": `{"aia_path":"","path":""}`,
}

// TestSettingsOfOpenBao: what "bao read -format=json" shows can be written here, and so can what is read here.
func TestSettingsOfOpenBao(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	for path, body := range fromOpenBao {
		g.must(200, "POST", "pki/"+path, body)
		g.must(200, "POST", "pki/"+path, g.must(200, "GET", "pki/"+path, nil).data)
	}
	g.must(200, "POST", "pki/issue/taken", fields{"common_name": "www.example.com", "ttl": "1h"})
	g.must(400, "POST", "pki/roles/taken", fields{"allow_globs_in_identity_templates": true})
	g.must(400, "POST", "pki/config/crl", fields{"allow_expired_cert_revocation": true})
}

// TestACMEIsOff: those who look whether ACME is on learn that it is off, and nobody can switch it on.
func TestACMEIsOff(t *testing.T) {
	g := newRig(t, nil)
	assert.Equal(t, map[string]any{"enabled": false}, g.must(200, "GET", "pki/config/acme", nil).data)
	g.must(200, "POST", "pki/config/acme", fields{"enabled": "false", "eab_policy": "always-required"})
	assert.Contains(t, g.must(400, "POST", "pki/config/acme", fields{"enabled": true}).errors[0], "there is no ACME")
	g.must(404, "GET", "pki/acme/directory", nil)
}

// TestFilesOfIssuers: certificates and lists of issuers end with a line feed, so that files of them can be joined; those of what was issued don't, as
// in the original.
func TestFilesOfIssuers(t *testing.T) {
	g := newRig(t, nil)
	made := g.root("root")
	assert.NotRegexp(t, "\n$", made.str("certificate"))
	for _, path := range []string{"issuer/default", "issuer/default/json"} {
		a := g.must(200, "GET", "pki/"+path, nil)
		assert.Equal(t, made.str("certificate")+"\n", a.str("certificate"))
		assert.Equal(t, []any{made.str("certificate") + "\n"}, a.data["ca_chain"])
	}
	assert.Regexp(t, "-----\n$", g.must(200, "GET", "pki/issuer/default/crl", nil).str("crl"))
	list := g.must(200, "POST", "pki/issuer/default/sign-revocation-list", fields{"crl_number": 5})
	assert.Regexp(t, "-----\n$", list.str("crl"))
}
