package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/rsasize"
	"github.com/managedkeys/managedkeys/managedkey"
)

// maxChain bounds the certificates of a CA's chain.
const maxChain = 16

// CA is a certificate authority: a CA certificate, the chain above it, and the managed key that signs for it.
//
// It never changes; all methods are safe for concurrent use. The key is looked up in the mount for every signature, and
// a key that is no longer the certificate's own is refused with [backend.ErrKeyChanged].
type CA struct {
	engine  *Engine
	keyName string
	cert    *x509.Certificate
	chain   []*x509.Certificate // cert first
	pathLen int                 // CA certificates that may follow below, or -1 for any number
	how     *terms              // nil outside of an Authority

	// manual is the same CA by the chain that an operator has set, nil if there is none. What it issues must be right by both, so that
	// no choice of a chain takes a limit away.
	manual *CA
}

// LoadCA returns the CA whose certificate is chain[0] and whose key is the managed key of that name or UUID, in whatever
// version: the CA goes on when the key is rotated. Each further
// certificate of the chain is the issuer of the one before; the last may be a root or not.
//
// The error wraps [backend.ErrInvalidParams] and says which certificate is wrong and why: chain[0] belongs to another
// key, is not a CA's, or lacks keyCertSign or a subject key identifier; the order, a signature, a path length or an
// extended key usage doesn't fit; or there is a critical extension that can't be obeyed. Validity is not checked here
// but when something is issued. The chain must not be modified afterwards.
func (e *Engine) LoadCA(ctx context.Context, key string, chain []*x509.Certificate) (*CA, error) {
	ca, err := e.newCA(key, chain)
	if err != nil {
		return nil, err
	}
	_, err = e.keyOf(ctx, key, chain[0])
	if errors.Is(err, backend.ErrKeyChanged) {
		return nil, invalid("chain: certificate 0 (%s) has another public key than the managed key %.80q, whatever its version", chain[0].Subject, key)
	}
	if err != nil {
		return nil, err
	}
	return ca, nil
}

// newCA is LoadCA without a look at the key.
func (e *Engine) newCA(key string, chain []*x509.Certificate) (*CA, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, invalid("chain: got %d certificates; it takes 1 to %d", len(chain), maxChain)
	}
	ca := &CA{engine: e, keyName: key, cert: chain[0], chain: slices.Clone(chain), pathLen: -1}
	for i, cert := range chain {
		if cert == nil {
			return nil, invalid("chain: certificate %d is nil", i)
		}
		if err := checkCACertificate(cert); err != nil {
			return nil, invalid("chain: certificate %d (%s): %w", i, cert.Subject, err)
		}
		if err := rsasize.CheckPublic(cert.PublicKey); err != nil { // verifying with it would take minutes
			return nil, invalid("chain: certificate %d (%s): %w", i, cert.Subject, err)
		}
		// Certificate i has i CA certificates below it (RFC 5280, Section 4.2.1.9).
		if limit := pathLenOf(cert); limit >= 0 {
			if limit < i {
				return nil, invalid("chain: certificate %d (%s) allows %d CA certificates below it; there are %d", i, cert.Subject, limit, i)
			}
			if ca.pathLen < 0 || limit-i < ca.pathLen {
				ca.pathLen = limit - i
			}
		}
	}
	if err := checkLinks(chain); err != nil {
		return nil, err
	}
	return ca, nil
}

// checkCACertificate checks what RFC 5280 demands of every CA certificate by itself.
func checkCACertificate(cert *x509.Certificate) error {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return fmt.Errorf("it is not a CA certificate (basicConstraints)")
	case cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("its keyUsage lacks keyCertSign")
	case len(cert.SubjectKeyId) == 0:
		return fmt.Errorf("it has no subjectKeyIdentifier")
	case bytes.Equal(cert.RawSubject, []byte{0x30, 0}):
		return fmt.Errorf("its subject is empty")
	case len(cert.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("its critical extension %v is not supported", cert.UnhandledCriticalExtensions[0])
	}
	return nil
}

// checkLinks checks that each certificate of chain was issued by the next one, and the last by itself if it says so.
func checkLinks(chain []*x509.Certificate) error {
	for i, cert := range chain {
		if i == len(chain)-1 && !isRoot(cert) {
			break // the chain ends below the root
		}
		parent := chain[min(i+1, len(chain)-1)]
		switch {
		case !bytes.Equal(cert.RawIssuer, parent.RawSubject):
			return invalid("chain: certificate %d was issued by %s, but certificate %d is %s; the order is from the CA up", i, cert.Issuer, i+1, parent.Subject)
		case len(cert.AuthorityKeyId) > 0 && !bytes.Equal(cert.AuthorityKeyId, parent.SubjectKeyId):
			return invalid("chain: the authorityKeyIdentifier of certificate %d (%s) is not its issuer's", i, cert.Subject)
		}
		if err := cert.CheckSignatureFrom(parent); err != nil {
			return invalid("chain: certificate %d (%s): %w: %w", i, cert.Subject, backend.ErrInvalidSignature, err)
		}
		if err := usagesWithin(cert.ExtKeyUsage, chain[i+1:]); err != nil {
			return invalid("chain: certificate %d (%s): %w", i, cert.Subject, err)
		}
	}
	return nil
}

