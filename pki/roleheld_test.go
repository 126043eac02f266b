package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestFixedExtensions: what is encoded once for all certificates of a role is what crypto/x509 writes into each.
func TestFixedExtensions(t *testing.T) {
	f := newFirm(t, nil)
	root := f.root(t, "p256", "root")
	roles := map[string]func(*Role){
		"plain": func(*Role) {},
		"usages": func(r *Role) {
			r.KeyUsage = Strings{"DigitalSignature", "KeyAgreement", "KeyEncipherment", "EncipherOnly"}
		},
		"one":     func(r *Role) { r.ServerFlag, r.ClientFlag, r.CodeSigningFlag = false, false, true },
		"unknown": func(r *Role) { r.ExtKeyUsageOIDs = Strings{"1.2.3.4"} },
		"policies": func(r *Role) {
			r.PolicyIdentifiers = append(r.PolicyIdentifiers, Policy{"1.2.3", "http://cps.example"})
		},
		"no policy":   func(r *Role) { r.PolicyIdentifiers = nil },
		"other names": func(r *Role) { r.AllowedOtherSANs = Strings{"*"} },
	}
	for name, change := range roles {
		for _, kind := range []string{"p256-b", "rsa-b", "ed25519"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				role := offRole("r")
				role.KeyType = "any"
				change(&role)
				f.role(t, role)
				request := cn("a.example")
				if name == "other names" {
					request.OtherNames = []string{"1.2.3;UTF8:x"}
				}
				csr := makeCSR(t, testKeys()[kind], func(c *x509.CertificateRequest) { *c = x509.CertificateRequest{DNSNames: []string{"a.example"}} })
				for range 2 {
					issued, err := f.Sign(t.Context(), "r", csr, request)
					must(t, err)
					want := asX509(t, &role, root.Certificate(), issued.Certificate)
					got := map[string]bool{}
					for _, extension := range issued.Certificate.Extensions {
						if extension.Id.Equal(oidSubjectAltName) {
							continue // not fixed
						}
						got[extension.Id.String()] = true
						if i := slices.IndexFunc(want, func(e pkix.Extension) bool { return e.Id.Equal(extension.Id) }); i < 0 {
							t.Errorf("there is an extension %v", extension.Id)
						} else if !bytes.Equal(extension.Value, want[i].Value) || extension.Critical != want[i].Critical {
							t.Errorf("extension %v is %x (critical %v); crypto/x509 has %x (%v)", extension.Id, extension.Value, extension.Critical, want[i].Value, want[i].Critical)
						}
					}
					if len(got) != len(want) || len(issued.Certificate.Extensions) != len(want)+1 {
						t.Errorf("got %d extensions, %v; want %d and the names", len(issued.Certificate.Extensions), got, len(want))
					}
				}
			})
		}
	}
}

// asX509 returns the extensions, but for names, that crypto/x509 writes into a certificate of the role.
func asX509(t *testing.T, role *Role, ca, like *x509.Certificate) []pkix.Extension {
	t.Helper()
	usage, err := keyUsages(role.KeyUsage)
	must(t, err)
	known, unknown, err := role.extKeyUsages()
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: noon, NotAfter: noon.Add(time.Hour), BasicConstraintsValid: true, MaxPathLen: -1,
		KeyUsage: usableWith(usage, like.PublicKey), ExtKeyUsage: known, UnknownExtKeyUsage: unknown,
	}
	if len(role.PolicyIdentifiers) > 0 {
		policies, err := role.PolicyIdentifiers.extension()
		must(t, err)
		template.ExtraExtensions = []pkix.Extension{policies}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, like.PublicKey, testKeys()["p256"])
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert.Extensions
}

// TestHeldRoleShared: certificates that are made at the same time from one role have nothing of each other.
func TestHeldRoleShared(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	must(t, f.SetURLs(t.Context(), URLs{DeltaCRL: []string{"http://crl.example/delta"}}))
	must(t, f.SetCRLConfig(t.Context(), CRLConfig{AutoRebuild: true, Delta: true}))
	role := offRole("r")
	role.PolicyIdentifiers = nil // then there is room behind the extensions that all share
	f.role(t, role)
	var items []BatchItem
	for i := range 40 {
		item := BatchItem{Request: cn(string(rune('a'+i%20)) + ".example")}
		if i >= 20 {
			item.Request.OtherNames = []string{"1.2.3;UTF8:" + item.Request.CommonName}
		}
		items = append(items, item)
	}
	results, err := f.IssueBatch(t.Context(), "r", items)
	must(t, err)
	for i, result := range results {
		must(t, result.Err)
		cert := result.Issued.Certificate
		if cert.Subject.CommonName != items[i].Request.CommonName || !slices.Equal(cert.DNSNames, []string{items[i].Request.CommonName}) {
			t.Errorf("%d: got %s with %q; want %s", i, cert.Subject, cert.DNSNames, items[i].Request.CommonName)
		}
		if got := bytes.Contains(extensionOf(cert, oidSubjectAltName), []byte(items[i].Request.CommonName)); !got {
			t.Errorf("%d: the names are %x", i, extensionOf(cert, oidSubjectAltName))
		}
		if bytes.Count(cert.Raw, []byte("http://crl.example/delta")) != 1 {
			t.Errorf("%d: it has the URL of delta CRLs %d times", i, bytes.Count(cert.Raw, []byte("http://crl.example/delta")))
		}
	}
}

// TestCorruptRole: a role that can't be read, or that nothing can be issued under, issues nothing.
func TestCorruptRole(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	f.signed()
	for value, want := range map[string]struct {
		err  error
		text string
	}{
		`{"key_type":`: {store.ErrCorrupt, `role "r"`},
		`{"key_type":"ed25519","allow_any_name":true,"key_usage":["CertSign"],"server_flag":true}`: {backend.ErrInvalidParams, "CertSign"},
		`{"key_type":"ed25519","allow_any_name":true,"ext_key_usage":["all"]}`:                     {backend.ErrInvalidParams, "ext_key_usage"},
	} {
		_, err := f.store.Apply(t.Context(), store.Op{Key: f.prefix + "roles/r", Value: []byte(value), Expect: store.Any})
		must(t, err)
		_, err = f.Issue(t.Context(), "r", cn("a.example"))
		wantError(t, err, want.err, want.text)
	}
	if n := f.signed(); n != 0 {
		t.Errorf("%d signatures", n)
	}
}
