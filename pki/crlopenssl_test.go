package pki

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TestCRLsByOthers: OpenSSL follows delta lists, sharded ones and both together, GnuTLS reads them, and no list breaks a lint rule.
func TestCRLsByOthers(t *testing.T) {
	certtool := requires.Tool(t, "gnutls-bin", "certtool")
	for name, c := range map[string]struct {
		key    string
		shards int
		delta  bool
	}{
		"delta": {"p256", 0, true}, "shards": {"rsa", 4, false}, "both": {"p384", 4, true}, "both, Ed25519": {"ed25519", 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			f := newFirm(t, &Options{Now: func() time.Time { return now }})
			ctx, dir := t.Context(), t.TempDir()
			must(t, f.SetCRLConfig(ctx, CRLConfig{AutoRebuild: true, Delta: c.delta, Shards: c.shards}))
			urls := URLs{CRL: []string{"http://a.example/crl"}, DeltaCRL: []string{"http://a.example/delta"}}
			if c.shards > 0 {
				urls = URLs{CRL: []string{"http://a.example/{{shard}}.crl"}, DeltaCRL: []string{"http://a.example/{{shard}}.delta"}}
			}
			must(t, f.SetURLs(ctx, urls))
			root := f.root(t, c.key, "root")
			f.role(t, anyRole("r"))
			good, old, held, gone := f.issue(t, "r", "a.example"), f.issue(t, "r", "b.example"), f.issue(t, "r", "c.example"), f.issue(t, "r", "d.example")
			write := func(name string, data []byte) {
				t.Helper()
				must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
			}
			write("root.pem", EncodePEM(root.Certificate()))
			revoke := func(pair *KeyPair, reason int) {
				t.Helper()
				_, err := f.Revoke(ctx, serialOf(pair), reason, time.Time{})
				must(t, err)
			}
			revoke(old, ReasonSuperseded)
			revoke(held, ReasonCertificateHold)
			must(t, f.Maintain(ctx))
			now = now.Add(time.Hour) // delta lists are due, complete ones are not
			revoke(gone, ReasonKeyCompromise)
			must(t, f.Release(ctx, serialOf(held)))
			must(t, f.Maintain(ctx))
			status := func(pair *KeyPair) string {
				t.Helper()
				cert, err := f.Certificate(ctx, serialOf(pair))
				must(t, err)
				lists := EncodeCRL(f.scoped(t, root, CRLScope{Shard: cert.Shard}).Raw)
				if c.delta {
					delta := f.scoped(t, root, CRLScope{Shard: cert.Shard, Delta: true})
					lists = append(lists, EncodeCRL(delta.Raw)...)
					must(t, lintCRL(delta.Raw))
					write("delta.pem", EncodeCRL(delta.Raw))
					if text := openssl(t, dir, "crl", "-in", "delta.pem", "-noout", "-text"); !strings.Contains(text, "X509v3 Delta CRL Indicator: critical") {
						t.Errorf("openssl crl: %s", text)
					}
				}
				must(t, lintCRL(f.scoped(t, root, CRLScope{Shard: cert.Shard}).Raw))
				write("crls.pem", lists)
				write("leaf.pem", EncodePEM(pair.Certificate))
				args := []string{"verify", "-x509_strict", "-crl_check", "-extended_crl", "-use_deltas", "-attime", stampOf(now),
					"-CAfile", "root.pem", "-CRLfile", "crls.pem", "leaf.pem"}
				cmd := exec.CommandContext(ctx, requires.Tool(t, "openssl", "openssl"), args...)
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				switch text := string(out); {
				case err == nil:
					return "good"
				case strings.Contains(text, "certificate revoked"):
					return "revoked"
				default:
					return text
				}
			}
			for name, want := range map[string]struct {
				pair        *KeyPair
				with, until string // with a delta list, and without one
			}{
				"good": {good, "good", "good"}, "old": {old, "revoked", "revoked"}, "held": {held, "good", "revoked"}, "gone": {gone, "revoked", "good"},
			} {
				expected := want.with
				if !c.delta {
					expected = want.until
				}
				if got := status(want.pair); got != expected {
					t.Errorf("%s: openssl verify says %s; want %s", name, got, expected)
				}
			}
			cmd := exec.CommandContext(ctx, certtool, "--crl-info", "--infile", "crls.pem")
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "CRL Number") {
				t.Errorf("certtool: %v\n%s", err, out)
			}
		})
	}
}

// stampOf is how openssl verify takes times.
func stampOf(now time.Time) string { return strconv.FormatInt(now.Unix(), 10) }
