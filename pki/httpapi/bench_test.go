package httpapi_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/pki"
)

// BenchmarkSign signs a request for a P-256 key with a P-256 key in software, kept in memory: by the package, and through the API
// without a network, whose own work is the difference.
func BenchmarkSign(b *testing.B) {
	g := newRig(b, nil)
	g.root("sub")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	text, _ := csr(b, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example"}})
	b.Run("package", func(b *testing.B) {
		m, err := g.keys.OpenMount("", "pki")
		require.NoError(b, err)
		st := memory.New(nil)
		defer st.Close()
		a, err := pki.OpenAuthority(b.Context(), m, st, nil)
		require.NoError(b, err)
		_, err = a.GenerateRoot(b.Context(), pki.KeyRef{Name: "sub"}, "", pki.CATemplate{Subject: pkix.Name{CommonName: "Root"}, Validity: 1e17})
		require.NoError(b, err)
		role, err := pki.DecodeRole("web", []byte(`{"allow_any_name":true,"key_type":"ec"}`))
		require.NoError(b, err)
		require.NoError(b, a.PutRole(b.Context(), role))
		for b.Loop() {
			if _, err := a.Sign(b.Context(), "web", []byte(text), pki.IssueRequest{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("API", func(b *testing.B) {
		body, err := json.Marshal(fields{"csr": text})
		require.NoError(b, err)
		for b.Loop() {
			r := httptest.NewRequest("POST", "/v1/pki/sign/web", strings.NewReader(string(body)))
			r.Header.Set("X-Vault-Token", rootToken)
			w := httptest.NewRecorder()
			if g.api.ServeHTTP(w, r); w.Code != 200 {
				b.Fatal(w.Body)
			}
		}
	})
}

// BenchmarkRead reads what everybody may read.
func BenchmarkRead(b *testing.B) {
	g := newRig(b, nil)
	g.root("sub")
	for _, path := range []string{"ca", "crl", "issuer/default/json"} {
		b.Run(strings.ReplaceAll(path, "/", "-"), func(b *testing.B) {
			for b.Loop() {
				w := httptest.NewRecorder()
				if g.api.ServeHTTP(w, httptest.NewRequest("GET", "/v1/pki/"+path, nil)); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
