package httpapi_test

import (
	"fmt"
	"net/http/httptest"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// newAPI is in the README.
func newAPI(keys *managedkey.Registry, st store.Store, tokens *httpapi.Tokens, policies *httpapi.Policies) (*httpapi.API, error) {
	engine, err := pkihttp.New(st, nil)
	if err != nil {
		return nil, err
	}
	return httpapi.New(keys, &httpapi.Options{
		Authenticator: tokens, Authorizer: policies,
		Engines: map[string]httpapi.Engine{"pki": engine},
	})
}

func ExampleNew() {
	token, hash := httpapi.NewToken()
	tokens, err := httpapi.NewTokens(httpapi.Token{SHA256: hash, Name: "admin", Policies: []string{httpapi.RootPolicy}})
	if err != nil {
		panic(err)
	}
	policies, err := httpapi.NewPolicies()
	if err != nil {
		panic(err)
	}
	st := memory.New(nil)
	defer st.Close()
	api, err := newAPI(managedkey.NewRegistry(), st, tokens, policies)
	if err != nil {
		panic(err)
	}
	defer api.Close()
	for _, request := range [][2]string{
		{"/v1/sys/mounts/pki", `{"type": "pki"}`}, {"/v1/pki/root/generate/kms", `{"common_name": "Root"}`},
	} {
		r := httptest.NewRequest("POST", request[0], strings.NewReader(request[1]))
		r.Header.Set("X-Vault-Token", token)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		fmt.Println(strings.TrimSpace(fmt.Sprintf("%d %s", w.Code, w.Body)))
	}
	// Output:
	// 204
	// 400 {"errors":["missing argument: one of managed_key_name and managed_key_id is required for the type kms"]}
}
