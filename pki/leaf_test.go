package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

func leafTemplate() LeafTemplate {
	return LeafTemplate{DNSNames: []string{"a.example"}, Validity: 90 * day}
}

func mustURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}

func TestLeafProfile(t *testing.T) {
	h := newHouse(t, nil)
	root := mustRoot(t, h, "p256", rootTemplate())
	ca := mustIntermediate(t, h, root, "p384", interTemplate())
	seen := map[string]bool{}
	for key, usage := range map[string]x509.KeyUsage{
		"rsa":     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		"p521":    x509.KeyUsageDigitalSignature,
		"ed25519": x509.KeyUsageDigitalSignature,
	} {
		t.Run(key, func(t *testing.T) {
			h.signed()
			issued, err := ca.SignCSR(t.Context(), makeCSR(t, testKeys()[key], nil), LeafTemplate{Validity: 90 * day})
			if err != nil {
				t.Fatal(err)
			}
			if n := h.signed(); n != 1 {
				t.Errorf("it took %d signatures; want 1", n)
			}
			c := issued.Certificate
			if c.KeyUsage != usage {
				t.Errorf("keyUsage %b; want %b", c.KeyUsage, usage)
			}
			if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) {
				t.Errorf("extended key usage %v", c.ExtKeyUsage)
			}
			if !bytes.Equal(c.RawSubject, []byte{0x30, 0}) {
				t.Errorf("subject %s; want none, whatever the request has", c.Subject)
			}
			if c.IsCA || !c.BasicConstraintsValid || c.MaxPathLen != -1 {
				t.Error("basicConstraints say more than that it is no CA")
			}
			if len(c.SubjectKeyId) != 0 || !bytes.Equal(c.AuthorityKeyId, ca.cert.SubjectKeyId) || !bytes.Equal(c.RawIssuer, ca.cert.RawSubject) {
				t.Error("key identifiers or issuer are wrong")
			}
			if !c.NotBefore.Equal(noon.Truncate(time.Second).Add(-30*time.Second)) || c.NotAfter.Sub(c.NotBefore) != 90*day-time.Second {
				t.Errorf("validity %s to %s", c.NotBefore, c.NotAfter)
			}
			if bits := c.SerialNumber.BitLen(); bits != 8*serialLength-1 || c.SerialNumber.Sign() <= 0 || seen[c.SerialNumber.String()] {
				t.Errorf("serial number %x of %d bits", c.SerialNumber, bits)
			}
			seen[c.SerialNumber.String()] = true
			for _, e := range c.Extensions {
				if e.Id.Equal(oidSubjectAltName) && !e.Critical {
					t.Error("without a subject, the names must be critical")
				}
			}
			verify(t, c, root.Certificate(), ca.Certificate())
			if got := bytes.Count(issued.PEM(), []byte("BEGIN CERTIFICATE")); got != 2 {
				t.Errorf("PEM has %d certificates; want the leaf and the intermediate", got)
			}
		})
	}
}

// Of a request nothing counts but key and names.
func TestCSRExtensionsIgnored(t *testing.T) {
	h := newHouse(t, nil)
	ca := mustRoot(t, h, "p256", rootTemplate())
	csr := makeCSR(t, testKeys()["p384"], func(r *x509.CertificateRequest) {
		r.ExtraExtensions = []pkix.Extension{
			extension(t, asn1.ObjectIdentifier{2, 5, 29, 19}, true, struct{ IsCA bool }{true}),
			extension(t, asn1.ObjectIdentifier{2, 5, 29, 15}, true, asn1.BitString{Bytes: []byte{0x06}, BitLength: 7}),
			extension(t, asn1.ObjectIdentifier{2, 5, 29, 37}, false, []asn1.ObjectIdentifier{{2, 5, 29, 37, 0}}),
			extension(t, asn1.ObjectIdentifier{1, 2, 3, 4}, true, "unknown"),
		}
	})
	issued, err := ca.SignCSR(t.Context(), csr, LeafTemplate{Validity: day})
	if err != nil {
		t.Fatal(err)
	}
	c := issued.Certificate
	if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.ExtKeyUsage) != 2 || len(c.UnhandledCriticalExtensions) != 0 || len(c.Extensions) != 5 {
		t.Errorf("the request's extensions left traces: %+v", c)
	}
	cert, err := ca.SignIntermediate(t.Context(), csr, interTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.ExtKeyUsage) != 0 || len(cert.DNSNames) != 0 || cert.Subject.CommonName != "Example Issuing" {
		t.Errorf("the request's extensions or subject left traces: %+v", cert)
	}
}

