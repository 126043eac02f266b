package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// TestStorm: clients issue, revoke and read at once; every serial number is there once, and every one that was revoked is in the CRL.
func TestStorm(t *testing.T) {
	g := newRig(t, func(o *pkihttp.Options) { o.Maintain = 1e6 })
	g.root("root")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	var mu sync.Mutex
	all, revoked := make(map[string]bool), make(map[string]bool)
	var clients sync.WaitGroup
	for client := range 8 {
		clients.Go(func() {
			for i := range 10 {
				a := g.do("POST", "pki/issue/web", rootToken, fields{"common_name": "a.example"})
				if !assert.Equal(t, 200, a.status, "%s", a.body) {
					return
				}
				serial := a.str("serial_number")
				mu.Lock()
				assert.False(t, all[serial])
				all[serial] = true
				mu.Unlock()
				if (client+i)%3 == 0 {
					assert.Equal(t, 200, g.do("POST", "pki/revoke", rootToken, fields{"serial_number": serial}).status)
					mu.Lock()
					revoked[serial] = true
					mu.Unlock()
				}
				assert.Equal(t, 200, g.do("GET", "pki/crl", "", nil).status)
			}
		})
	}
	clients.Wait()
	assert.Len(t, g.must(200, "LIST", "pki/certs", nil).data["keys"], len(all)+1)
	assert.Len(t, g.must(200, "LIST", "pki/certs/revoked", nil).data["keys"], len(revoked))
	// While the next list is being made in the background, the last one is given.
	assert.Eventually(t, func() bool { return len(g.crl("pki/crl").RevokedCertificateEntries) == len(revoked) }, 30*time.Second, time.Millisecond)
}

// TestSeveralAPIs: the APIs of several listeners have one handler for a mount, which lives until the last of them is closed.
func TestSeveralAPIs(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	keys, err := managedkey.Open(t.Context(), st, nil, nil)
	require.NoError(t, err)
	defer keys.Close()
	_, err = keys.CreateMount(t.Context(), managedkey.MountSpec{Path: "pki", Type: "pki"})
	require.NoError(t, err)
	tokens, err := httpapi.NewTokens(httpapi.Token{SHA256: httpapi.HashToken(rootToken), Name: "root", Policies: []string{httpapi.RootPolicy}})
	require.NoError(t, err)
	policies, err := httpapi.NewPolicies()
	require.NoError(t, err)
	engine, err := pkihttp.New(st, &pkihttp.Options{Maintain: 1e6})
	require.NoError(t, err)
	ask := func(api http.Handler, method, path, body string) string {
		t.Helper()
		r := httptest.NewRequest(method, "/v1/pki/"+path, strings.NewReader(body))
		r.Header.Set("X-Vault-Token", rootToken)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		require.Less(t, w.Code, 300, w.Body)
		return w.Body.String()
	}
	var apis []*httpapi.API
	for range 2 {
		api, err := httpapi.New(keys, &httpapi.Options{Authenticator: tokens, Authorizer: policies, Engines: map[string]httpapi.Engine{"pki": engine}})
		require.NoError(t, err)
		apis = append(apis, api)
		assert.Contains(t, ask(api, "GET", "tidy-status", ""), "Inactive")
	}
	ask(apis[0], "POST", "tidy", `{"tidy_cert_store":true,"tidy_revoked_certs":true}`)
	assert.NotContains(t, ask(apis[1], "GET", "tidy-status", ""), "Inactive", "the one knows what the other was told")
	require.NoError(t, apis[0].Close())
	ask(apis[1], "POST", "roles/web", `{}`)
	require.NoError(t, apis[1].Close())
}

// TestDependencies: the engine works with whatever keys the program has, and so links no driver.
func TestDependencies(t *testing.T) {
	goTool := requires.Tool(t, "go", "go")
	const module = "github.com/managedkeys/managedkeys/"
	out, err := exec.CommandContext(t.Context(), goTool, "list", "-deps", module+"pki/httpapi").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	assert.Contains(t, deps, module+"backend")
	for _, dep := range deps {
		assert.False(t, strings.HasPrefix(dep, module+"backend/"), dep)
		assert.False(t, strings.HasPrefix(dep, module+"managedkey/store/"), dep)
	}
	_, err = pkihttp.New(nil, nil)
	assert.ErrorContains(t, err, "store")
}
