package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// CrossTemplate says what differs in another certificate of a CA that has one.
type CrossTemplate struct {
	// Validity is the length of the period, from now; 0 ends it with that of the CA's present certificate, or with the
	// issuer's if that is earlier.
	Validity time.Duration

	SignatureAlgorithm x509.SignatureAlgorithm // as in CATemplate
	URLs               URLs                    // as in CATemplate; an Authority takes those of the issuer if there is none
}

// CrossSign issues another certificate for a CA that has one, whoever issued that: with the same subject and key, byte for
// byte, and the same subject key identifier, path length, extended key usages, name constraints and policies, as
// verifiers demand of certificates that can stand for each other. A root that names no policies gets anyPolicy, since below another root
// its certificates would be valid under none (RFC 5280, Section 6.1.3). Refused is a CA that has a critical extension that is not
// known, or more rights than the issuer can give.
func (ca *CA) CrossSign(ctx context.Context, existing *x509.Certificate, t CrossTemplate) (*x509.Certificate, error) {
	if existing == nil {
		return nil, invalid("cross-sign: there is no certificate")
	}
	if err := checkCACertificate(existing); err != nil {
		return nil, invalid("cross-sign: certificate (%s): %w", existing.Subject, err)
	}
	if err := checkPublicKey(existing.PublicKey); err != nil {
		return nil, invalid("cross-sign: certificate (%s): %w", existing.Subject, err)
	}
	if equalKeys(existing.PublicKey, ca.cert.PublicKey) {
		return nil, invalid("cross-sign: certificate (%s): its key is that of the issuer", existing.Subject)
	}
	key, err := ca.key(ctx)
	if err != nil {
		return nil, err
	}
	template, err := copyCA(existing, ca.engine.now(), ca.cert, t)
	if err != nil {
		return nil, err
	}
	if n := pathLenOf(existing); n >= 0 || ca.pathLen >= 0 {
		var want *int
		if n >= 0 && (ca.pathLen < 0 || n < ca.pathLen) {
			want = &n
		}
		if err := ca.limitPath(template, want); err != nil {
			return nil, err
		}
	}
	return ca.engine.certify(ctx, key, ca, template, existing.PublicKey, ca.how)
}

// SignSelfIssued is CrossSign for a certificate that is signed by its own key, and proves so that whoever made it had that.
func (ca *CA) SignSelfIssued(ctx context.Context, cert *x509.Certificate, t CrossTemplate) (*x509.Certificate, error) {
	switch {
	case cert == nil:
		return nil, invalid("sign self-issued: there is no certificate")
	case !bytes.Equal(cert.RawIssuer, cert.RawSubject):
		return nil, invalid("sign self-issued: certificate (%s): its issuer is %s", cert.Subject, cert.Issuer)
	}
	if err := checkPublicKey(cert.PublicKey); err != nil { // a huge key takes its time to verify with
		return nil, invalid("sign self-issued: certificate (%s): %w", cert.Subject, err)
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return nil, invalid("sign self-issued: certificate (%s): %w: %w", cert.Subject, backend.ErrInvalidSignature, err)
	}
	return ca.CrossSign(ctx, cert, t)
}