func TestTemplateOverridesNames(t *testing.T) {
	h := newHouse(t, nil)
	ca := mustRoot(t, h, "p256", rootTemplate())
	issued, err := ca.SignCSR(t.Context(), makeCSR(t, testKeys()["rsa"], nil), LeafTemplate{
		Validity: day, Subject: pkix.Name{CommonName: "10.0.0.1"},
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1), net.IPv6loopback}, EmailAddresses: []string{"Ann@mail.example"},
		URIs: []*url.URL{mustURL("spiffe://trust.example/web"), mustURL("urn:x:y")},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := issued.Certificate
	if len(c.DNSNames) != 0 || len(c.IPAddresses) != 2 || c.EmailAddresses[0] != "Ann@mail.example" || len(c.URIs) != 2 || c.Subject.CommonName != "10.0.0.1" {
		t.Errorf("names: %v %v %v %v %s", c.DNSNames, c.IPAddresses, c.EmailAddresses, c.URIs, c.Subject)
	}
}

// A refused leaf costs no signature.
func TestLeafRefused(t *testing.T) {
	h := newHouse(t, nil)
	root := mustRoot(t, h, "p256", rootTemplate())
	it := interTemplate()
	it.Permitted.DNS = []string{"example"}
	it.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	ca := mustIntermediate(t, h, root, "p384", it)
	many := make([]string, maxNames+1)
	for name, c := range map[string]struct {
		change   func(*LeafTemplate)
		sentinel error
		text     string
	}{
		"no names":           {func(t *LeafTemplate) { t.DNSNames = nil }, backend.ErrInvalidParams, "at least one DNS name, IP address, email address or URI"},
		"too many names":     {func(t *LeafTemplate) { t.DNSNames = many }, backend.ErrInvalidParams, "got 257; it takes at most 256"},
		"common name":        {func(t *LeafTemplate) { t.Subject.CommonName = "b.example" }, backend.ErrInvalidParams, `"b.example" is not among`},
		"constraint":         {func(t *LeafTemplate) { t.DNSNames = []string{"a.example", "b.test"} }, backend.ErrInvalidParams, "b.test"},
		"other usage":        {func(t *LeafTemplate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, backend.ErrInvalidParams, "CN=Example Issuing"},
		"any usage":          {func(t *LeafTemplate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, backend.ErrInvalidParams, "extended key usage 0"},
		"unknown usage":      {func(t *LeafTemplate) { t.ExtKeyUsage = []x509.ExtKeyUsage{99} }, backend.ErrInvalidParams, "extended key usage 0"},
		"same usage twice":   {func(t *LeafTemplate) { t.ExtKeyUsage = []x509.ExtKeyUsage{1, 1} }, backend.ErrInvalidParams, "given twice"},
		"keyCertSign":        {func(t *LeafTemplate) { t.KeyUsage = x509.KeyUsageCertSign }, backend.ErrInvalidParams, "keyCertSign and cRLSign are for CAs"},
		"unknown key usage":  {func(t *LeafTemplate) { t.KeyUsage = 1 << 12 }, backend.ErrInvalidParams, "unknown bits"},
		"EC keyEncipherment": {func(t *LeafTemplate) { t.KeyUsage = x509.KeyUsageKeyEncipherment }, backend.ErrInvalidParams, "e_ecdsa_allowed_ku"},
		"past the issuer":    {func(t *LeafTemplate) { t.Validity = 366 * day }, backend.ErrInvalidParams, "is after the issuer's"},
		"before the issuer":  {func(t *LeafTemplate) { t.NotBefore = noon.Add(-time.Hour) }, backend.ErrInvalidParams, "is before the issuer's"},
		"bad URL":            {func(t *LeafTemplate) { t.URLs.OCSP = []string{"ftp://x.example"} }, backend.ErrInvalidParams, `"ftp://x.example"`},
		"long common name": {func(t *LeafTemplate) {
			name := strings.Repeat("a", 60) + ".example"
			t.Subject.CommonName, t.DNSNames = name, []string{name}
		}, backend.ErrInvalidParams, "e_subject_common_name_max_length"},
		"algorithm": {func(t *LeafTemplate) { t.SignatureAlgorithm = x509.SHA256WithRSA }, backend.ErrUnsupported, "it takes ECDSA-SHA256"},
	} {
		t.Run(name, func(t *testing.T) {
			h.signed()
			template := leafTemplate()
			c.change(&template)
			issued, err := ca.Sign(t.Context(), testKeys()["p256-b"].Public(), template)
			wantError(t, err, c.sentinel, c.text)
			if issued != nil || h.signed() != 0 {
				t.Error("something was signed")
			}
		})
	}
	t.Run("requests", func(t *testing.T) {
		broken := makeCSR(t, testKeys()["p256-b"], nil)
		broken[len(broken)-1] ^= 1
		for name, c := range map[string]struct {
			csr  []byte
			text string
		}{
			"no names":      {makeCSR(t, testKeys()["p256-b"], func(r *x509.CertificateRequest) { r.DNSNames = nil }), `the common name "ignored.example" doesn't count`},
			"bad name":      {makeCSR(t, testKeys()["p256-b"], func(r *x509.CertificateRequest) { r.DNSNames = []string{"-a.example"} }), `"-a.example"`},
			"own key":       {makeCSR(t, testKeys()["p384"], nil), "that of the CA"},
			"weak":          {makeCSR(t, testKeys()["rsa1024"], nil), "1024"},
			"bad signature": {broken, "invalid signature"},
		} {
			h.signed()
			_, err := ca.SignCSR(t.Context(), c.csr, LeafTemplate{Validity: day})
			wantError(t, err, backend.ErrInvalidParams, c.text)
			if h.signed() != 0 {
				t.Errorf("%s: something was signed", name)
			}
		}
	})
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, ok := range map[string]bool{
		"a": true, "localhost": true, "A.Example": true, "*.a.example": true, "xn--bcher-kva.example": true, "a-b.c1": true, "1.example": true,
		long + ".example": true, "*.internal": true,
		"": false, ".": false, "*": false, "*.": false, "a.": false, ".a": false, "a..b": false, "a.*.b": false, "*a.b": false, "**.a": false, "*.*.a": false,
		"-a.b": false, "a-.b": false, "a_b.c": false, "a b": false, "a\x00b": false, "bücher.example": false, "1.2.3.4": false, "::1": false,
		"a.1": false, "0x7f.1": false, long + "a.b": false, strings.Repeat("a.", 127): false, "http://a": false, "a/b": false, "a@b": false,
	} {
		if problem := checkDNS(name, true); (problem == "") != ok {
			t.Errorf("DNS name %q: got problem %q; want ok %t", name, problem, ok)
		}
	}
	for email, ok := range map[string]bool{
		"a@b.example": true, "a+b.c@d": true, "A@B": true,
		"": false, "a": false, "@b": false, "a@": false, "a@b@c": false, `"a b"@c`: false, "a@*.b": false, "Ann <a@b.example>": false, "a@[1.2.3.4]": false,
		"ä@b": false, " a@b": false, "a@b\n": false, "a@1.2.3.4": false, strings.Repeat("a", 65) + "@b": false, "a..b@c": false,
	} {
		if problem := checkEmail(email); (problem == "") != ok {
			t.Errorf("email address %q: got problem %q; want ok %t", email, problem, ok)
		}
	}
	for uri, ok := range map[string]bool{
		"spiffe://trust.example/a": true, "https://a.example:8443/x?y=z": true, "urn:uuid:0": true, "https://[::1]/": true, "https://10.0.0.1": true,
		"a": false, "/a": false, "//a.example": false, "https://a:b@c.example": false, "https://a_b/": false, "https://*.a/": false, "https:": false,
	} {
		if problem := checkURI(mustURL(uri)); (problem == "") != ok {
			t.Errorf("URI %q: got problem %q; want ok %t", uri, problem, ok)
		}
	}
	for _, uri := range []*url.URL{nil, {}, {Scheme: "https", Host: "a b"}, {Scheme: "ht tp", Host: "a"}, {Scheme: "https", Host: strings.Repeat("a.", 2000) + "b"}} {
		if checkURI(uri) == "" {
			t.Errorf("URI %v is taken", uri)
		}
	}
	for _, ip := range []net.IP{nil, {1, 2, 3}, make(net.IP, 5), net.IPv4zero, net.IPv6unspecified, net.IPv4allsys} {
		if _, err := (altNames{ip: []net.IP{ip}}).normal(); !errors.Is(err, backend.ErrInvalidParams) {
			t.Errorf("IP address %v: got error %v", ip, err)
		}
	}
	names, err := altNames{dns: []string{"B.example", "b.EXAMPLE", "a.example"}, ip: []net.IP{net.IPv4(1, 2, 3, 4), {1, 2, 3, 4}}, email: []string{"a@b", "a@b"},
		uri: []*url.URL{mustURL("urn:a:b"), mustURL("urn:a:b")}}.normal()
	if err != nil || !slices.Equal(names.dns, []string{"b.example", "a.example"}) || names.count() != 5 {
		t.Errorf("got %v, %v", names, err)
	}
}

func TestPeriod(t *testing.T) {
	parent := &x509.Certificate{NotBefore: noon.Truncate(time.Second).Add(-10 * time.Second), NotAfter: noon.Truncate(time.Second).Add(time.Hour)}
	first, last, err := period(noon, time.Time{}, time.Time{}, time.Hour, parent)
	if err != nil || !first.Equal(parent.NotBefore) || last.Sub(first) != time.Hour-time.Second {
		t.Errorf("got %s to %s, %v; want to begin with the issuer and last an hour, both ends included", first, last, err)
	}
	if _, last, err = period(noon, time.Time{}, parent.NotAfter, 0, parent); err != nil || !last.Equal(parent.NotAfter) {
		t.Errorf("got end %s, %v; the issuer's own is allowed", last, err)
	}
	_, _, err = period(noon, time.Time{}, parent.NotAfter.Add(time.Second), 0, parent)
	wantError(t, err, backend.ErrInvalidParams, "2026-03-01T13:00:01Z is after the issuer's, 2026-03-01T13:00:00Z")
}

func TestSerialNumber(t *testing.T) {
	for _, b := range []byte{0, 0xff} {
		n, err := serialNumber(bytes.NewReader(bytes.Repeat([]byte{b}, serialLength)))
		if err != nil || n.Sign() <= 0 || len(n.Bytes()) != serialLength || n.Bytes()[0]&0x80 != 0 {
			t.Errorf("from bytes %#x: got %x, %v", b, n, err)
		}
	}
	if _, err := serialNumber(bytes.NewReader(make([]byte, serialLength-1))); err == nil {
		t.Error("too little randomness is no error")
	}
}

// A key manager that answers wrongly never gets a certificate or CRL out.
func TestMisbehavingKeyManager(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"nothing":        func([]byte) []byte { return nil },
		"flipped bit":    func(s []byte) []byte { s[len(s)-1] ^= 1; return s },
		"something more": func(s []byte) []byte { return append(s, 0) },
		"other key": func([]byte) []byte {
			s, _ := testKeys()["p256-b"].Sign(nil, make([]byte, 32), crypto.SHA256)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			ca := mustRoot(t, h, "p256", rootTemplate())
			csr := makeCSR(t, testKeys()["p384"], nil)
			h.km.spoil = spoil
			_, err := h.engine.CreateRoot(t.Context(), "p256", rootTemplate())
			wantError(t, err, backend.ErrInvalidSignature, "km:p256")
			issued, err := ca.SignCSR(t.Context(), csr, LeafTemplate{Validity: day})
			wantError(t, err, backend.ErrInvalidSignature)
			if issued != nil {
				t.Error("a certificate got out")
			}
			crl, err := ca.CRL(t.Context(), crlTemplate())
			wantError(t, err, backend.ErrInvalidSignature)
			if crl != nil {
				t.Error("a CRL got out")
			}
			if _, err := h.engine.CreateCSR(t.Context(), "p256", CSRTemplate{DNSNames: []string{"a.example"}}); err == nil {
				t.Error("a request got out")
			}
		})
	}
}
