package pki

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"time"
)

// LeafTemplate says what the certificate of a server, client or person shall be. Only its validity is required.
type LeafTemplate struct {
	// Subject is empty by default, since verifiers look at the subject alternative names; these are then critical (RFC
	// 5280, Section 4.2.1.6). A common name must also be one of them. The subject of a request is not used.
	Subject pkix.Name

	// The subject alternative names. If any is given here, none is taken from a request. DNS names are put in lower
	// case; "*" can be the whole first label. Repeated names count once.
	DNSNames       []string
	IPAddresses    []net.IP
	EmailAddresses []string
	URIs           []*url.URL

	// NotBefore and NotAfter are the first and the last second of validity. A zero NotBefore is 30 seconds ago, but not
	// before the issuer's. Give either NotAfter or Validity, the length of the whole period. Both are cut to seconds, and
	// neither may leave the issuer's period.
	NotBefore, NotAfter time.Time
	Validity            time.Duration

	// KeyUsage is, if 0, digitalSignature, and for an RSA key keyEncipherment as well. keyCertSign and cRLSign are
	// refused.
	KeyUsage x509.KeyUsage

	// ExtKeyUsage is serverAuth and clientAuth if empty. anyExtendedKeyUsage is refused.
	ExtKeyUsage []x509.ExtKeyUsage

	// SignatureAlgorithm is that of the CA's key; 0 is the best that it has: see Options.PSS; ECDSA signs with the hash
	// of its curve's strength.
	SignatureAlgorithm x509.SignatureAlgorithm

	// URLs say where to find information of the issuer.
	URLs URLs
}

// Issued is a certificate with the chain above it.
type Issued struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // of the issuer: the issuer's certificate first
}

// PEM returns the certificate and the intermediates above it, as a TLS server presents them. A self-signed root is left
// out, because who trusts it has it (RFC 8446, Section 4.4.2).
func (i *Issued) PEM() []byte { return EncodePEM(i.presented()...) }

// presented returns the certificates that a peer needs to be shown.
func (i *Issued) presented() []*x509.Certificate {
	certs := append([]*x509.Certificate{i.Certificate}, i.Chain...)
	if last := certs[len(certs)-1]; len(certs) > 1 && last.CheckSignatureFrom(last) == nil {
		certs = certs[:len(certs)-1]
	}
	return certs
}

// SignCSR issues a certificate for the key of a certificate signing request in PEM or DER, whose signature is verified.
// The subject alternative names are the template's, or else the request's.
//
// The error wraps [backend.ErrInvalidParams] if request or template don't fit, a weak key, absent names, a validity
// beyond the CA's, names that a CA above may not certify and a [*LintError] included; [backend.ErrInvalidSignature] as
// well if it is the request's signature; [backend.ErrUnsupported] if the CA's key can't sign so; or what the managed
// key returned.
func (ca *CA) SignCSR(ctx context.Context, csr []byte, t LeafTemplate) (*Issued, error) {
	request, err := ParseCSR(csr)
	if err != nil {
		return nil, err
	}
	if t.names().count() == 0 {
		t.DNSNames, t.IPAddresses, t.EmailAddresses, t.URIs = request.DNSNames, request.IPAddresses, request.EmailAddresses, request.URIs
		if t.names().count() == 0 {
			return nil, invalid("CSR: it has no subject alternative name and neither has the template; it takes at least one DNS name, "+
				"IP address, email address or URI (the common name %.80q doesn't count)", request.Subject.CommonName)
		}
	}
	return ca.Sign(ctx, request.PublicKey, t)
}

// Sign issues a certificate for pub, an *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or, with Go 1.27,
// *mldsa.PublicKey. That somebody holds the private key is for the caller to know. Errors are as for SignCSR.
func (ca *CA) Sign(ctx context.Context, pub crypto.PublicKey, t LeafTemplate) (*Issued, error) {
	if err := checkPublicKey(pub); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	if equalKeys(pub, ca.cert.PublicKey) {
		return nil, invalid("public key: it is that of the CA %s", ca.cert.Subject)
	}
	key, err := ca.key(ctx)
	if err != nil {
		return nil, err
	}
	template, err := t.certificate(ca.engine.now(), ca.cert, pub)
	if err != nil {
		return nil, err
	}
	cert, err := ca.engine.certify(ctx, key, ca, template, pub, ca.how)
	if err != nil {
		return nil, err
	}
	return &Issued{Certificate: cert, Chain: ca.Chain()}, nil
}

func (t *LeafTemplate) names() altNames {
	return altNames{dns: t.DNSNames, ip: t.IPAddresses, email: t.EmailAddresses, uri: t.URIs}
}

func (t *LeafTemplate) certificate(now time.Time, parent *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	names, err := t.names().normal()
	if err != nil {
		return nil, err
	}
	if names.count() == 0 {
		return nil, invalid("subject alternative names: there is none; it takes at least one DNS name, IP address, email address or URI")
	}
	if err := checkSubject(t.Subject); err != nil {
		return nil, err
	}
	if cn := t.Subject.CommonName; cn != "" && !names.covers(cn) {
		return nil, invalid("subject: the common name %.80q is not among the subject alternative names", cn)
	}
	if err := checkExtKeyUsage(t.ExtKeyUsage); err != nil {
		return nil, err
	}
	if err := t.URLs.check(); err != nil {
		return nil, err
	}
	usage, err := t.keyUsage(pub)
	if err != nil {
		return nil, err
	}
	first, last, err := period(now, t.NotBefore, t.NotAfter, t.Validity, parent)
	if err != nil {
		return nil, err
	}
	extended := t.ExtKeyUsage
	if len(extended) == 0 {
		extended = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	out := &x509.Certificate{
		Subject: t.Subject, NotBefore: first, NotAfter: last,
		DNSNames: names.dns, IPAddresses: names.ip, EmailAddresses: names.email, URIs: names.uri,
		SignatureAlgorithm:    t.SignatureAlgorithm,
		BasicConstraintsValid: true, MaxPathLen: -1,
		KeyUsage: usage, ExtKeyUsage: extended,
	}
	t.URLs.into(out)
	return out, nil
}

// keyUsage returns what the template says, or what fits the key: only RSA enciphers keys (RFC 8813, Section 3).
func (t *LeafTemplate) keyUsage(pub crypto.PublicKey) (x509.KeyUsage, error) {
	switch {
	case t.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return 0, invalid("key usage: keyCertSign and cRLSign are for CAs")
	case t.KeyUsage < 0 || t.KeyUsage >= 2*x509.KeyUsageDecipherOnly:
		return 0, invalid("key usage: got %#x, which has unknown bits", int(t.KeyUsage))
	case t.KeyUsage != 0:
		return t.KeyUsage, nil
	}
	usage := x509.KeyUsageDigitalSignature
	if _, ok := pub.(*rsa.PublicKey); ok {
		usage |= x509.KeyUsageKeyEncipherment
	}
	return usage, nil
}
