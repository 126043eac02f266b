package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/managedkeys/managedkeys/backend"
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

// crlEntry returns a RevokedCertificate in DER. The reason is left out if it is 0 (RFC 5280, Section 5.3.1).
func crlEntry(serial *big.Int, at time.Time, reason int) ([]byte, error) {
	return datedEntry(serial, at, reason, nil)
}

// datedEntry is crlEntry with an invalidityDate, if that isn't nil. The reason is the last extension, where it is looked for.
func datedEntry(serial *big.Int, at time.Time, reason int, invalidity []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(serial)
		addTime(b, at)
		if reason == ReasonUnspecified && invalidity == nil {
			return
		}
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if invalidity != nil {
				addExtension(b, oidInvalidityDate, false, func(b *cryptobyte.Builder) { b.AddBytes(invalidity) })
			}
			if reason != ReasonUnspecified {
				addExtension(b, oidReasonCode, false, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(reason)) })
			}
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, invalid("CRL: entry %x: %w", serial, err)
	}
	return der, nil
}

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
	entries      []byte   // RevokedCertificates in DER, one after the other
	count        int      // of entries
	point        []string // URLs of the issuing distribution point, none for everything that the issuer has signed
	freshest     []string // URLs of the delta list
	extra        []pkix.Extension
	alg          x509.SignatureAlgorithm
	text         string // of this, once it is needed: see mayBeLater
}

// maxLinted is how many entries are linted. Of a longer list, as many are, from all over it: the others differ only in what this package
// has checked itself, and zlint needs more time and memory for them than everything else.
const maxLinted = 1000

// signList lints a list, signs it, and checks the signature.
func (ca *CA) signList(ctx context.Context, l *crlList) ([]byte, error) {
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
	sample, err := sampleEntries(l.entries, l.count)
	if err != nil {
		return nil, err
	}
	throwaway, err := ca.engine.throwaway.like(key.Public())
	if err != nil {
		return nil, err
	}
	_, err = wrapList(head, sample, tail, algorithm, func(tbs []byte) ([]byte, error) {
		return signWith(throwaway, tbs, l.alg)
	}, lintCRL)
	if err != nil {
		return nil, err
	}
	return wrapList(head, l.entries, tail, algorithm, func(tbs []byte) ([]byte, error) {
		signature, err := key.SignMessageContext(ctx, tbs, signerOpts(l.alg))
		if err != nil {
			return nil, fmt.Errorf("pki: sign: %w", err)
		}
		if err := ca.cert.CheckSignature(l.alg, tbs, signature); err != nil {
			return nil, fmt.Errorf("pki: CRL: what key %q made: %w: %w", key.ID(), backend.ErrInvalidSignature, err)
		}
		return signature, nil
	}, nil)
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

// wrapList returns a CertificateList in DER, whose signature is what sign returns. check, if not nil, is told the result. Apart from the
// entries it needs the result's memory only, however long the list is.
func wrapList(head, entries, tail, algorithm []byte, sign func(tbs []byte) ([]byte, error), check func(der []byte) error) ([]byte, error) {
	content := len(head) + len(tail)
	if len(entries) > 0 { // an empty list is absent (RFC 5280, Section 5.1.2.6)
		content += len(entries) + headerLength(len(entries))
	}
	const front = 8 // more than the outer header has
	buf := make([]byte, front, front+content+len(algorithm)+8<<10)
	buf = appendHeader(buf, content)
	buf = append(buf, head...)
	if len(entries) > 0 {
		buf = append(appendHeader(buf, len(entries)), entries...)
	}
	buf = append(buf, tail...)
	signature, err := sign(buf[front:len(buf):len(buf)])
	if err != nil {
		return nil, err
	}
	buf = append(buf, algorithm...)
	var bits cryptobyte.Builder
	bits.AddASN1BitString(signature)
	buf = append(buf, bits.BytesOrPanic()...)
	header := appendHeader(nil, len(buf)-front)
	der := buf[front-len(header):]
	copy(der, header)
	if check != nil {
		return der, check(der)
	}
	return der, nil
}

// appendHeader appends tag and length of a SEQUENCE with n bytes of content.
func appendHeader(to []byte, n int) []byte {
	if n < 0x80 {
		return append(to, 0x30, byte(n))
	}
	length := big.NewInt(int64(n)).Bytes()
	return append(append(to, 0x30, 0x80|byte(len(length))), length...)
}

func headerLength(n int) int { return len(appendHeader(nil, n)) }

// signWith signs with a throwaway key.
func signWith(key crypto.Signer, message []byte, alg x509.SignatureAlgorithm) ([]byte, error) {
	return crypto.SignMessage(key, rand.Reader, message, signerOpts(alg))
}

// nextEntry returns the first RevokedCertificate of entries, and what follows.
func nextEntry(entries []byte) (entry, rest []byte, err error) {
	in := cryptobyte.String(entries)
	var element cryptobyte.String
	if !in.ReadASN1Element(&element, cbasn1.SEQUENCE) {
		return nil, nil, fmt.Errorf("pki: CRL: an entry is malformed")
	}
	return element, in, nil
}

// entrySerial returns the serial number of an entry without leading zeros.
func entrySerial(entry []byte) []byte {
	in := cryptobyte.String(entry)
	var content cryptobyte.String
	var serial []byte
	if !in.ReadASN1(&content, cbasn1.SEQUENCE) || !content.ReadASN1Bytes(&serial, cbasn1.INTEGER) {
		return nil
	}
	return bytes.TrimLeft(serial, "\x00")
}

// compareSerials compares positive numbers without leading zeros.
func compareSerials(a, b []byte) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return bytes.Compare(a, b)
}

// isRemoval reports whether an entry says removeFromCRL. The reason is at its end; without one, the end is a time's Z.
func isRemoval(entry []byte) bool {
	return bytes.HasSuffix(entry, []byte{0x0a, 1, reasonRemoveFromCRL})
}

// sampleEntries returns entries from all over a list, and all if there are few.
func sampleEntries(entries []byte, count int) ([]byte, error) {
	if count <= maxLinted {
		return entries, nil
	}
	var out []byte
	step := count / maxLinted
	for i := 0; len(entries) > 0; i++ {
		entry, rest, err := nextEntry(entries)
		if err != nil {
			return nil, err
		}
		if i%step == 0 || len(rest) == 0 {
			out = append(out, entry...)
		}
		entries = rest
	}
	return out, nil
}

// parseEntry returns what an entry says.
func parseEntry(entry []byte) (x509.RevocationListEntry, error) {
	bad := fmt.Errorf("pki: CRL: an entry is malformed")
	var out x509.RevocationListEntry
	in := cryptobyte.String(entry)
	var content, extensions cryptobyte.String
	serial := new(big.Int)
	if !in.ReadASN1(&content, cbasn1.SEQUENCE) || !in.Empty() || !content.ReadASN1Integer(serial) {
		return out, bad
	}
	if content.PeekASN1Tag(cbasn1.UTCTime) {
		if !content.ReadASN1UTCTime(&out.RevocationTime) {
			return out, bad
		}
	} else if !content.ReadASN1GeneralizedTime(&out.RevocationTime) {
		return out, bad
	}
	if out.SerialNumber = serial; content.Empty() {
		return out, nil
	}
	if !content.ReadASN1(&extensions, cbasn1.SEQUENCE) || !content.Empty() || len(entry) < 3 || !slices.Equal(entry[len(entry)-3:len(entry)-1], []byte{0x0a, 1}) {
		return out, bad
	}
	out.ReasonCode = int(entry[len(entry)-1])
	return out, nil
}
