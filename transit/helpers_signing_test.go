package transit_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/transit"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// eachSigner runs a test with a key of each kind that signs, and with one on a token.
func eachSigner(t *testing.T, test func(t *testing.T, name string, s *transit.Signer)) {
	store := software.New(nil)
	t.Cleanup(func() { store.Close() })
	for name, params := range map[string]software.Params{
		"rsa": {KeyType: software.RSA, KeyBits: 2048}, "p256": {KeyType: software.ECDSA, Curve: software.P256},
		"p384": {KeyType: software.ECDSA, Curve: software.P384}, "p521": {KeyType: software.ECDSA, Curve: software.P521}, "ed25519": {KeyType: software.Ed25519},
	} {
		params.KeyName = name
		t.Run(name, func(t *testing.T) { test(t, name, signerOf(t, store, params)) })
	}
	t.Run("token", func(t *testing.T) {
		token := softhsm.Require(t)
		b, err := pkcs11.New(pkcs11.Library{Name: "hsm1", Path: token.Module})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		test(t, "p256", signerOf(t, b, pkcs11.Params{
			Library: "hsm1", Slot: token.Slot, PIN: backend.Secret(token.PIN), KeyLabel: t.Name(), Mechanism: pkcs11.ECDSA, Curve: "P256",
		}))
	})
}

// signerOf makes a key in a key manager and returns it as a signer of transit.
func signerOf(t *testing.T, b backend.Backend, params backend.Params) *transit.Signer {
	t.Helper()
	r := managedkey.NewRegistry()
	mount, err := r.Mount(t.Context(), "", "transit")
	if err == nil {
		err = r.Create(t.Context(), managedkey.Entry{Ref: namespace.Ref{Name: "k"}, Backend: b, Params: params, AllowGenerateKey: true, AnyMount: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	engine := transit.New(mount, nil)
	if err := engine.CreateKey(t.Context(), "k", transit.KeyOptions{ManagedKey: "k"}); err != nil {
		t.Fatal(err)
	}
	s, err := engine.Signer(t.Context(), "k", 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// selfSigned returns a certificate of s for one purpose, signed by itself.
func selfSigned(s *transit.Signer, purpose x509.ExtKeyUsage) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example"}, DNSNames: []string{"example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{purpose}, BasicConstraintsValid: true,
	}
	if purpose == x509.ExtKeyUsageTimeStamping { // RFC 3161, Section 2.3: critical, and alone
		template.ExtKeyUsage = nil
		template.ExtraExtensions = []pkix.Extension{{
			Id: []int{2, 5, 29, 37}, Critical: true, Value: []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 8},
		}}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.Public(), s)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// workplace is a folder for files that a tool reads.
type workplace struct {
	t   *testing.T
	dir string
}

func (w workplace) file(name string, data []byte) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w workplace) certificate(c *x509.Certificate) string {
	return w.file("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// run runs a tool with a file as its input, which may be "", and reports whether it was content.
func (w workplace) run(in, tool string, args ...string) (string, bool) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), tool, args...)
	cmd.Dir = w.dir
	if in != "" {
		f, err := os.Open(in)
		if err != nil {
			w.t.Fatal(err)
		}
		defer f.Close()
		cmd.Stdin = f
	}
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}
