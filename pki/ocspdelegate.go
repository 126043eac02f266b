package pki

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// OCSPResponderTemplate says what the certificate of a delegated responder shall be. The zero value is fit for use.
type OCSPResponderTemplate struct {
	// Subject is, if empty, country and organisation of the issuer, and "OCSP responder" as common name.
	Subject pkix.Name

	// Validity is how long each of its certificates is valid; 0 is 30 days. Nobody asks whether such a certificate is
	// revoked (id-pkix-ocsp-nocheck), so that this is how long a key that is lost can do harm (RFC 6960, Section
	// 4.2.2.2.1). Maintain renews it when a third of it is left.
	Validity time.Duration

	// SignatureAlgorithm is that of the answers; 0 is the best that the key has.
	SignatureAlgorithm x509.SignatureAlgorithm
}

// OCSPResponder is who signs OCSP answers in place of an issuer.
type OCSPResponder struct {
	Key         KeyRef            // as it was given; version 0 is the newest at each renewal
	Certificate *x509.Certificate // must not be modified
	Template    OCSPResponderTemplate
}

// delegateRecord is kept under the signer for whom it answers.
type delegateRecord struct {
	Ref       string        `json:"ref"`
	Version   int           `json:"version"`
	Key       string        `json:"key"` // UUID of the entry
	Certs     [][]byte      `json:"certs"`
	Subject   []byte        `json:"subject"` // of the next certificate
	Validity  time.Duration `json:"validity"`
	Algorithm int           `json:"algorithm"`
}

// maxDelegateCerts is how many certificates of a responder are kept: the present one and those whose answers still hold.
const maxDelegateCerts = 4

// SetOCSPResponder has a managed key of the mount sign an issuer's OCSP answers from now on, so that the issuer's own is not
// needed for them: it signs a certificate with the extended key usage OCSPSigning and id-pkix-ocsp-nocheck (RFC 6960,
// Section 4.2.2.2), which goes with the answers, and [Authority.Maintain] renews it. An issuer that has such a responder
// never answers itself, not even if that is out of reach. The certificate is stored like others; one that is revoked isn't used.
func (a *Authority) SetOCSPResponder(ctx context.Context, issuer string, key KeyRef, t OCSPResponderTemplate) (*OCSPResponder, error) {
	i, ca, err := a.ca(ctx, issuer, SignOCSP)
	if err != nil {
		return nil, err
	}
	if t.Validity == 0 {
		t.Validity = 30 * 24 * time.Hour
	}
	if t.Validity < time.Hour {
		return nil, invalid("OCSP responder: validity %v; it takes an hour or more", t.Validity)
	}
	if isEmpty(t.Subject) {
		from := ca.cert.Subject
		t.Subject = pkix.Name{Country: from.Country, Organization: from.Organization, CommonName: "OCSP responder"}
	}
	r, err := a.certifyResponder(ctx, i, ca, key, t)
	if err != nil {
		return nil, err
	}
	defer a.forgetOCSP()
	if _, err := a.apply(ctx, a.put("ocsp-responders/"+signer(ca.cert), store.Any, r)); err != nil {
		return nil, err
	}
	return r.responder()
}

// certifyResponder makes a certificate for a responder's key, and the record of it.
func (a *Authority) certifyResponder(ctx context.Context, issuer *Issuer, ca *CA, ref KeyRef, t OCSPResponderTemplate) (*delegateRecord, error) {
	handle, err := a.engine.keyAt(ctx, ref)
	if err != nil {
		return nil, err
	}
	if equalKeys(handle.Public(), ca.cert.PublicKey) {
		return nil, invalid("OCSP responder: key %.80q is that of the issuer %s", ref.Name, ca.cert.Subject)
	}
	if _, err := a.engine.algorithm(handle, t.SignatureAlgorithm); err != nil {
		return nil, err
	}
	if err := checkSubject(t.Subject); err != nil {
		return nil, err
	}
	key, err := ca.key(ctx)
	if err != nil {
		return nil, err
	}
	now := a.engine.now()
	validity := min(t.Validity, ca.cert.NotAfter.Sub(now))
	first, last, err := period(now, time.Time{}, time.Time{}, validity, ca.cert)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: t.Subject, NotBefore: first, NotAfter: last, SignatureAlgorithm: issuer.CRLAlgorithm,
		BasicConstraintsValid: true, MaxPathLen: -1,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: oidOCSPNoCheck, Value: []byte{5, 0}}},
	}
	cert, err := a.engine.certify(ctx, key, ca, template, handle.Public(), a.keeping(certRecord{Issuer: issuer.ID}, LintProfile{}, false))
	if err != nil {
		return nil, err
	}
	if err := a.remember(ctx, handle); err != nil {
		return nil, err
	}
	return &delegateRecord{Ref: ref.Name, Version: ref.Version, Key: handle.UUID(), Certs: [][]byte{cert.Raw},
		Subject: cert.RawSubject, Validity: t.Validity, Algorithm: int(t.SignatureAlgorithm)}, nil
}

