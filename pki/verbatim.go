package pki

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// VerbatimRequest says what a CSR doesn't.
type VerbatimRequest struct {
	Role     string        // for its times, lint profile, signature and issuer; "" is none
	Issuer   string        // in place of the role's
	TTL      time.Duration // or NotAfter; none is the role's
	NotAfter time.Time
}

// SignVerbatim issues what a certificate signing request asks for: its subject, byte for byte, subject alternative names, key
// usage and extended key usage. No rule of a role for names is applied, so that it must be allowed by Options.AllowVerbatim; the
// error wraps [backend.ErrNotPermitted] otherwise.
//
// What would make it more than a leaf is refused: a CSR that asks for CA:TRUE, certificate or CRL signing, or any extended key
// usage, and critical extensions beside these. Other extensions are left out. Lints and the limits of the issuer hold.
func (a *Authority) SignVerbatim(ctx context.Context, csr []byte, req VerbatimRequest) (*Issued, error) {
	if !a.engine.verbatim {
		return nil, fmt.Errorf("pki: sign-verbatim: Options.AllowVerbatim is off: %w", backend.ErrNotPermitted)
	}
	role := NewRole("verbatim")
	if req.Role != "" {
		var err error
		if role, err = a.Role(ctx, req.Role); err != nil {
			return nil, err
		}
	}
	request, err := readCSR(csr)
	if err != nil {
		return nil, err
	}
	ref := role.IssuerRef
	if req.Issuer != "" {
		ref = req.Issuer
	}
	issuer, ca, err := a.ca(ctx, ref, IssueCertificates)
	if err != nil {
		return nil, err
	}
	if equalKeys(request.PublicKey, ca.cert.PublicKey) {
		return nil, invalid("public key: it is that of the CA %s", ca.cert.Subject)
	}
	where, err := a.place(ctx, issuer, role.SerialBits)
	if err != nil {
		return nil, err
	}
	template, err := verbatim(request)
	if err != nil {
		return nil, err
	}
	where.urls.into(template)
	l := &leaf{role: &role, req: &IssueRequest{TTL: req.TTL, NotAfter: req.NotAfter}}
	return a.finish(ctx, l, issuer, ca, template, request.PublicKey, where)
}

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// verbatim returns what a CSR asks for, as far as a leaf can have it.
func verbatim(request *x509.CertificateRequest) (*x509.Certificate, error) {
	if err := checkSubject(request.Subject); err != nil {
		return nil, err
	}
	names, err := altNames{request.DNSNames, request.IPAddresses, request.EmailAddresses, request.URIs}.normal()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		RawSubject: request.RawSubject, Subject: request.Subject,
		DNSNames: names.dns, IPAddresses: names.ip, EmailAddresses: names.email, URIs: names.uri,
		BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: usableWith(0, request.PublicKey),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	others, err := otherNamesOf(request)
	if err != nil {
		return nil, err
	}
	if isEmpty(request.Subject) && names.count()+len(others) == 0 {
		return nil, invalid("CSR: it has neither a subject nor a subject alternative name")
	}
	if names.count()+len(others) > maxNames {
		return nil, invalid("subject alternative names: got %d; it takes at most %d", names.count()+len(others), maxNames)
	}
	var texts []otherName
	for _, n := range others {
		if n.problem != "" {
			return nil, invalid("CSR: other name %.120q: %s", n.String(), n.problem)
		}
		texts = append(texts, n.otherName)
	}
	if len(texts) > 0 {
		san, err := sanExtension(names, texts, isEmpty(request.Subject))
		if err != nil {
			return nil, err
		}
		t.ExtraExtensions = append(t.ExtraExtensions, san)
	}
	for _, extension := range request.Extensions {
		if err := takeExtension(t, extension); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func takeExtension(t *x509.Certificate, extension pkix.Extension) error {
	malformed := invalid("CSR: malformed extension %v", extension.Id)
	switch {
	case extension.Id.Equal(oidSubjectAltName):
	case extension.Id.Equal(oidBasicConstraints):
		var constraints struct {
			CA      bool `asn1:"optional"`
			PathLen int  `asn1:"optional,default:-1"`
		}
		if rest, err := asn1.Unmarshal(extension.Value, &constraints); err != nil || len(rest) > 0 {
			return malformed
		}
		if constraints.CA {
			return invalid("CSR: it asks for a CA certificate (basicConstraints); sign-intermediate issues those")
		}
	case extension.Id.Equal(oidKeyUsage):
		var bits asn1.BitString
		if rest, err := asn1.Unmarshal(extension.Value, &bits); err != nil || len(rest) > 0 || bits.BitLength > 9 {
			return malformed
		}
		t.KeyUsage = 0
		for i := range 9 {
			t.KeyUsage |= x509.KeyUsage(bits.At(i)) << i
		}
		if t.KeyUsage == 0 {
			return invalid("CSR: its keyUsage has no bit")
		}
		if t.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
			return invalid("CSR: it asks for keyCertSign or cRLSign, which are for CAs")
		}
	case extension.Id.Equal(oidExtKeyUsage):
		var usages []asn1.ObjectIdentifier
		if rest, err := asn1.Unmarshal(extension.Value, &usages); err != nil || len(rest) > 0 || len(usages) == 0 {
			return malformed
		}
		t.ExtKeyUsage = nil
		for _, usage := range usages {
			if usage.Equal(oidAnyExtKeyUsage) {
				return invalid("CSR: it asks for anyExtendedKeyUsage")
			}
			if known, ok := extKeyUsageOf(usage); ok {
				t.ExtKeyUsage = append(t.ExtKeyUsage, known)
			} else {
				t.UnknownExtKeyUsage = append(t.UnknownExtKeyUsage, usage)
			}
		}
	case extension.Critical:
		return invalid("CSR: it asks for the critical extension %v, which is not supported", extension.Id)
	}
	return nil
}

// extKeyUsageOf returns the name that crypto/x509 has for an extended key usage.
func extKeyUsageOf(oid asn1.ObjectIdentifier) (x509.ExtKeyUsage, bool) {
	for usage := x509.ExtKeyUsageAny; usage <= x509.ExtKeyUsageMicrosoftKernelCodeSigning; usage++ {
		if usage.OID().EqualASN1OID(oid) {
			return usage, true
		}
	}
	return 0, false
}
