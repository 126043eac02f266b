package httpapi_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

var methods = []string{"GET", "LIST", "POST", "PATCH", "DELETE"}

// TestEveryRoute: each path has the methods that it says, and no other; and whoever has no credentials, or no capability, is refused before
// anything else is looked at, but where a path is for everybody.
func TestEveryRoute(t *testing.T) {
	g := newRig(t, nil)
	paths := pkihttp.Routes()
	require.GreaterOrEqual(t, len(paths), 100)
	for path, has := range paths {
		for _, method := range methods {
			if method != "GET" || !strings.HasPrefix(path, "ocsp/") && !strings.HasPrefix(path, "unified-ocsp/") {
				a := g.do(method, "pki/"+path, rootToken, nil)
				if slices.Contains(has, method) {
					assert.NotEqual(t, 405, a.status, "%s %s", method, path)
				} else {
					assert.Equal(t, 405, a.status, "%s %s", method, path)
					assert.Equal(t, strings.Join(has, ", "), a.header.Get("Allow"), path)
				}
				assert.Less(t, a.status, 500, "%s %s: %s", method, path, a.body)
			}
			if pkihttp.Public(method, path) {
				continue
			}
			for _, token := range []string{"", "mk.unknown", "mk." + strings.Repeat("x", 300)} {
				a := g.do(method, "pki/"+path, token, nil)
				assert.Equal(t, 403, a.status, "%s %s", method, path)
				assert.Equal(t, []string{"permission denied"}, a.errors, "%s %s", method, path)
			}
			if !strings.HasPrefix(path, "issue/") && !strings.HasPrefix(path, "roles/") && path != "root" {
				assert.Equal(t, 403, g.do(method, "pki/"+path, issueToken, nil).status, "%s %s", method, path)
			}
		}
	}
}

// TestPublicReads: what is for everybody is the same with and without credentials, also with wrong ones, and of the type that it says.
func TestPublicReads(t *testing.T) {
	g := newRig(t, nil)
	root := g.root("root")
	id := root.str("issuer_id")
	g.must(200, "POST", "pki/config/urls", fields{"crl_distribution_points": "http://a.example/{{shard}}", "delta_crl_distribution_points": "http://a.example/{{shard}}/delta"})
	g.must(200, "POST", "pki/config/crl", fields{"auto_rebuild": true, "enable_delta": true, "shards": 2})
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	serial := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"}).str("serial_number")
	g.must(200, "POST", "pki/crl/rotate", nil)
	const der, chain, list, x, envelope = "application/pkix-cert", "application/pem-certificate-chain", "application/pkix-crl", "application/x-pem-file", "application/json"
	for path, kind := range map[string]string{
		"ca": der, "ca/pem": chain, "ca_chain": der, "cert/ca": envelope, "cert/ca/raw": der, "cert/ca/raw/pem": chain, "cert/ca_chain": envelope,
		"cert/" + serial: envelope, "cert/" + serial + "/raw": der, "cert/" + serial + "/raw/pem": chain, "cert/" + strings.ReplaceAll(serial, ":", "-"): envelope,
		"crl": list, "crl/pem": x, "cert/crl": envelope, "cert/crl/raw": list, "cert/crl/raw/pem": x, "unified-crl": list, "unified-crl/pem": x,
		"crl/shard/1": list, "crl/shard/2/delta": list, "issuer/" + id + "/crl/shard/2": list, "issuer/root-root/crl/shard/1/delta": list,
		"issuer/" + id + "/json": envelope, "issuer/default/der": der, "issuer/root-root/pem": chain, "issuer/default/crl": envelope, "issuer/default/crl/der": list,
		"issuer/default/crl/pem": x, "issuer/default/unified-crl": envelope, "issuer/default/unified-crl/der": list, "issuer/default/unified-crl/pem": x,
	} {
		want := g.must(200, "GET", "pki/"+path, nil)
		assert.Equal(t, kind, want.header.Get("Content-Type"), path)
		require.NotEmpty(t, want.body, path)
		for _, token := range []string{"", issueToken, "mk.unknown"} {
			a := g.do("GET", "pki/"+path, token, nil)
			require.Equal(t, 200, a.status, path)
			if kind == envelope {
				assert.Equal(t, want.data, a.data, path)
			} else {
				assert.Equal(t, want.body, a.body, path)
			}
			head := g.do("HEAD", "pki/"+path, token, nil)
			assert.Equal(t, 200, head.status, path)
			assert.Empty(t, head.body, path)
		}
		assert.NotContains(t, string(want.body), "PRIVATE", path)
	}
	assert.Equal(t, []any{id}, g.do("LIST", "pki/issuers", "", nil).data["keys"])
	assert.Equal(t, []any{id}, g.do("GET", "pki/issuers?list=true", "", nil).data["keys"])
	for _, path := range []string{"crl/delta", "cert/delta-crl/raw", "issuer/default/crl/delta/der"} { // with shards, each has its own
		assert.Equal(t, 404, g.do("GET", "pki/"+path, "", nil).status, path)
	}
}

