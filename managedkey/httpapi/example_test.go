package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// newAPI is in the README.
func newAPI(keys *managedkey.Registry, tokens *httpapi.Tokens) (*httpapi.API, error) {
	certificates, err := httpapi.NewCertificates(httpapi.Certificate{URI: "spiffe://example.org/issuer", Name: "issuer", Namespace: "team-a", Policies: []string{"operator"}})
	if err != nil {
		return nil, err
	}
	policies, err := httpapi.NewPolicies(httpapi.Policy{Name: "operator", Rules: []httpapi.Rule{
		{Path: "sys/managed-keys/*", Capabilities: []string{"create", "read", "update", "list"}},
		{Path: "sys/managed-keys/+/root-ca", Capabilities: []string{"deny"}},
	}})
	if err != nil {
		return nil, err
	}
	return httpapi.New(keys, &httpapi.Options{
		Authenticator: httpapi.AnyOf(tokens, certificates), // or one of your own
		Authorizer:    policies,
	})
}

func Example() {
	token, hash := httpapi.NewToken()
	tokens, err := httpapi.NewTokens(httpapi.Token{SHA256: hash, Name: "alice", Policies: []string{"operator"}})
	if err != nil {
		panic(err)
	}
	api, err := newAPI(managedkey.NewRegistry(), tokens)
	if err != nil {
		panic(err)
	}
	defer api.Close()
	for _, path := range []string{"/v1/sys/managed-keys/software/issuing-ca", "/v1/sys/managed-keys/software/root-ca"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("X-Vault-Token", token)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// 404 {"errors":[]}
	// 403 {"errors":["permission denied"]}
}
