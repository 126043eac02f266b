package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/managedkey"
)

// CATemplate says what a CA certificate shall be.
type CATemplate struct {
	// Subject names the CA. It is required for a root; an intermediate takes it from its request if this is empty.
	Subject pkix.Name

	// NotBefore and NotAfter are the first and the last second of validity. A zero NotBefore is 30 seconds ago, but not
	// before the issuer's. Give either NotAfter or Validity, the length of the whole period. Both are cut to seconds, and
	// neither may leave the issuer's period.
	NotBefore, NotAfter time.Time
	Validity            time.Duration

	// MaxPathLen is how many further CA certificates may follow below this one on a path: new(0) for a CA that issues
	// only leaves. nil is the issuer's less one, if the issuer has a limit, and otherwise no limit (RFC 5280, Section
	// 4.2.1.9).
	MaxPathLen *int

	// SignatureAlgorithm is that of the issuer's key; 0 is the best that it has: see Options.PSS; ECDSA signs with the
	// hash of its curve's strength.
	SignatureAlgorithm x509.SignatureAlgorithm

	// Permitted and Excluded constrain the names below this CA (RFC 5280, Section 4.2.1.10). The extension is critical.
	Permitted, Excluded Subtrees

	// ExtKeyUsage limits what the CA's certificates can be for; empty is no limit. A root takes none.
	ExtKeyUsage []x509.ExtKeyUsage

	// Policies are the certificate policies that the CA's certificates can be under, as object identifiers. nil is anyPolicy
	// for an intermediate, without which its certificates would be valid under none (RFC 5280, Section 4.2.1.4), and an
	// empty list none. A root, which nothing is checked against, has none if it is nil.
	Policies []string

	// URLs say where to find information of the issuer.
	URLs URLs

	// SubjectKeyID is the subjectKeyIdentifier of an intermediate, 1 to 64 bytes; nil is one that is computed from the public key
	// (RFC 7093, Section 2). Another certificate for a CA's key takes the one that it has, which what it issued refers to. A root
	// takes none.
	SubjectKeyID []byte
}

// maxKeyID is the length of the longest identifier of a key, in bytes: that of a SHA-512 hash.
const maxKeyID = 64

// anyPolicy is RFC 5280, Section 4.2.1.4.
const anyPolicy = "2.5.29.32.0"

// Subtrees are names with everything below them. In DNS, "example.com" covers itself and its subdomains; in Email,
// "host.example" is every mailbox of that host, ".example.com" that of its subdomains, and "a@example.com" one mailbox; in
// URI, "host.example" is that host and ".example.com" are its subdomains.
type Subtrees struct {
	DNS, Email, URI []string
	IP              []*net.IPNet
}

// URLs are where a verifier finds more about the issuer of a certificate, each an absolute http or https URL.
type URLs struct {
	Issuer []string // the issuer's certificate (RFC 5280, Section 4.2.2.1)
	OCSP   []string // the OCSP responder
	CRL    []string // the CRL, one distribution point each (RFC 5280, Section 4.2.1.13)

	// DeltaCRL is where the delta CRLs to that are (RFC 5280, Section 4.2.1.15).
	DeltaCRL []string
}

// into puts the URLs into a certificate.
func (u *URLs) into(t *x509.Certificate) {
	t.IssuingCertificateURL, t.OCSPServer, t.CRLDistributionPoints = u.Issuer, u.OCSP, u.CRL
	if len(u.DeltaCRL) == 0 {
		return
	}
	if der, err := distributionPoints(u.DeltaCRL); err == nil { // it only fails for URLs of gigabytes
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidFreshestCRL, Value: der})
	}
}

// clone returns a copy that shares nothing with u.
func (u *URLs) clone() URLs {
	return URLs{slices.Clone(u.Issuer), slices.Clone(u.OCSP), slices.Clone(u.CRL), slices.Clone(u.DeltaCRL)}
}

// none reports whether there is no URL.
func (u *URLs) none() bool { return len(u.Issuer)+len(u.OCSP)+len(u.CRL)+len(u.DeltaCRL) == 0 }

