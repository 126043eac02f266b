package pki

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TestOCSPByOthers: OpenSSL and GnuTLS ask over HTTP and accept the answers, signed by every kind of key, the issuer's and a delegated
// one's: with and without nonces, about several certificates, with other hashes.
func TestOCSPByOthers(t *testing.T) {
	ocsptool := requires.Tool(t, "gnutls-bin", "ocsptool")
	for _, kind := range []string{"rsa", "rsa/pss", "p256", "p384", "p521", "ed25519", "delegated rsa", "delegated rsa/pss", "delegated p384", "delegated ed25519"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			key, delegated := strings.CutPrefix(kind, "delegated ")
			key, pss := strings.CutSuffix(key, "/pss")
			f := newFirm(t, &Options{Now: time.Now, PSS: pss})
			issuerKey := key
			if delegated {
				issuerKey = "p256-b"
			}
			root := f.root(t, issuerKey, "root")
			if delegated {
				if _, err := f.SetOCSPResponder(t.Context(), "root", KeyRef{Name: key}, OCSPResponderTemplate{}); err != nil {
					t.Fatal(err)
				}
			}
			must(t, f.SetOCSPConfig(t.Context(), OCSPConfig{Nonce: true}))
			f.role(t, anyRole("r"))
			good, gone, held := f.issue(t, "r", "a.example"), f.issue(t, "r", "b.example"), f.issue(t, "r", "c.example")
			_, err := f.Revoke(t.Context(), serialOf(gone), ReasonKeyCompromise, time.Time{})
			must(t, err)
			_, err = f.Revoke(t.Context(), serialOf(held), ReasonCertificateHold, time.Time{})
			must(t, err)
			must(t, f.Release(t.Context(), serialOf(held)))
			server := httptest.NewServer(f.OCSPHandler())
			defer server.Close()
			dir := t.TempDir()
			for name, pem := range map[string][]byte{"root.pem": EncodePEM(root.Certificate()), "good.pem": EncodePEM(good.Certificate),
				"gone.pem": EncodePEM(gone.Certificate), "held.pem": EncodePEM(held.Certificate)} {
				must(t, os.WriteFile(filepath.Join(dir, name), pem, 0o600))
			}
			ask := func(args ...string) string {
				t.Helper()
				return openssl(t, dir, append([]string{"ocsp", "-url", server.URL, "-CAfile", "root.pem", "-issuer", "root.pem"}, args...)...)
			}
			for name, args := range map[string][]string{
				"no nonce": {"-no_nonce"}, "nonce": nil, "SHA-256": {"-sha256", "-no_nonce"}, "SHA-384": {"-sha384"}, "SHA-512": {"-sha512"},
			} {
				got := ask(append(args, "-cert", "good.pem", "-cert", "gone.pem", "-cert", "held.pem", "-serial", "0x4711")...)
				for _, want := range []string{"Response verify OK", "good.pem: good", "gone.pem: revoked", "Reason: keyCompromise", "held.pem: good", "0x4711: unknown"} {
					if !strings.Contains(got, want) {
						t.Errorf("%s: openssl ocsp doesn't say %q:\n%s", name, want, got)
					}
				}
				if strings.Contains(got, "WARNING") != strings.Contains(strings.Join(args, " "), "no_nonce") && strings.Contains(got, "nonce") {
					t.Errorf("%s: openssl ocsp: %s", name, got)
				}
			}
			for name, want := range map[string]string{"good.pem": "The certificate is not revoked", "gone.pem": "The certificate was revoked"} {
				cmd := exec.CommandContext(t.Context(), ocsptool, "--ask="+server.URL, "--load-issuer", "root.pem", "--load-cert", name, "--load-trust", "root.pem")
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				if text := string(out); !strings.Contains(text, "Success") || !strings.Contains(text, "Certificate Status: "+map[string]string{"good.pem": "good", "gone.pem": "revoked"}[name]) {
					t.Errorf("ocsptool, %s: %v; want %q\n%s", name, err, want, text)
				}
			}
		})
	}
}
