package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// The reasons of revocations (RFC 5280, Section 5.3.1).
const (
	ReasonUnspecified          = 0
	ReasonKeyCompromise        = 1
	ReasonCACompromise         = 2
	ReasonAffiliationChanged   = 3
	ReasonSuperseded           = 4
	ReasonCessationOfOperation = 5
	ReasonCertificateHold      = 6 // the only one that Release takes back
	ReasonPrivilegeWithdrawn   = 9
	ReasonAACompromise         = 10
)

// revokedRecord is what CRLs have of a certificate. It lies under its signer, so that one CRL reads nothing of others.
type revokedRecord struct {
	Revocation
	NotAfter time.Time `json:"not_after"`
}

func revokedKey(signer string, serial *big.Int) string {
	return fmt.Sprintf("revoked/%s/%040x", signer, serial)
}

// Revoke revokes the certificate of a serial number, pending ones included. at is when; zero is now, and the future is
// refused. A certificate that is revoked already stays as it is, and its revocation is returned, except that a hold becomes
// final with another reason, at its own time.
//
// No key is needed, so that one that is out of reach keeps nobody from revoking: the next [Authority.CRL] has it.
func (a *Authority) Revoke(ctx context.Context, serial string, reason int, at time.Time) (*Revocation, error) {
	number, err := ParseSerial(serial)
	if err != nil {
		return nil, err
	}
	return a.revoke(ctx, number, reason, at)
}

// RevokeCertificate is Revoke for a certificate, which may be one that the store doesn't have, if an issuer of this authority
// has signed it: it is stored then.
func (a *Authority) RevokeCertificate(ctx context.Context, cert *x509.Certificate, reason int, at time.Time) (*Revocation, error) {
	switch known, err := a.certificate(ctx, cert.SerialNumber); {
	case errors.Is(err, store.ErrNotFound):
		if err := a.adopt(ctx, cert); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case string(known.Certificate.RawTBSCertificate) != string(cert.RawTBSCertificate):
		return nil, invalid("certificate %s: the store has another one with this serial number", FormatSerial(cert.SerialNumber))
	}
	return a.revoke(ctx, cert.SerialNumber, reason, at)
}

// adopt stores a certificate that an issuer of this authority signed elsewhere.
func (a *Authority) adopt(ctx context.Context, cert *x509.Certificate) error {
	if cert.SerialNumber.Sign() <= 0 || cert.SerialNumber.BitLen() > 159 {
		return invalid("certificate: serial number %x; it takes 1 to 20 bytes", cert.SerialNumber)
	}
	if cert.NotAfter.Before(a.engine.now()) {
		return invalid("certificate %s: it has expired, and is not in the store", FormatSerial(cert.SerialNumber))
	}
	issuers, err := a.Issuers(ctx)
	if err != nil {
		return err
	}
	for _, issuer := range issuers {
		parent := issuer.Certificate()
		if string(parent.RawSubject) == string(cert.RawIssuer) && cert.CheckSignatureFrom(parent) == nil {
			r := certRecord{State: StateIssued, DER: cert.Raw, Issuer: issuer.ID, Signer: signer(parent), Issued: a.engine.now().UTC().Truncate(time.Second)}
			if _, err = a.insert(ctx, cert, r); errors.Is(err, store.ErrConflict) {
				return nil // somebody else has done so
			}
			return err
		}
	}
	return fmt.Errorf("pki: certificate %s: no issuer of this authority has signed it: %w", FormatSerial(cert.SerialNumber), store.ErrNotFound)
}

func (a *Authority) revoke(ctx context.Context, serial *big.Int, reason int, at time.Time) (*Revocation, error) {
	now := a.engine.now().UTC().Truncate(time.Second)
	if at.IsZero() {
		at = now
	}
	at = at.UTC().Truncate(time.Second)
	switch {
	case !slices.Contains(reasonCodes, reason):
		return nil, invalid("revocation: reason code %d; it takes one of %v", reason, reasonCodes)
	case at.After(now):
		return nil, invalid("revocation: time %s is in the future", stamp(at))
	}
	return a.change(ctx, serial, func(c *Certificate) error {
		if at.Before(c.Certificate.NotBefore) && at.Before(c.Issued) {
			return invalid("revocation: time %s is before the certificate's first second, %s", stamp(at), stamp(c.Certificate.NotBefore))
		}
		switch r := c.Revocation; {
		case r == nil:
			c.Revocation = &Revocation{at, reason}
		case r.Reason == ReasonCertificateHold && reason != ReasonCertificateHold:
			c.Revocation = &Revocation{r.Time, reason}
		default:
			return errUnchanged
		}
		return nil
	})
}

