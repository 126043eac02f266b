package httpapi

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const keyPath = "/v1/sys/managed-keys/software/"

// TestManagedKeys: the life of an entry, as the reference has it.
func TestManagedKeys(t *testing.T) {
	g := newRig(t, nil)
	a := g.must(404, "LIST", "/v1/sys/managed-keys/software", "")
	assert.JSONEq(t, `{"errors":[]}`, a.text)
	assert.JSONEq(t, `{"errors":[]}`, g.must(404, "GET", keyPath+"ca", "").text)

	a = g.must(204, "POST", keyPath+"ca", ecdsaKey("ca"))
	assert.Empty(t, a.text)
	a = g.must(200, "GET", keyPath+"ca", "")
	assert.Equal(t, "ca", a.data["name"])
	assert.Equal(t, "software", a.data["type"])
	assert.Equal(t, true, a.data["allow_generate_key"])
	assert.NotEmpty(t, a.data["UUID"])
	for _, member := range []string{`"request_id":"`, `"lease_id":""`, `"renewable":false`, `"lease_duration":0`, `"warnings":null`} {
		assert.Contains(t, a.text, member)
	}
	assert.Equal(t, "application/json", a.header.Get("Content-Type"))
	assert.Equal(t, "no-store", a.header.Get("Cache-Control"))

	g.must(204, "PUT", keyPath+"ca", strings.Replace(ecdsaKey("ca"), "true", `"true","usages":"sign"`, 1))
	assert.Equal(t, a.data["UUID"], g.must(200, "GET", keyPath+"ca", "").data["UUID"], "an update keeps it")
	g.must(204, "POST", keyPath+"ca/test/sign", "")
	g.must(204, "PUT", keyPath+"ca/test/sign", `{"hash_algorithm":"sha2-384","use_pss":"false"}`)
	a = g.must(400, "POST", keyPath+"ca/test/sign", `{"hash_algorithm":"md5"}`)
	assert.Contains(t, a.errors[0], "sha3-512")
	g.must(404, "POST", keyPath+"none/test/sign", "")

	a = g.must(400, "POST", "/v1/sys/managed-keys/pkcs11/ca", "{}")
	assert.Contains(t, a.errors[0], "unique over all types")
	g.must(404, "GET", "/v1/sys/managed-keys/pkcs11/ca", "")
	g.must(204, "DELETE", "/v1/sys/managed-keys/pkcs11/ca", "")
	g.must(200, "GET", keyPath+"ca", "") // another type's was meant

	g.must(204, "DELETE", keyPath+"ca", "")
	g.must(404, "GET", keyPath+"ca", "")
	g.must(204, "DELETE", keyPath+"ca", "")
}

// TestKeyRefusals: what is wrong with an entry is said, and nothing is made.
func TestKeyRefusals(t *testing.T) {
	g := newRig(t, nil)
	for body, want := range map[string]string{
		`{"key_name":"ca","key_type":"ECDSA","curve":"P1"}`: "curve",
		`{"key_nam":"ca"}`:                  "key_nam",
		`{"key_name":"ca","key_name":"cb"}`: "given twice",
		`{"key_name":null}`:                 "key_name",
		`[]`:                                "one JSON object",
		`{"key_name":"ca"`:                  "one JSON object",
		`{"name":"other","key_name":"ca"}`:  "name",
		strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40): "too deep",
	} {
		a := g.must(400, "POST", keyPath+"ca", body)
		assert.Contains(t, a.errors[0], want)
	}
	g.must(400, "POST", keyPath+"CA", ecdsaKey("ca"))
	g.must(400, "POST", "/v1/sys/managed-keys/nitrokey/ca", ecdsaKey("ca"))
	g.must(404, "LIST", "/v1/sys/managed-keys/software", "")
}

