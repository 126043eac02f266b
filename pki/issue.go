package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// terms are how a certificate is made beside what its template says. The zero value is how [CA] and [Engine] make theirs.
type terms struct {
	profile LintProfile
	serial  *big.Int // nil is a number at random

	// keep signs the draft and makes sure that it can't be lost; nil just signs.
	keep func(context.Context, *draft) (*x509.Certificate, error)
}

// certify issues the certificate of pub that template describes, signed by key: by the CA issuer, or self-signed if
// issuer is nil.
func (e *Engine) certify(
	ctx context.Context, key *managedkey.Key, issuer *CA, template *x509.Certificate, pub crypto.PublicKey, how *terms,
) (*x509.Certificate, error) {
	d, err := e.prepare(ctx, key, issuer, template, pub, how)
	if err != nil {
		return nil, err
	}
	if how != nil && how.keep != nil {
		return how.keep(ctx, d)
	}
	return d.sign(ctx)
}

// draft is a certificate that was checked and is not signed yet, but by a throwaway key.
type draft struct {
	engine *Engine
	key    *managedkey.Key
	issuer *CA // nil if it will be self-signed
	alg    x509.SignatureAlgorithm
	der    []byte
	cert   *x509.Certificate // der, parsed
	direct bool              // der has no signature, and there are no extensions that need another look
	used   atomic.Bool
}

// prepare builds a certificate, signs it with a throwaway key, lints it and validates its path.
func (e *Engine) prepare(
	ctx context.Context, key *managedkey.Key, issuer *CA, template *x509.Certificate, pub crypto.PublicKey, how *terms,
) (*draft, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	var err error
	if template.SignatureAlgorithm, err = e.algorithm(key, template.SignatureAlgorithm); err != nil {
		return nil, err
	}
	if template.SerialNumber, err = how.serialNumber(rand.Reader); err != nil {
		return nil, err
	}
	if e.direct(issuer, how) {
		der, cert, err := e.draftDirect(issuer, template, pub)
		if err == nil {
			return &draft{engine: e, key: key, issuer: issuer, alg: template.SignatureAlgorithm, der: der, cert: cert, direct: true}, nil
		}
		if !errors.Is(err, errNotDirect) {
			return nil, err
		}
	}
	throwaway, err := e.throwaway.like(key.Public())
	if err != nil {
		return nil, err
	}
	parent := template
	if issuer != nil {
		parent = issuer.standIn(throwaway.Public())
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, throwaway)
	if err != nil {
		return nil, invalid("certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, invalid("certificate: %w", err)
	}
	if err := lintCertificate(der, cert, issuer == nil, how, e.linters...); err != nil {
		return nil, err
	}
	if issuer != nil {
		if err := issuer.admit(cert, parent, e.now()); err != nil {
			return nil, err
		}
	}
	return &draft{engine: e, key: key, issuer: issuer, alg: template.SignatureAlgorithm, der: der, cert: cert}, nil
}

// sign has the managed key sign the draft, and checks what came of it. A draft is signed once.
func (d *draft) sign(ctx context.Context) (*x509.Certificate, error) {
	if d.used.Swap(true) {
		return nil, fmt.Errorf("pki: certificate: its draft was signed already")
	}
	if d.direct {
		return d.signDirect(ctx)
	}
	der, err := d.engine.replaceSignature(ctx, d.key, d.der, d.alg)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pki: certificate: %w", err)
	}
	signer := cert
	if d.issuer != nil {
		signer = d.issuer.cert
	}
	if !bytes.Equal(cert.RawTBSCertificate, d.cert.RawTBSCertificate) || !bytes.Equal(cert.RawIssuer, signer.RawSubject) {
		return nil, fmt.Errorf("pki: certificate: it is not the one that was checked: %w", backend.ErrInvalidSignature)
	}
	if err := cert.CheckSignatureFrom(signer); err != nil {
		return nil, fmt.Errorf("pki: certificate: what key %q made: %w: %w", d.key.ID(), backend.ErrInvalidSignature, err)
	}
	return cert, nil
}

