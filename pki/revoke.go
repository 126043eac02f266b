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

func revokedKey(signer string, shard int, serial *big.Int) string {
	return fmt.Sprintf("%s%040x", revokedPrefix(signer, shard), serial)
}

// entryOps returns the ops by which CRLs learn what has become of a certificate: what complete ones have of it, if anything; what
// has changed since the last one, which delta lists have; and that there is something new. Values are entries in DER.
func (a *Authority) entryOps(c *Certificate, r *Revocation) ([]store.Op, error) {
	serial, name := c.Certificate.SerialNumber, CRLScope{Shard: c.Shard}.name(c.signer)
	change := Revocation{a.engine.now(), reasonRemoveFromCRL}
	if r != nil {
		change = *r
	}
	entry, err := crlEntry(serial, change.Time, change.Reason)
	if err != nil {
		return nil, err
	}
	ops := []store.Op{a.remove(revokedKey(c.signer, c.Shard, serial), store.Any),
		{Kind: store.Put, Key: fmt.Sprintf("%schanges/%s/%040x", a.prefix, name, serial), Value: entry, Expect: store.Any}}
	if r != nil {
		ops[0].Kind, ops[0].Value = store.Put, entry
	}
	return ops, nil
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
	config, err := a.config(ctx)
	if err != nil {
		return err
	}
	for _, issuer := range issuers {
		parent := issuer.Certificate()
		if string(parent.RawSubject) == string(cert.RawIssuer) && cert.CheckSignatureFrom(parent) == nil {
			r := certRecord{State: StateIssued, DER: cert.Raw, Issuer: issuer.ID, Signer: signer(parent), Issued: a.engine.now().UTC().Truncate(time.Second),
				Shard: a.shardIn(&config, issuer, cert)}
			if _, err = a.insert(ctx, cert, r); errors.Is(err, store.ErrConflict) {
				return nil // somebody else has done so
			}
			return err
		}
	}
	return fmt.Errorf("pki: certificate %s: no issuer of this authority has signed it: %w", FormatSerial(cert.SerialNumber), store.ErrNotFound)
}

// shardIn returns the shard whose list a certificate names, which need not be that of the shards that there are now; 0 if it names none.
func (a *Authority) shardIn(config *configRecord, issuer *Issuer, cert *x509.Certificate) int {
	if len(cert.CRLDistributionPoints) == 0 {
		return 0
	}
	for shards := range config.Shards {
		shard := shardOf(cert.SerialNumber, config.Shards-shards)
		urls, err := a.urlsOf(*config, issuer, shard)
		if err == nil && slices.ContainsFunc(urls.CRL, func(url string) bool { return slices.Contains(cert.CRLDistributionPoints, url) }) {
			return shard
		}
	}
	return 0
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
		ops, err := a.entryOps(cert, cert.Revocation)
		if err != nil {
			return nil, err
		}
		ops = append(ops, a.stale(cert.signer, cert.Shard)...)
		_, err = a.apply(ctx, append([]store.Op{a.put(certKey(serial), store.Expect(cert.version), cert.record())}, ops...)...)
		if err == nil {
			return cert.Revocation, nil
		}
		if !errors.Is(err, store.ErrConflict) || try == maxTries {
			return nil, err
		}
	}
}

// stale returns the ops that make the CRLs of a signer and a shard old ones. They compare nothing, so that revocations don't wait
// for each other: what counts is the version of the record.
func (a *Authority) stale(signer string, shard int) []store.Op {
	ops := []store.Op{{Kind: store.Put, Key: a.prefix + "stale/" + signer, Value: []byte{}, Expect: store.Any}}
	if shard > 0 {
		ops = append(ops, store.Op{Kind: store.Put, Key: a.prefix + "stale/" + CRLScope{Shard: shard}.name(signer), Value: []byte{}, Expect: store.Any})
	}
	return ops
}

// Revoked yields the revoked certificates that are signed by an issuer: by serial number in each shard.
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
		for record, err := range a.all(ctx, revokedPrefix(signer, 0)) {
			var entry x509.RevocationListEntry
			if err == nil {
				if entry, err = parseEntry(record.Value); err != nil {
					err = fmt.Errorf("pki: %s: %w: %w", record.Key, store.ErrCorrupt, plain(err))
				}
			}
			if !yield(entry, err) || err != nil {
				return
			}
		}
	}
}
