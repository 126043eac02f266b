package pki

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TestAuthorityByOthers: OpenSSL and GnuTLS accept what an authority issues, with policies, other names and CRLs, and see a revocation.
func TestAuthorityByOthers(t *testing.T) {
	certtool := requires.Tool(t, "gnutls-bin", "certtool")
	for _, key := range []string{"rsa", "p384", "ed25519"} {
		t.Run(key, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name string, data []byte) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f := newFirm(t, &Options{Now: time.Now})
			if err := f.SetURLs(t.Context(), testURLs); err != nil {
				t.Fatal(err)
			}
			root := f.root(t, key, "root")
			issuing := f.intermediate(t, "root", "p256-b", "issuing")
			r := anyRole("r")
			r.IssuerRef, r.KeyType, r.Organization = "issuing", "ec", Strings{"Example"}
			r.PolicyIdentifiers = Policies{{"1.3.6.1.4.1.99.2", "https://a.example/cps"}}
			f.role(t, r)
			pair, err := f.Issue(t.Context(), "r", IssueRequest{CommonName: "a.example", AltNames: []string{"me@a.example"},
				IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}, URIs: uris("spiffe://a.example/x"), OtherNames: []string{"1.3.6.1.4.1.311.20.2.3;UTF8:hé@a.example"}})
			if err != nil {
				t.Fatal(err)
			}
			write("root.pem", EncodePEM(root.Certificate()))
			write("issuing.pem", EncodePEM(issuing.Certificate()))
			write("leaf.pem", EncodePEM(pair.Certificate))
			write("chain.pem", EncodePEM(pair.Certificate, issuing.Certificate(), root.Certificate()))
			crls := func() {
				var both []byte
				for _, name := range []string{"root", "issuing"} {
					both = append(both, EncodeCRL(f.list(t, name).Raw)...)
				}
				write("crl.pem", both)
			}
			crls()
			verify := []string{"verify", "-x509_strict", "-policy_check", "-explicit_policy", "-policy", "1.3.6.1.4.1.99.2", "-crl_check_all", "-CRLfile", "crl.pem",
				"-CAfile", "root.pem", "-untrusted", "issuing.pem", "-verify_hostname", "a.example", "leaf.pem"}
			openssl(t, dir, verify...)
			text := openssl(t, dir, "x509", "-in", "leaf.pem", "-noout", "-text")
			for _, want := range []string{"CPS: https://a.example/cps", "othername: UPN", "IP Address:192.0.2.1", "email:me@a.example", "URI:spiffe://a.example/x"} {
				if !strings.Contains(text, want) {
					t.Errorf("openssl x509 doesn't say %q:\n%s", want, text)
				}
			}
			cmd := exec.CommandContext(t.Context(), certtool, "--verify", "--load-ca-certificate", "root.pem", "--infile", "chain.pem", "--verify-hostname", "a.example")
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Verified. The certificate is trusted") {
				t.Errorf("certtool: %v\n%s", err, out)
			}
			if _, err := f.Revoke(t.Context(), serialOf(pair), ReasonKeyCompromise, time.Time{}); err != nil {
				t.Fatal(err)
			}
			crls()
			cmd = exec.CommandContext(t.Context(), requires.Tool(t, "openssl", "openssl"), verify...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "certificate revoked") {
				t.Errorf("openssl verifies a certificate that was revoked: %s", out)
			}
			if text := openssl(t, dir, "crl", "-in", "crl.pem", "-noout", "-text"); !strings.Contains(text, "X509v3 CRL Number") {
				t.Errorf("openssl crl: %s", text)
			}
		})
	}
}
