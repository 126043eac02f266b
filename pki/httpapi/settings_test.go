package httpapi_test

import (
	"crypto/x509"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/pki"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// TestConfigURLs: what is set is what is read, and goes into certificates, with its templates filled in.
func TestConfigURLs(t *testing.T) {
	g := newRig(t, nil)
	id := g.root("root").str("issuer_id")
	assert.Equal(t, map[string]any{"issuing_certificates": []any{}, "crl_distribution_points": []any{}, "ocsp_servers": []any{},
		"delta_crl_distribution_points": []any{}, "enable_templating": false},
		g.must(200, "GET", "pki/config/urls", nil).data)
	g.must(200, "POST", "pki/config/cluster", fields{"path": "https://vault.example/v1/pki", "aia_path": "http://cdn.example"})
	g.must(200, "POST", "pki/config/urls", fields{"issuing_certificates": "{{cluster_aia_path}}/{{issuer_id}}.der", "ocsp_servers": []string{"{{cluster_path}}/ocsp"}, "enable_templating": true})
	a := g.must(200, "POST", "pki/config/urls", fields{"crl_distribution_points": "http://cdn.example/crl"})
	assert.Equal(t, []any{"{{cluster_path}}/ocsp"}, a.data["ocsp_servers"], "what isn't given stays")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	leaf := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"}).cert("certificate")
	assert.Equal(t, []string{"http://cdn.example/" + id + ".der"}, leaf.IssuingCertificateURL)
	assert.Equal(t, []string{"https://vault.example/v1/pki/ocsp"}, leaf.OCSPServer)
	assert.Equal(t, []string{"http://cdn.example/crl"}, leaf.CRLDistributionPoints)
	assert.Equal(t, map[string]any{"path": "https://vault.example/v1/pki", "aia_path": "http://cdn.example"}, g.must(200, "GET", "pki/config/cluster", nil).data)
}

// TestConfigCRL: defaults are Vault's where it has them, and a change counts with the next list.
func TestConfigCRL(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	a := g.must(200, "GET", "pki/config/crl", nil)
	assert.Equal(t, "72h", a.str("expiry"))
	assert.Equal(t, "12h", a.str("auto_rebuild_grace_period"))
	assert.Equal(t, "12h", a.str("ocsp_expiry"))
	a = g.must(200, "POST", "pki/config/crl", fields{"expiry": "36h", "ocsp_expiry": 5400})
	assert.Equal(t, "36h", a.str("expiry"))
	assert.Equal(t, "6h", a.str("auto_rebuild_grace_period"), "it goes with the expiry")
	assert.Equal(t, "90m", a.str("ocsp_expiry"))
	assert.Len(t, g.must(200, "POST", "pki/config/crl", fields{"unified_crl": false, "max_crl_entries": 100}).warnings, 2)
	assert.Empty(t, g.must(200, "POST", "pki/config/crl", fields{"unified_crl": true, "cross_cluster_revocation": true, "max_crl_entries": -1}).warnings)
	list, err := x509.ParseRevocationList(g.do("GET", "pki/crl", "", nil).body)
	require.NoError(t, err)
	assert.Equal(t, 36*time.Hour, list.NextUpdate.Sub(list.ThisUpdate))
	number := list.Number
	assert.Equal(t, true, g.must(200, "POST", "pki/crl/rotate", nil).data["success"])
	list, err = x509.ParseRevocationList(g.do("GET", "pki/crl", "", nil).body)
	require.NoError(t, err)
	assert.Equal(t, 1, list.Number.Cmp(number))
}

// TestRoles: all fields of a role can be set and read, whatever form they are sent in.
func TestRoles(t *testing.T) {
	g := newRig(t, nil)
	a := g.must(200, "POST", "pki/roles/plain", nil)
	assert.Equal(t, a.data, g.must(200, "GET", "pki/roles/plain", nil).data)
	for name, want := range map[string]any{"allow_localhost": true, "server_flag": true, "client_flag": true, "key_type": "rsa", "enforce_hostnames": true,
		"allow_ip_sans": true, "use_csr_common_name": true, "use_csr_sans": true, "require_cn": true, "not_before_duration": 30.0, "ttl": 0.0, "max_ttl": 0.0,
		"allow_wildcard_certificates": true, "issuer_ref": "default", "no_store": false, "cn_validations": []any{"email", "hostname"}, "not_after": ""} {
		assert.Equal(t, want, a.data[name], name)
	}
	g.must(200, "POST", "pki/roles/plain", a.data) // what was read can be sent back
	assert.Equal(t, a.data, g.must(200, "GET", "pki/roles/plain", nil).data)
	a = g.must(200, "PATCH", "pki/roles/plain", fields{"not_after": "2099-01-01T00:00:00Z", "ou": "a, b"})
	assert.Equal(t, "2099-01-01T00:00:00Z", a.str("not_after"))
	a = g.must(200, "PATCH", "pki/roles/plain", fields{"not_after": ""})
	assert.Equal(t, "", a.str("not_after"))
	assert.Equal(t, []any{"a", "b"}, a.data["ou"])
	assert.Len(t, g.must(200, "POST", "pki/roles/lease", fields{"generate_lease": true, "lint_profile": "off", "lint_off_reason": "a test"}).warnings, 2)
	g.must(200, "POST", "pki/roles/other", nil)
	assert.Equal(t, []any{"lease", "other", "plain"}, g.must(200, "LIST", "pki/roles", nil).data["keys"])
	assert.Equal(t, []any{"other"}, g.must(200, "LIST", "pki/roles?after=lease&limit=1", nil).data["keys"])
	g.must(204, "DELETE", "pki/roles/plain", nil)
	g.must(404, "GET", "pki/roles/plain", nil)
	assert.Equal(t, 403, g.do("PATCH", "pki/roles/other", issueToken, fields{}).status, "patch is a capability of its own")
	assert.Equal(t, 200, g.do("POST", "pki/roles/other", issueToken, fields{}).status)
}

// TestRoleTypes: each field of a role is of a type that requests can have, so that none is forgotten here.
func TestRoleTypes(t *testing.T) {
	g := newRig(t, nil)
	read := g.must(200, "POST", "pki/roles/all", nil).data
	n := 0
	for field := range reflect.TypeFor[pki.Role]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		n++
		g.must(200, "PATCH", "pki/roles/all", fields{name: read[name]})
	}
	assert.Greater(t, n, 50)
}