var knownFields = regexp.MustCompile(`is unknown; there are: (.*)`)

// wrongValues are those of every type, and some that are much of it.
var wrongValues = []string{`{}`, `[]`, `[{}]`, `[[]]`, `{"a":1}`, `7`, `-7`, `1e400`, `1.5`, `99999999999999999999`, `true`, `"x"`, `""`, `"\u0000"`, `"\ud800"`, `[7]`, `["x",7]`, `[null]`,
	`"a,b,,c"`, `"-1"`, `"9999999h"`, `"{{"`, `"*"`, `"../../etc"`}

// TestWrongTypes: every field of every path is given values of every type; what is wrong is refused by its name, and is never an internal
// error.
func TestWrongTypes(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	g.must(200, "POST", "pki/roles/x", fields{"allow_any_name": true, "key_type": "ec"})
	tried := 0
	for path, has := range pkihttp.Routes() {
		path = strings.NewReplacer("generate/x", "generate/kms", "rotate/x", "rotate/kms", "root/x", "root/kms", "intermediate/x", "intermediate/kms", "issuer/x", "issuer/default").Replace(path)
		if !slices.Contains(has, "POST") || path == "ocsp" || path == "unified-ocsp" || path == "tidy" {
			continue
		}
		a := g.do("POST", "pki/"+path, rootToken, `{"zz":1}`)
		assert.Contains(t, []int{400, 403, 404}, a.status, path)
		found := knownFields.FindStringSubmatch(strings.Join(a.errors, ""))
		if found == nil || found[1] == "none" {
			continue
		}
		for _, field := range strings.Split(found[1], ", ") {
			for _, value := range wrongValues {
				a := g.do("POST", "pki/"+path, rootToken, fmt.Sprintf(`{%q:%s}`, field, value))
				tried++
				assert.Less(t, a.status, 500, "%s %s %s: %s", path, field, value, a.body)
				assert.Less(t, len(a.body), 20_000, "%s %s %s", path, field, value)
			}
		}
	}
	assert.Greater(t, tried, 3000)
	g.must(200, "GET", "pki/issuer/default", nil)
	g.must(200, "GET", "pki/crl", nil)
	for _, body := range []string{`[`, `{`, `"x"`, `7`, `{"a":1,"a":2}`, `{"common_name":"a"} {}`, "\x00", `{"common_name":"` + "\xff" + `"}`, strings.Repeat(`{"a":`, 10000)} {
		for _, path := range []string{"issue/x", "roles/x", "config/urls", "revoke", "root/generate/kms", "tidy"} {
			assert.Equal(t, 400, g.do("POST", "pki/"+path, rootToken, body).status, "%s %.40q", path, body)
		}
	}
	assert.Equal(t, 415, g.do("POST", "pki/issue/x", rootToken, "common_name=a", "Content-Type", "text/plain").status)
}
