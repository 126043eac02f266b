package httpapi_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRoleDefaults: a role that says nothing has Vault's defaults, under Vault's names.
func TestRoleDefaults(t *testing.T) {
	g := newRig(t, nil)
	none := []any{}
	want := map[string]any{
		"issuer_ref": "default", "ttl": 0.0, "max_ttl": 0.0, "not_before_duration": 30.0, "not_after": "", "allow_localhost": true, "allowed_domains": none,
		"allowed_domains_template": false, "allow_bare_domains": false, "allow_subdomains": false, "allow_glob_domains": false, "allow_wildcard_certificates": true,
		"allow_any_name": false, "enforce_hostnames": true, "allow_ip_sans": true, "allowed_uri_sans": none, "allowed_uri_sans_template": false, "allowed_other_sans": none,
		"allowed_serial_numbers": none, "allowed_user_ids": none, "server_flag": true, "client_flag": true, "code_signing_flag": false, "email_protection_flag": false,
		"key_type": "rsa", "key_bits": 0.0, "signature_bits": 0.0, "use_pss": false, "ext_key_usage": none,
		"ext_key_usage_oids": none, "use_csr_common_name": true, "use_csr_sans": true, "ou": none, "organization": none, "country": none, "locality": none, "province": none,
		// What is different so that certificates break no rule: usages by the kind of key, and the policy of TLS certificates.
		"key_usage": none, "policy_identifiers": []any{"2.23.140.1.2.1"},
		"street_address": none, "postal_code": none, "generate_lease": false, "no_store": false, "require_cn": true, "cn_validations": []any{"email", "hostname"},
		"basic_constraints_valid_for_non_ca": false, "serial_number_source": "json-csr",
	}
	got := g.must(200, "POST", "pki/roles/plain", nil).data
	for _, name := range slices.Sorted(maps.Keys(want)) {
		value, ok := got[name]
		assert.True(t, ok, name)
		if list, empty := want[name].([]any); empty && len(list) == 0 {
			assert.Empty(t, value, name)
			continue
		}
		assert.Equal(t, want[name], value, name)
	}
}

// TestAnswers: what answers have in them, by name: no field that clients read is missing, and none comes unnoticed.
func TestAnswers(t *testing.T) {
	g := newRig(t, nil)
	names := func(data map[string]any) string { return strings.Join(slices.Sorted(maps.Keys(data)), " ") }
	root := g.root("root")
	assert.Equal(t, "certificate expiration issuer_id issuer_name issuing_ca key_id key_name serial_number", names(root.data))
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	leaf := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"})
	assert.Equal(t, "ca_chain certificate expiration issuing_ca private_key private_key_type serial_number", names(leaf.data))
	request, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example"}})
	assert.Equal(t, "ca_chain certificate expiration issuing_ca serial_number", names(g.must(200, "POST", "pki/sign/web", fields{"csr": request}).data))
	assert.Equal(t, "ca_chain certificate expiration issuing_ca serial_number", names(g.must(200, "POST", "pki/root/sign-intermediate", fields{"csr": request, "common_name": "S", "ttl": "10h"}).data))
	assert.Equal(t, "csr key_id key_name", names(g.must(200, "POST", "pki/intermediate/generate/kms", fields{"common_name": "S", "managed_key_name": "sub"}).data))
	assert.Equal(t, "certificate issuer_id revocation_time revocation_time_rfc3339", names(g.must(200, "GET", "pki/cert/"+leaf.str("serial_number"), nil).data))
	assert.Equal(t, "revocation_reason revocation_time revocation_time_rfc3339 state", names(g.must(200, "POST", "pki/revoke", fields{"serial_number": leaf.str("serial_number")}).data))
	for path, want := range map[string]string{
		"cert/ca": "certificate issuer_id revocation_time revocation_time_rfc3339", "cert/ca_chain": "ca_chain certificate issuer_id revocation_time revocation_time_rfc3339",
		"cert/crl": "certificate issuer_id revocation_time revocation_time_rfc3339", "issuer/default/crl": "crl crl_number", "issuer/default/json": "ca_chain certificate issuer_id issuer_name",
		"config/issuers": "default default_follows_latest_issuer", "config/keys": "default", "config/cluster": "aia_path path",
		"config/urls": "crl_distribution_points delta_crl_distribution_points enable_templating issuing_certificates ocsp_servers",
		"config/crl": "auto_rebuild auto_rebuild_grace_period cross_cluster_revocation delta_rebuild_interval disable enable_delta expiry max_crl_entries ocsp_disable ocsp_expiry " +
			"ocsp_nonce ocsp_presign ocsp_store shards unified_crl unified_crl_on_existing_paths",
		"config/auto-tidy": "enabled interval_duration issuer_safety_buffer safety_buffer tidy_cert_store tidy_expired_issuers tidy_revoked_certs",
		"key/default":      "key_bits key_id key_name key_type managed_key_id managed_key_name managed_key_version",
		"issuer/default": "ca_chain certificate crl_distribution_points delta_crl_distribution_points enable_aia_url_templating issuer_id issuer_name issuing_certificates key_id " +
			"leaf_not_after_behavior managed_key_id manual_chain ocsp_servers revocation_signature_algorithm revoked usage",
	} {
		assert.Equal(t, want, names(g.must(200, "GET", "pki/"+path, nil).data), path)
	}
}

