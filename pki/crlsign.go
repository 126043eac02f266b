package pki

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxCRLNumber is the greatest number that a list can be given, so that the authority's own lists never run out of greater ones.
const maxCRLNumber = 1 << 62

// MaxResignedCRLs is how many lists ResignCRLs takes.
const MaxResignedCRLs = 64

// SignRevocationList signs a list of what the caller says, in an issuer's name: for an authority that came from somewhere else with
// its revocations, or whose lists somebody else gathers. It is returned, and neither published nor kept; what it says is nowhere in the
// authority, whose own lists go on to say what that knows. The caller must make sure that no verifier gets both.
//
// Its number is taken from the sequence of the issuer's own lists (RFC 5280, Section 5.2.3): the next one if t has none, and else one
// that is greater than all that were taken, below which no later list falls.
//
// The error wraps [backend.ErrInvalidParams] if the template doesn't fit, [backend.ErrNotPermitted] if the issuer's usage lacks
// [SignCRLs], and [backend.ErrUnavailable] if the issuer's own list is being made; then no number is taken.
func (a *Authority) SignRevocationList(ctx context.Context, issuer string, t CRLTemplate) (*CRL, error) {
	return a.signRevocationList(ctx, issuer, t, 0)
}

// signRevocationList is SignRevocationList with a number above another one.
func (a *Authority) signRevocationList(ctx context.Context, ref string, t CRLTemplate, above int64) (*CRL, error) {
	i, ca, err := a.ca(ctx, ref, SignCRLs)
	if err != nil {
		return nil, err
	}
	if t.SignatureAlgorithm == 0 {
		t.SignatureAlgorithm = i.CRLAlgorithm
	}
	limit := big.NewInt(maxCRLNumber)
	if n := t.Number; n != nil && (n.Sign() <= 0 || n.Cmp(limit) > 0 || n.Int64() <= above) {
		return nil, invalid("CRL: number %v; it takes one above %d, and at most %d", n, above, limit)
	}
	trial := t // what is wrong is found before a number is taken
	if trial.Number == nil {
		trial.Number = limit
	}
	if _, err := trial.list(a.engine.now(), ca.cert); err != nil {
		return nil, err
	}
	if _, err := ca.key(ctx); err != nil {
		return nil, err
	}
	number, err := a.takeNumber(ctx, signer(ca.cert), &t, above)
	if err != nil {
		return nil, err
	}
	t.Number = big.NewInt(number)
	list, err := t.list(a.engine.now(), ca.cert)
	if err != nil {
		return nil, err
	}
	der, err := ca.signList(ctx, list)
	if err != nil {
		return nil, err
	}
	out := &CRL{DER: der, Number: number, ThisUpdate: list.this, NextUpdate: list.next, Entries: list.count}
	if t.BaseNumber != nil {
		out.Base = t.BaseNumber.Int64()
	}
	return out, nil
}

// takeNumber takes the number of a list that is signed beside the signer's own.
func (a *Authority) takeNumber(ctx context.Context, who string, t *CRLTemplate, above int64) (int64, error) {
	var number int64
	err := update(ctx, a, "crl/"+who, func(r *crlRecord, _ uint64) error {
		if r.leased(a.engine.now()) {
			return errCRLBusy // its number is taken, and it would have to be made again
		}
		number = max(r.Taken, above) + 1
		if t.Number != nil {
			if number = t.Number.Int64(); number <= r.Taken {
				return invalid("CRL: number %d; numbers only grow, and %d is taken (RFC 5280, Section 5.2.3)", number, r.Taken)
			}
		}
		if base := t.BaseNumber; base != nil && base.Cmp(big.NewInt(number)) >= 0 {
			return invalid("CRL: base number %v; it takes one below the number, %d", base, number)
		}
		r.Taken = number
		return nil
	})
	return number, err
}

// ResignCRLs combines lists of an issuer, each in DER, such as those of several clusters, to one: as SignRevocationList has it, with
// the entries of all of them in place of those of the template, which must have none. Of one that several lists have, a revocation for
// good counts more than a hold, and that more than its removal; and an earlier one more than a later.
//
// Refused are lists that the issuer has not signed, that are about a part of what it has issued, or that have extensions whose meaning
// would be lost; delta lists if the template has no BaseNumber, and complete ones if it has; and a number that is not above all of
// theirs.
func (a *Authority) ResignCRLs(ctx context.Context, issuer string, crls [][]byte, t CRLTemplate) (*CRL, error) {
	if len(crls) == 0 || len(crls) > MaxResignedCRLs {
		return nil, invalid("resign CRLs: got %d lists; it takes 1 to %d", len(crls), MaxResignedCRLs)
	}
	if len(t.Revoked) > 0 {
		return nil, invalid("resign CRLs: the template has entries; they are those of the lists")
	}
	_, ca, err := a.ca(ctx, issuer, SignCRLs)
	if err != nil {
		return nil, err
	}
	var above int64
	entries := make(map[string]x509.RevocationListEntry)
	for i, der := range crls {
		list, err := parseResigned(der, ca.cert, t.BaseNumber != nil)
		if err != nil {
			return nil, invalid("resign CRLs: list %d: %w", i, err)
		}
		if list.Number != nil {
			if list.Number.Cmp(big.NewInt(maxCRLNumber)) >= 0 {
				return nil, invalid("resign CRLs: list %d: its number is %v; it takes less than %d", i, list.Number, int64(maxCRLNumber))
			}
			above = max(above, list.Number.Int64())
		}
		for j, entry := range list.RevokedCertificateEntries {
			if err := checkResignedEntry(&entry); err != nil {
				return nil, invalid("resign CRLs: list %d, entry %d: %w", i, j, err)
			}
			key := string(entry.SerialNumber.Bytes())
			if other, ok := entries[key]; !ok || weighs(&entry, &other) {
				entries[key] = entry
			}
		}
	}
	t.Revoked = make([]x509.RevocationListEntry, 0, len(entries))
	for _, entry := range entries {
		t.Revoked = append(t.Revoked, entry)
	}
	slices.SortFunc(t.Revoked, func(a, b x509.RevocationListEntry) int { return a.SerialNumber.Cmp(b.SerialNumber) })
	return a.signRevocationList(ctx, issuer, t, above)
}

