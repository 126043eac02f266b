package httpapi

import (
	"testing"

	"github.com/stretchr/testify/assert"
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