// signedObject is the form that certificates and CRLs share (RFC 5280, Sections 4.1 and 5.1).
type signedObject struct {
	TBS       asn1.RawValue
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

// replaceSignature returns draft with the signature of key in place of that of a throwaway key. It makes one call.
func (e *Engine) replaceSignature(ctx context.Context, key *managedkey.Key, draft []byte, alg x509.SignatureAlgorithm) ([]byte, error) {
	var object signedObject
	if rest, err := asn1.Unmarshal(draft, &object); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("pki: the draft of %d bytes is malformed (%v), or %d bytes too long", len(draft), err, len(rest))
	}
	signature, err := key.SignMessageContext(ctx, object.TBS.FullBytes, signerOpts(alg))
	if err != nil {
		return nil, fmt.Errorf("pki: sign: %w", err)
	}
	object.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return asn1.Marshal(object)
}

// serialLength is the length of a serial number in bytes. RFC 5280, Section 4.1.2.2, allows 20; the Baseline
// Requirements, Section 7.1, want 64 random bits.
const serialLength = 18

// serialNumber returns a positive number of always the same length, of which 142 bits are random.
func serialNumber(random io.Reader) (*big.Int, error) {
	b := make([]byte, serialLength)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("pki: serial number: %w", err)
	}
	b[0] = b[0]&0x3f | 0x40 // the top bit would be a sign; the next one fixes the length
	return new(big.Int).SetBytes(b), nil
}

// serialNumber returns the number that the terms have, or one at random.
func (how *terms) serialNumber(random io.Reader) (*big.Int, error) {
	if how != nil && how.serial != nil {
		return how.serial, nil
	}
	return serialNumber(random)
}

// serialOfBits returns a positive number with as many random bits; 0 is those of serialNumber.
func serialOfBits(random io.Reader, bits int) (*big.Int, error) {
	if bits == 0 {
		return serialNumber(random)
	}
	b := make([]byte, (bits+7)/8)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("pki: serial number: %w", err)
	}
	b[0] &= 0xff >> (8*len(b) - bits)
	return new(big.Int).SetBit(new(big.Int).SetBytes(b), bits, 1), nil // the bit above fixes the length
}

// backdate is how long before its issue a certificate is valid, for clients whose clocks are slow.
const backdate = 30 * time.Second

// period returns the first and the last second of validity. Both are part of the period (RFC 5280, Section 4.1.2.5), so
// that a validity of an hour ends at 59:59. parent is nil for a root.
func period(now, notBefore, notAfter time.Time, validity time.Duration, parent *x509.Certificate) (first, last time.Time, err error) {
	first, last = notBefore, notAfter
	if first.IsZero() {
		first = now.Add(-backdate)
		if parent != nil && first.Before(parent.NotBefore) {
			first = parent.NotBefore
		}
	}
	first = first.UTC().Truncate(time.Second)
	switch {
	case validity < 0 || validity != 0 && validity < time.Second:
		return first, last, invalid("validity: got %v; it takes a second or more", validity)
	case last.IsZero() && validity == 0:
		return first, last, invalid("validity: give either Validity or NotAfter; got neither")
	case !last.IsZero() && validity != 0:
		return first, last, invalid("validity: give either Validity or NotAfter; got both")
	case last.IsZero():
		last = first.Add(validity - time.Second)
	}
	last = last.UTC().Truncate(time.Second)
	switch {
	case first.Year() < 1950 || last.Year() > 9999: // the range of UTCTime and GeneralizedTime
		return first, last, invalid("validity: years %d to %d; it takes 1950 to 9999", first.Year(), last.Year())
	case last.Before(first):
		return first, last, invalid("validity: NotAfter %s is before NotBefore %s", stamp(last), stamp(first))
	case last.Before(now.Truncate(time.Second)):
		return first, last, invalid("validity: NotAfter %s has passed", stamp(last))
	case parent == nil:
		return first, last, nil
	case first.Before(parent.NotBefore):
		return first, last, invalid("validity: NotBefore %s is before the issuer's, %s", stamp(first), stamp(parent.NotBefore))
	case last.After(parent.NotAfter):
		return first, last, invalid("validity: NotAfter %s is after the issuer's, %s", stamp(last), stamp(parent.NotAfter))
	}
	return first, last, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
