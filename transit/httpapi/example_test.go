package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
	transithttp "github.com/managedkeys/managedkeys/transit/httpapi"
)

// A server whose mount transit signs with a managed key.
func ExampleNew() {
	ctx := context.Background()
	b, st := software.New(nil), memory.New(nil) // a token and a database elsewhere
	keys, err := managedkey.Open(ctx, st, []managedkey.Connection{{Backend: b}}, nil)
	check(err)
	check(keys.Create(ctx, managedkey.Entry{Ref: namespace.Ref{Name: "orders"}, Backend: b, AllowGenerateKey: true,
		Params: software.Params{KeyName: "orders", KeyType: software.ECDSA, Curve: software.P256}}))
	_, err = keys.CreateMount(ctx, managedkey.MountSpec{Path: "transit", Type: "transit", Allowed: []string{"orders"}})
	check(err)
	token, hash := httpapi.NewToken()
	tokens, err := httpapi.NewTokens(httpapi.Token{SHA256: hash, Name: "shop", Policies: []string{"shop"}})
	check(err)
	policies, err := httpapi.NewPolicies(httpapi.Policy{Name: "shop", Rules: []httpapi.Rule{
		{Path: "transit/keys/*", Capabilities: []string{"update", "read"}}, {Path: "transit/sign/*", Capabilities: []string{"update"}}}})
	check(err)
	api, err := httpapi.New(keys, &httpapi.Options{Authenticator: tokens, Authorizer: policies,
		Engines: map[string]httpapi.Engine{"transit": transithttp.New(st, nil)}})
	check(err)
	server := httptest.NewTLSServer(api)

	post := func(path, body string) int {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/v1/transit/"+path, strings.NewReader(body))
		check(err)
		r.Header.Set("X-Vault-Token", token)
		resp, err := server.Client().Do(r)
		check(err)
		check(resp.Body.Close())
		return resp.StatusCode
	}
	fmt.Println(post("keys/orders", `{"type": "managed_key", "managed_key_name": "orders"}`))
	fmt.Println(post("sign/orders", `{"input": "YW4gb3JkZXI="}`))
	fmt.Println(post("keys/soft", `{"type": "aes256-gcm96"}`)) // the mount has no such keys
	fmt.Println(post("decrypt/orders", `{"ciphertext": "vault:v1:"}`))

	server.Close()
	check(api.Close())
	check(keys.Close())
	check(st.Close())
	check(b.Close())
	// Output:
	// 200
	// 200
	// 400
	// 403
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
