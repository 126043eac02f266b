package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

func TestIntermediateRefused(t *testing.T) {
	h := newHouse(t, nil)
	root := mustRoot(t, h, "p256", rootTemplate())
	bt := interTemplate()
	bt.MaxPathLen = new(2)
	big := mustIntermediate(t, h, root, "p384", bt)
	small := mustIntermediate(t, h, root, "p256-b", interTemplate())
	csr := makeCSR(t, testKeys()["p521"], nil)
	for name, c := range map[string]struct {
		ca     *CA
		csr    []byte
		change func(*CATemplate)
		text   string
	}{
		"below path length 0":   {small, csr, nil, "Example Issuing,O=Example,C=SE allows no further CA"},
		"path length too large": {big, csr, func(t *CATemplate) { t.MaxPathLen = new(2) }, "path length: got 2"},
		"long key identifier":   {root, csr, func(t *CATemplate) { t.SubjectKeyID = make([]byte, 65) }, "subject key identifier: got 65 bytes"},
		"empty key identifier":  {root, csr, func(t *CATemplate) { t.SubjectKeyID = []byte{} }, "subject key identifier: got 0 bytes"},
		"negative path length":  {root, csr, func(t *CATemplate) { t.MaxPathLen = new(-1) }, "path length: got -1"},
		"past the issuer":       {root, csr, func(t *CATemplate) { t.Validity = 4000 * day }, "is after the issuer's"},
		"issuer's key":          {root, makeCSR(t, testKeys()["p256"], nil), nil, "its key is that of the issuer"},
		"weak key":              {root, makeCSR(t, testKeys()["rsa1024"], nil), nil, "1024"},
		"no subject": {root, makeCSR(t, testKeys()["p521"], func(r *x509.CertificateRequest) { r.Subject = pkix.Name{} }),
			func(t *CATemplate) { t.Subject = pkix.Name{} }, "neither the template nor the CSR has one"},
		"odd subject": {root, makeCSR(t, testKeys()["p521"], func(r *x509.CertificateRequest) { r.Subject.CommonName = "a\u0007" }),
			func(t *CATemplate) { t.Subject = pkix.Name{} }, "control characters"},
		"issuer's subject": {root, csr, func(t *CATemplate) { t.Subject = rootTemplate().Subject }, "subject: it is that of the issuer"},
		"no request":       {root, nil, nil, "got 0 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			h.signed()
			it := interTemplate()
			it.Subject.CommonName = "Another"
			if c.change != nil {
				c.change(&it)
			}
			cert, err := c.ca.SignIntermediate(t.Context(), c.csr, it)
			wantError(t, err, backend.ErrInvalidParams, c.text)
			if cert != nil || h.signed() != 0 {
				t.Error("something was signed")
			}
		})
	}
}

