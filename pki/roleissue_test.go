package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestIssueKinds: a key of each kind and size, that belongs to the certificate and is kept nowhere.
func TestIssueKinds(t *testing.T) {
	f := newFirm(t, nil)
	root := f.root(t, "p256", "root")
	r := anyRole("r")
	for _, c := range []struct {
		kind string
		bits int
		want x509.KeyUsage
	}{
		{"rsa", 0, x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}, {"rsa", 3072, x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment},
		{"ec", 0, x509.KeyUsageDigitalSignature}, {"ec", 384, x509.KeyUsageDigitalSignature}, {"ec", 521, x509.KeyUsageDigitalSignature},
		{"ed25519", 0, x509.KeyUsageDigitalSignature},
	} {
		r.KeyType, r.KeyBits = c.kind, c.bits
		f.role(t, r)
		pair := f.issue(t, "r", "a.example")
		verify(t, pair.Certificate, root.Certificate())
		bits := 0
		switch key := pair.Key.(type) {
		case *rsa.PrivateKey:
			bits = key.N.BitLen()
		case *ecdsa.PrivateKey:
			bits = key.Curve.Params().BitSize
		}
		if !equalKeys(pair.Certificate.PublicKey, pair.Key.Public()) || c.bits != 0 && bits != c.bits || pair.Certificate.KeyUsage != c.want {
			t.Errorf("%s %d: got %d bits, usage %b", c.kind, c.bits, bits, pair.Certificate.KeyUsage)
		}
	}
	// Vault's default list, which doesn't fit EC and RSA keys, is cut to what fits instead of breaking RFC 8813.
	r.KeyUsage = Strings{"DigitalSignature", "KeyAgreement", "KeyEncipherment"}
	for kind, want := range map[string]x509.KeyUsage{"rsa": x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, "ec": x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement} {
		r.KeyType, r.KeyBits = kind, 0
		f.role(t, r)
		if got := f.issue(t, "r", "a.example").Certificate.KeyUsage; got != want {
			t.Errorf("%s: key usage %b; want %b", kind, got, want)
		}
	}
}

// TestRoleFields: what a role says is in the certificate.
func TestRoleFields(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "rsa", "root")
	if err := f.SetCluster(t.Context(), ClusterConfig{Path: "http://a.example/v1", AIAPath: "http://aia.example"}); err != nil {
		t.Fatal(err)
	}
	urls := URLs{Issuer: []string{"{{cluster_aia_path}}/{{issuer_id}}/der"}, OCSP: []string{"{{cluster_path}}/ocsp"}, CRL: []string{"{{cluster_path}}/crl"}}
	if err := f.SetURLs(t.Context(), urls); err != nil {
		t.Fatal(err)
	}
	r := anyRole("r")
	r.Organization, r.OU, r.Country = Strings{"Org"}, Strings{"Unit"}, Strings{"SE"}
	r.CodeSigningFlag, r.ExtKeyUsage, r.ExtKeyUsageOIDs = true, Strings{"ExtKeyUsageTimeStamping"}, Strings{"1.3.6.1.4.1.99.1"}
	r.TTL, r.NotBeforeDuration, r.SerialBits = Duration(time.Hour), Duration(10*time.Second), 64
	r.PolicyIdentifiers = Policies{{"1.3.6.1.4.1.99.2", "https://a.example/cps"}, {OID: "1.3.6.1.4.1.99.3"}}
	r.UsePSS, r.SignatureBits = true, 384
	f.role(t, r)
	issuer, _ := f.Issuer(t.Context(), "")
	pair, err := f.Issue(t.Context(), "r", IssueRequest{CommonName: "a.example", IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}, OtherNames: []string{"1.3.6.1.4.1.99.4;UTF8:hé"}})
	if err != nil {
		t.Fatal(err)
	}
	c := pair.Certificate
	this := noon.Truncate(time.Second)
	switch {
	case c.Subject.String() != "CN=a.example,OU=Unit,O=Org,C=SE":
		t.Errorf("subject %s", c.Subject)
	case len(c.ExtKeyUsage) != 4 || len(c.UnknownExtKeyUsage) != 1:
		t.Errorf("usages %v %v", c.ExtKeyUsage, c.UnknownExtKeyUsage)
	case !c.NotBefore.Equal(this.Add(-10*time.Second)) || !c.NotAfter.Equal(this.Add(time.Hour-time.Second)):
		t.Errorf("%s to %s", c.NotBefore, c.NotAfter)
	case c.SerialNumber.BitLen() != 65:
		t.Errorf("serial number of %d bits", c.SerialNumber.BitLen())
	case len(c.Policies) != 2 || c.SignatureAlgorithm != x509.SHA384WithRSAPSS || c.IsCA || !c.BasicConstraintsValid:
		t.Errorf("policies %v, algorithm %s", c.Policies, c.SignatureAlgorithm)
	case c.IssuingCertificateURL[0] != "http://aia.example/"+issuer.ID+"/der" || c.OCSPServer[0] != "http://a.example/v1/ocsp" || c.CRLDistributionPoints[0] != "http://a.example/v1/crl":
		t.Errorf("URLs %v %v %v", c.IssuingCertificateURL, c.OCSPServer, c.CRLDistributionPoints)
	case len(c.DNSNames) != 1 || len(c.IPAddresses) != 1 || !strings.Contains(string(extensionOf(c, oidSubjectAltName)), "hé") || !strings.Contains(string(extensionOf(c, oidPolicies)), "https://a.example/cps"):
		t.Errorf("names %v %v", c.DNSNames, c.IPAddresses)
	}
}

