package pki

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/managedkeys/managedkeys/backend"
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
	// is left out if it is 0.
	Revoked []x509.RevocationListEntry

	// SignatureAlgorithm is that of the CA's key; 0 is the best that it has: see Options.PSS; ECDSA signs with the hash
	// of its curve's strength.
	SignatureAlgorithm x509.SignatureAlgorithm
}

// CRL returns a full certificate revocation list of the CA, version 2, in DER. [EncodeCRL] makes PEM of it.
//
// The error wraps [backend.ErrInvalidParams] if the template doesn't fit, a list that has expired and a [*LintError]
// included, or if the CA's certificate lacks cRLSign; [backend.ErrUnsupported] if the key can't sign so; or what the
// managed key returned.
func (ca *CA) CRL(ctx context.Context, t CRLTemplate) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	key, err := ca.key(ctx)
	if err != nil {
		return nil, err
	}
	template, err := t.list(ca.engine.now(), ca.cert)
	if err != nil {
		return nil, err
	}
	if template.SignatureAlgorithm, err = ca.engine.algorithm(key, t.SignatureAlgorithm); err != nil {
		return nil, err
	}
	throwaway, err := ca.engine.throwaway.like(key.Public())
	if err != nil {
		return nil, err
	}
	draft, err := x509.CreateRevocationList(rand.Reader, template, ca.standIn(throwaway.Public()), throwaway)
	if err != nil {
		return nil, invalid("CRL: %w", err)
	}
	if err := lintCRL(draft); err != nil {
		return nil, err
	}
	var checked signedObject
	if _, err := asn1.Unmarshal(draft, &checked); err != nil {
		return nil, invalid("CRL: %w", err)
	}

	der, err := ca.engine.replaceSignature(ctx, key, draft, template.SignatureAlgorithm)
	if err != nil {
		return nil, err
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("pki: CRL: %w", err)
	}
	if !bytes.Equal(crl.RawTBSRevocationList, checked.TBS.FullBytes) || !bytes.Equal(crl.RawIssuer, ca.cert.RawSubject) {
		return nil, fmt.Errorf("pki: CRL: it is not the one that was checked: %w", backend.ErrInvalidSignature)
	}
	if err := crl.CheckSignatureFrom(ca.cert); err != nil {
		return nil, fmt.Errorf("pki: CRL: what key %q made: %w: %w", key.ID(), backend.ErrInvalidSignature, err)
	}
	return der, nil
}

func (t *CRLTemplate) list(now time.Time, issuer *x509.Certificate) (*x509.RevocationList, error) {
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
	entries, err := revoked(t.Revoked, this)
	if err != nil {
		return nil, err
	}
	return &x509.RevocationList{Number: t.Number, ThisUpdate: this, NextUpdate: next, RevokedCertificateEntries: entries}, nil
}

// revoked returns the entries of a CRL made at that time, with nothing in them but what CRLTemplate.Revoked names.
func revoked(entries []x509.RevocationListEntry, this time.Time) ([]x509.RevocationListEntry, error) {
	out := make([]x509.RevocationListEntry, len(entries))
	seen := make(map[string]int, len(entries))
	for i, entry := range entries {
		switch {
		case entry.SerialNumber == nil || entry.SerialNumber.Sign() <= 0 || entry.SerialNumber.BitLen() > 159:
			return nil, invalid("CRL: entry %d: serial number %v; it takes positive ones of at most 159 bits", i, entry.SerialNumber)
		case entry.RevocationTime.IsZero():
			return nil, invalid("CRL: entry %d: there is no revocation time", i)
		case entry.RevocationTime.Truncate(time.Second).After(this):
			return nil, invalid("CRL: entry %d: revocation time %s is after ThisUpdate %s", i, stamp(entry.RevocationTime), stamp(this))
		case !slices.Contains(reasonCodes, entry.ReasonCode):
			return nil, invalid("CRL: entry %d: reason code %d; it takes one of %v", i, entry.ReasonCode, reasonCodes)
		}
		serial := string(entry.SerialNumber.Bytes())
		if first, ok := seen[serial]; ok {
			return nil, invalid("CRL: entry %d: serial number %x is that of entry %d", i, entry.SerialNumber, first)
		}
		seen[serial] = i
		out[i] = x509.RevocationListEntry{SerialNumber: entry.SerialNumber, RevocationTime: entry.RevocationTime.UTC().Truncate(time.Second), ReasonCode: entry.ReasonCode}
	}
	return out, nil
}

// reasonCodes are those of RFC 5280, Section 5.3.1. removeFromCRL (8) belongs to delta CRLs, and there is no 7.
var reasonCodes = []int{0, 1, 2, 3, 4, 5, 6, 9, 10}