func TestIntermediateInherits(t *testing.T) {
	h := newHouse(t, nil)
	rt := rootTemplate()
	rt.MaxPathLen = new(2)
	root := mustRoot(t, h, "p256", rt)
	csr := makeCSR(t, testKeys()["p384"], func(r *x509.CertificateRequest) {
		r.RawSubject, _ = asn1.Marshal(pkix.RDNSequence{ // two attributes in one RDN, and a string type of its own
			{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Örg"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "CN"}},
		})
	})
	request, err := ParseCSR(csr)
	if err != nil {
		t.Fatal(err)
	}
	it := interTemplate()
	it.Subject, it.MaxPathLen = pkix.Name{}, nil
	cert, err := root.SignIntermediate(t.Context(), csr, it)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(cert.RawSubject, request.RawSubject) {
		t.Errorf("subject %x; want that of the request, %x", cert.RawSubject, request.RawSubject)
	}
	if cert.MaxPathLen != 1 {
		t.Errorf("path length %d; want one less than the issuer's 2", cert.MaxPathLen)
	}
	ca, err := h.engine.LoadCA(t.Context(), "p384", append([]*x509.Certificate{cert}, root.Chain()...))
	if err != nil {
		t.Fatal(err)
	}
	issued, err := ca.Sign(t.Context(), testKeys()["rsa"].Public(), leafTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(issued.Certificate.RawIssuer, request.RawSubject) {
		t.Error("the issuer of a leaf is not byte for byte the subject of the CA")
	}
	verify(t, issued.Certificate, root.Certificate(), cert)
}

// certificate makes a certificate outside of this package: signed by key with the issuer's name and key identifier.
func certificate(tb testing.TB, subject, issuer string, pub crypto.PublicKey, key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: subject}, NotBefore: noon.Add(-day), NotAfter: noon.Add(365 * day),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(subject),
	}
	if change != nil {
		change(template)
	}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: issuer}, SubjectKeyId: []byte(issuer)}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func TestLoadCA(t *testing.T) {
	keys := testKeys()
	h := newHouse(t, nil)
	make := func(subject, key, issuer, issuerKey string, change func(*x509.Certificate)) *x509.Certificate {
		return certificate(t, subject, issuer, keys[key].Public(), keys[issuerKey], change)
	}
	root := make("root", "p256-c", "root", "p256-c", nil)
	ca := make("ca", "p256", "root", "p256-c", nil)
	noCA := func(c *x509.Certificate) { c.IsCA = false }
	zero := func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }
	server := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	email := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }
	for name, c := range map[string]struct {
		key      string
		chain    []*x509.Certificate
		sentinel error
		text     string
	}{
		"good":             {"p256", []*x509.Certificate{ca, root}, nil, ""},
		"without the root": {"p256", []*x509.Certificate{ca}, nil, ""},
		"self-signed":      {"p256-c", []*x509.Certificate{root}, nil, ""},
		"empty":            {"p256", nil, backend.ErrInvalidParams, "got 0 certificates; it takes 1 to 16"},
		"too long":         {"p256", make17(ca), backend.ErrInvalidParams, "got 17"},
		"nil":              {"p256", []*x509.Certificate{ca, nil}, backend.ErrInvalidParams, "certificate 1 is nil"},
		"other key":        {"p384", []*x509.Certificate{ca, root}, backend.ErrInvalidParams, "another public key"},
		"unknown key":      {"nobody", []*x509.Certificate{ca, root}, backend.ErrKeyNotFound, "nobody"},
		"wrong order":      {"p256-c", []*x509.Certificate{root, ca}, backend.ErrInvalidParams, "the order is from the CA up"},
		"unrelated":        {"p256", []*x509.Certificate{ca, make("other", "p384", "other", "p384", nil)}, backend.ErrInvalidParams, "was issued by CN=root, but certificate 1 is CN=other"},
		"same name only":   {"p256", []*x509.Certificate{ca, make("root", "p384", "root", "p384", nil)}, backend.ErrInvalidSignature, "certificate 0 (CN=ca)"},
		"other identifier": {"p256", []*x509.Certificate{ca, make("root", "p256-c", "root", "p256-c", func(c *x509.Certificate) { c.SubjectKeyId = []byte{1} })}, backend.ErrInvalidParams, "authorityKeyIdentifier of certificate 0"},
		"forged root":      {"p256-c", []*x509.Certificate{make("root", "p256-c", "root", "p384", nil)}, backend.ErrInvalidSignature, "certificate 0 (CN=root)"},
		"leaf":             {"p256", []*x509.Certificate{make("ca", "p256", "root", "p256-c", noCA), root}, backend.ErrInvalidParams, "it is not a CA certificate"},
		"leaf above":       {"p256", []*x509.Certificate{ca, make("root", "p256-c", "root", "p256-c", noCA)}, backend.ErrInvalidParams, "certificate 1 (CN=root): it is not a CA certificate"},
		"no keyCertSign":   {"p256", []*x509.Certificate{make("ca", "p256", "root", "p256-c", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), root}, backend.ErrInvalidParams, "lacks keyCertSign"},
		"no subject":       {"p256", []*x509.Certificate{make("ca", "p256", "root", "p256-c", func(c *x509.Certificate) { c.Subject = pkix.Name{} }), root}, backend.ErrInvalidParams, "its subject is empty"},
		"critical extension": {"p256", []*x509.Certificate{make("ca", "p256", "root", "p256-c", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{extension(t, asn1.ObjectIdentifier{1, 2, 3}, true, "x")}
		}), root}, backend.ErrInvalidParams, "critical extension 1.2.3"},
		"path length": {"p256", []*x509.Certificate{ca, make("root", "p256-c", "root", "p256-c", zero)}, backend.ErrInvalidParams, "allows 0 CA certificates below it; there are 1"},
		"usages":      {"p256", []*x509.Certificate{make("ca", "p256", "root", "p256-c", server), make("root", "p256-c", "root", "p256-c", email)}, backend.ErrInvalidParams, "extended key usage"},
	} {
		t.Run(name, func(t *testing.T) {
			loaded, err := h.engine.LoadCA(t.Context(), c.key, c.chain)
			if c.sentinel == nil {
				if err != nil {
					t.Fatal(err)
				}
				if loaded.Certificate() != c.chain[0] || len(loaded.Chain()) != len(c.chain) {
					t.Error("certificate or chain are others")
				}
				if _, err := loaded.Sign(t.Context(), keys["rsa"].Public(), leafTemplate()); err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, c.sentinel, c.text)
			if loaded != nil {
				t.Error("a CA came with the error")
			}
		})
	}
	if n := h.signed(); n != 3 {
		t.Errorf("got %d signatures; want one for each good case", n)
	}
}

