package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// upn is userPrincipalName, of which smart cards' certificates have one.
const upn = "1.3.6.1.4.1.311.20.2.3"

// otherDER is an other name as others would encode it: tag 12 is UTF8String.
func otherDER(t testing.TB, id string, tag int, text string) []byte {
	t.Helper()
	oid, err := parseOID(id)
	must(t, err)
	value, err := asn1.Marshal(asn1.RawValue{Tag: tag, Bytes: []byte(text)})
	must(t, err)
	der, err := asn1.MarshalWithParams(struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue
	}{oid, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: value}}, "tag:0")
	must(t, err)
	return der
}

// requestWith is a CSR with those names beside the DNS name a.example.
func requestWith(t testing.TB, names ...[]byte) []byte {
	t.Helper()
	list := []asn1.RawValue{{Class: 2, Tag: 2, Bytes: []byte("a.example")}}
	for _, der := range names {
		list = append(list, asn1.RawValue{FullBytes: der})
	}
	return makeCSR(t, testKeys()["p256"], func(r *x509.CertificateRequest) {
		r.Subject.CommonName, r.DNSNames = "a.example", nil
		r.ExtraExtensions = []pkix.Extension{extension(t, oidSubjectAltName, false, list)}
	})
}

// TestSignOtherNames: other names of a CSR that the role allows are in the certificate as they were encoded, once, beside those of the request; the
// first that it doesn't allow is in the error, with the rule.
func TestSignOtherNames(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256-b", "root")
	r := anyRole("r")
	r.KeyType, r.AllowedOtherSANs = "ec", Strings{upn + ";UTF8:*@example.com", "1.2.3.4;UTF8:only this"}
	f.role(t, r)
	request := r
	request.Name, request.UseCSRSANs = "request", false
	f.role(t, request)
	me, other := otherDER(t, upn, 12, "zoë;UTF8:x@example.com"), otherDER(t, "1.2.3.4", 12, "only this")
	sign := func(role string, csr []byte, names ...string) (*x509.Certificate, error) {
		issued, err := f.Sign(t.Context(), role, csr, IssueRequest{CommonName: "a.example", AltNames: []string{"b.example"}, OtherNames: names})
		if err != nil {
			return nil, err
		}
		return issued.Certificate, nil
	}
	cert, err := sign("r", requestWith(t, me, other, me), "1.2.3.4;UTF8:only this", upn+";UTF8:you@example.com")
	must(t, err)
	san := extensionOf(cert, oidSubjectAltName)
	for _, der := range [][]byte{me, other, otherDER(t, upn, 12, "you@example.com")} {
		if bytes.Count(san, der) != 1 {
			t.Errorf("%x is %d times in %x", der, bytes.Count(san, der), san)
		}
	}
	if !slices.Equal(cert.DNSNames, []string{"a.example"}) {
		t.Errorf("DNS names %q", cert.DNSNames)
	}
	cert, err = sign("request", requestWith(t, otherDER(t, "1.2.3.5", 12, "whatever")), "1.2.3.4;UTF8:only this")
	must(t, err)
	if san := extensionOf(cert, oidSubjectAltName); !bytes.Contains(san, other) || bytes.Contains(san, []byte("whatever")) {
		t.Errorf("a role that doesn't use the CSR's names: %x", san)
	}

	f.signed()
	for name, der := range map[string][]byte{
		`"1.2.3.4;UTF8:another": it matches none`:                                 otherDER(t, "1.2.3.4", 12, "another"),
		`"1.2.3.5;UTF8:only this": it matches none`:                               otherDER(t, "1.2.3.5", 12, "only this"),
		`"` + upn + `;UTF8:me@example.com.example": it`:                           otherDER(t, upn, 12, "me@example.com.example"),
		`"1.2.3.4;16096f6e6c792074686973": its value is no UTF8String`:            otherDER(t, "1.2.3.4", 22, "only this"),
		`"1.2.3.4;0c00": it takes 1 to 1024 bytes`:                                otherDER(t, "1.2.3.4", 12, ""),
		`"1.2.3.4;0c036f0079": it takes 1 to 1024 bytes of UTF-8 without control`: otherDER(t, "1.2.3.4", 12, "o\x00y"),
		`"1.2.3.4;0c02c328": it takes 1 to 1024 bytes of UTF-8`:                   otherDER(t, "1.2.3.4", 12, "\xc3\x28"),
		`"a00306012a": it is malformed`:                                           {0xa0, 3, 6, 1, 42},
		`"a00a06012aa0030c01780500": it is malformed`:                             {0xa0, 10, 6, 1, 42, 0xa0, 3, 12, 1, 'x', 5, 0},
		`"1.2;0c01780500": its value is malformed`:                                {0xa0, 10, 6, 1, 42, 0xa0, 5, 12, 1, 'x', 5, 0},
	} {
		for _, csr := range [][]byte{requestWith(t, der), requestWith(t, me, der)} {
			cert, err := sign("r", csr)
			var refused *RoleError
			if cert != nil || !errors.As(err, &refused) || refused.Rule != "allowed_other_sans" || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v; want %s", err, name)
			}
		}
	}
	_, err = sign("r", requestWith(t, []byte{0xa4, 2, 0x30, 0}))
	wantError(t, err, backend.ErrInvalidParams, "directoryName")
	twice := makeCSR(t, testKeys()["p256"], func(r *x509.CertificateRequest) {
		r.ExtraExtensions = slices.Repeat([]pkix.Extension{extension(t, oidSubjectAltName, false, []asn1.RawValue{{FullBytes: me}})}, 2)
	})
	_, err = sign("r", twice)
	wantError(t, err, backend.ErrInvalidParams, "duplicate")
	_, err = sign("r", requestWith(t, slices.Repeat([][]byte{otherDER(t, "1.2.3.5", 12, "x"), me}, maxNames)...))
	wantError(t, err, backend.ErrInvalidParams)
	if n := f.signed(); n != 0 {
		t.Errorf("%d were signed", n)
	}
}

