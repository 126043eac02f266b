package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha1"
	"crypto/x509"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// OCSPStatus is the responseStatus of an OCSP answer (RFC 6960, Section 4.2.1).
type OCSPStatus int

// The statuses of answers. Only the first one tells about certificates, and is signed.
const (
	OCSPSuccessful       OCSPStatus = 0
	OCSPMalformedRequest OCSPStatus = 1
	OCSPInternalError    OCSPStatus = 2 // what is stored is inconsistent, or a key is not the one it was
	OCSPTryLater         OCSPStatus = 3 // the key or the store is out of reach
	OCSPUnauthorized     OCSPStatus = 6 // no issuer of the authority is meant, or it may not answer (RFC 5019, Section 2.2.3)
)

// String returns the name of the status in RFC 6960.
func (s OCSPStatus) String() string {
	switch s {
	case OCSPSuccessful:
		return "successful"
	case OCSPMalformedRequest:
		return "malformedRequest"
	case OCSPInternalError:
		return "internalError"
	case OCSPTryLater:
		return "tryLater"
	case OCSPUnauthorized:
		return "unauthorized"
	}
	return fmt.Sprintf("status %d", int(s))
}

// bare returns the answer that consists of the status alone.
func (s OCSPStatus) bare() []byte { return []byte{0x30, 3, 0x0a, 1, byte(s)} }

// certStatus is what is known of a certificate.
type certStatus struct {
	known   bool        // it was issued
	revoked *Revocation // nil if it is not
}

// responder is who signs answers: the issuer itself, or somebody whom it has certified for that.
type responder struct {
	cert     *x509.Certificate
	delegate bool // cert is not the issuer's, and goes with answers
	byName   bool
	alg      x509.SignatureAlgorithm // 0 is the best that the key has
	key      func(context.Context) (*managedkey.Key, error)
}

// singles are the answers to CertIDs at one time.
type singles struct {
	ids        []certID
	statuses   []certStatus
	this, next time.Time
	nonce      []byte // value of the extension, nil for none
}

// sign returns an OCSPResponse in DER.
func (r *responder) sign(ctx context.Context, e *Engine, s *singles) ([]byte, error) {
	key, err := r.key(ctx)
	if err != nil {
		return nil, err
	}
	alg, err := e.algorithm(key, r.alg)
	if err != nil {
		return nil, err
	}
	algorithm, err := e.algorithmIdentifier(key.Public(), alg)
	if err != nil {
		return nil, err
	}
	tbs, err := r.responseData(s)
	if err != nil {
		return nil, err
	}
	signature, err := key.SignMessageContext(ctx, tbs, signerOpts(alg))
	if err != nil {
		return nil, fmt.Errorf("pki: OCSP: sign: %w", err)
	}
	if err := r.cert.CheckSignature(alg, tbs, signature); err != nil {
		return nil, fmt.Errorf("pki: OCSP: what key %q made: %w: %w", key.ID(), backend.ErrInvalidSignature, err)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(signature)+len(r.cert.Raw)+256))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // OCSPResponse
		b.AddASN1Enum(int64(OCSPSuccessful))
		b.AddASN1(context0, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // ResponseBytes
				b.AddASN1ObjectIdentifier(oidOCSPBasic)
				b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // BasicOCSPResponse
						b.AddBytes(tbs)
						b.AddBytes(algorithm)
						b.AddASN1BitString(signature)
						if r.delegate {
							b.AddASN1(context0, func(b *cryptobyte.Builder) {
								b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(r.cert.Raw) })
							})
						}
					})
				})
			})
		})
	})
	return b.Bytes()
}

const (
	context0 = cbasn1.Tag(0x80 | 0x20)
	context1 = cbasn1.Tag(0x80 | 0x20 | 1)
	context2 = cbasn1.Tag(0x80 | 0x20 | 2)
)

// responseData returns ResponseData in DER.
func (r *responder) responseData(s *singles) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if r.byName {
			b.AddASN1(context1, func(b *cryptobyte.Builder) { b.AddBytes(r.cert.RawSubject) })
		} else {
			b.AddASN1(context2, func(b *cryptobyte.Builder) {
				sum := sha1.Sum(publicKeyBits(r.cert)) // RFC 6960, Section 4.2.1, has no other hash
				b.AddASN1OctetString(sum[:])
			})
		}
		b.AddASN1GeneralizedTime(s.this)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for i := range s.ids {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { s.single(b, i) })
			}
		})
		if s.nonce != nil {
			b.AddASN1(context1, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidOCSPNonce)
						b.AddASN1OctetString(s.nonce)
					})
				})
			})
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("pki: OCSP: %w", err)
	}
	return der, nil
}

// single adds the content of a SingleResponse.
func (s *singles) single(b *cryptobyte.Builder, i int) {
	b.AddBytes([]byte(s.ids[i].raw))
	switch status := s.statuses[i]; {
	case status.revoked != nil:
		b.AddASN1(context1, func(b *cryptobyte.Builder) {
			b.AddASN1GeneralizedTime(status.revoked.Time.UTC())
			if status.revoked.Reason != ReasonUnspecified { // which is what an absent one means
				b.AddASN1(context0, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(status.revoked.Reason)) })
			}
		})
	case status.known:
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
	default:
		b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
	}
	b.AddASN1GeneralizedTime(s.this)
	b.AddASN1(context0, func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(s.next) })
}

// publicKeyBits returns the BIT STRING of a certificate's public key without tag, length and unused bits, which is what key hashes are
// of (RFC 6960, Section 4.1.1).
func publicKeyBits(cert *x509.Certificate) []byte {
	input := cryptobyte.String(cert.RawSubjectPublicKeyInfo)
	var info, algorithm cryptobyte.String
	var bits []byte
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1(&algorithm, cbasn1.SEQUENCE) || !info.ReadASN1BitStringAsBytes(&bits) {
		return nil // crypto/x509 has parsed it, so that this doesn't happen
	}
	return bits
}

// idsOf returns the hashes by which CertIDs refer to an issuer.
func idsOf(cert *x509.Certificate) []issuerID {
	out := make([]issuerID, 0, len(ocspHashes))
	for _, h := range ocspHashes {
		out = append(out, issuerID{h.hash, hashOf(h.hash, cert.RawSubject), hashOf(h.hash, publicKeyBits(cert))})
	}
	return out
}

// issuerID is how a CertID refers to an issuer.
type issuerID struct {
	hash      crypto.Hash
	name, key string
}

func hashOf(h crypto.Hash, data []byte) string {
	w := h.New()
	w.Write(data)
	return string(w.Sum(nil))
}

// delegatedBy reports whether cert is an answering certificate of the issuer: signed by it, and for OCSP only (RFC 6960,
// Section 4.2.2.2).
func delegatedBy(cert, issuer *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, issuer.RawSubject) && len(cert.ExtKeyUsage) == 1 && cert.ExtKeyUsage[0] == x509.ExtKeyUsageOCSPSigning &&
		cert.CheckSignatureFrom(issuer) == nil
}