// Release takes back a revocation with the reason certificateHold. The error wraps backend.ErrNotPermitted for another
// reason, and backend.ErrInvalidParams if the certificate isn't revoked.
func (a *Authority) Release(ctx context.Context, serial string) error {
	number, err := ParseSerial(serial)
	if err != nil {
		return err
	}
	_, err = a.change(ctx, number, func(c *Certificate) error {
		switch r := c.Revocation; {
		case r == nil:
			return invalid("release: certificate %s is not revoked", c.Serial)
		case r.Reason != ReasonCertificateHold:
			return fmt.Errorf("pki: release: certificate %s is revoked for good, with reason code %d: %w", c.Serial, r.Reason, backend.ErrNotPermitted)
		}
		c.Revocation = nil
		return nil
	})
	return err
}

// change changes the revocation of a certificate, and lets its CRL know.
func (a *Authority) change(ctx context.Context, serial *big.Int, change func(*Certificate) error) (*Revocation, error) {
	for try := 0; ; try++ {
		cert, err := a.certificate(ctx, serial)
		if err != nil {
			return nil, err
		}
		if err := change(cert); errors.Is(err, errUnchanged) {
			return cert.Revocation, nil
		} else if err != nil {
			return nil, err
		}
		entry := a.remove(revokedKey(cert.signer, serial), store.Any)
		if r := cert.Revocation; r != nil {
			entry = a.put(revokedKey(cert.signer, serial), store.Any, revokedRecord{*r, cert.Certificate.NotAfter.UTC()})
		}
		_, err = a.apply(ctx, a.put(certKey(serial), store.Expect(cert.version), cert.record()), entry, a.stale(cert.signer))
		if err == nil {
			return cert.Revocation, nil
		}
		if !errors.Is(err, store.ErrConflict) || try == maxTries {
			return nil, err
		}
	}
}

// stale returns the op that makes the CRL of a signer an old one. It compares nothing, so that revocations don't wait for
// each other: what counts is the version of the record.
func (a *Authority) stale(signer string) store.Op {
	return store.Op{Kind: store.Put, Key: a.prefix + "stale/" + signer, Value: []byte{}, Expect: store.Any}
}

// Revoked yields the revoked certificates that are signed by an issuer, by serial number.
func (a *Authority) Revoked(ctx context.Context, issuer string) func(yield func(x509.RevocationListEntry, error) bool) {
	return func(yield func(x509.RevocationListEntry, error) bool) {
		i, err := a.Issuer(ctx, issuer)
		if err != nil {
			yield(x509.RevocationListEntry{}, err)
			return
		}
		for entry, err := range a.revoked(ctx, signer(i.Certificate())) {
			if !yield(entry, err) {
				return
			}
		}
	}
}

func (a *Authority) revoked(ctx context.Context, signer string) func(func(x509.RevocationListEntry, error) bool) {
	return func(yield func(x509.RevocationListEntry, error) bool) {
		prefix := "revoked/" + signer + "/"
		for record, err := range a.all(ctx, prefix) {
			var r revokedRecord
			if err == nil {
				err = decodeRecord(record, &r)
			}
			if err != nil {
				yield(x509.RevocationListEntry{}, err)
				return
			}
			serial, ok := new(big.Int).SetString(record.Key[len(a.prefix)+len(prefix):], 16)
			if !ok {
				yield(x509.RevocationListEntry{}, fmt.Errorf("pki: %s: %w", record.Key, store.ErrCorrupt))
				return
			}
			if !yield(x509.RevocationListEntry{SerialNumber: serial, RevocationTime: r.Time, ReasonCode: r.Reason}, nil) {
				return
			}
		}
	}
}
