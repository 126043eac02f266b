// Package fakeazure is a fake of Azure Key Vault, of Managed HSM and of the Entra ID that guards them, for tests and
// examples. It speaks their HTTP APIs over TLS on a loopback address, under the hosts' true names: a client keeps its
// vault URL, its authority and every check that it makes of them, and only dials elsewhere, with [Server.DialContext] or
// through [Server.Proxy].
//
// Every host <name>.vault.azure.net, <name>.managedhsm.azure.net and their like of the other clouds is a vault of its own,
// which is there from the first request on. Requests need an access token that the fake's own Entra ID has signed for the
// right resource. Cryptography is real.
package fakeazure

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// The one tenant and the identities that it knows. None of it is secret.
const (
	TenantID       = "5ad1b2c3-0000-4000-8000-00000000fa4e"
	ClientID       = "c11e17d0-0000-4000-8000-00000000fa4e"
	ClientSecret   = "fakeazure client secret"   // of ClientID
	FederatedToken = "fakeazure.federated.token" // what a workload of ClientID shows (AZURE_FEDERATED_TOKEN_FILE)
	IdentityHeader = "fakeazure identity header" // of App Service (IDENTITY_HEADER)
)

// Authority is the base URL of the public cloud's Entra ID.
const Authority = "https://login.microsoftonline.com/"

// IdentityEndpoint is App Service's source of managed identities (IDENTITY_ENDPOINT).
const IdentityEndpoint = "https://identity.fakeazure.example/msi/token"

// Options are the options of [New]. The zero value is fine, and so is nil.
type Options struct {
	TokenLifetime time.Duration // of access tokens; an hour if 0
	PageSize      int           // keys in a page of a list; 25 if 0

	// GenerateRSA makes the RSA keys; rsa.GenerateKey if nil.
	GenerateRSA func(bits int) (*rsa.PrivateKey, error)
}

// Server is a running fake.
//
// All methods are safe for concurrent use.
type Server struct {
	// Script is what goes wrong. The names of operations are "create", "import", "get", "update", "delete", "list",
	// "versions", "attestation", "rng", "deletedkey", "recover", "purge", "sign", "verify", "encrypt", "decrypt", "wrapkey",
	// "unwrapkey", "backup"; "challenge" for requests to a vault that have no good token, whatever they ask; and "token" for
	// requests for one. Fault.Error is an [Error] or a [Raw]. Fault.Corrupt is a func(map[string]any), which changes the
	// answer's JSON.
	Script fakecloud.Script

	// Log has every request, under the same names; Key is the name of the key, with "/" and its version if the request
	// had one, or the host of the token endpoint.
	Log fakecloud.Log

	opts   Options
	issuer *issuer
	ca     *authority
	tls    *http.Server
	plain  *http.Server
	tlsAt  string
	httpAt string
	serves sync.WaitGroup

	mu        sync.Mutex // guards what follows
	vaults    map[string]*vault
	denied    map[string]bool
	transport []*http.Transport
	closed    bool
}

// New starts a fake on loopback addresses that the system chooses.
func New(opts *Options) (*Server, error) {
	s := &Server{vaults: make(map[string]*vault), denied: make(map[string]bool)}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.TokenLifetime == 0 {
		s.opts.TokenLifetime = time.Hour
	}
	if s.opts.PageSize == 0 {
		s.opts.PageSize = 25
	}
	if s.opts.GenerateRSA == nil {
		s.opts.GenerateRSA = func(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }
	}
	var err error
	if s.issuer, err = theIssuer(); err != nil {
		return nil, fmt.Errorf("fakeazure: %w", err)
	}
	if s.ca, err = newAuthority(); err != nil {
		return nil, fmt.Errorf("fakeazure: %w", err)
	}
	if err := s.listen(); err != nil {
		return nil, fmt.Errorf("fakeazure: %w", err)
	}
	return s, nil
}

