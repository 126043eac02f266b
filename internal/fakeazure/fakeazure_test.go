package fakeazure_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

func start(t *testing.T, opts *fakeazure.Options) *fakeazure.Server {
	t.Helper()
	srv, err := fakeazure.New(opts)
	require.NoError(t, err)
	t.Cleanup(func() { srv.Close() })
	return srv
}

// client speaks the service's protocol by hand.
type client struct {
	t     *testing.T
	http  *http.Client
	token string // "" sends none
}

func connect(t *testing.T, srv *fakeazure.Server) *client {
	t.Helper()
	return &client{t, srv.Client(), login(t, srv, "https://vault.azure.net")}
}

// login gets a token with the client's secret (RFC 6749, Section 4.4).
func login(t *testing.T, srv *fakeazure.Server, resource string) string {
	t.Helper()
	resp, err := srv.Client().PostForm(fakeazure.Authority+fakeazure.TenantID+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {fakeazure.ClientID}, "client_secret": {fakeazure.ClientSecret}, "scope": {resource + "/.default"},
	})
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.NotEmpty(t, answer.Token)
	return answer.Token
}

// do makes a request and returns status, headers and the answer's JSON.
func (c *client) do(method, url, body string) (int, http.Header, map[string]any) {
	c.t.Helper()
	if !strings.Contains(url, "api-version") {
		url += "?api-version=2025-07-01"
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, url, strings.NewReader(body))
	require.NoError(c.t, err)
	token := c.token
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	require.NoError(c.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	var answer map[string]any
	json.Unmarshal(data, &answer)
	return resp.StatusCode, resp.Header, answer
}

// create makes a key and returns its JSON Web Key.
func (c *client) create(vault, name, body string) map[string]any {
	c.t.Helper()
	if strings.Contains(vault, "managedhsm") {
		c = &client{c.t, c.http, c.token}
		// A token of a vault is none of a Managed HSM.
		status, _, _ := c.do("POST", vault+"/keys/"+name+"/create", body)
		require.Equal(c.t, 401, status)
		c.token = hsmToken(c)
	}
	status, _, answer := c.do("POST", vault+"/keys/"+name+"/create", body)
	require.Equal(c.t, 200, status, "%v", answer)
	return answer["key"].(map[string]any)
}

func hsmToken(c *client) string {
	resp, err := c.http.PostForm(fakeazure.Authority+fakeazure.TenantID+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {fakeazure.ClientID}, "client_secret": {fakeazure.ClientSecret}, "scope": {"https://managedhsm.azure.net/.default"},
	})
	require.NoError(c.t, err)
	defer resp.Body.Close()
	var answer map[string]any
	require.NoError(c.t, json.NewDecoder(resp.Body).Decode(&answer))
	return answer["access_token"].(string)
}

func code(answer map[string]any) string {
	e, _ := answer["error"].(map[string]any)
	text, _ := e["code"].(string)
	if inner, ok := e["innererror"].(map[string]any); ok {
		text += "/" + inner["code"].(string)
	}
	return text
}

const vault = "https://v.vault.azure.net"

// TestAuthorization: no token, or none of the vault's, is a challenge, and nothing is done.
func TestAuthorization(t *testing.T) {
	srv := start(t, nil)
	c := connect(t, srv)
	good := c.token
	expired, err := srv.Token("https://vault.azure.net", -time.Minute)
	require.NoError(t, err)
	other, err := srv.Token("https://management.azure.com", time.Hour)
	require.NoError(t, err)
	parts := strings.Split(good, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for name, token := range map[string]string{
		"none": "", "expired": expired, "another resource": other, "garbage": "x.y.z", "unsigned": unsigned,
		"changed": parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])),
	} {
		c.token = token
		status, header, answer := c.do("POST", vault+"/keys/k/create", `{"kty":"EC"}`)
		assert.Equal(t, 401, status, name)
		assert.Equal(t, "Unauthorized", code(answer), name)
		assert.Equal(t, `Bearer authorization="https://login.microsoftonline.com/`+fakeazure.TenantID+`", resource="https://vault.azure.net"`, header.Get("WWW-Authenticate"), name)
	}
	c.token = good
	status, header, answer := c.do("GET", vault+"/keys/k", "")
	assert.Equal(t, []any{404, "KeyNotFound"}, []any{status, code(answer)})
	assert.Equal(t, srv.Log.Requests("get")[0].ID, header.Get("x-ms-request-id"))
	assert.Equal(t, 6, srv.Log.Count("challenge"))
}