// parseResigned parses a list that the issuer must have made.
func parseResigned(der []byte, issuer *x509.Certificate, delta bool) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("it is no CRL: %w", err)
	}
	switch {
	case !bytes.Equal(list.RawIssuer, issuer.RawSubject):
		return nil, fmt.Errorf("it was made by %s and not by %s", list.Issuer, issuer.Subject)
	case len(list.AuthorityKeyId) > 0 && !bytes.Equal(list.AuthorityKeyId, issuer.SubjectKeyId):
		return nil, fmt.Errorf("its authorityKeyIdentifier is not that of the issuer's key")
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("the issuer has not signed it: %w", err)
	}
	isDelta := false
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidDeltaCRL):
			isDelta = true
		case e.Id.Equal(oidIssuingPoint):
			return nil, fmt.Errorf("it is about a part of what the issuer has issued (issuingDistributionPoint)")
		case e.Critical:
			return nil, fmt.Errorf("its critical extension %v is not supported", e.Id)
		}
	}
	switch {
	case isDelta && !delta:
		return nil, fmt.Errorf("it is a delta list; a complete one is made of complete ones")
	case !isDelta && delta:
		return nil, fmt.Errorf("it is a complete list; a delta list is made of delta lists")
	}
	return list, nil
}

// checkResignedEntry moves the extensions of an entry that are kept to where a template has them.
func checkResignedEntry(entry *x509.RevocationListEntry) error {
	for _, e := range entry.Extensions {
		switch {
		case e.Id.Equal(oidReasonCode):
		case e.Id.Equal(oidInvalidityDate):
			entry.ExtraExtensions = append(entry.ExtraExtensions, e)
		default:
			return fmt.Errorf("its extension %v would be lost", e.Id)
		}
	}
	return nil
}

// weighs reports whether a counts more than b.
func weighs(a, b *x509.RevocationListEntry) bool {
	rank := func(e *x509.RevocationListEntry) int {
		switch e.ReasonCode {
		case reasonRemoveFromCRL:
			return 0
		case ReasonCertificateHold:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), b.RevocationTime.Compare(a.RevocationTime)) > 0
}

var oidInvalidityDate = asn1.ObjectIdentifier{2, 5, 29, 24}

// reservedCRLExtensions are those that a list has by itself, or must not have since they would change what it is about.
var reservedCRLExtensions = []asn1.ObjectIdentifier{oidAuthorityKeyID, oidCRLNumber, oidDeltaCRL, oidIssuingPoint, oidFreshestCRL}

const (
	maxCRLExtensions     = 16
	maxCRLExtensionBytes = 4096
)

// checkExtensions refuses extensions that a template must not have.
func (t *CRLTemplate) checkExtensions() error {
	if len(t.Extensions) > maxCRLExtensions {
		return invalid("CRL: got %d extensions; it takes at most %d", len(t.Extensions), maxCRLExtensions)
	}
	for i, e := range t.Extensions {
		_, err := asn1.Marshal(e.Id)
		switch {
		case err != nil:
			return invalid("CRL: extension %v is no object identifier: %w", e.Id, err)
		case slices.ContainsFunc(reservedCRLExtensions, e.Id.Equal):
			return invalid("CRL: extension %v is reserved: the list has it by itself, or from a field", e.Id)
		case e.Critical:
			return invalid("CRL: extension %v is critical, and verifiers that don't know it would refuse the list", e.Id)
		case len(e.Value) > maxCRLExtensionBytes || !isElement(e.Value):
			return invalid("CRL: extension %v: its value must be one element in DER, of at most %d bytes", e.Id, maxCRLExtensionBytes)
		}
		for _, other := range t.Extensions[:i] {
			if other.Id.Equal(e.Id) {
				return invalid("CRL: extension %v is given twice", e.Id)
			}
		}
	}
	return nil
}

// isElement reports whether der is one element.
func isElement(der []byte) bool {
	in := cryptobyte.String(der)
	var element cryptobyte.String
	var tag cbasn1.Tag
	return in.ReadAnyASN1Element(&element, &tag) && in.Empty()
}

// invalidityDate returns the extension invalidityDate of an entry in DER, nil if it has none. Others are refused.
func invalidityDate(entry *x509.RevocationListEntry) ([]byte, error) {
	var out []byte
	for _, e := range entry.ExtraExtensions {
		in := cryptobyte.String(e.Value)
		var at time.Time
		switch {
		case !e.Id.Equal(oidInvalidityDate):
			return nil, fmt.Errorf("extension %v; it takes invalidityDate (%v), and the reason in its field", e.Id, oidInvalidityDate)
		case out != nil || e.Critical || !in.ReadASN1GeneralizedTime(&at) || !in.Empty():
			return nil, fmt.Errorf("invalidityDate: it takes one GeneralizedTime, and is not critical (RFC 5280, Section 5.3.2)")
		}
		out = e.Value
	}
	return out, nil
}
