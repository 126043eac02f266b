package pki

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

const day = 24 * time.Hour

func rootTemplate() CATemplate {
	return CATemplate{
		Subject:  pkix.Name{Country: []string{"SE"}, Organization: []string{"Example"}, CommonName: "Example Root"},
		Validity: 3650 * day,
	}
}

func interTemplate() CATemplate {
	return CATemplate{
		Subject:    pkix.Name{Country: []string{"SE"}, Organization: []string{"Example"}, CommonName: "Example Issuing"},
		Validity:   365 * day,
		MaxPathLen: new(0),
	}
}

func mustRoot(tb testing.TB, h *house, key string, t CATemplate) *CA {
	tb.Helper()
	ca, err := h.engine.CreateRoot(tb.Context(), key, t)
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

// mustIntermediate makes a CA on key below parent, as an operator would.
func mustIntermediate(tb testing.TB, h *house, parent *CA, key string, t CATemplate) *CA {
	tb.Helper()
	csr, err := h.engine.CreateCSR(tb.Context(), key, CSRTemplate{Subject: pkix.Name{CommonName: "from the CSR"}})
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := parent.SignIntermediate(tb.Context(), csr, t)
	if err != nil {
		tb.Fatal(err)
	}
	ca, err := h.engine.LoadCA(tb.Context(), key, append([]*x509.Certificate{cert}, parent.Chain()...))
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

// wantError checks that err wraps sentinel, begins with the package's name and contains all of texts.
func wantError(tb testing.TB, err, sentinel error, texts ...string) {
	tb.Helper()
	if !errors.Is(err, sentinel) {
		tb.Fatalf("got error %v; want one that wraps %v", err, sentinel)
	}
	if !strings.HasPrefix(err.Error(), "pki: ") || strings.Count(err.Error(), "pki: ") != 1 {
		tb.Errorf("error %q: want \"pki: \" at its beginning and nowhere else", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			tb.Errorf("error %q lacks %q", err, text)
		}
	}
}

// Every kind of key is CA and leaf, with each of its algorithms, and crypto/x509 accepts the chain.
func TestChains(t *testing.T) {
	algs := map[string][]x509.SignatureAlgorithm{
		"rsa":     {0, x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS},
		"p256":    {0, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512},
		"p384":    {0, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512},
		"p521":    {0, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512},
		"ed25519": {0, x509.PureEd25519},
	}
	defaults := map[string]x509.SignatureAlgorithm{"rsa": x509.SHA256WithRSA, "p256": x509.ECDSAWithSHA256, "p384": x509.ECDSAWithSHA384,
		"p521": x509.ECDSAWithSHA512, "ed25519": x509.PureEd25519}
	for i, alg := range mldsaAlgorithms {
		if name := []string{"", "mldsa65", "mldsa87"}[i]; name != "" {
			algs[name], defaults[name] = []x509.SignatureAlgorithm{0, alg}, alg
		}
	}
	for key, list := range algs {
		for _, alg := range list {
			t.Run(key+"/"+alg.String(), func(t *testing.T) {
				t.Parallel()
				h := newHouse(t, nil)
				want := alg
				if want == 0 {
					want = defaults[key]
				}
				rt := rootTemplate()
				rt.SignatureAlgorithm = alg
				root := mustRoot(t, h, key, rt)
				if n := h.signed(); n != 1 {
					t.Errorf("the root took %d signatures; want 1", n)
				}
				csr, err := h.engine.CreateCSR(t.Context(), "p256-b", CSRTemplate{Subject: pkix.Name{CommonName: "x"}})
				if err != nil {
					t.Fatal(err)
				}
				h.signed()
				it := interTemplate()
				it.SignatureAlgorithm = alg
				cert, err := root.SignIntermediate(t.Context(), csr, it)
				if err != nil {
					t.Fatal(err)
				}
				inter, err := h.engine.LoadCA(t.Context(), "p256-b", []*x509.Certificate{cert, root.Certificate()})
				if err != nil {
					t.Fatal(err)
				}
				issued, err := inter.Sign(t.Context(), testKeys()[key].Public(), LeafTemplate{DNSNames: []string{"a.example"}, Validity: day})
				if err != nil {
					t.Fatal(err)
				}
				direct, err := root.Sign(t.Context(), testKeys()["p256-c"].Public(), LeafTemplate{DNSNames: []string{"a.example"}, Validity: day, SignatureAlgorithm: alg})
				if err != nil {
					t.Fatal(err)
				}
				if n := h.signed(); n != 3 {
					t.Errorf("three certificates took %d signatures; want 3", n)
				}
				for _, c := range []*x509.Certificate{root.Certificate(), cert, direct.Certificate} {
					if c.SignatureAlgorithm != want {
						t.Errorf("%s is signed with %s; want %s", c.Subject, c.SignatureAlgorithm, want)
					}
				}
				verify(t, issued.Certificate, root.Certificate(), cert)
				verify(t, direct.Certificate, root.Certificate())
			})
		}
	}
}

func verify(tb testing.TB, leaf, root *x509.Certificate, intermediates ...*x509.Certificate) {
	tb.Helper()
	roots, pool := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, cert := range intermediates {
		pool.AddCert(cert)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		opts := x509.VerifyOptions{Roots: roots, Intermediates: pool, CurrentTime: noon, DNSName: "a.example", KeyUsages: []x509.ExtKeyUsage{use}}
		if _, err := leaf.Verify(opts); err != nil {
			tb.Errorf("%v: %v", use, err)
		}
	}
}

func TestRootFields(t *testing.T) {
	h := newHouse(t, nil)
	_, network, _ := net.ParseCIDR("10.0.0.0/8")
	rt := rootTemplate()
	rt.MaxPathLen = new(1)
	rt.Permitted = Subtrees{DNS: []string{"example"}, Email: []string{".example", "a@b.example"}, URI: []string{"host.example"}, IP: []*net.IPNet{network}}
	rt.Excluded = Subtrees{DNS: []string{"bad.example"}}
	rt.URLs = URLs{Issuer: []string{"http://pki.example/root.crt"}, OCSP: []string{"http://ocsp.example"}, CRL: []string{"http://pki.example/root.crl"}}
	c := mustRoot(t, h, "p384", rt).Certificate()
	switch {
	case !c.IsCA || !c.BasicConstraintsValid || c.MaxPathLen != 1:
		t.Errorf("basicConstraints: IsCA %t, path length %d", c.IsCA, c.MaxPathLen)
	case c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature:
		t.Errorf("keyUsage %b", c.KeyUsage)
	case !c.PermittedDNSDomainsCritical || c.PermittedDNSDomains[0] != "example" || c.ExcludedDNSDomains[0] != "bad.example" ||
		len(c.PermittedEmailAddresses) != 2 || len(c.PermittedURIDomains) != 1 || len(c.PermittedIPRanges) != 1:
		t.Errorf("name constraints: %+v", c)
	case c.IssuingCertificateURL[0] != rt.URLs.Issuer[0] || c.OCSPServer[0] != rt.URLs.OCSP[0] || c.CRLDistributionPoints[0] != rt.URLs.CRL[0]:
		t.Error("URLs are not those of the template")
	case len(c.SubjectKeyId) != 20 || len(c.ExtKeyUsage) != 0 || len(c.DNSNames) != 0:
		t.Error("a root has a subject key identifier of 20 bytes, no extended key usage and no names")
	case !c.NotBefore.Equal(noon.Truncate(time.Second).Add(-30*time.Second)) || !c.NotAfter.Equal(c.NotBefore.Add(3650*day-time.Second)):
		t.Errorf("validity %s to %s", c.NotBefore, c.NotAfter)
	}
}

func TestRootRefused(t *testing.T) {
	network := &net.IPNet{IP: net.IPv4(10, 0, 0, 1).To4(), Mask: net.CIDRMask(8, 32)}
	for name, c := range map[string]struct {
		key      string
		change   func(*CATemplate)
		sentinel error
		text     string
	}{
		"no subject":          {"", func(t *CATemplate) { t.Subject = pkix.Name{} }, backend.ErrInvalidParams, "subject: it is empty"},
		"control character":   {"", func(t *CATemplate) { t.Subject.CommonName = "a\x00b" }, backend.ErrInvalidParams, `"a\x00b"`},
		"long country":        {"", func(t *CATemplate) { t.Subject.Country = []string{"Sweden"} }, backend.ErrInvalidParams, "e_subj_country_not_uppercase"},
		"no validity":         {"", func(t *CATemplate) { t.Validity = 0 }, backend.ErrInvalidParams, "got neither"},
		"both validities":     {"", func(t *CATemplate) { t.NotAfter = noon.Add(day) }, backend.ErrInvalidParams, "got both"},
		"negative validity":   {"", func(t *CATemplate) { t.Validity = -day }, backend.ErrInvalidParams, "-24h"},
		"past":                {"", func(t *CATemplate) { t.Validity, t.NotAfter = 0, noon.Add(-10*time.Second) }, backend.ErrInvalidParams, "has passed"},
		"upside down":         {"", func(t *CATemplate) { t.Validity, t.NotAfter, t.NotBefore = 0, noon.Add(day), noon.Add(2*day) }, backend.ErrInvalidParams, "is before NotBefore"},
		"year 10000":          {"", func(t *CATemplate) { t.Validity, t.NotAfter = 0, noon.AddDate(8000, 0, 0) }, backend.ErrInvalidParams, "years"},
		"path length":         {"", func(t *CATemplate) { t.MaxPathLen = new(-1) }, backend.ErrInvalidParams, "path length: got -1"},
		"extended key usage":  {"", func(t *CATemplate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, backend.ErrInvalidParams, "a root takes none"},
		"DNS subtree":         {"", func(t *CATemplate) { t.Permitted.DNS = []string{"*.example"} }, backend.ErrInvalidParams, "permitted DNS subtree"},
		"email subtree":       {"", func(t *CATemplate) { t.Excluded.Email = []string{"@example"} }, backend.ErrInvalidParams, "excluded email subtree"},
		"URI subtree":         {"", func(t *CATemplate) { t.Permitted.URI = []string{"http://x"} }, backend.ErrInvalidParams, "permitted URI subtree"},
		"IP subtree":          {"", func(t *CATemplate) { t.Permitted.IP = []*net.IPNet{network} }, backend.ErrInvalidParams, "permitted IP subtree 10.0.0.1/8"},
		"nil IP subtree":      {"", func(t *CATemplate) { t.Permitted.IP = []*net.IPNet{nil} }, backend.ErrInvalidParams, "permitted IP subtree"},
		"relative URL":        {"", func(t *CATemplate) { t.URLs.CRL = []string{"/crl"} }, backend.ErrInvalidParams, `"/crl"`},
		"algorithm":           {"", func(t *CATemplate) { t.SignatureAlgorithm = x509.SHA256WithRSA }, backend.ErrUnsupported, "it takes ECDSA-SHA256, ECDSA-SHA384, ECDSA-SHA512"},
		"SHA-1":               {"", func(t *CATemplate) { t.SignatureAlgorithm = x509.ECDSAWithSHA1 }, backend.ErrUnsupported, "ECDSA-SHA1"},
		"RSA-1024":            {"rsa1024", nil, backend.ErrInvalidParams, "1024 bits; it takes 2048 to 8192"},
		"P-224":               {"p224", nil, backend.ErrInvalidParams, "curve P-224; it takes P-256, P-384 and P-521"},
		"symmetric key":       {"symmetric", nil, backend.ErrUnsupported, "AES-256"},
		"key without backend": {"absent", nil, backend.ErrKeyNotFound, "absent"},
		"unknown key":         {"nobody", nil, backend.ErrKeyNotFound, "nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			rt := rootTemplate()
			if c.change != nil {
				c.change(&rt)
			}
			if c.key == "" {
				c.key = "p256"
			}
			ca, err := h.engine.CreateRoot(t.Context(), c.key, rt)
			wantError(t, err, c.sentinel, c.text)
			if ca != nil || h.signed() != 0 {
				t.Error("something was signed")
			}
		})
	}
}

// A key that is tied to one algorithm is used with it, and a request for another is refused before a call.
func TestAlgorithmFollowsCapabilities(t *testing.T) {
	h := newHouse(t, nil)
	h.km.algs["rsa"] = []backend.SignatureAlgorithm{{Scheme: backend.RSAPSS, Hash: crypto.SHA512, Salt: backend.SaltEqualsHash}}
	ca := mustRoot(t, h, "rsa", rootTemplate())
	if got := ca.Certificate().SignatureAlgorithm; got != x509.SHA512WithRSAPSS {
		t.Errorf("signed with %s; want SHA512-RSAPSS, the only one that the key has", got)
	}
	h.signed()
	_, err := ca.Sign(t.Context(), testKeys()["p256"].Public(), LeafTemplate{DNSNames: []string{"a.example"}, Validity: day, SignatureAlgorithm: x509.SHA256WithRSAPSS})
	wantError(t, err, backend.ErrUnsupported, "it takes SHA512-RSAPSS")
	h.km.algs["p384"] = nil
	_, err = h.engine.CreateRoot(t.Context(), "p384", rootTemplate())
	wantError(t, err, backend.ErrUnsupported, "ECDSA P-384")
	if h.signed() != 0 {
		t.Error("something was signed")
	}

	h = newHouse(t, &Options{PSS: true})
	if got := mustRoot(t, h, "rsa", rootTemplate()).Certificate().SignatureAlgorithm; got != x509.SHA256WithRSAPSS {
		t.Errorf("with Options.PSS, signed with %s; want SHA256-RSAPSS", got)
	}
}

func TestMLDSANeedsGo127(t *testing.T) {
	h := newHouse(t, nil)
	ca, err := h.engine.CreateRoot(t.Context(), "mldsa65", rootTemplate())
	if x509HasMLDSA {
		if err != nil || ca.Certificate().CheckSignatureFrom(ca.Certificate()) != nil {
			t.Errorf("got error %v", err)
		}
		return
	}
	wantError(t, err, backend.ErrUnsupported, "Go 1.27")
	_, err = mustRoot(t, h, "p256", rootTemplate()).Sign(t.Context(), testKeys()["mldsa65"].Public(), LeafTemplate{DNSNames: []string{"a.example"}, Validity: day})
	wantError(t, err, backend.ErrUnsupported, "Go 1.27")
}
