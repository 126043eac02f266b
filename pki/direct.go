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
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

var oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}

// A draft that nobody lints needs no throwaway signature, which takes longer than the rest of signing: crypto/x509 checks what it signs,
// and so does path validation. It is taken where validation has nothing to look at that isn't compared here directly.

// direct reports whether a certificate can be made without a throwaway key.
func (e *Engine) direct(issuer *CA, how *terms) bool {
	if how == nil || how.profile.Name != LintOff || len(e.linters) > 0 || issuer == nil {
		return false
	}
	for _, cert := range issuer.chain {
		if constrained(cert) {
			return false
		}
	}
	return issuer.manual == nil || e.direct(issuer.manual, how)
}

// constrained reports whether a CA certificate has name constraints (RFC 5280, Section 4.2.1.10).
func constrained(cert *x509.Certificate) bool {
	for _, extension := range cert.Extensions {
		if extension.Id.Equal(oidNameConstraints) {
			return true
		}
	}
	return false
}

// admitDirect is admit for an issuer above whom there are no name constraints. What newCA has checked stays true: the links of the chain,
// and its path lengths.
func (ca *CA) admitDirect(draft *x509.Certificate, now time.Time) error {
	if draft.IsCA {
		return errNotDirect
	}
	if err := usagesWithin(draft.ExtKeyUsage, ca.chain); err != nil || len(draft.UnhandledCriticalExtensions) > 0 {
		return errNotDirect // admit says why
	}
	if draft.NotBefore.After(now) {
		now = draft.NotBefore
	}
	for _, cert := range append([]*x509.Certificate{draft}, ca.chain...) {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return errNotDirect
		}
	}
	if ca.manual != nil {
		return ca.manual.admitDirect(draft, now)
	}
	return nil
}

// errNotDirect says that the draft must go the long way.
var errNotDirect = errors.New("pki: not without a throwaway signature")

// capture takes what crypto/x509 wants to have signed, and signs nothing.
type capture struct {
	pub crypto.PublicKey
	tbs []byte
}

var errCaptured = errors.New("pki: nothing is signed yet")

func (c *capture) Public() crypto.PublicKey { return c.pub }

func (c *capture) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errNotDirect
}

func (c *capture) SignMessage(_ io.Reader, tbs []byte, _ crypto.SignerOpts) ([]byte, error) {
	c.tbs = bytes.Clone(tbs)
	return nil, errCaptured
}

// draftDirect builds a draft with an empty signature. The error is errNotDirect if it must go the long way.
func (e *Engine) draftDirect(issuer *CA, template *x509.Certificate, pub crypto.PublicKey) ([]byte, *x509.Certificate, error) {
	algorithm, err := e.algorithmIdentifier(issuer.cert.PublicKey, template.SignatureAlgorithm)
	if err != nil {
		return nil, nil, err
	}
	c := &capture{pub: issuer.cert.PublicKey}
	if _, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, pub, c); !errors.Is(err, errCaptured) {
		if err == nil || errors.Is(err, errNotDirect) {
			return nil, nil, errNotDirect
		}
		return nil, nil, invalid("certificate: %w", err)
	}
	der := wrapSigned(c.tbs, algorithm, nil)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, invalid("certificate: %w", err)
	}
	return der, cert, issuer.admitDirect(cert, e.now())
}

// wrapSigned returns the SEQUENCE of what was signed, how, and the signature (RFC 5280, Section 4.1).
func wrapSigned(tbs, algorithm, signature []byte) []byte {
	n := 1 + len(signature) // with the number of unused bits
	bits := append(appendHeader(nil, n), 0)
	bits[0] = 0x03 // BIT STRING
	content := len(tbs) + len(algorithm) + len(bits) + len(signature)
	out := appendHeader(make([]byte, 0, content+8), content)
	out = append(append(append(out, tbs...), algorithm...), bits...)
	return append(out, signature...)
}

// signDirect has the managed key sign a draft that has no signature yet.
func (d *draft) signDirect(ctx context.Context) (*x509.Certificate, error) {
	algorithm, err := d.engine.algorithmIdentifier(d.issuer.cert.PublicKey, d.alg)
	if err != nil {
		return nil, err
	}
	signature, err := d.key.SignMessageContext(ctx, d.cert.RawTBSCertificate, signerOpts(d.alg))
	if err != nil {
		return nil, fmt.Errorf("pki: sign: %w", err)
	}
	cert := *d.cert // the bytes that are signed are the same, so that all else is, too
	cert.Raw, cert.Signature = wrapSigned(d.cert.RawTBSCertificate, algorithm, signature), signature
	if err := cert.CheckSignatureFrom(d.issuer.cert); err != nil {
		return nil, fmt.Errorf("pki: certificate: what key %q made: %w: %w", d.key.ID(), backend.ErrInvalidSignature, err)
	}
	return &cert, nil
}