// TestLogin: the tenant, the client and the secret have to be right.
func TestLogin(t *testing.T) {
	srv := start(t, nil)
	post := func(tenant string, form url.Values) int {
		resp, err := srv.Client().PostForm(fakeazure.Authority+tenant+"/oauth2/v2.0/token", form)
		require.NoError(t, err)
		defer resp.Body.Close()
		return resp.StatusCode
	}
	form := func(secret string) url.Values {
		return url.Values{"grant_type": {"client_credentials"}, "client_id": {fakeazure.ClientID}, "client_secret": {secret}, "scope": {"https://vault.azure.net/.default"}}
	}
	assert.Equal(t, 200, post(fakeazure.TenantID, form(fakeazure.ClientSecret)))
	assert.Equal(t, 401, post(fakeazure.TenantID, form("wrong")))
	assert.Equal(t, 401, post(fakeazure.TenantID, url.Values{}))
	assert.Equal(t, 400, post("contoso", form(fakeazure.ClientSecret)))
	for path, want := range map[string]string{
		"/v2.0/.well-known/openid-configuration": "jwks_uri", "/discovery/v2.0/keys": "keys",
	} {
		resp, err := srv.Client().Get(fakeazure.Authority + fakeazure.TenantID + path)
		require.NoError(t, err)
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		assert.Contains(t, string(data), want)
	}
	resp, err := srv.Client().Get(fakeazure.IdentityEndpoint + "?resource=https://vault.azure.net")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 400, resp.StatusCode, "a managed identity without its header")
}

// TestRefusals: what the service refuses.
func TestRefusals(t *testing.T) {
	srv := start(t, nil)
	c := connect(t, srv)
	key := c.create(vault, "k", `{"kty":"EC","key_ops":["sign"]}`)
	sign := key["kid"].(string) + "/sign"
	digest := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	for name, r := range map[string]struct {
		method, url, body string
		status            int
		code              string
	}{
		"no api-version":    {"GET", vault + "/keys/k?api-version=", "", 400, "BadParameter"},
		"no such operation": {"POST", vault + "/keys/k/x/y", "{}", 405, "MethodNotAllowed"},
		"no body":           {"POST", sign, "", 400, "BadParameter"},
		"no JSON":           {"POST", sign, "{", 400, "BadParameter"},
		"no value":          {"POST", sign, `{"alg":"ES256"}`, 400, "BadParameter"},
		"short digest":      {"POST", sign, `{"alg":"ES256","value":"AAAA"}`, 400, "BadParameter"},
		"other algorithm":   {"POST", sign, `{"alg":"ES384","value":"` + digest + `"}`, 400, "BadParameter"},
		"RSA's algorithm":   {"POST", sign, `{"alg":"RS256","value":"` + digest + `"}`, 400, "BadParameter"},
		"not in key_ops":    {"POST", key["kid"].(string) + "/verify", `{"alg":"ES256","digest":"` + digest + `","value":"AAAA"}`, 403, "Forbidden/KeyOperationForbidden"},
		"bad name":          {"POST", vault + "/keys/a_b/create", `{"kty":"EC"}`, 400, "BadParameter"},
		"oct in a vault":    {"POST", vault + "/keys/o/create", `{"kty":"oct-HSM"}`, 400, "BadParameter"},
		"RSA of 1024":       {"POST", vault + "/keys/o/create", `{"kty":"RSA","key_size":1024}`, 400, "BadParameter"},
		"unknown curve":     {"POST", vault + "/keys/o/create", `{"kty":"EC","crv":"P-224"}`, 400, "BadParameter"},
		"unknown op":        {"POST", vault + "/keys/o/create", `{"kty":"EC","key_ops":["encrypt"]}`, 400, "BadParameter"},
		"rng in a vault":    {"POST", vault + "/rng", `{"count":1}`, 400, "BadParameter"},
		"attest in a vault": {"GET", key["kid"].(string) + "/attestation", "", 400, "BadParameter"},
		"no such version":   {"GET", vault + "/keys/k/00000000000000000000000000000000", "", 404, "KeyNotFound"},
		"bad skip token":    {"GET", vault + "/keys?api-version=1&$skiptoken=x", "", 400, "BadParameter"},
		"import of nothing": {"PUT", vault + "/keys/i", `{"key":{"kty":"RSA"}}`, 400, "BadParameter"},
		"import of a point": {"PUT", vault + "/keys/i", `{"key":{"kty":"EC","crv":"P-256","d":"AA"}}`, 400, "BadParameter"},
		"too large":         {"POST", sign, strings.Repeat(" ", 2<<20), 413, "RequestEntityTooLarge"},
	} {
		status, _, answer := c.do(r.method, r.url, r.body)
		assert.Equal(t, r.status, status, name)
		assert.Equal(t, r.code, code(answer), name)
	}
	srv.Deny("sign")
	status, _, answer := c.do("POST", sign, `{"alg":"ES256","value":"`+digest+`"}`)
	assert.Equal(t, []any{403, "Forbidden/ForbiddenByRbac"}, []any{status, code(answer)})
	srv.Deny()
	status, _, answer = c.do("POST", vault+"/keys/K//sign", `{"alg":"ES256","value":"`+digest+`"}`)
	assert.Equal(t, 200, status, "the latest version, by a name in another case")
	assert.Equal(t, key["kid"], answer["kid"])
	assert.Len(t, answer["value"], 86)
}