func TestPages(t *testing.T) {
	g := newRig(t, nil)
	for _, name := range []string{"c", "a", "b"} {
		g.must(204, "POST", keyPath+name, ecdsaKey(name))
	}
	for query, want := range map[string][]any{
		"":                  {"a", "b", "c"},
		"&after=a":          {"b", "c"},
		"&after=aa&limit=1": {"b"},
		"&limit=2":          {"a", "b"},
		"&limit=0":          {"a", "b", "c"},
		"&limit=-1":         {"a", "b", "c"},
		"&limit=99&after=b": {"c"},
		"&after=c":          nil,
	} {
		status := 200
		if want == nil {
			status = 404
		}
		a := g.must(status, "GET", "/v1/sys/managed-keys/software?list=true"+query, "")
		got, _ := a.data["keys"].([]any)
		assert.Equal(t, want, got, query)
		g.must(status, "LIST", "/v1/sys/managed-keys/software/?"+strings.TrimPrefix(query, "&"), "")
	}
	for _, query := range []string{"list=maybe", "list=true&list=false", "list=true&limit=x", "list=true&limit=1&limit=2", "list=true&after=a&after=b"} {
		g.must(400, "GET", "/v1/sys/managed-keys/software?"+query, "")
	}
}

// TestMounts: mounts are made, tuned, moved and removed; their keys are held.
func TestMounts(t *testing.T) {
	g := newRig(t, nil)
	g.must(204, "POST", keyPath+"ca", ecdsaKey("ca"))
	g.must(204, "POST", keyPath+"web", ecdsaKey("web"))
	assert.Empty(t, g.must(200, "GET", "/v1/sys/mounts", "").data)
	g.must(204, "POST", "/v1/sys/mounts/pki/prod", `{"type":"pki","description":"Issues","options":{"a":"b"},"config":{"max_lease_ttl":"8760h","allowed_managed_keys":["ca"]}}`)

	a := g.must(200, "GET", "/v1/sys/mounts/pki/prod/", "")
	assert.Equal(t, "pki", a.data["type"])
	assert.Equal(t, "Issues", a.data["description"])
	assert.Equal(t, map[string]any{"a": "b"}, a.data["options"])
	config := a.data["config"].(map[string]any)
	assert.EqualValues(t, 8760*3600, config["max_lease_ttl"])
	assert.Equal(t, []any{"ca"}, config["allowed_managed_keys"])
	assert.Contains(t, g.must(200, "GET", "/v1/sys/mounts", "").data, "pki/prod/")

	a = g.must(400, "DELETE", keyPath+"ca", "")
	assert.Contains(t, a.errors[0], "pki/prod")
	g.must(204, "POST", "/v1/sys/mounts/pki/prod/tune", `{"description":"New","default_lease_ttl":60,"allowed_managed_keys":"web","options":null}`)
	a = g.must(200, "GET", "/v1/sys/mounts/pki/prod/tune", "")
	assert.Equal(t, "New", a.data["description"])
	assert.EqualValues(t, 60, a.data["default_lease_ttl"])
	assert.EqualValues(t, 8760*3600, a.data["max_lease_ttl"])
	assert.Equal(t, []any{"web"}, a.data["allowed_managed_keys"])
	assert.Equal(t, map[string]any{"a": "b"}, a.data["options"])
	g.must(204, "DELETE", keyPath+"ca", "")
	g.must(404, "POST", "/v1/pki/prod/root/generate/kms", "{}") // a type without an engine

	id := g.must(200, "POST", "/v1/sys/remount", `{"from":"pki/prod/","to":"pki/old"}`).data["migration_id"].(string)
	a = g.must(200, "GET", "/v1/sys/remount/status/"+id, "")
	assert.Equal(t, "success", a.data["migration_info"].(map[string]any)["status"])
	g.must(404, "GET", "/v1/sys/remount/status/0", "")
	g.must(404, "GET", "/v1/sys/mounts/pki/prod", "")
	a = g.must(200, "GET", "/v1/sys/mounts/pki/old", "")
	assert.Equal(t, []any{"web"}, a.data["config"].(map[string]any)["allowed_managed_keys"])
	g.must(204, "DELETE", "/v1/sys/mounts/pki/old", "")
	g.must(204, "DELETE", "/v1/sys/mounts/pki/old", "")
	g.must(404, "GET", "/v1/sys/mounts/pki/old/tune", "")
}