// CreateRoot makes a self-signed root CA on the managed key of that name or UUID, with keyUsage keyCertSign, cRLSign and
// digitalSignature (the last for OCSP).
//
// The error wraps [backend.ErrInvalidParams] if the template doesn't fit, a [*LintError] included,
// [backend.ErrUnsupported] if the key can't sign so, or what the managed key returned.
func (e *Engine) CreateRoot(ctx context.Context, key string, t CATemplate) (*CA, error) {
	handle, err := e.key(ctx, key)
	if err != nil {
		return nil, err
	}
	return e.createRoot(ctx, handle, key, t, nil)
}

func (e *Engine) createRoot(ctx context.Context, handle *managedkey.Key, key string, t CATemplate, how *terms) (*CA, error) {
	switch {
	case isEmpty(t.Subject):
		return nil, invalid("subject: it is empty; a root takes at least one attribute")
	case len(t.ExtKeyUsage) > 0:
		return nil, invalid("extended key usage: a root takes none; got %v", t.ExtKeyUsage)
	case t.SubjectKeyID != nil:
		return nil, invalid("subject key identifier: that of a root is computed; got %x", t.SubjectKeyID)
	}
	template, err := t.certificate(e.now(), nil)
	if err != nil {
		return nil, err
	}
	if t.MaxPathLen != nil {
		setPathLen(template, *t.MaxPathLen)
	}
	cert, err := e.certify(ctx, handle, nil, template, handle.Public(), how)
	if err != nil {
		return nil, err
	}
	return &CA{engine: e, keyName: key, cert: cert, chain: []*x509.Certificate{cert}, pathLen: pathLenOf(cert)}, nil
}

// SignIntermediate issues a CA certificate for the key of a certificate signing request in PEM or DER, whose signature
// is verified. The subject is the template's, or else the request's byte for byte. [Engine.LoadCA] takes the result,
// followed by ca.Chain(), where the intermediate's key is a managed key as well.
//
// The error wraps [backend.ErrInvalidParams] if request or template don't fit, a path length or validity beyond the
// issuer's and a [*LintError] included; and else as for CreateRoot.
func (ca *CA) SignIntermediate(ctx context.Context, csr []byte, t CATemplate) (*x509.Certificate, error) {
	request, err := ParseCSR(csr)
	if err != nil {
		return nil, err
	}
	if equalKeys(request.PublicKey, ca.cert.PublicKey) {
		return nil, invalid("CSR: its key is that of the issuer")
	}
	key, err := ca.key(ctx)
	if err != nil {
		return nil, err
	}
	template, err := t.certificate(ca.engine.now(), ca.cert)
	if err != nil {
		return nil, err
	}
	if template.RawSubject, err = t.subject(request); err != nil {
		return nil, err
	}
	// A CA that is named like its issuer would pass for one that issued itself.
	if bytes.Equal(template.RawSubject, ca.cert.RawSubject) {
		return nil, invalid("subject: it is that of the issuer, %s; a CA of that name gets another certificate by SignSelfIssued (sign-self-issued)", ca.cert.Subject)
	}
	if err := ca.limitPath(template, t.MaxPathLen); err != nil {
		return nil, err
	}
	return ca.engine.certify(ctx, key, ca, template, request.PublicKey, ca.how)
}

// subject returns the subject in DER: the template's, or that of the request as it is.
func (t *CATemplate) subject(request *x509.CertificateRequest) ([]byte, error) {
	if !isEmpty(t.Subject) {
		der, err := asn1.Marshal(t.Subject.ToRDNSequence())
		if err != nil {
			return nil, invalid("subject: %w", err)
		}
		return der, nil
	}
	if isEmpty(request.Subject) {
		return nil, invalid("subject: neither the template nor the CSR has one")
	}
	return request.RawSubject, checkSubject(request.Subject)
}

// limitPath sets the path length of an intermediate below ca.
func (ca *CA) limitPath(template *x509.Certificate, want *int) error {
	switch {
	case ca.pathLen == 0:
		return invalid("path length: the chain of the issuer %s allows no further CA", ca.cert.Subject)
	case want != nil && ca.pathLen > 0 && *want >= ca.pathLen:
		return invalid("path length: got %d; the chain of the issuer %s allows 0 to %d", *want, ca.cert.Subject, ca.pathLen-1)
	case want != nil:
		setPathLen(template, *want)
	case ca.pathLen > 0:
		setPathLen(template, ca.pathLen-1)
	}
	return nil
}

func setPathLen(template *x509.Certificate, n int) {
	template.MaxPathLen, template.MaxPathLenZero = n, n == 0
}

