package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// rig is a server with a configuration file.
type rig struct {
	*testing.T
	folder, address string
	authority       *x509.Certificate
	key             *ecdsa.PrivateKey

	mu    sync.Mutex
	lines []string
	end   func() error
}

// newRig makes what a configuration file refers to: authority.pem, server.pem and server.key, audit.key and pass.
func newRig(t *testing.T) *rig {
	t.Helper()
	g := &rig{T: t, folder: t.TempDir()}
	var err error
	g.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, g.key.Public(), g.key)
	require.NoError(t, err)
	g.authority, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	g.write("authority.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	g.issue("server", 2)
	g.write("audit.key", strings.Repeat("k", 32))
	g.write("pass", "pass")
	return g
}

func (g *rig) path(name string) string { return filepath.Join(g.folder, name) }

func (g *rig) write(name, text string) {
	g.Helper()
	require.NoError(g, os.WriteFile(g.path(name), []byte(text), 0o600))
}

// issue makes the certificate NAME.pem and NAME.key, for the address and the DNS name NAME.example.
func (g *rig) issue(name string, serial int64) tls.Certificate {
	g.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(g, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name + ".example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, g.authority, key.Public(), g.key)
	require.NoError(g, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(g, err)
	g.write(name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	g.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// start runs the server with what is in server.hcl.
func (g *rig) start() {
	g.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, flags{config: g.path("server.hcl")}, nil, out)
		out.Close()
		ended <- err
	}()
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(in); lines.Scan(); {
			g.mu.Lock()
			g.lines = append(g.lines, lines.Text())
			g.mu.Unlock()
		}
	}()
	var once sync.Once
	var err error
	g.end = func() error {
		once.Do(func() { cancel(); err = <-ended; <-read })
		return err
	}
	g.Cleanup(func() { g.end() })
	g.wait("Listening on", 1)
	for _, line := range g.output() {
		if _, rest, ok := strings.Cut(line, "Listening on https://"); ok {
			g.address = rest
		}
	}
}

// output returns the lines that the server has written so far.
func (g *rig) output() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.lines)
}

// count returns how many lines of the output have the text.
func (g *rig) count(text string) (n int) {
	for _, line := range g.output() {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// wait waits until so many lines of the output have the text.
func (g *rig) wait(text string, n int) {
	g.Helper()
	for end := time.Now().Add(30 * time.Second); g.count(text) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			g.Fatalf("%q has not come %d times: %q", text, n, g.output())
		}
	}
}

// hangup has the server read its file again, and waits until it says so.
func (g *rig) hangup(answer string) {
	g.Helper()
	before := g.count(answer)
	self, err := os.FindProcess(os.Getpid())
	require.NoError(g, err)
	require.NoError(g, self.Signal(syscall.SIGHUP))
	g.wait(answer, before+1)
}

// client returns a client that trusts the authority, perhaps with a certificate.
func (g *rig) client(keepAlive bool, certs ...tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(g.authority)
	transport := &http.Transport{DisableKeepAlives: !keepAlive, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs}}
	g.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// ask makes a request; token may be empty.
func (g *rig) ask(c *http.Client, method, path, token string) (status int, text string, err error) {
	r, err := http.NewRequest(method, "https://"+g.address+"/v1/"+path, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		r.Header.Set("X-Vault-Token", token)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// hash is for token_sha256.
func hash(token string) string { return httpapi.HashToken(token) }