func (r *delegateRecord) responder() (*OCSPResponder, error) {
	if len(r.Certs) == 0 {
		return nil, fmt.Errorf("pki: OCSP responder: %w: it has no certificate", store.ErrCorrupt)
	}
	cert, err := x509.ParseCertificate(r.Certs[0])
	if err != nil {
		return nil, fmt.Errorf("pki: OCSP responder: %w: %w", store.ErrCorrupt, err)
	}
	return &OCSPResponder{Key: KeyRef{r.Ref, r.Version}, Certificate: cert,
		Template: OCSPResponderTemplate{cert.Subject, r.Validity, x509.SignatureAlgorithm(r.Algorithm)}}, nil
}

// OCSPResponder returns the delegated responder of an issuer. The error wraps [store.ErrNotFound] if it answers itself.
func (a *Authority) OCSPResponder(ctx context.Context, issuer string) (*OCSPResponder, error) {
	_, ca, err := a.ca(ctx, issuer, 0)
	if err != nil {
		return nil, err
	}
	var r delegateRecord
	if _, err := a.read(ctx, "ocsp-responders/"+signer(ca.cert), &r); err != nil {
		return nil, err
	}
	return r.responder()
}

// DeleteOCSPResponder has an issuer answer itself again. The certificate of the responder stays valid until it is
// revoked, and clients don't ask about that: see [OCSPResponderTemplate].
func (a *Authority) DeleteOCSPResponder(ctx context.Context, issuer string) error {
	_, ca, err := a.ca(ctx, issuer, 0)
	if err != nil {
		return err
	}
	defer a.forgetOCSP()
	_, err = a.apply(ctx, a.remove("ocsp-responders/"+signer(ca.cert), store.Any))
	return err
}

// renewResponders renews the certificates of delegated responders that have a third of their time left. One that can't be renewed keeps
// none of the others from it.
func (a *Authority) renewResponders(ctx context.Context) []error {
	var errs []error
	for record, err := range a.all(ctx, "ocsp-responders/") {
		if err != nil {
			return append(errs, err)
		}
		who := strings.TrimPrefix(record.Key, a.prefix+"ocsp-responders/")
		if err := a.renewResponder(ctx, who, record); err != nil && !errors.Is(err, store.ErrConflict) {
			errs = append(errs, fmt.Errorf("OCSP responder of %s: %w", who, err))
		}
	}
	return errs
}

func (a *Authority) renewResponder(ctx context.Context, who string, record store.Record) error {
	var r delegateRecord
	if err := decodeRecord(record, &r); err != nil {
		return err
	}
	old, err := r.responder()
	if err != nil {
		return err
	}
	now := a.engine.now()
	if cert := old.Certificate; now.Before(cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3)) {
		return nil
	}
	stored, err := a.certificate(ctx, old.Certificate.SerialNumber)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil && stored.Revocation != nil {
		return fmt.Errorf("pki: its certificate %s is revoked, and is not renewed: %w", stored.Serial, backend.ErrNotPermitted)
	}
	issuer, ca, err := a.issuerOf(ctx, who, SignOCSP)
	if err != nil {
		return err
	}
	if !ca.cert.NotAfter.After(old.Certificate.NotAfter) {
		return nil // it ends with its issuer
	}
	if mine, err := a.turn(ctx, "ocsp-responder-"+who, responderTurn); err != nil || !mine {
		return err
	}
	next, err := a.certifyResponder(ctx, issuer, ca, old.Key, old.Template)
	if err != nil {
		return err
	}
	next.Certs = append(next.Certs, r.Certs[:min(len(r.Certs), maxDelegateCerts-1)]...)
	defer a.forgetOCSP()
	_, err = a.apply(ctx, a.put("ocsp-responders/"+who, store.Expect(record.Version), next))
	return err
}

// responderTurn is how long others leave the renewal of a responder to the process that has begun it.
const responderTurn = 2 * time.Minute

// issuerOf returns the issuer of a signer that has a usage and is valid longest.
func (a *Authority) issuerOf(ctx context.Context, who string, usage IssuerUsage) (*Issuer, *CA, error) {
	var issuer *Issuer
	var ca *CA
	for record, err := range a.all(ctx, "issuers/") {
		if err != nil {
			return nil, nil, err
		}
		i, c, err := a.caOf(strings.TrimPrefix(record.Key, a.prefix+"issuers/"), record)
		if err != nil || signer(c.cert) != who || i.Usage&usage != usage || ca != nil && !c.cert.NotAfter.After(ca.cert.NotAfter) {
			continue
		}
		issuer, ca = i, c
	}
	if ca == nil {
		return nil, nil, fmt.Errorf("pki: no issuer has the name and the key, and allows %s: %w", usage, store.ErrNotFound)
	}
	return issuer, ca, nil
}

// turnRecord says until when nobody else needs to do something.
type turnRecord struct {
	Until time.Time `json:"until"`
}

// turn reports whether it is this process that shall do something now, and nobody else for that long. Who said so for longer than that had
// a wrong clock.
func (a *Authority) turn(ctx context.Context, work string, period time.Duration) (mine bool, err error) {
	now := a.engine.now()
	err = update(ctx, a, "turns/"+work, func(r *turnRecord, _ uint64) error {
		if mine = !now.Before(r.Until) || r.Until.Sub(now) > period+crlSkew; !mine {
			return errUnchanged
		}
		r.Until = now.Add(period).UTC()
		return nil
	})
	return mine && err == nil, err
}
