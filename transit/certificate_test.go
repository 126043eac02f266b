package transit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// issuer is a CA that exists for one test.
type issuer struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newIssuer(tb testing.TB) *issuer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	i := &issuer{key: key}
	i.cert = i.issue(tb, key.Public(), true)
	return i
}

func (i *issuer) issue(tb testing.TB, public crypto.PublicKey, ca bool) *x509.Certificate {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: ca, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	parent := i.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, i.key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// A request is what the template says, for the key's own public key; the certificate for it comes back with the key.
func TestCertificates(t *testing.T) {
	h := newHouse(t, "p384")
	e, ctx := h.engine, t.Context()
	h.addManaged(t, "rsa", allUsages)
	if err := e.Rotate(ctx, "p384", "rsa"); err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "www"}, DNSNames: []string{"www.example"}, SignatureAlgorithm: x509.SHA1WithRSA}
	der, err := e.CSR(ctx, "p384", 1, template)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil || csr.Subject.CommonName != "www" || csr.DNSNames[0] != "www.example" {
		t.Fatalf("got %+v, %v, %v", csr, err, csr.CheckSignature())
	}
	info, err := e.Key("p384")
	if err != nil || !samePublic(csr.PublicKey, info.Versions[0].PublicKey) {
		t.Errorf("the request is for another key, %v", err)
	}
	if template.SignatureAlgorithm != x509.SHA1WithRSA {
		t.Error("the template was changed")
	}

	ca := newIssuer(t)
	leaf := ca.issue(t, csr.PublicKey, false)
	chain := [][]byte{leaf.Raw, ca.cert.Raw}
	if err := e.SetCertificate(ctx, "p384", 1, chain); err != nil {
		t.Fatal(err)
	}
	clear(chain[0]) // it was copied
	if info, err = e.Key("p384"); err != nil || len(info.Versions[0].Certificates) != 2 || len(info.Versions[1].Certificates) != 0 {
		t.Fatalf("got %+v, %v", info, err)
	}
	exported, err := e.Export(ctx, "p384", ExportCertificateChain, 1)
	if err != nil || strings.Count(exported[1], "BEGIN CERTIFICATE") != 2 {
		t.Fatalf("got %v, %v", exported, err)
	}
	block, _ := pem.Decode([]byte(exported[1]))
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		t.Error(err)
	}
	signature, err := e.Sign(ctx, "p384", SignRequest{KeyVersion: 1})
	if err != nil || !strings.HasPrefix(signature, "vault:v1:") {
		t.Errorf("got %.9s, %v", signature, err)
	}
}

func TestCertificatesRefused(t *testing.T) {
	h := newHouse(t, "p256", "mldsa", "aes")
	e, ctx := h.engine, t.Context()
	ca, other := newIssuer(t), newIssuer(t)
	info, err := e.Key("p256")
	if err != nil {
		t.Fatal(err)
	}
	public := info.Versions[0].PublicKey
	leaf := ca.issue(t, public, false).Raw
	for name, c := range map[string]struct {
		chain [][]byte
		text  string
	}{
		"none":       {nil, "certificate chain of 0"},
		"too many":   {make([][]byte, 17), "certificate chain of 17"},
		"nonsense":   {[][]byte{[]byte("hello")}, "certificate 0 can't be parsed"},
		"other key":  {[][]byte{ca.issue(t, other.key.Public(), false).Raw}, "another public key than version 1"},
		"of a CA":    {[][]byte{ca.issue(t, public, true).Raw}, "certificate 0 is that of a CA"},
		"other CA":   {[][]byte{leaf, other.cert.Raw}, "certificate 0 is not signed by certificate 1"},
		"twice":      {[][]byte{leaf, leaf}, "certificate 0 is not signed by certificate 1"},
		"no version": {[][]byte{leaf}, "higher than the latest key version"},
	} {
		version := map[bool]int{true: 2}[name == "no version"]
		wantError(t, e.SetCertificate(ctx, "p256", version, c.chain), backend.ErrInvalidParams, c.text)
	}
	_, err = e.CSR(ctx, "aes", 0, nil)
	wantError(t, err, backend.ErrUnsupported, "key type aes256-gcm96")
	_, err = e.CSR(ctx, "nobody", 0, nil)
	wantError(t, err, backend.ErrKeyNotFound)
	_, err = e.CSR(ctx, "p256", 0, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{}}})
	if err == nil {
		t.Error("an extension without an id is taken")
	}
	if err := h.software.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = e.CSR(ctx, "p256", 0, nil)
	wantError(t, err, backend.ErrUnavailable, `sign with key "p256" version 1`)
}