func make17(c *x509.Certificate) []*x509.Certificate {
	var chain []*x509.Certificate
	for range maxChain + 1 {
		chain = append(chain, c)
	}
	return chain
}

// What a CA certificate far above says counts for the leaf, before anything is signed.
func TestLimitsAboveTheIssuer(t *testing.T) {
	keys := testKeys()
	h := newHouse(t, nil)
	root := certificate(t, "root", "root", keys["p256-c"].Public(), keys["p256-c"], func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.ExtKeyUsage, c.MaxPathLen = []string{"example"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, 1
	})
	ca := certificate(t, "ca", "root", keys["p256"].Public(), keys["p256-c"], func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	loaded, err := h.engine.LoadCA(t.Context(), "p256", []*x509.Certificate{ca, root})
	if err != nil {
		t.Fatal(err)
	}
	lt := leafTemplate()
	_, err = loaded.Sign(t.Context(), keys["rsa"].Public(), lt)
	wantError(t, err, backend.ErrInvalidParams, "clientAuth is not among those of the issuer CN=root")
	lt.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	lt.DNSNames = []string{"a.test"}
	_, err = loaded.Sign(t.Context(), keys["rsa"].Public(), lt)
	wantError(t, err, backend.ErrInvalidParams, "no verifier would accept it", "a.test")
	_, err = loaded.SignIntermediate(t.Context(), makeCSR(t, keys["p384"], nil), interTemplate())
	wantError(t, err, backend.ErrInvalidParams, "allows no further CA")
	_, err = loaded.CRL(t.Context(), crlTemplate())
	wantError(t, err, backend.ErrInvalidParams, "lacks cRLSign")
	if h.signed() != 0 {
		t.Error("something was signed")
	}
	lt.DNSNames = []string{"a.example"}
	if _, err = loaded.Sign(t.Context(), keys["rsa"].Public(), lt); err != nil {
		t.Error(err)
	}
}

// A CA stops with the grant of its key and refuses another key under the same name.
func TestKeyPolicy(t *testing.T) {
	h := newHouse(t, nil)
	ca := mustRoot(t, h, "p256", rootTemplate())
	h.signed()
	if err := h.registry.Revoke(t.Context(), h.mount, "p256"); err != nil {
		t.Fatal(err)
	}
	_, err := ca.Sign(t.Context(), testKeys()["rsa"].Public(), leafTemplate())
	wantError(t, err, backend.ErrNotPermitted)
	_, err = ca.CRL(t.Context(), crlTemplate())
	wantError(t, err, backend.ErrNotPermitted)
	var typed *managedkey.Error
	if !errors.As(err, &typed) {
		t.Errorf("got %T; want a *managedkey.Error in the chain", err)
	}
	if err := h.registry.Delete(t.Context(), managedkey.Entry{}.Ref); err == nil {
		t.Fatal("deleting nothing must fail")
	}
	ref := managedkey.Entry{}.Ref
	ref.Name = "p256"
	entry, err := h.registry.Entry(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.registry.Delete(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	other := managedkey.Entry{Ref: ref, Backend: entry.Backend, Params: kmParams("p256-d")}
	if err := h.registry.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := h.registry.Grant(t.Context(), h.mount, "p256"); err != nil {
		t.Fatal(err)
	}
	_, err = ca.Sign(t.Context(), testKeys()["rsa"].Public(), leafTemplate())
	wantError(t, err, backend.ErrKeyChanged, "CN=Example Root")
	if h.signed() != 0 {
		t.Error("something was signed")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	healthy := mustRoot(t, h, "p384", rootTemplate())
	h.signed()
	_, err = healthy.Sign(cancelled, testKeys()["rsa"].Public(), leafTemplate())
	wantError(t, err, context.Canceled)
	_, err = healthy.CRL(cancelled, crlTemplate())
	wantError(t, err, context.Canceled)
	if h.signed() != 0 {
		t.Error("something was signed")
	}
}

// One CA serves many goroutines.
func TestConcurrentUse(t *testing.T) {
	h := newHouse(t, nil)
	ca := mustRoot(t, h, "p256", rootTemplate())
	h.signed()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := ca.Sign(t.Context(), testKeys()["rsa"].Public(), leafTemplate()); err != nil {
				t.Error(err)
			}
			if _, err := ca.CRL(t.Context(), crlTemplate()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := h.signed(); n != 32 {
		t.Errorf("32 objects took %d signatures", n)
	}
}

// Server and client present leaves of the same CA to each other.
func TestMutualTLS(t *testing.T) {
	h := newHouse(t, &Options{Now: time.Now})
	root := mustRoot(t, h, "rsa", rootTemplate())
	ca := mustIntermediate(t, h, root, "p256", interTemplate())
	pair := func(key string) tls.Certificate {
		issued, err := ca.SignCSR(t.Context(), makeCSR(t, testKeys()[key], nil), LeafTemplate{Validity: day})
		if err != nil {
			t.Fatal(err)
		}
		out := issued.TLS(testKeys()[key])
		if len(out.Certificate) != 2 || !bytes.Equal(out.Certificate[1], ca.Certificate().Raw) || out.Leaf != issued.Certificate {
			t.Errorf("got %d certificates; want the leaf and the intermediate", len(out.Certificate))
		}
		return out
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(EncodePEM(root.Certificate()))
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	done := make(chan error, 1)
	go func() {
		conn := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{pair("p384")}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
		_, err := io.WriteString(conn, "hello")
		done <- errors.Join(err, conn.Close())
	}()
	conn := tls.Client(client, &tls.Config{Certificates: []tls.Certificate{pair("p521")}, RootCAs: pool, ServerName: "a.example"})
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The stand-in must be what crypto/x509 takes for the issuer, and the CA's own certificate must stay as it is.
func TestStandIn(t *testing.T) {
	h := newHouse(t, nil)
	ca := mustRoot(t, h, "p256", rootTemplate())
	throwaway, err := h.engine.throwaway.like(ca.cert.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.engine.throwaway.like(testKeys()["p256-b"].Public())
	if err != nil || again != throwaway {
		t.Errorf("got another throwaway key of the same kind, %v", err)
	}
	if throwaway.Public().(*ecdsa.PublicKey).Equal(ca.cert.PublicKey) {
		t.Error("the throwaway key is the CA's")
	}
	if in := ca.standIn(throwaway.Public()); !equalKeys(in.PublicKey, throwaway.Public()) || equalKeys(ca.cert.PublicKey, throwaway.Public()) {
		t.Error("the stand-in replaced the CA's own public key")
	}
	if _, err := h.engine.throwaway.like("no key"); !errors.Is(err, backend.ErrUnsupported) {
		t.Errorf("got error %v", err)
	}
}
