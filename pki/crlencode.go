package pki

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// The extensions of CRLs and their entries (RFC 5280, Sections 5.2 and 5.3).
var (
	oidReasonCode     = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidCRLNumber      = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaCRL       = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingPoint   = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidFreshestCRL    = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// reasonRemoveFromCRL is the reason of delta CRLs for what base CRLs have and complete ones will not.
const reasonRemoveFromCRL = 8

// addTime adds a Time: UTCTime until 2049 (RFC 5280, Section 5.1.2.4).
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t = t.UTC(); t.Year() < 2050 {
		b.AddASN1UTCTime(t)
	} else {
		b.AddASN1GeneralizedTime(t)
	}
}

func addExtension(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, critical bool, value cryptobyte.BuilderContinuation) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(cbasn1.OCTET_STRING, value)
	})
}

// addFullName adds the content of a DistributionPointName: one name, known by each of the URLs (RFC 5280, Section 4.2.1.13).
func addFullName(b *cryptobyte.Builder, urls []string) {
	b.AddASN1(context0, func(b *cryptobyte.Builder) { // distributionPoint, explicit since it is a CHOICE
		b.AddASN1(context0, func(b *cryptobyte.Builder) { // fullName
			for _, url := range urls {
				b.AddASN1(cbasn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) })
			}
		})
	})
}

// distributionPoints returns CRLDistributionPoints with one point, which is FreshestCRL as well.
func distributionPoints(urls []string) ([]byte, error) {
	var b cryptobyte.Builder
	addPoints(&b, urls)
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("pki: CRL distribution points: %w", err)
	}
	return der, nil
}

func addPoints(b *cryptobyte.Builder, urls []string) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addFullName(b, urls) })
	})
}

// crlList is what a CRL will say.
type crlList struct {
	number, base *big.Int // base is nil for a complete list
	this, next   time.Time
	entryList
	point    []string // URLs of the issuing distribution point, none for everything that the issuer has signed
	freshest []string // URLs of the delta list
	extra    []pkix.Extension
	alg      x509.SignatureAlgorithm
	text     string // of this, once it is needed: see mayBeLater
}

// maxLinted is how many entries are linted. Of a longer list, as many are, from all over it: the others differ only in what this package
// has checked itself, and zlint needs more time and memory for them than everything else.
const maxLinted = 1000

// signList lints a list, signs it, and checks the signature.
func (ca *CA) signList(ctx context.Context, l *crlList) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, crlSigning)
	defer cancel()
	key, err := ca.key(ctx)
	if err != nil {
		return nil, err
	}
	if l.alg, err = ca.engine.algorithm(key, l.alg); err != nil {
		return nil, err
	}
	algorithm, err := ca.engine.algorithmIdentifier(key.Public(), l.alg)
	if err != nil {
		return nil, err
	}
	head, tail, err := l.frame(algorithm, ca.cert)
	if err != nil {
		return nil, err
	}
	throwaway, err := ca.engine.throwaway.like(key.Public())
	if err != nil {
		return nil, err
	}
	sample, err := l.sample()
	if err != nil {
		return nil, err
	}
	_, err = sample.wrap(head, tail, algorithm, func(tbs []byte) ([]byte, error) {
		return signWith(throwaway, tbs, l.alg)
	}, lintCRL)
	if err != nil {
		return nil, err
	}
	return l.wrap(head, tail, algorithm, func(tbs []byte) ([]byte, error) {
		signature, err := signLong(ctx, key, tbs, l.alg)
		if err != nil {
			return nil, fmt.Errorf("pki: sign: %w", err)
		}
		if err := ca.cert.CheckSignature(l.alg, tbs, signature); err != nil {
			return nil, fmt.Errorf("pki: CRL: what key %q made: %w: %w", key.ID(), backend.ErrInvalidSignature, err)
		}
		return signature, nil
	}, nil)
}

// maxMessage is the longest list, in bytes, that a key is given as it is if its algorithm begins with a hash. Of a longer one it gets the
// digest: key managers need not take it, and those that may be left waiting for need a copy.
const maxMessage = 64 << 10

// signLong signs a message of any length.
func signLong(ctx context.Context, key *managedkey.Key, message []byte, alg x509.SignatureAlgorithm) ([]byte, error) {
	opts := signerOpts(alg)
	h := opts.HashFunc()
	if h == 0 || len(message) <= maxMessage {
		return key.SignMessageContext(ctx, message, opts)
	}
	hash := h.New()
	hash.Write(message)
	return key.SignContext(ctx, hash.Sum(nil), opts)
}

// frame returns what comes before and after the entries in TBSCertList.
func (l *crlList) frame(algorithm []byte, issuer *x509.Certificate) (head, tail []byte, err error) {
	var before, after cryptobyte.Builder
	before.AddASN1Int64(1) // version 2
	before.AddBytes(algorithm)
	before.AddBytes(issuer.RawSubject)
	addTime(&before, l.this)
	addTime(&before, l.next)
	after.AddASN1(context0, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addExtension(b, oidAuthorityKeyID, false, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(issuer.SubjectKeyId) })
				})
			})
			addExtension(b, oidCRLNumber, false, func(b *cryptobyte.Builder) { b.AddASN1BigInt(l.number) })
			if l.base != nil {
				addExtension(b, oidDeltaCRL, true, func(b *cryptobyte.Builder) { b.AddASN1BigInt(l.base) })
			}
			if len(l.point) > 0 {
				addExtension(b, oidIssuingPoint, true, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addFullName(b, l.point) })
				})
			}
			if len(l.freshest) > 0 && l.base == nil { // which a delta list doesn't have (RFC 5280, Section 5.2.6)
				addExtension(b, oidFreshestCRL, false, func(b *cryptobyte.Builder) { addPoints(b, l.freshest) })
			}
			for _, e := range l.extra {
				addExtension(b, e.Id, false, func(b *cryptobyte.Builder) { b.AddBytes(e.Value) })
			}
		})
	})
	if head, err = before.Bytes(); err != nil {
		return nil, nil, invalid("CRL: %w", err)
	}
	if tail, err = after.Bytes(); err != nil {
		return nil, nil, invalid("CRL: %w", err)
	}
	return head, tail, nil
}

// appendHeader appends tag and length of a SEQUENCE with n bytes of content.
func appendHeader(to []byte, n int) []byte {
	if n < 0x80 {
		return append(to, 0x30, byte(n))
	}
	length := big.NewInt(int64(n)).Bytes()
	return append(append(to, 0x30, 0x80|byte(len(length))), length...)
}

// signWith signs with a throwaway key.
func signWith(key crypto.Signer, message []byte, alg x509.SignatureAlgorithm) ([]byte, error) {
	return crypto.SignMessage(key, rand.Reader, message, signerOpts(alg))
}
