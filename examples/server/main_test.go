package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs the server, and returns its address, its token and what ends it.
func start(t *testing.T, f flags) (address, token string, end func() error) {
	t.Helper()
	f.dev = true
	if f.listen == "" {
		f.listen = "127.0.0.1:0"
	}
	ctx, cancel := context.WithCancel(context.Background())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, f, nil, out)
		out.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(in)
	token = f.token
	for (address == "" || token == "") && lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "http://"); ok {
			address = rest
		}
		if _, rest, ok := strings.Cut(lines.Text(), "Root token: "); ok {
			token = rest
		}
	}
	go io.Copy(io.Discard, in)
	var once sync.Once
	var err error
	end = func() error {
		once.Do(func() { cancel(); err = <-ended })
		return err
	}
	t.Cleanup(func() { end() })
	require.NotEmpty(t, address)
	return address, token, end
}

// TestReadme runs the commands of the README.
func TestReadme(t *testing.T) {
	requires.Tool(t, "curl", "curl")
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)## Serve the HTTP API.*?```sh\n(go run ./examples/server -dev[^\n]*\n)(.*?)```").FindSubmatch(readme)
	require.NotNil(t, block)
	assert.Equal(t, "go run ./examples/server -dev -listen 127.0.0.1:8200 -token demo &\n", string(block[1]))
	address, _, _ := start(t, flags{token: "demo"})
	script := strings.ReplaceAll(string(block[2]), "127.0.0.1:8200", address)
	require.Contains(t, script, address)
	var errs bytes.Buffer
	sh := exec.CommandContext(t.Context(), "sh", "-e", "-c", script)
	sh.Stderr = &errs
	text, err := sh.Output()
	require.NoError(t, err, "%s", errs.String())
	assert.Contains(t, string(text), `"keys":["ca"]`)
	assert.Contains(t, string(text), `"allowed_managed_keys":["ca"]`)
	assert.NotContains(t, string(text), `"errors"`)

	requires.Tool(t, "openssl", "openssl")
	more := regexp.MustCompile("(?s)### Over HTTP.*?```sh\n(.*?)```").FindSubmatch(readme)
	require.NotNil(t, more)
	setup := regexp.MustCompile("(?m)^api=.*$").Find([]byte(script))
	require.NotNil(t, setup)
	sh = exec.CommandContext(t.Context(), "sh", "-e", "-c", string(setup)+"\n"+string(more[1]))
	sh.Dir, sh.Stderr = t.TempDir(), &errs
	text, err = sh.Output()
	require.NoError(t, err, "%s", errs.String())
	assert.Contains(t, string(text), "Superseded")
}

// TestModule: keys on a token, by a stock client, with the token that the server printed.
func TestModule(t *testing.T) {
	hsm := softhsm.Require(t)
	var list modules
	require.Error(t, list.Set("no name"))
	require.NoError(t, list.Set("hsm1="+hsm.Module))
	address, token, end := start(t, flags{pkcs11: list})
	config := vault.DefaultConfig()
	config.Address = "http://" + address
	c, err := vault.NewClient(config)
	require.NoError(t, err)
	defer config.HttpClient.CloseIdleConnections()
	c.SetToken(token)
	self, err := c.Auth().Token().LookupSelf()
	require.NoError(t, err)
	id, err := self.TokenID()
	require.NoError(t, err)
	assert.Equal(t, token, id, "vault login keeps it")
	_, err = c.Logical().Write("sys/managed-keys/pkcs11/server", map[string]any{"library": "hsm1", "slot": hsm.Slot, "pin": hsm.PIN,
		"key_label": "server", "mechanism": "0x1041", "curve": "P256", "allow_generate_key": true})
	require.NoError(t, err)
	_, err = c.Logical().Write("sys/managed-keys/pkcs11/server/test/sign", nil)
	require.NoError(t, err)
	for _, kind := range []string{"pki", "transit"} {
		require.NoError(t, c.Sys().Mount(kind, &vault.MountInput{Type: kind}))
	}
	require.NoError(t, end())
	_, err = c.Auth().Token().LookupSelf()
	require.Error(t, err)
}

// TestShutdown: a request that is under way when the server is told to end gets its answer.
func TestShutdown(t *testing.T) {
	address, _, end := start(t, flags{token: "demo"})
	in, out := io.Pipe()
	r, err := http.NewRequest("POST", "http://"+address+"/v1/sys/managed-keys/software/ca", in)
	require.NoError(t, err)
	r.Header.Set("X-Vault-Token", "demo")
	r.Header.Set("Expect", "100-continue") // the body is asked for once the request is under way
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute, DisableKeepAlives: true}}
	answered := make(chan int, 1)
	go func() {
		resp, err := client.Do(r)
		if !assert.NoError(t, err) {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	_, err = io.WriteString(out, `{"key_name":"ca","key_type":`)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	require.Eventually(t, func() bool { // no more are taken
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + address + "/v1/sys/health")
		if err == nil {
			resp.Body.Close()
		}
		return err != nil
	}, 30*time.Second, time.Millisecond)
	_, err = io.WriteString(out, `"ED25519"}`)
	require.NoError(t, err)
	out.Close()
	assert.Equal(t, 204, <-answered)
	assert.NoError(t, <-ended)
}

func TestRefusals(t *testing.T) {
	assert.Error(t, run(t.Context(), flags{}, nil, io.Discard))
	assert.Error(t, run(t.Context(), flags{dev: true}, []string{"x"}, io.Discard))
	assert.Error(t, run(t.Context(), flags{dev: true, listen: "nowhere"}, nil, io.Discard))
	assert.Error(t, run(t.Context(), flags{dev: true, listen: "127.0.0.1:0", pkcs11: modules{{"hsm1", "/none.so"}}}, nil, io.Discard))
}
