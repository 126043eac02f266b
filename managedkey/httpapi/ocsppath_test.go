package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/managedkey"
)

// responder answers with the path that it got. What is below "ocsp" is for everybody, if it is public.
type responder struct{ public bool }

func (*responder) Close() error { return nil }

func (p *responder) Public(method, path string) bool {
	return p.public && method == http.MethodGet && strings.HasPrefix(path, "ocsp/")
}

func (*responder) ServeHTTP(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }

// TestOCSPPath: base64 arrives at a responder as it was meant, however it was escaped, and nowhere else is anything taken that is
// not taken otherwise.
func TestOCSPPath(t *testing.T) {
	make := func(public bool) Engine {
		return func(context.Context, *managedkey.Mount) (Handler, error) { return &responder{public}, nil }
	}
	g := newRig(t, func(o *Options) { o.Engines = map[string]Engine{"pki": make(true), "kv": make(false)} })
	g.must(204, "POST", "/v1/sys/mounts/pki", `{"type":"pki"}`)
	g.must(204, "POST", "/v1/sys/mounts/kv", `{"type":"kv"}`)
	get := func(path, token string) (int, string) {
		r := httptest.NewRequest("GET", path, nil)
		if token != "" {
			r.Header.Set("X-Vault-Token", token)
		}
		w := httptest.NewRecorder()
		g.api.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for sent, want := range map[string]string{
		"MFow+A==": "MFow+A==", "MF//w/": "MF//w/", "MF%2F%2Fw%2f": "MF//w/", "a%2Bb%3D%3D": "a+b==", "a%252Bb": "a+b", "a-b_": "a-b_", "/MFow": "/MFow",
	} {
		status, body := get("/v1/pki/ocsp/"+sent, "")
		assert.Equal(t, 200, status, sent)
		assert.Equal(t, "/ocsp/"+want, body, sent)
	}
	for _, path := range []string{
		"/v1/pki/ocsp/..%2Fsecret", "/v1/pki/ocsp/a%00", "/v1/pki/ocsp/a%5Cb", "/v1/pki/ocsp/a/../b", "/v1/pki/x//ocsp/MFow%2F", "/v1/pki%2Focsp/MFow%2F",
		"/v1/pki/x/ocsp/MFow%2F", "/v1/none/ocsp/MFow%2F", "/v1/sys/ocsp/MFow%2F", "/ocsp/MFow%2F", "/v1/pki/ocsp/" + strings.Repeat("A%2F", maxPath),
		"/v1/kv/ocsp/MFow%2F", "/v1/kv/ocsp/MF//w", "/v1/pki/ocsp/MFow%2F?list=true",
	} {
		status, body := get(path, rootToken)
		assert.Contains(t, []int{400, 404, 414}, status, path)
		assert.NotEqual(t, byte('/'), body[0], path)
	}
	status, _ := get("/v1/kv/ocsp/MFow", "")
	assert.Equal(t, 403, status)
	_, body := get("/v1/kv/ocsp/MFow/", rootToken)
	assert.Equal(t, "/ocsp/MFow", body, "an engine that publishes nothing gets paths as ever")
}

// TestGuarded, with an engine whose path takes sudo.
func TestGuarded(t *testing.T) {
	g := newRig(t, func(o *Options) {
		o.Engines = map[string]Engine{"pki": func(context.Context, *managedkey.Mount) (Handler, error) { return guarded{}, nil }}
		o.Authorizer = mustPolicies(t, Policy{Name: "reader", Rules: []Rule{{Path: "pki/*", Capabilities: []string{"update", "patch", "delete"}}}})
	})
	g.must(204, "POST", "/v1/sys/mounts/pki", `{"type":"pki"}`)
	assert.Equal(t, 403, g.do("DELETE", "/v1/pki/root", readerToken, "").status)
	assert.Equal(t, 204, g.do("DELETE", "/v1/pki/role", readerToken, "").status)
	g.must(204, "DELETE", "/v1/pki/root", "")
	assert.Equal(t, 204, g.do("PATCH", "/v1/pki/role", readerToken, `{"a":"b"}`, "Content-Type", "application/merge-patch+json").status)
	assert.Equal(t, 415, g.do("POST", "/v1/pki/role", readerToken, `{"a":"b"}`, "Content-Type", "application/merge-patch+json").status)
}

type guarded struct{}

func (guarded) Close() error                  { return nil }
func (guarded) Sudo(method, path string) bool { return path == "root" }
func (guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f, err := ReadFields(r); err != nil {
		WriteError(w, r, err)
		return
	} else if f.Has("a") != (r.Method == http.MethodPatch) {
		panic("the field is not where it was sent")
	}
	WriteData(w, r, nil)
}