func extensionOf(c *x509.Certificate, id asn1.ObjectIdentifier) []byte {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return e.Value
		}
	}
	return nil
}

// TestSignCSR: a CSR's values go through the rules of the role, and its key must be the role's.
func TestSignCSR(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	r := NewRole("r")
	r.AllowedDomains, r.AllowBareDomains, r.AllowSubdomains = Strings{"example.com"}, true, true
	r.KeyType, r.AllowedIPSANsCIDR, r.AllowedUserIDs = "ec", Strings{"192.0.2.0/24"}, Strings{"jane"}
	f.role(t, r)
	user := func(name string) func(*x509.CertificateRequest) {
		return func(c *x509.CertificateRequest) {
			c.DNSNames, c.EmailAddresses, c.IPAddresses, c.URIs = []string{"www.example.com"}, nil, nil, nil
			c.Subject = pkix.Name{CommonName: "www.example.com", ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidUserID, Value: name}}}
		}
	}
	ips := func(ip string) func(*x509.CertificateRequest) {
		return func(c *x509.CertificateRequest) {
			c.Subject = pkix.Name{CommonName: "www.example.com"}
			c.DNSNames, c.EmailAddresses, c.IPAddresses, c.URIs = nil, nil, []net.IP{net.ParseIP(ip)}, nil
		}
	}
	for name, c := range map[string]struct {
		key    string
		change func(*x509.CertificateRequest)
		text   string // "" is good
	}{
		"good":            {"p256-b", user("jane"), ""},
		"address":         {"p384", ips("192.0.2.7"), ""},
		"another address": {"p384", ips("198.51.100.7"), "allowed_ip_sans_cidr"}, // OpenBao let those of a CSR pass before 2.6.2
		"user":            {"p256-b", user("john"), "allowed_user_ids"},
		"kind of key":     {"rsa", user("jane"), `key_type: "rsa"`},
		"issuer's key":    {"p256", user("jane"), "it is that of the CA"},
		"weak curve":      {"p224", user("jane"), "P-224"},
		"other name": {"p256-b", func(c *x509.CertificateRequest) {
			c.DNSNames, c.EmailAddresses, c.IPAddresses, c.URIs = []string{"www.example.org"}, nil, nil, nil
			c.Subject.CommonName = "www.example.com"
		}, "www.example.org"},
		"other common name": {"p256-b", func(c *x509.CertificateRequest) {
			c.DNSNames, c.EmailAddresses, c.IPAddresses, c.URIs = []string{"www.example.com"}, nil, nil, nil
			c.Subject.CommonName = "www.example.org"
		}, "www.example.org"},
	} {
		t.Run(name, func(t *testing.T) {
			f.signed()
			issued, err := f.Sign(t.Context(), "r", makeCSR(t, testKeys()[c.key], c.change), IssueRequest{})
			if c.text == "" {
				if err != nil || !equalKeys(issued.Certificate.PublicKey, testKeys()[c.key].Public()) {
					t.Errorf("got %v, %v", issued, err)
				}
				return
			}
			wantError(t, err, backend.ErrInvalidParams, c.text)
			if f.signed() != 0 {
				t.Error("something was signed")
			}
		})
	}
	r.UseCSRSANs, r.UseCSRCommonName = false, false
	f.role(t, r)
	issued, err := f.Sign(t.Context(), "r", makeCSR(t, testKeys()["p256-b"], user("jane")), IssueRequest{CommonName: "b.example.com"})
	if err != nil || len(issued.Certificate.DNSNames) != 1 || issued.Certificate.DNSNames[0] != "b.example.com" {
		t.Errorf("without the CSR's values: %v, %v", issued, err)
	}
	_, err = f.Sign(t.Context(), "nobody", nil, IssueRequest{})
	wantError(t, err, store.ErrNotFound, "nobody")
}

