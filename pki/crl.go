package pki

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// CRLTemplate says what a certificate revocation list shall be.
type CRLTemplate struct {
	// Number is the CRL's number. It must be positive, have at most 20 bytes in DER, and be larger than that of every
	// CRL before (RFC 5280, Section 5.2.3), which is for the caller to see to.
	Number *big.Int

	// ThisUpdate is when the list was made; zero is now. Give either NextUpdate, when the next one comes at the latest,
	// or Validity, the time from ThisUpdate until then. Both are cut to seconds.
	ThisUpdate, NextUpdate time.Time
	Validity               time.Duration

	// Revoked are the revoked certificates, each once, in any order. Of an entry SerialNumber, RevocationTime (not after
	// ThisUpdate) and ReasonCode are used; the reason is one of RFC 5280, Section 5.3.1, except removeFromCRL (8), and
	// is left out if it is 0. ExtraExtensions takes an invalidityDate (Section 5.3.2) and nothing else.
	Revoked []x509.RevocationListEntry

	// SignatureAlgorithm is that of the CA's key; 0 is the best that it has: see Options.PSS; ECDSA signs with the hash
	// of its curve's strength.
	SignatureAlgorithm x509.SignatureAlgorithm

	// BaseNumber, if not nil, makes a delta CRL: Revoked are the changes since the complete CRL of that number, and can
	// have the reason removeFromCRL (8) for what that has and complete CRLs have no more (RFC 5280, Section 5.2.4).
	BaseNumber *big.Int

	// DistributionPoint are the URLs of the issuing distribution point, if the list is about those certificates only that
	// name one of them as CRL distribution point (RFC 5280, Section 5.2.5).
	DistributionPoint []string

	// FreshestCRL is where the delta CRLs to this complete one are (RFC 5280, Section 5.2.6).
	FreshestCRL []string

	// Extensions are further ones of the list, none of them critical, and none of those that the fields above make.
	Extensions []pkix.Extension
}

// CRL returns a certificate revocation list of the CA, version 2, in DER: a complete one, or a delta. [EncodeCRL] makes PEM of
// it. Of a list with more than 1,000 entries, 1,000 are linted.
//
// The error wraps [backend.ErrInvalidParams] if the template doesn't fit, a list that has expired and a [*LintError]
// included, or if the CA's certificate lacks cRLSign; [backend.ErrUnsupported] if the key can't sign so; or what the
// managed key returned.
func (ca *CA) CRL(ctx context.Context, t CRLTemplate) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	if _, err := ca.key(ctx); err != nil {
		return nil, err
	}
	list, err := t.list(ca.engine.now(), ca.cert)
	if err != nil {
		return nil, err
	}
	return ca.signList(ctx, list)
}

func (t *CRLTemplate) list(now time.Time, issuer *x509.Certificate) (*crlList, error) {
	if issuer.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return nil, invalid("CRL: the keyUsage of the CA %s lacks cRLSign", issuer.Subject)
	}
	if t.Number == nil || t.Number.Sign() <= 0 || t.Number.BitLen() > 159 {
		return nil, invalid("CRL: number %v; it takes positive ones of at most 159 bits", t.Number)
	}
	this, next := t.ThisUpdate, t.NextUpdate
	if this.IsZero() {
		this = now
	}
	this = this.UTC().Truncate(time.Second)
	if next.IsZero() == (t.Validity == 0) {
		return nil, invalid("CRL: give either Validity or NextUpdate")
	}
	if next.IsZero() {
		next = this.Add(t.Validity)
	}
	next = next.UTC().Truncate(time.Second)
	switch {
	case this.After(now):
		return nil, invalid("CRL: ThisUpdate %s is in the future", stamp(this))
	case this.Before(issuer.NotBefore) || this.After(issuer.NotAfter):
		return nil, invalid("CRL: ThisUpdate %s is outside the validity of the CA, %s to %s", stamp(this), stamp(issuer.NotBefore), stamp(issuer.NotAfter))
	case !next.After(this):
		return nil, invalid("CRL: NextUpdate %s is not after ThisUpdate %s", stamp(next), stamp(this))
	case !next.After(now):
		return nil, invalid("CRL: NextUpdate %s has passed", stamp(next))
	case next.Year() > 9999:
		return nil, invalid("CRL: NextUpdate is in the year %d; it takes at most 9999", next.Year())
	}
	if b := t.BaseNumber; b != nil && (b.Sign() <= 0 || b.Cmp(t.Number) >= 0) {
		return nil, invalid("CRL: base number %v; it takes positive ones below the number, %v", b, t.Number)
	}
	urls := URLs{CRL: slices.Concat(t.DistributionPoint, t.FreshestCRL)}
	if err := urls.check(); err != nil {
		return nil, err
	}
	if err := t.checkExtensions(); err != nil {
		return nil, err
	}
	l := &crlList{extra: t.Extensions, number: t.Number, base: t.BaseNumber, this: this, next: next, point: t.DistributionPoint, freshest: t.FreshestCRL,
		alg: t.SignatureAlgorithm}
	return l, l.fill(t.Revoked)
}

// fill encodes the entries.
func (l *crlList) fill(entries []x509.RevocationListEntry) error {
	reasons := reasonCodes
	if l.base != nil {
		reasons = append(reasons[:len(reasons):len(reasons)], reasonRemoveFromCRL)
	}
	seen := make(map[string]int, len(entries))
	for i, entry := range entries {
		switch {
		case entry.SerialNumber == nil || entry.SerialNumber.Sign() <= 0 || entry.SerialNumber.BitLen() > 159:
			return invalid("CRL: entry %d: serial number %v; it takes positive ones of at most 159 bits", i, entry.SerialNumber)
		case entry.RevocationTime.IsZero():
			return invalid("CRL: entry %d: there is no revocation time", i)
		case entry.RevocationTime.Truncate(time.Second).After(l.this):
			return invalid("CRL: entry %d: revocation time %s is after ThisUpdate %s", i, stamp(entry.RevocationTime), stamp(l.this))
		case !slices.Contains(reasons, entry.ReasonCode):
			return invalid("CRL: entry %d: reason code %d; it takes one of %v", i, entry.ReasonCode, reasons)
		}
		serial := string(entry.SerialNumber.Bytes())
		if first, ok := seen[serial]; ok {
			return invalid("CRL: entry %d: serial number %x is that of entry %d", i, entry.SerialNumber, first)
		}
		seen[serial] = i
		dated, err := invalidityDate(&entry)
		if err != nil {
			return invalid("CRL: entry %d: %w", i, err)
		}
		der, err := datedEntry(entry.SerialNumber, entry.RevocationTime, entry.ReasonCode, dated)
		if err != nil {
			return err
		}
		l.put(der, 1)
	}
	return nil
}

// reasonCodes are those of RFC 5280, Section 5.3.1. removeFromCRL (8) belongs to delta CRLs, and there is no 7.
var reasonCodes = []int{0, 1, 2, 3, 4, 5, 6, 9, 10}