// decoded returns the certificates and keys in a text in PEM, by type.
func decoded(t testing.TB, text string) (kinds []string) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			assert.Empty(t, strings.TrimSpace(string(rest)))
			return kinds
		}
		kinds = append(kinds, block.Type)
	}
}

// TestFormatsOfKeys: each format of certificates and of private keys, of each kind of key.
func TestFormatsOfKeys(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	for kind, block := range map[string]string{"rsa": "RSA PRIVATE KEY", "ec": "EC PRIVATE KEY", "ed25519": "PRIVATE KEY"} {
		g.must(200, "POST", "pki/roles/"+kind, fields{"allow_any_name": true, "key_type": kind})
		issue := func(more fields) answer {
			t.Helper()
			body := fields{"common_name": "a.example"}
			maps.Copy(body, more)
			a := g.must(200, "POST", "pki/issue/"+kind, body)
			assert.Equal(t, kind, a.str("private_key_type"))
			return a
		}
		for format, want := range map[string]string{"": block, "der": block, "pem": block, "pkcs8": "PRIVATE KEY"} {
			a := issue(fields{"private_key_format": format})
			assert.Equal(t, []string{want}, decoded(t, a.str("private_key")), format)
			assert.Equal(t, []string{"CERTIFICATE"}, decoded(t, a.str("certificate")))
			assert.Equal(t, a.cert("certificate").PublicKey, keyIn(t, a.str("private_key")).Public())
		}
		a := issue(fields{"format": "pem_bundle"})
		assert.Equal(t, []string{block, "CERTIFICATE", "CERTIFICATE"}, decoded(t, a.str("certificate")))
		assert.Equal(t, []string{"CERTIFICATE"}, decoded(t, a.str("issuing_ca")))
		a = issue(fields{"format": "pem_bundle", "remove_roots_from_chain": true})
		assert.Equal(t, []string{block, "CERTIFICATE"}, decoded(t, a.str("certificate")))
		assert.Empty(t, a.data["ca_chain"])
		a = issue(fields{"format": "der", "private_key_format": "pkcs8"})
		for _, name := range []string{"certificate", "issuing_ca"} {
			der, err := base64.StdEncoding.DecodeString(a.str(name))
			require.NoError(t, err)
			_, err = x509.ParseCertificate(der)
			require.NoError(t, err)
		}
		der, err := base64.StdEncoding.DecodeString(a.str("private_key"))
		require.NoError(t, err)
		_, err = x509.ParsePKCS8PrivateKey(der)
		require.NoError(t, err)
		_, err = base64.StdEncoding.DecodeString(a.data["ca_chain"].([]any)[0].(string))
		require.NoError(t, err)
	}
	request := g.must(200, "POST", "pki/intermediate/generate/kms", fields{"common_name": "S", "managed_key_name": "sub", "format": "der"})
	der, err := base64.StdEncoding.DecodeString(request.str("csr"))
	require.NoError(t, err)
	_, err = x509.ParseCertificateRequest(der)
	require.NoError(t, err)
	for _, path := range []string{"issue/ec", "root/generate/kms", "intermediate/generate/kms"} {
		for _, bad := range []fields{{"format": "PEM"}, {"format": "p12"}, {"private_key_format": "pkcs1"}} {
			bad["common_name"] = "a.example"
			if path != "issue/ec" {
				bad["managed_key_name"] = "sub"
			}
			g.must(400, "POST", "pki/"+path, bad)
		}
	}
}

// FuzzRoleJSON: whatever is sent as a role is refused, or is a role that reads back as it was answered, and can be sent back.
func FuzzRoleJSON(f *testing.F) {
	g := newRig(f, nil)
	whole, err := json.Marshal(g.must(200, "POST", "pki/roles/seed", nil).data)
	require.NoError(f, err)
	for _, seed := range []string{string(whole), `{"allowed_domains":["a.example","*.b.example"],"allow_glob_domains":true}`, `{"key_type":"ec","key_bits":384,"ttl":"1h","max_ttl":7200}`,
		`{"policy_identifiers":"[{\"oid\":\"1.3.6.1.4.1.32473.1\",\"cps\":\"https://a.example\"}]"}`, `{"cn_validations":["disabled"],"ou":"a, b","not_after":"2099-01-01T00:00:00Z"}`,
		`{"allowed_domains":"{{identity.entity.name}}.example","allowed_domains_template":"true"}`, `{"ext_key_usage":["ServerAuth"],"server_flag":false,"client_flag":0}`,
		`{"key_usage":[],"allowed_other_sans":"1.2.3;UTF8:*","allowed_uri_sans":"spiffe://*"}`, `{"lint_profile":"off","lint_off_reason":"x"}`, `{"ttl":-1}`, `[]`, `null`, ``} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		own := *g
		g := &own
		g.TB = t
		a := g.do("POST", "pki/roles/fuzz", rootToken, body)
		if a.status != 200 {
			if a.status < 400 || a.status >= 500 {
				t.Errorf("%q: %d %s", body, a.status, a.body)
			}
			return
		}
		read := g.do("GET", "pki/roles/fuzz", rootToken, nil)
		assert.Equal(t, a.data, read.data, "%q", body)
		again := g.do("POST", "pki/roles/fuzz", rootToken, read.data)
		assert.Equal(t, 200, again.status, "%q: %s", body, again.body)
		assert.Equal(t, read.data, again.data, "%q", body)
	})
}