func (s *Server) listen() error {
	secure, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, secure.Close())
	}
	s.tlsAt, s.httpAt = secure.Addr().String(), plain.Addr().String()
	s.tls = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{s.ca.server}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          quiet,
	}
	s.plain = &http.Server{Handler: http.HandlerFunc(s.servePlain), ReadHeaderTimeout: time.Minute, ErrorLog: quiet}
	s.serves.Go(func() { s.tls.ServeTLS(secure, "", "") })
	s.serves.Go(func() { s.plain.Serve(plain) })
	return nil
}

// DialContext connects to the fake, whatever addr is: to its plain port in place of port 80, and else to its TLS port.
func (s *Server) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	at := s.tlsAt
	if _, port, err := net.SplitHostPort(addr); err == nil && port == "80" {
		at = s.httpAt
	}
	return new(net.Dialer).DialContext(ctx, network, at)
}

// RootCAs returns a pool of the certificate that the fake's own chains to.
func (s *Server) RootCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.cert)
	return pool
}

// CertificatePEM returns the certificate of RootCAs, for SSL_CERT_FILE.
func (s *Server) CertificatePEM() []byte { return s.ca.pem }

// Proxy returns the URL of a proxy that leads to the fake whatever it is asked for, for HTTPS_PROXY: it takes clients that
// can't be told how to dial.
func (s *Server) Proxy() string { return "http://" + s.httpAt }

// Client returns a client that dials the fake and trusts it. It serves as the Transport of azcore.ClientOptions.
func (s *Server) Client() *http.Client {
	t := &http.Transport{
		DialContext:         s.DialContext,
		TLSClientConfig:     &tls.Config{RootCAs: s.RootCAs(), MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 64,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transport = append(s.transport, t)
	return &http.Client{Transport: t}
}

// Deny has the fake refuse some operations, by the names that the script uses, as if the role to do them were missing.
// Without names it refuses none any more.
func (s *Server) Deny(ops ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.denied)
	for _, op := range ops {
		s.denied[op] = true
	}
}

func (s *Server) denies(op string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.denied[op]
}

// Close stops the fake, cuts what is under way off, and waits for its goroutines.
func (s *Server) Close() error {
	s.mu.Lock()
	transports := s.transport
	closed := s.closed
	s.transport, s.closed = nil, true
	s.mu.Unlock()
	if closed {
		return nil
	}
	for _, t := range transports {
		t.CloseIdleConnections()
	}
	err := errors.Join(s.tls.Close(), s.plain.Close())
	s.serves.Wait()
	return err
}

// vault returns the vault at a host, and nil if no vault can be there.
func (s *Server) vault(host string) *vault {
	name, suffix, _ := strings.Cut(strings.ToLower(host), ".")
	kind, ok := suffixes[suffix]
	if !ok || name == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.vaults[name+"."+suffix]
	if v == nil {
		v = &vault{
			host: name + "." + suffix, resource: "https://" + suffix, hsm: kind == managedHSM,
			keys: make(map[string]*key), deleted: make(map[string]*key),
			pageSize: s.opts.PageSize, newRSA: s.opts.GenerateRSA, attests: s.ca,
		}
		s.vaults[v.host] = v
	}
	return v
}

type kind uint8

const (
	keyVault kind = iota + 1
	managedHSM
)

// suffixes are the domains of vaults in each cloud.
var suffixes = map[string]kind{
	"vault.azure.net": keyVault, "vault.usgovcloudapi.net": keyVault, "vault.azure.cn": keyVault,
	"managedhsm.azure.net": managedHSM, "managedhsm.usgovcloudapi.net": managedHSM, "managedhsm.azure.cn": managedHSM,
}

// loginHosts are the hosts of Entra ID in each cloud.
var loginHosts = map[string]bool{
	"login.microsoftonline.com": true, "login.microsoftonline.us": true, "login.chinacloudapi.cn": true, "login.partner.microsoftonline.cn": true,
}
