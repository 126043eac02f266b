package readme

import (
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	transithttp "github.com/managedkeys/managedkeys/transit/httpapi"
)

// It is the README's code, so that it compiles.
var _ = transitOverHTTP

func transitOverHTTP(keys *managedkey.Registry, shared store.Store, tokens *httpapi.Tokens, policies *httpapi.Policies) (*httpapi.API, error) {
	engine := transithttp.New(shared, &transithttp.Options{Software: software.New(nil)})
	return httpapi.New(keys, &httpapi.Options{Engines: map[string]httpapi.Engine{"transit": engine}, Authenticator: tokens, Authorizer: policies})
}
