package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/managedkey"
)

// BenchmarkServe is what the API adds to an engine that does nothing, without a network.
func BenchmarkServe(b *testing.B) {
	keys := managedkey.NewRegistry()
	if _, err := keys.CreateMount(b.Context(), managedkey.MountSpec{Path: "signer", Type: "signer"}); err != nil {
		b.Fatal(err)
	}
	tokens, err := NewTokens(Token{SHA256: HashToken(rootToken), Policies: []string{"p"}})
	if err != nil {
		b.Fatal(err)
	}
	api, err := New(keys, &Options{Authenticator: tokens, Authorizer: mustPolicies(b, Policy{"p", rules("signer/+", "update")}),
		Engines: map[string]Engine{"signer": newSigner}, Limits: Limits{ClientRate: 1e9}})
	if err != nil {
		b.Fatal(err)
	}
	defer api.Close()
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/v1/signer/who", strings.NewReader("{}"))
		r.Header.Set("X-Vault-Token", rootToken)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
}
