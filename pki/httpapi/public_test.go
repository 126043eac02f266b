package httpapi

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// forEverybody are the paths that take no credentials, which are those of Vault. A new one must be thought about, and comes here.
var forEverybody = []string{
	"GET ca", "GET ca/pem", "GET ca_chain", "GET cert/:serial", "GET cert/:serial/raw", "GET cert/:serial/raw/pem", "GET cert/ca", "GET cert/ca/raw",
	"GET cert/ca/raw/pem", "GET cert/ca_chain", "GET cert/crl", "GET cert/crl/raw", "GET cert/crl/raw/pem", "GET cert/delta-crl", "GET cert/delta-crl/raw",
	"GET cert/delta-crl/raw/pem", "GET crl", "GET crl/delta", "GET crl/delta/pem", "GET crl/pem", "GET crl/shard/:shard", "GET crl/shard/:shard/delta",
	"GET issuer/:ref/crl", "GET issuer/:ref/crl/delta", "GET issuer/:ref/crl/delta/der", "GET issuer/:ref/crl/delta/pem", "GET issuer/:ref/crl/der",
	"GET issuer/:ref/crl/pem", "GET issuer/:ref/crl/shard/:shard", "GET issuer/:ref/crl/shard/:shard/delta", "GET issuer/:ref/der", "GET issuer/:ref/json",
	"GET issuer/:ref/pem", "GET issuer/:ref/unified-crl", "GET issuer/:ref/unified-crl/delta", "GET issuer/:ref/unified-crl/delta/der",
	"GET issuer/:ref/unified-crl/delta/pem", "GET issuer/:ref/unified-crl/der", "GET issuer/:ref/unified-crl/pem", "GET ocsp/*request", "GET unified-crl",
	"GET unified-crl/delta", "GET unified-crl/delta/pem", "GET unified-crl/pem", "GET unified-ocsp/*request", "LIST issuers", "POST ocsp", "POST unified-ocsp",
}

// withSudo are the paths that take sudo.
var withSudo = []string{"DELETE root", "POST issuer/:ref/resign-crls", "POST issuer/:ref/sign-revocation-list", "POST issuer/:ref/sign-self-issued", "POST root/sign-self-issued"}

// TestWhoMay: no path is for everybody, or takes no sudo, by mistake.
func TestWhoMay(t *testing.T) {
	var open, sudo []string
	h := new(handler)
	for _, group := range [][]route{rootRoutes, issuerRoutes, keyRoutes, roleRoutes, leafRoutes, certRoutes, crlRoutes, crlSignRoutes, responderRoutes, configRoutes, tidyRoutes} {
		for _, r := range group {
			path := strings.NewReplacer(":", "x", "*", "y").Replace(r.path)
			for _, method := range []string{"GET", "LIST", "POST", "PATCH", "DELETE"} {
				if h.Public(method, path) {
					open = append(open, method+" "+r.path)
					assert.NotNil(t, r.method(method), "%s %s", method, r.path)
				}
				if h.Sudo(method, path) && r.method(method) != nil {
					sudo = append(sudo, method+" "+r.path)
				}
				if h.Public(http.MethodHead, path) != h.Public(http.MethodGet, path) {
					t.Errorf("HEAD %s", r.path)
				}
			}
		}
	}
	slices.Sort(open)
	slices.Sort(sudo)
	assert.Equal(t, forEverybody, open)
	assert.Equal(t, withSudo, sudo)
	for _, path := range []string{"", "x", "ca/", "ca/x", "ocsp", "OCSP/x", "cert"} {
		assert.False(t, h.Public("GET", path), path)
		assert.False(t, h.Public("PUT", path) || h.Public("DELETE", path) || h.Public("", path), path)
	}
}
