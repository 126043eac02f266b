package httpapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"
)

// The tests of this file are of what a caller could do to others, or learn, by requests that nobody expects.

// TestHalfAppliedConfig: of a request that is wrong in one part, no part is applied.
func TestHalfAppliedConfig(t *testing.T) {
	g := newRig(t, nil)
	for _, body := range []fields{{"expiry": "36h", "ocsp_expiry": "1s"}, {"expiry": "1s", "ocsp_expiry": "1h"}, {"shards": 4, "ocsp_expiry": "100000h"}} {
		before := g.must(200, "GET", "pki/config/crl", nil).data
		g.must(400, "POST", "pki/config/crl", body)
		assert.Equal(t, before, g.must(200, "GET", "pki/config/crl", nil).data)
	}
}

// TestLongNumbers: what is far too long is refused without the time that reading it would take.
func TestLongNumbers(t *testing.T) {
	g := newRig(t, nil)
	root := g.root("root")
	long := strings.Repeat("7f", 5<<20)
	key := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: make([]byte, 1<<20)})
	for path, body := range map[string]fields{
		"revoke":                              {"serial_number": long},
		"revoke-with-key":                     {"serial_number": root.str("serial_number"), "private_key": string(key)},
		"issuer/default/sign-revocation-list": {"revoked_certs": []fields{{"serial_number": long, "revocation_time": 1}}},
		"root/sign-intermediate":              {"common_name": "S", "csr": long},
		"root/generate/kms":                   {"common_name": long, "managed_key_name": "sub"},
		"roles/web":                           {"allowed_domains": long},
		"issue/" + strings.Repeat("a", 1000):  {},
		"issuer/default/resign-crls":          {"crls": []string{long}},
	} {
		began := time.Now()
		a := g.do("POST", "pki/"+path, rootToken, body)
		assert.GreaterOrEqual(t, a.status, 400, path)
		assert.Less(t, a.status, 500, path)
		assert.Less(t, time.Since(began), 10*time.Second, path)
		assert.Less(t, len(a.body), 2000, path)
	}
	assert.Equal(t, 413, g.do("POST", "pki/revoke", rootToken, fields{"serial_number": strings.Repeat("0", 33<<20)}).status)
}

// TestSelfIssuedKeyFirst: the key of a certificate is looked at before its signature, for which a huge one would take its time.
func TestSelfIssuedKeyFirst(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Weak"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	der[len(der)-1] ^= 1
	a := g.must(400, "POST", "pki/root/sign-self-issued", fields{"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))})
	assert.Contains(t, a.errors[0], "1024 bits")
}

// TestRevocationAlgorithm: an issuer can't be told to sign its lists as its key never could, which would end its CRLs and OCSP.
func TestRevocationAlgorithm(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	g.root("rsa")
	for ref, name := range map[string]string{"root-root": "SHA256WithRSA", "root-rsa": "ECDSAWithSHA256", "default": "PureEd25519"} {
		for _, method := range []string{"POST", "PATCH"} {
			a := g.must(400, method, "pki/issuer/"+ref, fields{"revocation_signature_algorithm": name})
			assert.Contains(t, a.errors[0], "revocation signature algorithm")
		}
	}
	for ref, name := range map[string]string{"root-root": "ECDSAWithSHA512", "root-rsa": "SHA384WithRSAPSS"} {
		assert.Equal(t, name, g.must(200, "PATCH", "pki/issuer/"+ref, fields{"revocation_signature_algorithm": name}).str("revocation_signature_algorithm"))
		g.must(200, "GET", "pki/issuer/"+ref+"/crl/der", nil)
	}
}

// TestStrangePaths: a path leads to what it says or nowhere, whoever asks; none of them is a public one in disguise.
func TestStrangePaths(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	g.must(200, "POST", "pki/roles/ca", fields{"allow_any_name": true, "key_type": "ec"}) // named like a public path
	for _, path := range []string{"roles/ca", "roles/crl", "issuer/default", "issuer/crl", "key/ca", "keys", "certs", "certs/detailed", "config/crl", "config/ca",
		"cert/ca/..", "ca/../roles/ca", "roles/ca/pem", "ca/pem/x", "cert", "issuer/default/jsonx", "issuer/default/ocsp-responder", "issuer/default/crl/rotate",
		"crl/rotate", "crl/rotate-delta", "tidy-status", "ocsp-x/AAAA", "root", "issuer/default/json/x", "cert/1/raw/pem/x", "crl/shard/1/x", "CA", "Ca/pem", "ca%2fpem", "ca%00", "cert//ca"} {
		for _, method := range []string{"GET", "LIST", "HEAD", "POST", "DELETE", "PATCH"} {
			a := g.do(method, "pki/"+path, "", nil)
			assert.Contains(t, []int{400, 403, 404, 405}, a.status, "%s %s: %s", method, path, a.body)
			assert.NotContains(t, string(a.body), "BEGIN", "%s %s", method, path)
		}
	}
	for _, path := range []string{"roles/ca/", "roles//ca", "./roles/ca", "roles/%63a%2e"} {
		a := g.do("GET", "pki/"+path, rootToken, nil)
		assert.Contains(t, []int{200, 400, 404}, a.status, path)
	}
}

// TestRevokeWithAnotherKey: a key of somebody else revokes nothing, whichever way the certificate is named, and no answer shows it.
func TestRevokeWithAnotherKey(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	mine := g.must(200, "POST", "pki/issue/web", fields{"common_name": "mine.example"})
	theirs := g.must(200, "POST", "pki/issue/web", fields{"common_name": "theirs.example"})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for _, private := range []string{mine.str("private_key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), theirs.str("certificate"), "", "text"} {
		for _, body := range []fields{{"serial_number": theirs.str("serial_number")}, {"certificate": theirs.str("certificate")},
			{"serial_number": theirs.str("serial_number"), "certificate": mine.str("certificate")}} {
			body["private_key"] = private
			a := g.do("POST", "pki/revoke-with-key", rootToken, body)
			assert.Contains(t, []int{400, 403}, a.status, "%s", a.body)
			assert.NotContains(t, string(a.body), "BEGIN")
			if block, _ := pem.Decode([]byte(private)); block != nil && strings.Contains(block.Type, "PRIVATE") {
				assert.NotContains(t, string(a.body), base64.StdEncoding.EncodeToString(block.Bytes)[:40])
			}
		}
	}
	g.must(404, "LIST", "pki/certs/revoked", nil)
	g.must(200, "POST", "pki/revoke-with-key", fields{"certificate": theirs.str("certificate"), "private_key": theirs.str("private_key")})
}

// TestUnifiedOCSP: it is the same responder, by GET too.
func TestUnifiedOCSP(t *testing.T) {
	g := newRig(t, nil)
	root := g.root("root").cert("certificate")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	leaf := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"}).cert("certificate")
	request, err := ocsp.CreateRequest(leaf, root, nil)
	require.NoError(t, err)
	for _, a := range []answer{g.do("GET", "pki/unified-ocsp/"+base64.URLEncoding.EncodeToString(request), "", nil),
		g.do("POST", "pki/unified-ocsp", "", request, "Content-Type", "application/ocsp-request")} {
		require.Equal(t, 200, a.status, "%s", a.body)
		response, err := ocsp.ParseResponseForCert(a.body, leaf, root)
		require.NoError(t, err)
		assert.Equal(t, ocsp.Good, response.Status)
	}
}
