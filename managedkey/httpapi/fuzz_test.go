package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// fuzzTarget returns an API with a mount and a key, to be asked without a network.
func fuzzTarget(f *testing.F) *API {
	b := software.New(nil)
	st := memory.New(nil)
	keys, err := managedkey.Open(f.Context(), st, []managedkey.Connection{{Backend: b}}, nil)
	if err != nil {
		f.Fatal(err)
	}
	tokens, err := NewTokens(Token{SHA256: HashToken(rootToken), Policies: []string{RootPolicy}}, Token{SHA256: HashToken(teamToken), Namespace: "team-a", Policies: []string{RootPolicy}})
	if err != nil {
		f.Fatal(err)
	}
	api, err := New(keys, &Options{Authenticator: tokens, Authorizer: mustPolicies(f), Engines: map[string]Engine{"signer": newSigner}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		api.Close()
		keys.Close()
		st.Close()
		b.Close()
	})
	for path, body := range map[string]string{keyPath + "ca": ecdsaKey("ca"), "/v1/sys/mounts/signer": `{"type":"signer"}`} {
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		r.Header.Set("X-Vault-Token", rootToken)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if w.Code != http.StatusNoContent {
			f.Fatal(w.Code, w.Body)
		}
	}
	return api
}

// ask makes a request and checks what holds of every answer.
func ask(t *testing.T, api *API, method, path, token, ns string, body []byte) *httptest.ResponseRecorder {
	r := &http.Request{Method: method, URL: &url.URL{Path: path}, Header: http.Header{}, RemoteAddr: "192.0.2.1:1", ProtoMajor: 1, ProtoMinor: 1}
	if raw, query, ok := strings.Cut(path, "?"); ok {
		r.URL.Path, r.URL.RawQuery = raw, query
	}
	if raw := r.URL.Path; strings.Contains(raw, "%") {
		if parsed, err := url.PathUnescape(raw); err == nil {
			r.URL.Path, r.URL.RawPath = parsed, raw
		}
	}
	r.Header.Set("X-Vault-Token", token)
	if ns != "" {
		r.Header.Set("X-Vault-Namespace", ns)
	}
	r.Body, r.ContentLength = http.NoBody, 0
	if body != nil {
		r = r.Clone(t.Context())
		b := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Body, r.ContentLength = b.Body, b.ContentLength
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	switch {
	case w.Code >= 300 && w.Code < 400 || w.Code < 200:
		t.Fatalf("%s %q: status %d", method, path, w.Code)
	case w.Code == 500 && !strings.HasSuffix(path, "/panic") && !strings.HasSuffix(path, "/half"):
		t.Fatalf("%s %q: %s", method, path, w.Body)
	case w.Code == http.StatusNoContent:
		if w.Body.Len() > 0 {
			t.Fatalf("%s %q: 204 with a body", method, path)
		}
	case !json.Valid(w.Body.Bytes()):
		t.Fatalf("%s %q: %s", method, path, w.Body)
	}
	if strings.Contains(w.Body.String(), rootToken) && !strings.Contains(path, rootToken) {
		t.Fatalf("%s %q: the token is in the answer", method, path)
	}
	return w
}

// FuzzRouter: whatever path, namespace and method: an answer, never a redirect nor a panic; and who is confined to a namespace gets
// nothing that isn't in it.
func FuzzRouter(f *testing.F) {
	api := fuzzTarget(f)
	for _, path := range []string{"/v1/sys/mounts", keyPath + "ca", "/v1/sys/managed-keys/software?list=true&limit=1", "/v1/signer/sign/ca", "/v1/team-a/sys/mounts",
		"/v1/sys/internal/ui/mounts/signer/x", "/v1/sys/mounts/%2e%2e", "/v1//sys", "/", "", "/v1/sys/mounts/a/tune", "/v1/sys/remount/status/x", "/v1/sys/health?activecode=200"} {
		f.Add("GET", path, "team-a")
		f.Add("LIST", path, "")
	}
	f.Fuzz(func(t *testing.T, method, path, ns string) {
		if len(path) > 5000 || strings.HasSuffix(path, "/wait") {
			return
		}
		if method != http.MethodGet && method != "LIST" && method != http.MethodHead {
			method = http.MethodGet
		}
		if strings.HasPrefix(path, "/v1/signer/") {
			return // is the engine's
		}
		ask(t, api, method, path, rootToken, ns, nil)
		w := ask(t, api, method, path, teamToken, ns, nil)
		if w.Code == http.StatusOK && strings.Contains(w.Body.String(), `"key_name":"ca"`) {
			t.Fatalf("%q in %q: a key of the root is shown to team-a", path, ns)
		}
		ask(t, api, method, path, "", ns, nil)
	})
}

// FuzzBodies: whatever body: a key, mount or namespace is made as it says or not at all.
func FuzzBodies(f *testing.F) {
	api := fuzzTarget(f)
	paths := []string{keyPath + "fuzz", keyPath + "ca/test/sign", "/v1/sys/mounts/fuzz", "/v1/sys/mounts/signer/tune", "/v1/sys/remount",
		"/v1/sys/namespaces/fuzz", "/v1/sys/capabilities-self", "/v1/auth/token/lookup-self", "/v1/signer/sign/ca"}
	for i, body := range []string{ecdsaKey("fuzz"), `{"use_pss":false,"hash_algorithm":"sha2-256"}`, `{"type":"signer","config":{"allowed_managed_keys":["ca"],"max_lease_ttl":"1h"},"options":{"a":"b"}}`,
		`{"description":"x","allowed_managed_keys":"","default_lease_ttl":"30d"}`, `{"from":"none","to":"b"}`, `{"custom_metadata":null}`, `{"paths":["a"],"path":"b"}`, `{"token":""}`, `{"input":"x"}`} {
		f.Add(uint8(i), []byte(body))
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		path := paths[int(which)%len(paths)]
		if path == paths[4] && bytes.Contains(body, []byte("sign")) {
			return // the other paths are to stay where they are
		}
		w := ask(t, api, http.MethodPost, path, rootToken, "", body)
		if strings.HasSuffix(path, "/fuzz") {
			there := ask(t, api, http.MethodGet, path, rootToken, "", nil).Code == http.StatusOK
			if there != (w.Code < 300) {
				t.Fatalf("%s %q: status %d, there: %t", path, body, w.Code, there)
			}
			ask(t, api, http.MethodDelete, path, rootToken, "", nil)
		}
	})
}

