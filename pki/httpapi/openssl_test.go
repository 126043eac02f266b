package httpapi_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	xocsp "golang.org/x/crypto/ocsp"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// shop is a folder with files for openssl and curl.
type shop struct {
	*rig
	folder string
}

func (s *shop) file(name string, data []byte) string {
	s.Helper()
	path := filepath.Join(s.folder, name)
	require.NoError(s, os.WriteFile(path, data, 0o600))
	return path
}

// run runs a program, which must succeed, and returns what it prints.
func (s *shop) run(name string, args ...string) string {
	s.Helper()
	out, err := s.try(name, args...)
	require.NoError(s, err, "%s %v: %s", name, args, out)
	return out
}

func (s *shop) try(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(s.Context(), name, args...)
	cmd.Dir = s.folder
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestOpenSSL: what curl gets without a token, openssl takes: chain, CRL, revocation, OCSP by POST and by GET.
func TestOpenSSL(t *testing.T) {
	requires.Tool(t, "openssl", "openssl")
	requires.Tool(t, "curl", "curl")
	g := newRig(t, nil)
	s := &shop{g, t.TempDir()}
	g.root("root")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	good := g.must(200, "POST", "pki/issue/web", fields{"common_name": "good.example"})
	bad := g.must(200, "POST", "pki/issue/web", fields{"common_name": "bad.example"})
	g.must(200, "POST", "pki/revoke", fields{"serial_number": bad.str("serial_number"), "reason": "superseded"})
	s.file("good.pem", []byte(good.str("certificate")))
	s.file("bad.pem", []byte(bad.str("certificate")))
	s.file("pool.pem", g.pool)
	get := func(path, out string) {
		s.run("curl", "-sSf", "--cacert", "pool.pem", "-o", out, g.url+"/v1/pki/"+path)
	}
	get("ca/pem", "ca.pem")
	get("ca", "ca.der")
	get("crl", "crl.der")
	get("crl/pem", "crl.pem")
	s.run("openssl", "x509", "-inform", "DER", "-in", "ca.der", "-noout")
	text := s.run("openssl", "crl", "-inform", "DER", "-in", "crl.der", "-CAfile", "ca.pem", "-text")
	assert.Contains(t, text, "verify OK")
	assert.Contains(t, text, "Superseded")
	s.run("openssl", "verify", "-x509_strict", "-CAfile", "ca.pem", "-CRLfile", "crl.pem", "-crl_check", "good.pem")
	text, err := s.try("openssl", "verify", "-x509_strict", "-CAfile", "ca.pem", "-CRLfile", "crl.pem", "-crl_check", "bad.pem")
	require.Error(t, err)
	assert.Contains(t, text, "certificate revoked")

	// openssl ocsp writes requests and reads answers; curl carries them, since openssl would not take the server's own CA.
	for name, want := range map[string]string{"good.pem": "good.pem: good", "bad.pem": "bad.pem: revoked"} {
		s.run("openssl", "ocsp", "-issuer", "ca.pem", "-cert", name, "-no_nonce", "-reqout", "request.der")
		s.run("curl", "-sSf", "--cacert", "pool.pem", "-H", "Content-Type: application/ocsp-request", "--data-binary", "@request.der", "-o", "answer.der", g.url+"/v1/pki/ocsp")
		text := s.run("openssl", "ocsp", "-respin", "answer.der", "-issuer", "ca.pem", "-cert", name, "-CAfile", "ca.pem", "-no_nonce")
		assert.Contains(t, text, "Response verify OK")
		assert.Contains(t, text, want)
		request, err := os.ReadFile(filepath.Join(s.folder, "request.der"))
		require.NoError(t, err)
		for _, path := range []string{url.PathEscape(base64.StdEncoding.EncodeToString(request)), base64.StdEncoding.EncodeToString(request)} {
			s.run("curl", "-sSf", "--cacert", "pool.pem", "-o", "answer.der", g.url+"/v1/pki/ocsp/"+path)
			assert.Contains(t, s.run("openssl", "ocsp", "-respin", "answer.der", "-issuer", "ca.pem", "-cert", name, "-CAfile", "ca.pem", "-no_nonce"), want)
		}
	}
}

// TestOCSPRoutes: answers have their types and statuses, and a responder that is off says so.
func TestOCSPRoutes(t *testing.T) {
	g := newRig(t, nil)
	ca := g.root("root").cert("certificate")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	leaf := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"}).cert("certificate")
	request, err := xocsp.CreateRequest(leaf, ca, nil)
	require.NoError(t, err)
	ask := func() (*xocsp.Response, error) {
		a := g.do("POST", "pki/ocsp", "", request, "Content-Type", "application/ocsp-request")
		require.Equal(t, 200, a.status)
		assert.Equal(t, "application/ocsp-response", a.header.Get("Content-Type"))
		return xocsp.ParseResponse(a.body, ca)
	}
	answer, err := ask()
	require.NoError(t, err)
	assert.Equal(t, xocsp.Good, answer.Status)
	a := g.do("GET", "pki/ocsp/"+url.PathEscape(base64.StdEncoding.EncodeToString(request)), "", nil)
	assert.Equal(t, 200, a.status)
	assert.Contains(t, a.header.Get("Cache-Control"), "max-age")
	g.must(200, "POST", "pki/revoke", fields{"serial_number": leafSerial(leaf)})
	answer, err = ask()
	require.NoError(t, err)
	assert.Equal(t, xocsp.Revoked, answer.Status)
	assert.Equal(t, 415, g.do("POST", "pki/ocsp", "", request, "Content-Type", "text/plain").status)
	assert.Equal(t, 200, g.do("POST", "pki/ocsp", "", "garbage", "Content-Type", "application/ocsp-request").status, "malformedRequest is an answer")
	g.must(200, "POST", "pki/config/crl", fields{"ocsp_disable": true})
	_, err = ask()
	assert.ErrorContains(t, err, "unauthorized")
	assert.Equal(t, true, g.must(200, "GET", "pki/config/crl", nil).data["ocsp_disable"])
}

// TestCurlFields: what the command lines of Vault and curl send: numbers and truth as strings, lists with commas.
func TestCurlFields(t *testing.T) {
	g := newRig(t, nil)
	g.root("rsa", "ttl", "31536000", "ou", "A,B", "max_path_length", "1", "permitted_dns_domains", "example.com, example.org")
	ca := g.must(200, "GET", "pki/cert/ca", nil).cert("certificate")
	assert.Equal(t, []string{"A", "B"}, ca.Subject.OrganizationalUnit)
	assert.Equal(t, 1, ca.MaxPathLen)
	assert.Equal(t, []string{"example.com", "example.org"}, ca.PermittedDNSDomains)
	a := g.must(200, "POST", "pki/roles/web", fields{"allowed_domains": "example.com,example.org", "allow_bare_domains": "1", "allow_subdomains": "true", "key_bits": "256",
		"key_type": "ec", "ttl": "30d", "max_ttl": 3000000, "policy_identifiers": `[{"oid":"1.3.6.1.4.1.32473.1","cps":"https://example.com/cps"}]`, "server_flag": "false"})
	assert.EqualValues(t, 30*86400, a.data["ttl"])
	assert.EqualValues(t, 3000000, a.data["max_ttl"])
	assert.Equal(t, false, a.data["server_flag"])
	text, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "example.com"}})
	leaf := g.must(200, "POST", "pki/sign/web", fields{"csr": text, "ttl": "3600"}).cert("certificate")
	assert.Equal(t, []string{"example.com"}, leaf.DNSNames)
	assert.Len(t, leaf.Policies, 1)
}
