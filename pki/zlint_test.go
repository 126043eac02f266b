package pki

import (
	"crypto/x509"
	"testing"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

// edwards are the rules of the Baseline Requirements that name the algorithms of public CAs, and that no certificate with Ed25519
// can pass.
var edwards = map[string]bool{"e_algorithm_identifier_improper_encoding": true, "e_signature_algorithm_not_supported": true}

// wantNoErrors lints with everything that zlint has, of whatever source.
func wantNoErrors(tb testing.TB, what string, der []byte) {
	tb.Helper()
	cert, err := zx509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	passed := 0
	for name, result := range zlint.LintCertificate(cert).Results {
		if edwards[name] && (cert.PublicKeyAlgorithm == zx509.Ed25519 || cert.SignatureAlgorithm == zx509.Ed25519Sig) {
			continue
		}
		switch result.Status {
		case lint.Error, lint.Fatal:
			tb.Errorf("%s: %s: %s %s", what, name, result.Status, result.Details)
		case lint.Warn, lint.Notice:
			tb.Logf("%s: %s: %s %s", what, name, result.Status, result.Details)
		case lint.Pass:
			passed++
		}
	}
	if passed < 20 {
		tb.Errorf("%s: only %d lints applied", what, passed)
	}
}

// TestDefaultsPassAllOfZlint: nobody has to choose a profile for that.
func TestDefaultsPassAllOfZlint(t *testing.T) {
	for _, ca := range []string{"rsa", "p256", "p384", "p521", "ed25519"} {
		t.Run(ca, func(t *testing.T) {
			f := newFirm(t, nil)
			if err := f.SetURLs(t.Context(), testURLs); err != nil { // there is no default for where things are
				t.Fatal(err)
			}
			root := f.root(t, ca, "root")
			wantNoErrors(t, "root", root.Certificate().Raw)
			inter := f.intermediate(t, "root", "p256-b", "issuing")
			wantNoErrors(t, "intermediate", inter.Certificate().Raw)
			for _, kind := range []string{"rsa", "ec", "ed25519"} {
				r := NewRole(kind)
				r.IssuerRef, r.KeyType, r.AllowAnyName = "issuing", kind, true
				f.role(t, r)
				pair, err := f.Issue(t.Context(), kind, IssueRequest{CommonName: "www.example.com"})
				if err != nil {
					t.Fatal(err)
				}
				wantNoErrors(t, kind+" leaf", pair.Certificate.Raw)
				if _, err := f.Revoke(t.Context(), FormatSerial(pair.Certificate.SerialNumber), ReasonSuperseded, noon); err != nil {
					t.Fatal(err)
				}
			}
			for _, issuer := range []string{"root", "issuing"} {
				crl, err := f.CRL(t.Context(), issuer)
				if err != nil {
					t.Fatal(err)
				}
				list, err := zx509.ParseRevocationList(crl.DER)
				if err != nil {
					t.Fatal(err)
				}
				for name, result := range zlint.LintRevocationList(list).Results {
					if result.Status == lint.Error || result.Status == lint.Fatal {
						t.Errorf("CRL of %s: %s: %s %s", issuer, name, result.Status, result.Details)
					}
				}
			}
		})
	}
}

// TestLintProfiles: a role's profile decides, and a custom linter is asked whatever it is.
func TestLintProfiles(t *testing.T) {
	asked := 0
	f := newFirm(t, &Options{Linters: []Linter{func(draft *x509.Certificate) []LintFinding {
		asked++
		if len(draft.DNSNames) > 0 && draft.DNSNames[0] == "forbidden.example.com" {
			return []LintFinding{{"e_house_rule", "error", "forbidden", "our policy"}}
		}
		return nil
	}}})
	f.root(t, "p256", "root")
	issue := func(profile, reason, name string, ttl Duration) error {
		r := NewRole("r")
		r.KeyType, r.AllowAnyName, r.LintProfile, r.LintOffReason, r.TTL = "ec", true, profile, reason, ttl
		if err := f.PutRole(t.Context(), r); err != nil {
			return err
		}
		_, err := f.Issue(t.Context(), "r", IssueRequest{CommonName: name})
		return err
	}
	years := Duration(1000 * day) // longer than the Baseline Requirements have it
	if err := issue(LintRFC5280, "", "www.example.com", years); err != nil {
		t.Error(err)
	}
	wantFinding(t, issue(LintCABF, "", "www.example.com", years), "e_sub_cert_valid_time_longer_than")
	if err := issue(LintOff, "a test", "www.example.com", years); err != nil {
		t.Error(err)
	}
	asked = 0
	wantFinding(t, issue(LintOff, "a test", "forbidden.example.com", years), "e_house_rule")
	if asked != 1 {
		t.Errorf("the custom linter was asked %d times", asked)
	}
	for _, p := range []LintProfile{{LintOff, ""}, {LintOff, " "}, {"none", ""}, {LintCABF, "why"}} {
		if err := issue(p.Name, p.Reason, "www.example.com", years); err == nil {
			t.Errorf("the profile %+v was taken", p)
		}
	}
}
