package httpapi_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// TestNotModifiedHidesNothing: whoever has what was there before is never told that it is the newest, though the times are of the same
// second, or what is there now is older.
func TestNotModifiedHidesNothing(t *testing.T) {
	var clock clock
	start := time.Now().Truncate(time.Second)
	clock.set(start)
	g := newRig(t, func(o *pkihttp.Options) { o.Now = clock.now })
	get := func(path, since string) answer {
		t.Helper()
		return g.do("GET", "pki/"+path, "", nil, "If-Modified-Since", since)
	}
	first := g.root("root").str("issuer_id")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	serial := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example", "ttl": "1h"}).str("serial_number")

	// A certificate is revoked in the second in which the last list was made.
	at := get("crl", "").header.Get("Last-Modified")
	clock.set(start.Add(900 * time.Millisecond))
	g.must(200, "POST", "pki/revoke", fields{"serial_number": serial})
	revoked := func(a answer) int {
		t.Helper()
		require.Equal(t, 200, a.status)
		list, err := x509.ParseRevocationList(a.body)
		require.NoError(t, err)
		return len(list.RevokedCertificateEntries)
	}
	assert.Equal(t, 1, revoked(get("crl", at)))
	clock.set(start.Add(time.Hour))
	assert.Equal(t, 1, revoked(get("crl", at)), "nor is it hidden later")
	settled := get("crl", "").header.Get("Last-Modified")
	assert.Equal(t, 304, get("crl", settled).status)

	// The default issuer becomes another one, and again the first, whose certificate and list are older.
	clock.set(start.Add(2 * time.Hour))
	second := g.root("rsa").str("issuer_id")
	for i, id := range []string{second, first} {
		clock.set(start.Add(time.Duration(3+i) * time.Hour))
		seen := make(map[string]string)
		paths := []string{"ca", "ca/pem", "ca_chain", "cert/ca/raw", "issuer/default/der", "crl", "crl/pem", "issuer/default/crl/der"}
		for _, path := range paths {
			seen[path] = get(path, "").header.Get("Last-Modified")
		}
		g.must(200, "POST", "pki/config/issuers", fields{"default": id})
		for _, path := range paths {
			assert.Equal(t, 200, get(path, seen[path]).status, path)
		}
	}
	// A name comes to mean another issuer.
	clock.set(start.Add(6 * time.Hour))
	at = get("issuer/root-rsa/pem", "").header.Get("Last-Modified")
	g.must(200, "PATCH", "pki/issuer/"+second, fields{"issuer_name": "away"})
	g.must(200, "PATCH", "pki/issuer/"+first, fields{"issuer_name": "root-rsa"})
	for range 2 {
		assert.Equal(t, 200, get("issuer/root-rsa/pem", at).status)
		assert.Equal(t, 200, get("issuer/root-rsa/crl/der", at).status)
		clock.set(start.Add(7 * time.Hour))
	}
}