// copyCA returns a template that makes another certificate of a CA.
func copyCA(from *x509.Certificate, now time.Time, parent *x509.Certificate, t CrossTemplate) (*x509.Certificate, error) {
	var end time.Time
	if t.Validity == 0 {
		end = from.NotAfter
		if parent != nil && parent.NotAfter.Before(end) {
			end = parent.NotAfter
		}
	}
	if err := t.URLs.check(); err != nil {
		return nil, err
	}
	first, last, err := period(now, time.Time{}, end, t.Validity, parent)
	if err != nil {
		return nil, err
	}
	policies := from.Policies
	if parent != nil && len(policies) == 0 && isRoot(from) {
		oid, err := x509.ParseOID(anyPolicy)
		if err != nil {
			return nil, err
		}
		policies = []x509.OID{oid}
	}
	var authority []byte // crypto/x509 leaves it out where issuer and subject have the same name, as in a rotation
	if parent != nil {
		authority = parent.SubjectKeyId
	}
	out := &x509.Certificate{
		AuthorityKeyId: authority, RawSubject: from.RawSubject, Subject: from.Subject, SubjectKeyId: from.SubjectKeyId,
		NotBefore: first, NotAfter: last, SignatureAlgorithm: t.SignatureAlgorithm,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: pathLenOf(from), MaxPathLenZero: pathLenOf(from) == 0,
		KeyUsage: from.KeyUsage, ExtKeyUsage: from.ExtKeyUsage, UnknownExtKeyUsage: from.UnknownExtKeyUsage,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         from.PermittedDNSDomains, ExcludedDNSDomains: from.ExcludedDNSDomains,
		PermittedEmailAddresses: from.PermittedEmailAddresses, ExcludedEmailAddresses: from.ExcludedEmailAddresses,
		PermittedURIDomains: from.PermittedURIDomains, ExcludedURIDomains: from.ExcludedURIDomains,
		PermittedIPRanges: from.PermittedIPRanges, ExcludedIPRanges: from.ExcludedIPRanges,
		Policies: policies,
	}
	t.URLs.into(out)
	return out, nil
}

// isRoot reports whether a certificate says that it is signed by its own key. One by another key of the same name has that key's
// identifier. The signature is not looked at: that of an old root may be of a kind that crypto/x509 verifies no more.
func isRoot(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, cert.RawSubject) && (len(cert.AuthorityKeyId) == 0 || bytes.Equal(cert.AuthorityKeyId, cert.SubjectKeyId))
}

// CrossSign issues another certificate for a CA of this or another authority, as [CA.CrossSign] does, and stores it. It is no
// issuer by that: Import makes one of it where its key is managed.
func (a *Authority) CrossSign(ctx context.Context, issuer string, existing *x509.Certificate, t CrossTemplate) (*x509.Certificate, error) {
	ca, urls, err := a.signingCA(ctx, issuer, t.URLs)
	if err != nil {
		return nil, err
	}
	t.URLs = urls
	return ca.CrossSign(ctx, existing, t)
}

// SignSelfIssued is CrossSign for a self-signed certificate, as [CA.SignSelfIssued] has it.
func (a *Authority) SignSelfIssued(ctx context.Context, issuer string, cert *x509.Certificate, t CrossTemplate) (*x509.Certificate, error) {
	ca, urls, err := a.signingCA(ctx, issuer, t.URLs)
	if err != nil {
		return nil, err
	}
	t.URLs = urls
	return ca.SignSelfIssued(ctx, cert, t)
}

// SignIntermediate issues a CA certificate for a request, as [CA.SignIntermediate] does, and stores it. Without URLs in the
// template, it has those of the issuer.
func (a *Authority) SignIntermediate(ctx context.Context, issuer string, csr []byte, t CATemplate) (*Issued, error) {
	ca, urls, err := a.signingCA(ctx, issuer, t.URLs)
	if err != nil {
		return nil, err
	}
	t.URLs = urls
	cert, err := ca.SignIntermediate(ctx, csr, t)
	if err != nil {
		return nil, err
	}
	return &Issued{Certificate: cert, Chain: ca.Chain()}, nil
}

// signingCA returns an issuer that stores what it signs, and the URLs that go into that.
func (a *Authority) signingCA(ctx context.Context, ref string, urls URLs) (*CA, URLs, error) {
	i, ca, err := a.ca(ctx, ref, IssueCertificates)
	if err != nil {
		return nil, urls, err
	}
	where := new(place)
	if urls.none() {
		if where, err = a.place(ctx, i, 0); err != nil {
			return nil, urls, err
		}
		urls = where.urls
	}
	how := a.keeping(certRecord{Issuer: i.ID, Shard: where.shard}, LintProfile{}, false)
	how.serial = where.serial
	return ca.under(how), urls, nil
}
