package httpapi

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// raw sends exactly these bytes, and returns the status of the answer and the answer.
func (g *rig) raw(request string) (int, string) {
	g.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	require.NoError(g, err)
	defer conn.Close()
	require.NoError(g, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, request)
	require.NoError(g, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(g, err, request)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(g, err)
	return resp.StatusCode, string(text)
}

// untouched is what a test of refusals checks: nothing was made, and what was there is there.
func untouched(g *rig) func() {
	g.must(204, "POST", keyPath+"there", ecdsaKey("there"))
	g.must(204, "POST", "/v1/sys/mounts/pki", `{"type":"pki"}`)
	before := g.must(200, "GET", keyPath+"there", "").data
	return func() {
		g.Helper()
		assert.Equal(g, before, g.must(200, "GET", keyPath+"there", "").data)
		assert.Equal(g, []any{"there"}, g.must(200, "LIST", "/v1/sys/managed-keys/software", "").data["keys"])
		assert.Len(g, g.must(200, "GET", "/v1/sys/mounts", "").data, 1)
		g.must(404, "LIST", "/v1/sys/namespaces", "")
	}
}

// TestPathTricks: paths that somebody else could read otherwise are refused, and never redirected.
func TestPathTricks(t *testing.T) {
	g := newRig(t, nil)
	defer untouched(g)()
	for _, path := range []string{
		"/v1/sys/managed-keys/software/../software/there", "/v1/../v1/sys/mounts", "/v1/sys/mounts/..", "/v1/sys/./mounts", "/v1/..",
		"/v1/sys/managed-keys/software/%2e%2e/x", "/v1/sys/%2E/mounts", "/v1//sys/mounts", "//v1/sys/mounts", "/v1/sys//mounts", "/v1/sys/mounts//",
		"/v1/sys%2fmounts", "/v1/sys%2Fmounts", "/v1/sys/mounts%00", "/v1/sys/mounts/%00", "/v1/sys/mounts%5c..", `/v1/sys/mounts\..`,
		"/v1/sys/mounts/%252e%252e", "/v1/sys/mounts/%0d%0aX-Vault-Token:x", "/v1/sys/mounts/%ff", "/v1/sys/mounts/%c0%ae", "/v1/sys/mounts/%7f",
		"/v1/pki/../sys/mounts", "/v1/pki//sys/mounts",
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			length := ""
			if method == "POST" {
				length = "Content-Length: 0\r\n"
			}
			status, text := g.raw(method + " " + path + " HTTP/1.1\r\nHost: x\r\nX-Vault-Token: " + rootToken + "\r\n" + length + "Connection: close\r\n\r\n")
			assert.Equal(t, http.StatusBadRequest, status, "%s %s: %s", method, path, text)
		}
	}
	for _, path := range []string{"/V1/sys/mounts", "/v2/sys/mounts", "/sys/mounts", "/v1sys/mounts", "/v1/SYS/mounts", "/v1/sys/Mounts", "/v1/sys;x/mounts"} {
		status, _ := g.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nX-Vault-Token: " + rootToken + "\r\nConnection: close\r\n\r\n")
		assert.Equal(t, http.StatusNotFound, status, path)
	}
	a := g.do("GET", "/v1/sys/mounts/"+strings.Repeat("a", maxPath), rootToken, "")
	assert.Equal(t, http.StatusRequestURITooLong, a.status)
	assert.Less(t, len(a.text), 1000)
	a = g.do("GET", "/v1/"+strings.Repeat("a/", 500)+"x", rootToken, "")
	assert.Equal(t, 404, a.status)
	assert.Less(t, len(a.text), 1000)
	status, _ := g.raw("GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 64<<10) + "\r\n\r\n")
	assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, status)
	status, _ = g.raw("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	assert.Less(t, status, 500)
	status, _ = g.raw("CONNECT x:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	assert.Equal(t, 400, status)
}

// TestForgedHeaders: headers that say what can't be, or twice.
func TestForgedHeaders(t *testing.T) {
	g := newRig(t, func(o *Options) { o.RequireRequestHeader = true })
	g.client.Transport = adds{g.client.Transport, "X-Vault-Request", "true"}
	defer untouched(g)()
	post := func(want int, token string, header ...string) {
		t.Helper()
		a := g.do("POST", keyPath+"new", token, ecdsaKey("new"), header...)
		assert.Equal(t, want, a.status, "%s %s", header, a.text)
		assert.NotContains(t, a.text, "goroutine")
	}
	for _, ns := range []string{"Team", "../x", "team-a/..", "a//b", "sys", "auth", "a/sys", strings.Repeat("a/", 600) + "a", "%74eam-a", "team_a/\tb"} {
		post(400, rootToken, "X-Vault-Namespace", ns)
		a := g.do("GET", "/v1/sys/mounts", teamToken, "", "X-Vault-Namespace", ns)
		assert.Equal(t, 400, a.status, ns)
	}
	post(400, rootToken, "X-Vault-Namespace", "a", "X-Vault-Namespace", "b")
	post(403, teamToken)
	post(403, teamToken, "X-Vault-Namespace", "root")
	post(403, teamToken, "X-Vault-Namespace", "team-b")
	post(403, teamToken, "X-Vault-Namespace", "team-ab")
	assert.Equal(t, 403, g.do("POST", "/v1/team-b/sys/managed-keys/software/x", teamToken, ecdsaKey("x")).status)
	post(400, rootToken, "X-Vault-Wrap-TTL", "60")
	post(400, rootToken, "X-Vault-Wrap-TTL", "0", "X-Vault-Wrap-TTL", "60")
	post(204, teamToken, "X-Vault-Namespace", "team-a", "X-Vault-Wrap-TTL", "0")
	assert.Equal(t, 204, g.do("DELETE", "/v1/team-a/sys/managed-keys/software/new", teamToken, "").status)
	post(400, rootToken, "X-Vault-Token", "other")
	post(415, rootToken, "Content-Type", "text/plain")
	post(415, rootToken, "Content-Type", "multipart/form-data; boundary=x")
	post(415, rootToken, "Content-Type", "application/json; charset=utf-16")
	post(415, rootToken, "Content-Type", ";;;")
	post(415, rootToken, "Content-Encoding", "gzip")
	a := g.do("POST", keyPath+"new", rootToken, "key_name=new", "Content-Type", "application/x-www-form-urlencoded")
	assert.Equal(t, 415, a.status)
	assert.Equal(t, 400, g.do("GET", keyPath+"there", rootToken, "{}").status)
	assert.Equal(t, 400, g.do("DELETE", keyPath+"there", rootToken, "{}").status)
	a = g.do("POST", keyPath+"there", rootToken, ecdsaKey("there"), "Content-Type", "application/x-www-form-urlencoded")
	assert.Equal(t, 204, a.status, "what curl -d sends")

	g.client.Transport = g.client.Transport.(adds).RoundTripper
	assert.Equal(t, 412, g.do("GET", "/v1/sys/mounts", rootToken, "").status)
	assert.Equal(t, 400, g.do("GET", "/v1/sys/mounts", rootToken, "", "X-Vault-Request", "false").status)
	g.client.Transport = adds{g.client.Transport, "X-Vault-Request", "true"}
}

// adds is a RoundTripper that adds a header to those that have none of the name.
type adds struct {
	http.RoundTripper
	name, value string
}

func (a adds) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get(a.name) == "" {
		r = r.Clone(r.Context())
		r.Header.Set(a.name, a.value)
	}
	return a.RoundTripper.RoundTrip(r)
}

func (a adds) CloseIdleConnections() { a.RoundTripper.(*http.Transport).CloseIdleConnections() }

// TestBodies: bodies that are too long, too deep, cut off or no JSON.
func TestBodies(t *testing.T) {
	g := newRig(t, nil)
	defer untouched(g)()
	head := "POST " + keyPath + "new HTTP/1.1\r\nHost: x\r\nX-Vault-Token: " + rootToken + "\r\n"
	status, _ := g.raw(head + "Content-Length: 104857600\r\n\r\n{")
	assert.Equal(t, 413, status, "without reading it")
	r, err := http.NewRequest("POST", g.url+keyPath+"new", io.MultiReader(strings.NewReader(`{"a":"`), io.LimitReader(letters{}, 100<<20)))
	require.NoError(t, err)
	r.Header.Set("X-Vault-Token", rootToken)
	if resp, err := g.client.Do(r); err == nil { // or the connection is closed before the answer is read
		assert.Equal(t, 413, resp.StatusCode)
		resp.Body.Close()
	}
	deep := strings.Repeat("[", 30000)
	for body, want := range map[string]string{
		`{"a":` + deep + "}": "nested too deep",
		deep:                 "nested too deep",
		`{"a":1,"a":2}`:      "given twice",
		`{"key_name":"new","key_name":"new","key_type":"ECDSA","curve":"P256"}`: "given twice",
		`{"key_name":"new"} trailing`:                                           "one JSON object",
		"\xff\xfe{}":                                                            "one JSON object",
		`{"config":null}`:                                                       "config",
	} {
		a := g.must(400, "POST", keyPath+"new", body)
		assert.Contains(t, a.errors[0], want)
		assert.Less(t, len(a.text), 1000)
	}
	status, _ = g.raw(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n")
	assert.Equal(t, 400, status)
	status, _ = g.raw(head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	assert.Less(t, status, 500)
	status, _ = g.raw(head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}")
	assert.Equal(t, 400, status)
	a := g.must(400, "POST", keyPath+"new", `{"key_name":"hunter2\u0000","key_type":"hunter2`)
	assert.NotContains(t, a.text, "hunter2")
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte("x"), len(p)))
	return len(p), nil
}

// TestSlowClients: a client that sends nothing, or a body by drops, is cut off.
func TestSlowClients(t *testing.T) {
	g := newRig(t, nil)
	server := NewServer(g.api, nil)
	assert.NotZero(t, server.ReadHeaderTimeout)
	server.ReadHeaderTimeout, server.ReadTimeout = 100*time.Millisecond, 200*time.Millisecond
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() { server.Close(); <-served }()
	for _, begin := range []string{
		"", "GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nX-",
		"POST " + keyPath + "new HTTP/1.1\r\nHost: x\r\nX-Vault-Token: " + rootToken + "\r\nContent-Length: 50\r\n\r\n{",
	} {
		conn, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = io.WriteString(conn, begin)
		require.NoError(t, err)
		text, err := io.ReadAll(conn)
		require.NoError(t, err, "the server closes the connection")
		if strings.HasPrefix(begin, "POST") {
			assert.Contains(t, string(text), "408")
		}
		conn.Close()
	}
	g.must(404, "GET", keyPath+"new", "")
}

// TestLimits: too many requests, of one client and of all, are refused; sys/health answers all the same.
func TestLimits(t *testing.T) {
	g := newRig(t, func(o *Options) {
		o.Limits = Limits{Concurrent: 2, Timeout: time.Second, ClientRate: 0.001, ClientBurst: 8, Body: 64,
			ClientAddress: func(r *http.Request) string { return r.Header.Get("X-Client") }}
	})
	m := `{"type":"signer"}`
	g.must(204, "POST", "/v1/sys/mounts/signer", m)
	assert.Equal(t, 413, g.do("POST", "/v1/sys/mounts/x", rootToken, `{"type":"signer","description":"`+strings.Repeat("x", 64)+`"}`).status)
	var waiting sync.WaitGroup
	for i := range 2 {
		waiting.Go(func() {
			a := g.do("GET", "/v1/signer/wait", rootToken, "", "X-Client", fmt.Sprint("w", i))
			assert.Equal(t, 503, a.status)
			assert.Equal(t, "1", a.header.Get("Retry-After"))
		})
	}
	require.Eventually(t, func() bool { return len(g.api.slots) == 2 }, 30*time.Second, time.Millisecond)
	assert.Equal(t, 503, g.do("GET", "/v1/sys/mounts", rootToken, "", "X-Client", "b").status)
	assert.Equal(t, 200, g.do("GET", "/v1/sys/health", "", "", "X-Client", "b").status)
	waiting.Wait()
	assert.Equal(t, 200, g.do("GET", "/v1/sys/mounts", rootToken, "", "X-Client", "b").status)
	for range 8 {
		g.do("GET", "/v1/sys/mounts", rootToken, "", "X-Client", "c")
	}
	a := g.do("GET", "/v1/sys/mounts", rootToken, "", "X-Client", "c")
	assert.Equal(t, http.StatusTooManyRequests, a.status)
	assert.Equal(t, 200, g.do("GET", "/v1/sys/mounts", rootToken, "", "X-Client", "d").status, "another client")
}

// TestRates: memory is bounded whoever asks, and IPv6 clients are their /64.
func TestRates(t *testing.T) {
	r := newRates(Limits{ClientRate: 0.001, ClientBurst: 1})
	assert.True(t, r.allow("2001:db8::1"))
	assert.False(t, r.allow("2001:db8::2"))
	assert.True(t, r.allow("2001:db8:0:1::1"))
	for i := range 3 * maxClients {
		r.allow(fmt.Sprint("client ", i))
	}
	assert.LessOrEqual(t, len(r.now)+len(r.old), 2*maxClients)
	assert.True(t, (&rates{}).allow("x"), "no limit")
}