// signedBy returns an error unless parent has signed cert. Parents are what somebody has sent, and a key may be so long that verifying
// with it takes minutes.
func signedBy(cert, parent *x509.Certificate) error {
	if err := rsasize.CheckPublic(parent.PublicKey); err != nil {
		return err
	}
	return cert.CheckSignatureFrom(parent)
}

// pathLenOf returns how many CA certificates may follow below cert, or -1 if it doesn't say.
func pathLenOf(cert *x509.Certificate) int {
	if cert.MaxPathLen > 0 || cert.MaxPathLen == 0 && cert.MaxPathLenZero {
		return cert.MaxPathLen
	}
	return -1
}

// usagesWithin returns an error unless every one of issuers allows all of usages. An issuer without extended key usages
// allows all, as verifiers take the extension in CA certificates (RFC 5280, Section 4.2.1.12).
func usagesWithin(usages []x509.ExtKeyUsage, issuers []*x509.Certificate) error {
	for _, issuer := range issuers {
		if len(issuer.ExtKeyUsage)+len(issuer.UnknownExtKeyUsage) == 0 || slices.Contains(issuer.ExtKeyUsage, x509.ExtKeyUsageAny) {
			continue
		}
		for _, u := range usages {
			if !slices.Contains(issuer.ExtKeyUsage, u) {
				return fmt.Errorf("extended key usage %s is not among those of the issuer %s", u, issuer.Subject)
			}
		}
	}
	return nil
}

// Certificate returns the CA's own certificate. It must not be modified.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Chain returns the CA's certificate and those above it, each the issuer of the one before. The certificates must not be
// modified; the slice is the caller's.
func (ca *CA) Chain() []*x509.Certificate {
	if ca.manual != nil {
		return ca.manual.Chain()
	}
	return slices.Clone(ca.chain)
}

// shown gives the CA the chain that an operator has set.
func (ca *CA) shown(chain []*x509.Certificate) error {
	manual, err := ca.engine.newCA(ca.keyName, chain)
	if err != nil {
		return err
	}
	ca.manual = manual
	if n := manual.pathLen; n >= 0 && (ca.pathLen < 0 || n < ca.pathLen) {
		ca.pathLen = n
	}
	return nil
}

// key looks up the CA's key and makes sure that it still is the certificate's.
func (ca *CA) key(ctx context.Context) (*managedkey.Key, error) {
	key, err := ca.engine.keyOf(ctx, ca.keyName, ca.cert)
	if errors.Is(err, backend.ErrKeyChanged) {
		return nil, fmt.Errorf("pki: key %.80q is not that of the CA %s: %w", ca.keyName, ca.cert.Subject, backend.ErrKeyChanged)
	}
	return key, err
}

// under returns the same CA that makes certificates on other terms.
func (ca *CA) under(how *terms) *CA {
	out := *ca
	out.how = how
	return &out
}

// standIn returns the CA's certificate with a throwaway's public key in the parsed fields only: crypto/x509 then takes
// the throwaway for the CA's key and everything else, the signature of the CA's issuer included, is the real thing.
func (ca *CA) standIn(throwaway crypto.PublicKey) *x509.Certificate {
	cert := *ca.cert
	cert.PublicKey = throwaway
	return &cert
}

// admit returns an error unless verifiers that trust the end of the CA's chain will accept the certificate draft, which
// standIn's key signed. It catches name constraints and validity anywhere above before anything is signed for real
// (RFC 5280, Section 6.1).
func (ca *CA) admit(draft, standIn *x509.Certificate, now time.Time) error {
	// An OCSP responder is its issuer's own affair: one whose extended key usages had OCSPSigning would itself pass for a
	// responder of the CA above (RFC 6960, Section 4.2.2.2).
	if err := usagesWithin(draft.ExtKeyUsage, ca.chain); err != nil && !slices.Equal(draft.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) {
		return invalid("certificate: %w", err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	chain := append([]*x509.Certificate{standIn}, ca.chain[1:]...)
	roots.AddCert(chain[len(chain)-1])
	for _, cert := range chain[:len(chain)-1] {
		intermediates.AddCert(cert)
	}
	if draft.NotBefore.After(now) {
		now = draft.NotBefore
	}
	_, err := draft.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return invalid("certificate: no verifier would accept it: %w", err)
	}
	if ca.manual != nil {
		return ca.manual.admit(draft, standIn, now)
	}
	return nil
}