func TestMountRefusals(t *testing.T) {
	g := newRig(t, nil)
	g.must(204, "POST", "/v1/sys/mounts/pki", `{"type":"pki"}`)
	g.must(200, "POST", "/v1/sys/namespaces/team-a", "")
	for _, c := range []struct{ path, body, want string }{
		{"pki", `{"type":"pki"}`, "already in use"},
		{"pki/below", `{"type":"pki"}`, "already in use"},
		{"team-a", `{"type":"pki"}`, "already in use"},
		{"x", `{}`, "backend type must be specified"},
		{"x", `{"type":"kv"}`, "plugin not found in the catalog"},
		{"x", `{"type":"pki","local":true}`, "local"},
		{"x", `{"type":"pki","confg":{}}`, "confg"},
		{"x", `{"type":"pki","config":{"max_lease_ttl":"long"}}`, "config, field max_lease_ttl"},
		{"x", `{"type":"pki","config":{"max_lease_ttl":"1m","default_lease_ttl":"2m"}}`, "default_lease_ttl"},
		{"x", `{"type":"pki","config":{"a":1}}`, "config"},
		{"x", `{"type":"pki","config":{"force_no_cache":true}}`, "force_no_cache"},
		{"x", `{"type":"pki","config":{"options":{},"options":{}}}`, "config"},
		{"x", `{"type":"pki","config":{"allowed_managed_keys":["none"]}}`, "allowed_managed_keys"},
		{"x", `{"type":"pki","options":{"config.max_lease_ttl":"1"}}`, "options"},
		{"x", `{"type":"pki","options":{"a":"1","a":"2"}}`, "options"},
		{"sys", `{"type":"pki"}`, "reserved"},
		{"X", `{"type":"pki"}`, "path segment"},
	} {
		a := g.must(400, "POST", "/v1/sys/mounts/"+c.path, c.body)
		assert.Contains(t, a.errors[0], c.want)
	}
	g.must(400, "POST", "/v1/sys/mounts/pki/tune", `{"type":"pki"}`)
	g.must(400, "POST", "/v1/sys/remount", `{"from":"none","to":"x"}`)
	g.must(400, "POST", "/v1/sys/remount", `{"from":"pki","to":"team-a"}`)
	assert.Len(t, g.must(200, "GET", "/v1/sys/mounts", "").data, 1)
}

// TestNamespaces: header and path are joined, and one namespace knows nothing of another.
func TestNamespaces(t *testing.T) {
	g := newRig(t, nil)
	g.must(404, "LIST", "/v1/sys/namespaces", "")
	a := g.must(200, "POST", "/v1/sys/namespaces/team-a", "")
	assert.Equal(t, "team-a/", a.data["path"])
	g.must(200, "PUT", "/v1/sys/namespaces/team-a/", `{"custom_metadata":{}}`)
	g.must(200, "GET", "/v1/sys/namespaces/team-a", "")
	g.must(404, "GET", "/v1/sys/namespaces/team-b", "")
	g.must(204, "POST", "/v1/team-a/x/sys/managed-keys/software/ca", ecdsaKey("ca"))
	g.must(200, "GET", "/v1/x"+"/sys/managed-keys/software/ca", "", "X-Vault-Namespace", "team-a/")
	g.must(200, "GET", keyPath+"ca", "", "X-Vault-Namespace", "/team-a/x/")
	g.must(404, "GET", keyPath+"ca", "")
	g.must(404, "GET", keyPath+"ca", "", "X-Vault-Namespace", "x")
	g.must(404, "GET", keyPath+"ca", "", "X-Vault-Namespace", "root")
	assert.Equal(t, []any{"team-a/"}, g.must(200, "LIST", "/v1/sys/namespaces", "").data["keys"])
	assert.Equal(t, []any{"x/"}, g.must(200, "LIST", "/v1/team-a/sys/namespaces", "").data["keys"])
	assert.Equal(t, "team-a/x/", g.must(200, "GET", "/v1/sys/namespaces/x", "", "X-Vault-Namespace", "team-a").data["path"])

	g.must(400, "DELETE", "/v1/sys/namespaces/team-a", "")
	g.must(400, "POST", "/v1/sys/namespaces/auth", "")
	g.must(400, "POST", "/v1/sys/namespaces/b", `{"custom_metadata":{"a":"b"}}`)
	g.must(204, "POST", "/v1/sys/mounts/pki", `{"type":"pki"}`)
	g.must(400, "POST", "/v1/sys/namespaces/pki/below", "")
	g.must(204, "DELETE", "/v1/team-a/x/sys/managed-keys/software/ca", "")
	g.must(200, "DELETE", "/v1/sys/namespaces/team-a", "")
	g.must(404, "GET", "/v1/sys/namespaces/team-a", "")
}