// FuzzFields: what is read is what encoding/json reads, or an error that shows no value.
func FuzzFields(f *testing.F) {
	f.Add([]byte(`{"s":"x","b":"true","i":"5","d":"30d","l":"a,b","m":{"a":"b"},"o":{"s":"y"},"u":false}`))
	f.Add([]byte(`{"d":"9223372036854775807h","i":1e9,"l":[1]}`))
	f.Add([]byte(`{"d":-1,"m":{"a":1},"o":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fields, err := parseFields(data)
		if err != nil {
			return
		}
		var s, inner string
		var b bool
		var i int
		var d time.Duration
		var l []string
		var m map[string]string
		fields.String("s", &s)
		fields.Bool("b", &b)
		fields.Int("i", &i)
		fields.Duration("d", &d)
		fields.Strings("l", &l)
		fields.Map("m", &m)
		o := fields.Object("o")
		o.String("s", &inner)
		fields.Join("o", o)
		fields.Unset("u")
		if fields.Done() != nil {
			return
		}
		var plain struct {
			S *string
			M map[string]string
		}
		if err := json.Unmarshal(data, &plain); err == nil && plain.S != nil && *plain.S != s && !strings.Contains(string(data), `"S"`) {
			t.Fatalf("%q: got %q", data, s)
		}
		if d < 0 || d > maxTTL {
			t.Fatalf("%q: %v", data, d)
		}
	})
}