// TestOtherNamesElsewhere: what has no rule for other names refuses a CSR that has some, and sign-verbatim copies them.
func TestOtherNamesElsewhere(t *testing.T) {
	f := newFirm(t, &Options{AllowVerbatim: true})
	f.root(t, "p256-b", "root")
	me := otherDER(t, upn, 12, "me@example.com")
	csr := requestWith(t, me)
	_, err := ParseCSR(csr)
	wantError(t, err, backend.ErrInvalidParams, "name 1 is of kind otherName")
	_, err = f.SignIntermediate(t.Context(), "root", csr, CATemplate{Validity: day})
	wantError(t, err, backend.ErrInvalidParams, "otherName")
	issued, err := f.SignVerbatim(t.Context(), csr, VerbatimRequest{})
	must(t, err)
	if san := extensionOf(issued.Certificate, oidSubjectAltName); !bytes.Contains(san, me) || len(issued.Certificate.DNSNames) != 1 {
		t.Errorf("the certificate has %x", san)
	}
	_, err = f.SignVerbatim(t.Context(), requestWith(t, otherDER(t, upn, 22, "me")), VerbatimRequest{})
	wantError(t, err, backend.ErrInvalidParams, "no UTF8String")
	_, err = f.SignVerbatim(t.Context(), requestWith(t, slices.Repeat([][]byte{me}, maxNames)...), VerbatimRequest{})
	wantError(t, err, backend.ErrInvalidParams, "257")
}

// TestOtherNamesOpenSSL: a CSR of OpenSSL's gives a certificate with the same bytes, of which it reads the same.
func TestOtherNamesOpenSSL(t *testing.T) {
	f, dir := newFirm(t, nil), t.TempDir()
	f.root(t, "p256-b", "root")
	r := anyRole("r")
	r.KeyType = "ec"
	f.role(t, r)
	openssl(t, dir, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-out", "req.pem", "-utf8",
		"-subj", "/CN=a.example", "-addext", "subjectAltName=otherName:"+upn+";UTF8:hé@example.com,otherName:1.2.3.4;UTF8:x,DNS:a.example")
	csr, err := os.ReadFile(filepath.Join(dir, "req.pem"))
	must(t, err)
	issued, err := f.Sign(t.Context(), "r", csr, IssueRequest{})
	must(t, err)
	request, err := readCSR(csr)
	must(t, err)
	if got := extensionOf(issued.Certificate, oidSubjectAltName); !bytes.Equal(got, request.Extensions[0].Value) {
		t.Errorf("the certificate has %x, the CSR %x", got, request.Extensions[0].Value)
	}
	must(t, os.WriteFile(filepath.Join(dir, "leaf.pem"), issued.PEM(), 0o600))
	text := openssl(t, dir, "x509", "-in", "leaf.pem", "-noout", "-text", "-nameopt", "utf8")
	if !strings.Contains(text, "othername: UPN::h") || !strings.Contains(text, "othername: 1.2.3.4::x") {
		t.Errorf("OpenSSL says:\n%s", text)
	}
}

// Whatever the bytes of an other name, it has a problem, or it is said and encoded again as it was, and is one that requests can name.
func FuzzOtherName(f *testing.F) {
	for _, tag := range []int{12, 22, 19, 30} {
		f.Add(otherDER(f, upn, tag, "me@example.com"))
	}
	f.Add(otherDER(f, "2.999.1", 12, strings.Repeat("x", 300)))
	f.Add([]byte{0xa0, 0x81, 8, 6, 1, 42, 0xa0, 3, 12, 1, 'x'})     // a length that isn't minimal
	f.Add([]byte{0xa0, 9, 6, 2, 0x80, 42, 0xa0, 3, 12, 1, 'x'})     // an identifier that isn't
	f.Add([]byte{0xa0, 10, 6, 1, 42, 0xa0, 5, 0x2c, 3, 12, 1, 'x'}) // a string in parts
	f.Fuzz(func(t *testing.T, der []byte) {
		n := readOtherName(der)
		if n.problem != "" {
			if n.String() == "" && len(der) > 0 {
				t.Error("it isn't shown")
			}
			return
		}
		again, err := n.der()
		if err != nil || !bytes.Equal(again, der) {
			t.Errorf("%x became %x, %v", der, again, err)
		}
		named, err := parseOtherName(n.String())
		if err != nil || !named.equal(n.otherName) {
			t.Errorf("%q became %q, %v", n, named, err)
		}
	})
}

// Whatever the extension, its other names are read, or it is refused, and what crypto/x509 skips is among them.
func FuzzRequestedNames(f *testing.F) {
	list := []asn1.RawValue{{Class: 2, Tag: 2, Bytes: []byte("a.example")}, {FullBytes: otherDER(f, upn, 12, "x")}}
	f.Add(extension(f, oidSubjectAltName, false, list).Value)
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, value []byte) {
		request := &x509.CertificateRequest{Extensions: []pkix.Extension{{Id: oidSubjectAltName, Value: value}}}
		names, err := otherNamesOf(request)
		if kinds := checkNameKinds(request, true); err != nil || kinds != nil {
			return
		}
		strict := checkNameKinds(request, false)
		if (strict == nil) != (len(names) == 0) {
			t.Errorf("%d other names, and without them: %v", len(names), strict)
		}
		for _, n := range names {
			if der, err := n.der(); n.problem == "" && (err != nil || !bytes.Contains(value, der)) {
				t.Errorf("%x is not in %x: %v", der, value, err)
			}
		}
	})
}