// TestTemplates: a role's domains can have who asks in them.
func TestTemplates(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	g.must(200, "POST", "pki/roles/own", fields{"allowed_domains": "{{identity.entity.name}}.example.com", "allowed_domains_template": true, "allow_bare_domains": true, "key_type": "ec"})
	assert.Equal(t, 200, g.do("POST", "pki/issue/own", issueToken, fields{"common_name": "alice.example.com"}).status)
	assert.Equal(t, 400, g.do("POST", "pki/issue/own", issueToken, fields{"common_name": "bob.example.com"}).status)
}

// TestCertLists: pages of certificates.
func TestCertLists(t *testing.T) {
	g := newRig(t, nil)
	g.must(404, "LIST", "pki/certs", nil)
	g.root("root")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	for range 3 {
		g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"})
	}
	all := g.must(200, "LIST", "pki/certs", nil).data["keys"].([]any)
	require.Len(t, all, 4)
	assert.Equal(t, all[1:3], g.must(200, "LIST", "pki/certs?limit=2&after="+all[0].(string), nil).data["keys"])
	a := g.must(200, "GET", "pki/certs/detailed?list=true", nil)
	assert.Equal(t, all, a.data["keys"])
	roots := 0
	for _, info := range a.data["key_info"].(map[string]any) {
		if info.(map[string]any)["common_name"] == "Example Root" {
			roots++
		} else {
			assert.Equal(t, "web", info.(map[string]any)["role"])
		}
	}
	assert.Equal(t, 1, roots)
	assert.Len(t, g.must(200, "LIST", "pki/certs/detailed?limit=2", nil).warnings, 1)
}

// TestTidy: what has expired goes when it is told to, and by itself if that is set.
func TestTidy(t *testing.T) {
	now := time.Now()
	var clock clock
	clock.set(now)
	g := newRig(t, func(o *pkihttp.Options) { o.Now, o.Maintain = clock.now, 10*time.Millisecond })
	g.root("root")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	old := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example", "ttl": "1h"}).str("serial_number")
	assert.Equal(t, "Inactive", g.must(200, "GET", "pki/tidy-status", nil).str("state"))
	assert.Len(t, g.must(200, "POST", "pki/tidy", nil).warnings, 1, "nothing was named")
	assert.Len(t, g.must(200, "POST", "pki/tidy-cancel", nil).warnings, 1)
	clock.set(now.Add(100 * time.Hour))
	g.must(202, "POST", "pki/tidy", fields{"tidy_cert_store": true, "tidy_revoked_certs": true, "tidy_expired_issuers": true, "tidy_acme": true})
	require.Eventually(t, func() bool { return g.must(200, "GET", "pki/tidy-status", nil).str("state") == "Finished" }, 30*time.Second, time.Millisecond)
	status := g.must(200, "GET", "pki/tidy-status", nil)
	assert.EqualValues(t, 1, status.data["cert_store_deleted_count"])
	assert.EqualValues(t, 259200, status.data["safety_buffer"])
	assert.Equal(t, 404, g.do("GET", "pki/cert/"+old, "", nil).status)

	a := g.must(200, "GET", "pki/config/auto-tidy", nil)
	assert.Equal(t, false, a.data["enabled"])
	assert.EqualValues(t, 43200, a.data["interval_duration"])
	next := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example", "ttl": "1h"}).str("serial_number")
	clock.set(now.Add(200 * time.Hour))
	a = g.must(200, "POST", "pki/config/auto-tidy", fields{"enabled": true, "tidy_cert_store": true, "tidy_revoked_certs": true, "interval_duration": 1})
	assert.Equal(t, true, a.data["tidy_cert_store"])
	require.Eventually(t, func() bool { return g.do("GET", "pki/cert/"+next, "", nil).status == 404 }, 30*time.Second, time.Millisecond)
}
