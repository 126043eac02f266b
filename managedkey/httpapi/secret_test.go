package httpapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TestNoSecrets: a PIN is in no answer and in no log, whether it is right, wrong, or the request that has it is.
func TestNoSecrets(t *testing.T) {
	token := softhsm.Require(t)
	b, err := pkcs11.New(pkcs11.Library{Name: "hsm1", Path: token.Module})
	require.NoError(t, err)
	defer b.Close()
	g := newRig(t, nil, managedkey.Connection{Backend: b})
	wrong := "hunter2-wrong"
	var texts []string
	at := "/v1/sys/managed-keys/pkcs11/"
	for name, change := range map[string]map[string]any{
		"right": {}, "wrong": {"pin": wrong}, "unknown": {"slt": 1}, "curve": {"curve": wrong}, "number": {"pin": 12345678}, "list": {"pin": []string{wrong}},
		"both": {"pin": wrong, "key_label": strings.Repeat("x", 70000)},
	} {
		fields := map[string]any{"library": "hsm1", "slot": token.Slot, "pin": token.PIN, "key_label": "no-secrets", "mechanism": "0x1041", "curve": "P256", "allow_generate_key": true}
		for field, value := range change {
			fields[field] = value
		}
		body, err := json.Marshal(fields)
		require.NoError(t, err)
		texts = append(texts, g.do("POST", at+name, rootToken, string(body)).text,
			g.do("POST", at+name, rootToken, string(body)+"}").text,
			g.do("POST", at+name+"/test/sign", rootToken, string(body)).text,
			g.do("GET", at+name, rootToken, "").text,
			g.do("POST", "/v1/sys/mounts/"+name, rootToken, string(body)).text)
		if name != "curve" && name != "wrong" { // one wrong try is enough
			texts = append(texts, g.do("POST", at+name+"/test/sign", rootToken, "").text)
		}
	}
	g.must(204, "POST", at+"right/test/sign", "")
	refused := g.do("POST", at+"wrong/test/sign", rootToken, "")
	assert.Equal(t, http.StatusBadGateway, refused.status, refused.text)
	all := strings.Join(append(texts, refused.text, g.log.String()), "\n")
	assert.NotContains(t, all, token.PIN)
	assert.NotContains(t, strings.ReplaceAll(all, `field \"curve\"`, ""), `"pin":"hunter2`)
	assert.NotContains(t, refused.text+g.log.String(), wrong)
	assert.NotContains(t, all, "12345678")
	assert.Contains(t, all, `"pin":"redacted"`)
}

// TestHTTP2: the server that NewServer makes speaks it over TLS, and refuses old versions of TLS.
func TestHTTP2(t *testing.T) {
	g := newRig(t, nil)
	cert := newAuthority(t).client(func(c *x509.Certificate) { c.DNSNames = []string{"localhost"}; c.ExtKeyUsage = nil })
	server := NewServer(g.api, &tls.Config{Certificates: []tls.Certificate{cert}})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	defer func() { server.Close(); <-served }()
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	resp, err := client.Get("https://" + listener.Addr().String() + "/v1/sys/health")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 2, resp.ProtoMajor)
	assert.Equal(t, 200, resp.StatusCode)
	_, err = tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11})
	require.Error(t, err)
}

// TestMakerPanics: an engine that panics when it is made holds nothing up.
func TestMakerPanics(t *testing.T) {
	var panics atomic.Bool
	panics.Store(true)
	g := newRig(t, func(o *Options) {
		o.Engines = map[string]Engine{
			"signer": func(ctx context.Context, m *managedkey.Mount) (Handler, error) {
				if panics.Load() {
					panic("hunter2")
				}
				return newSigner(ctx, m)
			},
			"none": func(context.Context, *managedkey.Mount) (Handler, error) { return nil, nil },
		}
	})
	g.must(204, "POST", "/v1/sys/mounts/signer", `{"type":"signer"}`)
	g.must(500, "GET", "/v1/signer/who", "")
	panics.Store(false)
	g.must(200, "GET", "/v1/signer/who", "")
	g.must(204, "POST", "/v1/sys/mounts/none", `{"type":"none"}`)
	g.must(500, "GET", "/v1/none/who", "")
	assert.NotContains(t, g.log.String(), "hunter2")
}

// TestDependencies: whoever serves the API links no key manager, store or client that they don't use.
func TestDependencies(t *testing.T) {
	goTool := requires.Tool(t, "go", "go")
	const module = "github.com/managedkeys/managedkeys/"
	out, err := exec.CommandContext(t.Context(), goTool, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module+"managedkey/httpapi").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, module+"managedkey")
	for _, dep := range deps {
		switch {
		case strings.HasPrefix(dep, "filippo.io/mldsa"), strings.HasPrefix(dep, "github.com/decred/dcrd/dcrec/secp256k1/"), dep == "github.com/google/uuid", dep == "golang.org/x/time/rate":
		case dep == module+"namespace", dep == module+"backend", dep == module+"internal/nearest", dep == module+"internal/regularfile", dep == module+"internal/strictjson", dep == module+"managedkey", dep == module+"managedkey/store", dep == module+"managedkey/httpapi":
		default:
			t.Errorf("httpapi depends on %s", dep)
		}
	}
}