// TestSignatureBits: what the role wants is what the key manager is asked for, and what it can't do is refused before (Vault asked
// Google's RSA_SIGN_PSS_4096_SHA512 keys for SHA-256).
func TestSignatureBits(t *testing.T) {
	f := newFirm(t, nil)
	f.house.km.algs["rsa"] = []backend.SignatureAlgorithm{{Scheme: backend.RSAPSS, Hash: crypto.SHA512, Salt: backend.SaltEqualsHash}}
	f.house.km.algs["rsa-b"] = []backend.SignatureAlgorithm{{Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA256}}
	f.root(t, "rsa", "pss")
	f.root(t, "rsa-b", "pkcs1")
	f.root(t, "p384", "p384")
	f.root(t, "ed25519", "ed25519")
	for _, c := range []struct {
		issuer string
		bits   int
		pss    bool
		want   x509.SignatureAlgorithm // 0 is refused
	}{
		{"pss", 0, false, x509.SHA512WithRSAPSS}, {"pss", 512, true, x509.SHA512WithRSAPSS}, {"pss", 256, true, 0}, {"pss", 512, false, 0},
		{"pss", 0, true, x509.SHA512WithRSAPSS}, {"pkcs1", 0, true, 0}, {"pkcs1", 0, false, x509.SHA256WithRSA},
		{"p384", 0, false, x509.ECDSAWithSHA384}, {"p384", 256, true, x509.ECDSAWithSHA256}, {"ed25519", 0, false, x509.PureEd25519}, {"ed25519", 256, false, 0},
	} {
		r := anyRole("r")
		r.IssuerRef, r.SignatureBits, r.UsePSS = c.issuer, c.bits, c.pss
		f.role(t, r)
		f.signed()
		pair, err := f.Issue(t.Context(), "r", cn("a.example"))
		switch {
		case c.want == 0 && (err == nil || f.signed() != 0):
			t.Errorf("%+v: got %v", c, err)
		case c.want != 0 && (err != nil || pair.Certificate.SignatureAlgorithm != c.want):
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

// TestLeafNotAfter: what happens to a certificate that would outlive its issuer.
func TestLeafNotAfter(t *testing.T) {
	f := newFirm(t, nil)
	issuer := f.root(t, "p256", "root")
	r := anyRole("r")
	r.TTL = Duration(4000 * day)
	f.role(t, r)
	for behaviour, want := range map[string]time.Time{
		"": {}, NotAfterErr: {}, NotAfterTruncate: issuer.Certificate().NotAfter, NotAfterPermit: noon.Truncate(time.Second).Add(4000*day - time.Second),
	} {
		next, err := f.Issuer(t.Context(), "root")
		if err != nil {
			t.Fatal(err)
		}
		next.LeafNotAfter = behaviour
		if _, err := f.UpdateIssuer(t.Context(), *next); err != nil {
			t.Fatal(err)
		}
		pair, err := f.Issue(t.Context(), "r", cn("a.example"))
		if want.IsZero() {
			wantError(t, err, backend.ErrInvalidParams, "is after the issuer's")
		} else if err != nil || !pair.Certificate.NotAfter.Equal(want) {
			t.Errorf("%s: %v", behaviour, err)
		}
	}
}

// TestBatch: results are in order, and one that is refused is alone in that.
func TestBatch(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	r := anyRole("r")
	f.role(t, r)
	items := make([]BatchItem, 40)
	for i := range items {
		items[i].Request = cn(string(rune('a'+i%26)) + ".example")
	}
	items[7].Request.CommonName = "not a name"
	items[9] = BatchItem{CSR: makeCSR(t, testKeys()["ed25519"], func(c *x509.CertificateRequest) { c.Subject.CommonName = "csr.example" })}
	results, err := f.IssueBatch(t.Context(), "r", items)
	if err != nil {
		t.Fatal(err)
	}
	serials := map[string]bool{}
	for i, result := range results {
		switch {
		case i == 7:
			var refused *RoleError
			if !errors.As(result.Err, &refused) || refused.Rule != "cn_validations" {
				t.Errorf("item 7: %v", result.Err)
			}
		case result.Err != nil || (result.Key == nil) != (i == 9) || i != 9 && result.Issued.Certificate.Subject.CommonName != items[i].Request.CommonName:
			t.Errorf("item %d: %+v", i, result)
		default:
			serials[result.Issued.Certificate.SerialNumber.String()] = true
		}
	}
	if n, err := f.Count(t.Context()); len(serials) != 39 || err != nil || n.Issued != 40 || n.Pending != 0 {
		t.Errorf("%d serial numbers, counts %+v, %v", len(serials), n, err)
	}
	if _, err := f.IssueBatch(t.Context(), "r", nil); err == nil {
		t.Error("an empty batch was taken")
	}
}

func TestSignVerbatim(t *testing.T) {
	f := newFirm(t, &Options{AllowVerbatim: true})
	root := f.root(t, "p256", "root")
	sign := func(change func(*x509.CertificateRequest)) (*Issued, error) {
		return f.SignVerbatim(t.Context(), makeCSR(t, testKeys()["p384"], change), VerbatimRequest{TTL: time.Hour})
	}
	ext := func(id asn1.ObjectIdentifier, critical bool, value []byte) func(*x509.CertificateRequest) {
		return func(c *x509.CertificateRequest) {
			c.ExtraExtensions = []pkix.Extension{{Id: id, Critical: critical, Value: value}}
		}
	}
	usage, _ := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 3}, {1, 3, 6, 1, 4, 1, 99}})
	issued, err := sign(ext(oidExtKeyUsage, false, usage))
	if err != nil {
		t.Fatal(err)
	}
	c := issued.Certificate
	if c.ExtKeyUsage[0] != x509.ExtKeyUsageCodeSigning || len(c.UnknownExtKeyUsage) != 1 || c.CheckSignatureFrom(root.Certificate()) != nil {
		t.Errorf("got %+v", c)
	}
	issued, err = sign(ext(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}, false, []byte{0x30, 0})) // authority information access
	if err != nil || extensionOf(issued.Certificate, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}) != nil {
		t.Errorf("AIA: %v", err)
	}
	anyUsage, _ := asn1.Marshal([]asn1.ObjectIdentifier{oidAnyExtKeyUsage})
	f.signed()
	for text, change := range map[string]func(*x509.CertificateRequest){
		"asks for a CA certificate": ext(oidBasicConstraints, true, []byte{0x30, 3, 1, 1, 0xff}),
		"anyExtendedKeyUsage":       ext(oidExtKeyUsage, false, anyUsage),
		"keyCertSign":               ext(oidKeyUsage, true, []byte{3, 2, 2, 4}),
		"critical extension 1.2.3":  ext(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0}),
		"malformed extension":       ext(oidKeyUsage, true, []byte{5, 0, 1}),
	} {
		_, err := sign(change)
		wantError(t, err, backend.ErrInvalidParams, text)
	}
	if f.signed() != 0 {
		t.Error("something was signed")
	}
	_, err = firmOn(t, f.house, f.store, nil).SignVerbatim(t.Context(), nil, VerbatimRequest{})
	wantError(t, err, backend.ErrNotPermitted, "AllowVerbatim")
}