// certificate returns the parts of a CA certificate that don't depend on who asks for it. parent is nil for a root.
func (t *CATemplate) certificate(now time.Time, parent *x509.Certificate) (*x509.Certificate, error) {
	if err := checkSubject(t.Subject); err != nil {
		return nil, err
	}
	if t.MaxPathLen != nil && (*t.MaxPathLen < 0 || *t.MaxPathLen > maxChain) {
		return nil, invalid("path length: got %d; it takes 0 to %d, or nil", *t.MaxPathLen, maxChain)
	}
	if n := len(t.SubjectKeyID); t.SubjectKeyID != nil && (n == 0 || n > maxKeyID) {
		return nil, invalid("subject key identifier: got %d bytes; it takes 1 to %d, or nil", n, maxKeyID)
	}
	if err := t.Permitted.check("permitted"); err != nil {
		return nil, err
	}
	if err := t.Excluded.check("excluded"); err != nil {
		return nil, err
	}
	if err := checkExtKeyUsage(t.ExtKeyUsage); err != nil {
		return nil, err
	}
	if err := t.URLs.check(); err != nil {
		return nil, err
	}
	first, last, err := period(now, t.NotBefore, t.NotAfter, t.Validity, parent)
	if err != nil {
		return nil, err
	}
	policies := t.Policies
	if policies == nil && parent != nil {
		policies = []string{anyPolicy}
	}
	var oids []x509.OID
	for i, text := range policies {
		oid, err := x509.ParseOID(text)
		if err != nil {
			return nil, invalid("policy %d, %.80q: it takes an object identifier", i, text)
		}
		oids = append(oids, oid)
	}
	out := &x509.Certificate{
		Subject: t.Subject, NotBefore: first, NotAfter: last, Policies: oids,
		SignatureAlgorithm:    t.SignatureAlgorithm,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:                 t.ExtKeyUsage,
		SubjectKeyId:                t.SubjectKeyID,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         t.Permitted.DNS, ExcludedDNSDomains: t.Excluded.DNS,
		PermittedEmailAddresses: t.Permitted.Email, ExcludedEmailAddresses: t.Excluded.Email,
		PermittedURIDomains: t.Permitted.URI, ExcludedURIDomains: t.Excluded.URI,
		PermittedIPRanges: t.Permitted.IP, ExcludedIPRanges: t.Excluded.IP,
	}
	t.URLs.into(out)
	return out, nil
}

func (s *Subtrees) check(kind string) error {
	for _, name := range s.DNS {
		if problem := checkDNS(name, false); problem != "" {
			return invalid("%s DNS subtree %.80q: %s", kind, name, problem)
		}
	}
	for _, name := range s.Email {
		problem := checkDNS(strings.TrimPrefix(name, "."), false)
		if strings.Contains(name, "@") {
			problem = checkEmail(name)
		}
		if problem != "" {
			return invalid("%s email subtree %.80q: %s", kind, name, problem)
		}
	}
	for _, name := range s.URI {
		if problem := checkDNS(strings.TrimPrefix(name, "."), false); problem != "" {
			return invalid("%s URI subtree %.80q: %s", kind, name, problem)
		}
	}
	for _, network := range s.IP {
		if !isCanonical(network) {
			return invalid("%s IP subtree %v: it takes a network address and its mask", kind, network)
		}
	}
	return nil
}

func (u *URLs) check() error {
	for _, text := range slices.Concat(u.Issuer, u.OCSP, u.CRL, u.DeltaCRL) {
		parsed, err := url.Parse(text)
		if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
			return invalid("URL %.80q: it takes an absolute http or https URL", text)
		}
		if problem := checkURI(parsed); problem != "" {
			return invalid("URL %.80q: %s", text, problem)
		}
	}
	return nil
}

// checkExtKeyUsage refuses anyExtendedKeyUsage, which would turn every limit off, and what crypto/x509 has no name for.
func checkExtKeyUsage(usages []x509.ExtKeyUsage) error {
	for i, u := range usages {
		if u <= x509.ExtKeyUsageAny || u > x509.ExtKeyUsageMicrosoftKernelCodeSigning {
			return invalid("extended key usage %d, %s: it takes specific ones that crypto/x509 knows", i, u)
		}
		if slices.Contains(usages[:i], u) {
			return invalid("extended key usage %d, %s: it is given twice", i, u)
		}
	}
	return nil
}
