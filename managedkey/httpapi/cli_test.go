package httpapi

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHelpDoesNothing: command lines ask for the help of a path with a parameter on a request that would do something without it.
func TestHelpDoesNothing(t *testing.T) {
	g := newRig(t, nil)
	g.must(204, "POST", "/v1/sys/mounts/signer", `{"type":"signer"}`)
	for _, method := range []string{"GET", "LIST", "POST", "DELETE"} {
		a := g.must(400, method, "/v1/sys/mounts/signer?help=1", "")
		assert.Equal(t, []string{"parameter help: this server has no help for paths"}, a.errors)
	}
	g.must(200, "GET", "/v1/sys/mounts/signer", "")
	g.must(400, "GET", "/v1/signer/public?help=1", "")
	g.must(200, "GET", "/v1/signer/public?help=", "")
}

// TestNoScan: OpenBao's recursive lists are no reads.
func TestNoScan(t *testing.T) {
	g := newRig(t, nil)
	for _, path := range []string{"/v1/sys/mounts", "/v1/sys/namespaces"} {
		g.must(405, "GET", path+"?scan=true", "")
		g.must(405, "SCAN", path, "")
	}
}

// TestNoLocksOfNamespaces: what locks and seals a namespace elsewhere makes none here.
func TestNoLocksOfNamespaces(t *testing.T) {
	g := newRig(t, nil)
	g.must(200, "POST", "/v1/sys/namespaces/team-a", "")
	for _, path := range []string{"api-lock/lock", "api-lock/lock/team-a", "api-lock/unlock/team-a", "team-a/seal", "team-a/unseal", "team-a/delete-sealed"} {
		for _, method := range []string{"POST", "DELETE"} {
			a := g.must(404, method, "/v1/sys/namespaces/"+path, "")
			assert.Equal(t, []string{"unsupported path"}, a.errors, path)
		}
	}
	g.must(404, "GET", "/v1/sys/namespaces/team-a/seal-status", "")
	assert.Equal(t, []any{"team-a/"}, g.must(200, "LIST", "/v1/sys/namespaces", "").data["keys"])
	g.must(404, "LIST", "/v1/team-a/sys/namespaces", "")
	g.must(200, "POST", "/v1/sys/namespaces/seal", "") // a name like any other
}

// TestNamespaceDeletion: OpenBao's command line reads an answer in any case, and takes one without a status for "it wasn't there".
func TestNamespaceDeletion(t *testing.T) {
	g := newRig(t, nil)
	g.must(200, "POST", "/v1/sys/namespaces/team-a", "")
	assert.NotEmpty(t, g.must(200, "DELETE", "/v1/sys/namespaces/team-a", "").data["status"])
	a := g.must(200, "DELETE", "/v1/sys/namespaces/team-a", "")
	assert.Nil(t, a.data["status"])
	assert.Contains(t, a.text, `"warnings":["requested namespace does not exist"]`)
}

// TestAnswersBesideTheEnvelope: scripts that are older than the envelope find mounts and capabilities where they were before.
func TestAnswersBesideTheEnvelope(t *testing.T) {
	g := newRig(t, nil)
	g.must(204, "POST", "/v1/sys/mounts/pki", `{"type":"pki","description":"Issues"}`)
	for _, c := range []struct{ method, path, body, member string }{
		{"GET", "sys/mounts", "", "pki/"},
		{"GET", "sys/mounts/pki", "", "type"},
		{"GET", "sys/mounts/pki/tune", "", "max_lease_ttl"},
		{"POST", "sys/capabilities-self", `{"path":"pki/issue/web"}`, "capabilities"},
		{"POST", "sys/remount", `{"from":"pki","to":"old"}`, "migration_id"},
	} {
		a := g.must(200, c.method, "/v1/"+c.path, c.body)
		var all map[string]any
		require.NoError(t, json.Unmarshal([]byte(a.text), &all))
		assert.NotEmpty(t, all["request_id"], c.path)
		require.Contains(t, a.data, c.member, c.path)
		assert.Equal(t, a.data[c.member], all[c.member], c.path)
	}
	g.must(400, "POST", "/v1/sys/remount", `{"from":"old","to":"old"}`)
}

// TestTokenLookup: "token lookup" of one's own token, which command lines ask for by another path if it is given.
func TestTokenLookup(t *testing.T) {
	g := newRig(t, nil)
	a := g.must(200, "POST", "/v1/auth/token/lookup", `{"token":"`+rootToken+`"}`)
	assert.Equal(t, "root", a.data["accessor"])
	a = g.must(400, "POST", "/v1/auth/token/lookup", `{"token":"`+teamToken+`"}`)
	assert.NotContains(t, a.text, teamToken)
	assert.Equal(t, 403, g.do("POST", "/v1/auth/token/lookup", "nobody's", `{"token":"`+rootToken+`"}`).status)
	g.must(405, "GET", "/v1/auth/token/lookup", "")
}

// TestHeadersOfMounts: headers that pass in any case can be let pass, as runbooks for the original do, and be seen to be.
func TestHeadersOfMounts(t *testing.T) {
	g := newRig(t, nil)
	g.must(204, "POST", "/v1/sys/mounts/pki", `{"type":"pki","config":{"passthrough_request_headers":["If-Modified-Since"],"listing_visibility":"hidden"}}`)
	g.must(204, "POST", "/v1/sys/mounts/pki/tune", `{"allowed_response_headers":"Last-Modified,ETag"}`)
	tune := g.must(200, "GET", "/v1/sys/mounts/pki/tune", "").data
	assert.Equal(t, []any{"If-Modified-Since"}, tune["passthrough_request_headers"])
	assert.Equal(t, []any{"Last-Modified", "ETag"}, tune["allowed_response_headers"])
	assert.Nil(t, tune["options"], "they are no options")
	g.must(204, "POST", "/v1/sys/mounts/pki/tune", `{"allowed_response_headers":[],"options":{"a":"b"}}`)
	tune = g.must(200, "GET", "/v1/sys/mounts/pki/tune", "").data
	assert.NotContains(t, tune, "allowed_response_headers")
	assert.Contains(t, tune, "passthrough_request_headers")
	assert.Contains(t, g.must(400, "POST", "/v1/sys/mounts/pki/tune", `{"listing_visibility":"unauth"}`).errors[0], "listing_visibility")
}