// TestNobodyBelowTakesAPath: a namespace below a mount's path, which an entry made, doesn't get the mount's requests.
func TestNobodyBelowTakesAPath(t *testing.T) {
	g := newRig(t, nil)
	g.must(204, "POST", "/v1/sys/mounts/signer", `{"type":"signer"}`)
	g.must(204, "POST", "/v1/sys/mounts/sign", `{"type":"pki"}`, "X-Vault-Namespace", "signer")
	assert.Equal(t, "root", g.must(200, "GET", "/v1/signer/who", "").data["id"])
	g.must(404, "GET", "/v1/signer/sign/x", "") // of the engine
	at, ok := g.api.locate("", "signer/sys/mounts")
	require.True(t, ok)
	assert.Equal(t, "signer", at.mount.Path())
}

// TestPublicPaths: what clients ask before they have a token.
func TestPublicPaths(t *testing.T) {
	ready := true
	g := newRig(t, func(o *Options) {
		o.Version = "1.2.3"
		o.Ready = func(context.Context) error {
			if !ready {
				return assert.AnError
			}
			return nil
		}
	})
	a := g.do("GET", "/v1/sys/health", "", "")
	assert.Equal(t, 200, a.status)
	assert.Contains(t, a.text, `"version":"1.2.3"`)
	assert.Equal(t, 299, g.do("GET", "/v1/sys/health?activecode=299&standbyok=true", "", "").status)
	assert.Equal(t, 200, g.do("HEAD", "/v1/sys/health", "", "").status)
	assert.Equal(t, 400, g.do("GET", "/v1/sys/health?activecode=99", "", "").status)
	assert.Equal(t, 400, g.do("GET", "/v1/sys/health?sealedcode=x", "", "").status)
	for _, path := range []string{"seal-status", "leader", "init"} {
		assert.Equal(t, 200, g.do("GET", "/v1/sys/"+path, "", "").status, path)
		assert.Equal(t, 405, g.do("DELETE", "/v1/sys/"+path, "", "").status, path)
	}
	ready = false
	a = g.do("GET", "/v1/sys/health", "", "")
	assert.Equal(t, 503, a.status)
	assert.Contains(t, a.text, `"sealed":true`)
	assert.NotContains(t, a.text, assert.AnError.Error())
	assert.Equal(t, 200, g.do("GET", "/v1/sys/health?sealedcode=200", "", "").status)
}

func TestMethods(t *testing.T) {
	g := newRig(t, nil)
	for _, c := range [][2]string{{"DELETE", "/v1/sys/mounts"}, {"LIST", "/v1/sys/mounts/pki"}, {"GET", "/v1/sys/managed-keys/software"},
		{"GET", "/v1/sys/remount"}, {"PATCH", keyPath + "ca"}, {"HEAD", keyPath + "ca"}, {"TRACE", "/v1/sys/health"}, {"OPTIONS", "/v1/sys/mounts"}} {
		a := g.do(c[0], c[1], rootToken, "")
		assert.Equal(t, http.StatusMethodNotAllowed, a.status, c)
		if len(a.errors) > 0 {
			assert.Equal(t, []string{"unsupported operation"}, a.errors)
		}
	}
	assert.Equal(t, "GET, POST, DELETE", g.do("LIST", "/v1/sys/mounts/pki", rootToken, "").header.Get("Allow"))
	for _, path := range []string{"/v1/sys/none", "/v1/sys", "/v1/auth/userpass/login/x", "/v1/sys/managed-keys", keyPath + "ca/test/verify"} {
		assert.Equal(t, []string{"unsupported path"}, g.must(404, "GET", path, "").errors, path)
	}
	for _, path := range []string{"/v1/none/x", "/v1/", "/v1", "/v1/cubbyhole/x", "/", "/ui/"} {
		assert.Contains(t, g.must(404, "GET", path, "").errors[0], "no handler for route", path)
	}
}
