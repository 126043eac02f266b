package pki

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// openssl runs the openssl command in dir and returns what it printed.
func openssl(tb testing.TB, dir string, args ...string) string {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), requires.Tool(tb, "openssl", "openssl"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// OpenSSL makes the request, and verifies the chain and the CRL.
func TestOpenSSL(t *testing.T) {
	requests := map[string][]string{
		"rsa":     {"-newkey", "rsa:2048"},
		"rsa-pss": {"-newkey", "rsa:3072", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1", "-sha384"},
		"p256":    {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"p384":    {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"},
		"p521":    {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"},
		"ed25519": {"-newkey", "ed25519"},
	}
	made := t.TempDir()
	csrs := map[string][]byte{}
	for name, args := range requests {
		openssl(t, made, append([]string{"req", "-new", "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=a.example",
			"-addext", "subjectAltName=DNS:a.example,IP:10.0.0.1,email:x@a.example,URI:spiffe://a.example/x"}, args...)...)
		csr, err := os.ReadFile(filepath.Join(made, name+".csr"))
		if err != nil {
			t.Fatal(err)
		}
		csrs[name] = csr
	}
	for _, key := range []string{"rsa", "rsa/pss", "p256", "p384", "p521", "ed25519"} {
		t.Run(key, func(t *testing.T) {
			dir := t.TempDir()
			key, pss := strings.CutSuffix(key, "/pss")
			h := newHouse(t, &Options{Now: time.Now, PSS: pss})
			rt := rootTemplate()
			rt.Permitted.DNS = []string{"a.example"}
			root := mustRoot(t, h, key, rt)
			ca := mustIntermediate(t, h, root, "p256-b", interTemplate())
			write := func(name string, data []byte) {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("root.pem", EncodePEM(root.Certificate()))
			write("ca.pem", EncodePEM(ca.Certificate()))
			template := crlTemplate()
			template.Revoked = nil
			crl, err := root.CRL(t.Context(), template)
			if err != nil {
				t.Fatal(err)
			}
			write("crl.pem", EncodeCRL(crl))
			if out := openssl(t, dir, "crl", "-in", "crl.pem", "-verify", "-CAfile", "root.pem", "-noout"); !strings.Contains(out, "verify OK") {
				t.Errorf("openssl crl: %s", out)
			}
			for name, csr := range csrs {
				issued, err := ca.SignCSR(t.Context(), csr, LeafTemplate{Validity: day})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				write(name+".pem", EncodePEM(issued.Certificate))
				for _, purpose := range []string{"sslserver", "sslclient"} {
					out := openssl(t, dir, "verify", "-x509_strict", "-purpose", purpose, "-verify_hostname", "a.example",
						"-CAfile", "root.pem", "-untrusted", "ca.pem", name+".pem")
					if !strings.Contains(out, name+".pem: OK") {
						t.Errorf("openssl verify: %s", out)
					}
				}
			}
			request, err := h.engine.CreateCSR(t.Context(), key, CSRTemplate{DNSNames: []string{"b.example"}})
			if err != nil {
				t.Fatal(err)
			}
			write("own.csr", EncodeCSR(request))
			openssl(t, dir, "req", "-in", "own.csr", "-verify", "-noout")
		})
	}
}