// TestSoftDelete: delete, recover, purge.
func TestSoftDelete(t *testing.T) {
	srv := start(t, nil)
	c := connect(t, srv)
	c.create(vault, "k", `{"kty":"EC"}`)
	expect := func(method, path string, want int, wantCode string) {
		t.Helper()
		status, _, answer := c.do(method, vault+path, `{"kty":"EC"}`)
		assert.Equal(t, []any{want, wantCode}, []any{status, code(answer)}, "%s %s", method, path)
	}
	expect("DELETE", "/keys/k", 200, "")
	expect("GET", "/keys/k", 404, "KeyNotFound")
	expect("GET", "/deletedkeys/k", 200, "")
	expect("POST", "/keys/k/create", 409, "Conflict/ObjectIsDeletedButRecoverable")
	expect("POST", "/deletedkeys/k/recover", 200, "")
	expect("GET", "/keys/k", 200, "")
	expect("DELETE", "/keys/k", 200, "")
	expect("DELETE", "/deletedkeys/k", 200, "")
	expect("POST", "/keys/k/create", 200, "")
	expect("DELETE", "/keys/x", 404, "KeyNotFound")
	expect("DELETE", "/deletedkeys/x", 404, "KeyNotFound")
}

// TestFaults: what goes wrong before has no effect, and after has.
func TestFaults(t *testing.T) {
	srv := start(t, nil)
	c := connect(t, srv)
	exists := func(name string) bool {
		status, _, _ := c.do("GET", vault+"/keys/"+name, "")
		return status == 200
	}
	for _, after := range []bool{false, true} {
		name := map[bool]string{false: "before", true: "after"}[after]
		srv.Script.Add(fakecloud.Fault{Op: "create", After: after, Error: &fakeazure.Error{Status: 503, Code: "Busy"}})
		status, _, answer := c.do("POST", vault+"/keys/"+name+"/create", `{"kty":"EC"}`)
		assert.Equal(t, []any{503, "Busy"}, []any{status, code(answer)})
		assert.Equal(t, after, exists(name), name)

		srv.Script.Add(fakecloud.Fault{Op: "create", After: after, Drop: true})
		req, err := http.NewRequest("POST", vault+"/keys/drop-"+name+"/create?api-version=1", strings.NewReader(`{"kty":"EC"}`))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+c.token)
		_, err = c.http.Do(req)
		assert.Error(t, err)
		assert.Equal(t, after, exists("drop-"+name), name)
	}
	srv.Script.Add(fakecloud.Fault{Op: "get", Corrupt: func(a map[string]any) { a["key"].(map[string]any)["kid"] = "x" }})
	_, _, answer := c.do("GET", vault+"/keys/after", "")
	assert.Equal(t, "x", answer["key"].(map[string]any)["kid"])
	_, _, answer = c.do("GET", vault+"/keys/after", "")
	assert.NotEqual(t, "x", answer["key"].(map[string]any)["kid"], "the damage stayed")
	assert.Zero(t, srv.Script.Left())
}

// TestNoVault: hosts that no vault, login or identity has.
func TestNoVault(t *testing.T) {
	srv := start(t, nil)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(srv.Proxy(), "http://"), &tls.Config{InsecureSkipVerify: true})
	assert.Error(t, err, "the proxy's port speaks no TLS")
	if err == nil {
		conn.Close()
	}
	resp, err := srv.Client().Get("https://x.fakeazure.example/keys")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 404, resp.StatusCode)
	_, err = srv.Client().Get("https://other.example/")
	assert.Error(t, err, "the certificate is for everybody")
}

// TestClose: nothing is left of a fake, and its ports are free.
func TestClose(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	srv, err := fakeazure.New(nil)
	require.NoError(t, err)
	c := srv.Client()
	resp, err := c.Get(fakeazure.Authority + fakeazure.TenantID + "/discovery/v2.0/keys")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	require.NoError(t, srv.Close())
	require.NoError(t, srv.Close())
	goleak.VerifyNone(t, ignore)
	_, err = net.Dial("tcp", strings.TrimPrefix(srv.Proxy(), "http://"))
	assert.Error(t, err)
	_, err = c.Get(fakeazure.Authority)
	assert.Error(t, err)
}
