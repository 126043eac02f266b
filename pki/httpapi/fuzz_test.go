package httpapi_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequests: whatever is asked, nothing panics, the answer is no internal error, and it is JSON if it says so.
func FuzzRequests(f *testing.F) {
	for _, text := range refusals {
		method, rest, _ := strings.Cut(text, " ")
		path, body, _ := strings.Cut(rest, " ")
		f.Add(method, path, body)
	}
	request, _ := csr(f, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example"}})
	data, _ := json.Marshal(request)
	for _, path := range []string{"sign/web", "sign-verbatim", "issuer/default/sign/web"} {
		f.Add("POST", path, `{"csr":`+string(data)+`,"ttl":"1h","format":"der"}`)
	}
	f.Add("POST", "root/sign-intermediate", `{"csr":`+string(data)+`,"use_csr_values":true,"ttl":3600,"permitted_ip_ranges":["10.0.0.0/8"]}`)
	f.Add("POST", "roles/web", `{"allowed_domains":["{{identity.entity.name}}.example"],"policy_identifiers":[{"oid":"1.2.3","cps":"http://a.example"}],"key_usage":"x,y"}`)
	f.Add("PATCH", "issuer/default", `{"usage":"crl-signing","issuing_certificates":["http://a.example/{{issuer_id}}"]}`)
	f.Add("GET", "ocsp/MEMwQTA/MD0wOzAJBgUrDgMCGgUABBQ", "")
	f.Add("POST", "ocsp", "0\x03\x0a\x01\x01")
	g := newRig(f, nil)
	g.root("root")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "any"})
	g.option("allow_sign_verbatim", "true")
	f.Fuzz(func(t *testing.T, method, path, body string) {
		if strings.HasPrefix(path, "tidy") || len(path) > 4000 { // it goes on in the background
			return
		}
		r := httptest.NewRequest("GET", "/", strings.NewReader(body))
		r.Method, r.URL = method, &url.URL{Path: "/v1/pki/" + path}
		if before, query, ok := strings.Cut(path, "?"); ok {
			r.URL.Path, r.URL.RawQuery = "/v1/pki/"+before, query
		}
		r.Header = http.Header{"X-Vault-Token": {rootToken}}
		if method == "PATCH" {
			r.Header.Set("Content-Type", "application/merge-patch+json")
		}
		if method != "POST" && method != "PATCH" {
			r.Body, r.ContentLength = http.NoBody, 0
		}
		w := httptest.NewRecorder()
		g.api.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s %q %q: %d %s\n%s", method, path, body, w.Code, w.Body, g.log)
		}
		if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q: no JSON: %s", method, path, w.Body)
		}
	})
}
