package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// certificates is an Authenticator of clients by what an auth "cert" block says of their certificates.
type certificates []certificate

type certificate struct {
	id             httpapi.Identity
	roots          roots // nil means those of the listener
	names          []string
	dns, uris, sum []string
}

func newCertificate(a *config.Auth) (c certificate, err error) {
	c.id = httpapi.Identity{ID: "cert:" + a.Name, Name: a.Name, Namespace: a.Namespace, Policies: a.Policies}
	c.names, c.dns, c.uris = a.AllowedCommonName, lower(a.AllowedDNSSANs), a.AllowedURISANs
	for _, sum := range lower(a.AllowedSHA256) {
		c.sum = append(c.sum, strings.ReplaceAll(sum, ":", ""))
	}
	if a.CAFile != "" {
		c.roots, err = readRoots(a.CAFile, x509.NewCertPool())
	}
	return c, err
}

func lower(all []string) (out []string) {
	for _, one := range all {
		out = append(out, strings.ToLower(one))
	}
	return out
}

// Authenticate implements httpapi.Authenticator. The certificate was verified in the handshake; its authority must be one still.
func (all certificates) Authenticate(r *http.Request) (*httpapi.Identity, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, httpapi.ErrNoCredentials
	}
	// A browser sends the certificate with whatever request a page has it make.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return nil, errors.Join(httpapi.ErrDenied, err)
	}
	subject := ""
	own := r.Context().Value(enteredKey{}).(entered).port.roots
	for _, chain := range r.TLS.VerifiedChains {
		leaf, root := chain[0], chain[len(chain)-1]
		subject = leaf.Subject.String()
		for i := range all {
			c := &all[i]
			from := c.roots
			if from == nil {
				from = own
			}
			if from[string(root.Raw)] && c.fits(leaf) {
				id := c.id
				id.Created, id.Expires = leaf.NotBefore, leaf.NotAfter
				return &id, nil
			}
		}
	}
	return &httpapi.Identity{Name: subject}, fmt.Errorf("%w: no identity has this certificate", httpapi.ErrDenied)
}

// fits reports whether the certificate has one of the elements of each list that is not empty.
func (c *certificate) fits(leaf *x509.Certificate) bool {
	var uris []string
	for _, uri := range leaf.URIs {
		uris = append(uris, uri.String())
	}
	sum := sha256.Sum256(leaf.Raw)
	return oneOf(c.names, leaf.Subject.CommonName) && oneOf(c.dns, lower(leaf.DNSNames)...) && oneOf(c.uris, uris...) &&
		(len(c.sum) == 0 || slices.Contains(c.sum, hex.EncodeToString(sum[:])))
}

// oneOf reports whether one of the values is like one of the patterns, or there are no patterns.
func oneOf(patterns []string, values ...string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(values, func(value string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool { return like(pattern, value) })
	})
}

// like reports whether value is pattern, in which "*" stands for any characters.
func like(pattern, value string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == value
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(value) < len(first)+len(last) || !strings.HasPrefix(value, first) || !strings.HasSuffix(value, last) {
		return false
	}
	value = value[len(first) : len(value)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		_, rest, ok := strings.Cut(value, part)
		if !ok {
			return false
		}
		value = rest
	}
	return true
}

// certificatesIn returns the certificates of a PEM file, in DER.
func certificatesIn(data []byte) (all [][]byte) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return all
		}
		if block.Type == "CERTIFICATE" {
			all = append(all, block.Bytes)
		}
	}
}
