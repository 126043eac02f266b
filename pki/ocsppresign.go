package pki

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// presignedHashes are those of the questions that most clients ask.
var presignedHashes = []crypto.Hash{crypto.SHA1, crypto.SHA256}

// PresignOCSP signs and stores the answers about all certificates of an issuer that are neither pending nor expired, unless there are
// such for another half of their time, and returns how many it signed. It goes on with the others where one fails
// for a reason of its own, and ends when the key or the store is out of reach, or ctx ends.
func (a *Authority) PresignOCSP(ctx context.Context, issuer string) (int, error) {
	i, err := a.Issuer(ctx, issuer)
	if err != nil {
		return 0, err
	}
	all, err := a.ocspIssuers(ctx, true)
	if err != nil {
		return 0, err
	}
	o := all.byID[idsOf(i.Certificate())[0]]
	if o == nil || all.config.Disabled {
		return 0, fmt.Errorf("pki: OCSP: issuer %s: it answers no questions: %w", i.ID, errOCSPUnauthorized)
	}
	config := all.config
	config.Store = true
	signed := 0
	var errs []error
	for record, err := range a.all(ctx, issuerIndex(i.ID)) {
		if err != nil {
			return signed, err
		}
		serial, err := serialIn(record)
		if err != nil {
			return signed, err
		}
		n, err := a.presign(ctx, o, config, serial)
		signed += n
		if err != nil {
			errs = append(errs, err)
			if ctx.Err() != nil || ocspStatusOf(err) == OCSPTryLater || len(errs) == 10 {
				break
			}
		}
	}
	return signed, errors.Join(errs...)
}

// presign signs what is missing of the answers about one certificate.
func (a *Authority) presign(ctx context.Context, o *ocspIssuer, config OCSPConfig, serial *big.Int) (int, error) {
	cert, err := a.certificate(ctx, serial)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil // an index that was left
	}
	if err != nil {
		return 0, err
	}
	now := a.engine.now()
	if cert.signer != o.signer || cert.State != StateIssued || cert.Certificate.NotAfter.Before(now) {
		return 0, nil
	}
	var stored ocspRecord
	if _, err := a.readIf(ctx, ocspKey(o.signer, serial), &stored); err != nil {
		return 0, err
	}
	signed := 0
	for _, hash := range presignedHashes {
		id, err := newCertID(hash, o, serial)
		if err != nil {
			return signed, err
		}
		q := &ocspQuestion{ids: []certID{*id}, issuer: o, config: config}
		if err := a.readOCSP(ctx, q); err != nil {
			return signed, err
		}
		if k := stored.Answers[id.form()]; k != nil && k.holds(now, q) && now.Before(k.refresh()) {
			continue
		}
		if err := q.decode(); err != nil {
			return signed, err
		}
		k, err := a.signOCSPNow(ctx, q)
		if err != nil {
			return signed, err
		}
		if err := a.storeOCSP(ctx, q, k); err != nil {
			return signed, err
		}
		signed++
	}
	return signed, nil
}

// newCertID returns the id by which clients ask about a certificate.
func newCertID(hash crypto.Hash, o *ocspIssuer, serial *big.Int) (*certID, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, h := range ocspHashes {
				if h.hash == hash {
					b.AddASN1ObjectIdentifier(h.oid)
				}
			}
			b.AddASN1NULL()
		})
		b.AddASN1OctetString([]byte(hashOf(hash, o.ca.cert.RawSubject)))
		b.AddASN1OctetString([]byte(hashOf(hash, publicKeyBits(o.ca.cert))))
		b.AddASN1BigInt(serial)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("pki: OCSP: %w", err)
	}
	id, input := new(certID), cryptobyte.String(der)
	if !id.parse(&input) {
		return nil, fmt.Errorf("pki: OCSP: the request about %x can't be read again", serial)
	}
	return id, nil
}

// presignDue calls PresignOCSP for all issuers, by one process at a time, several times while answers hold.
func (a *Authority) presignDue(ctx context.Context) []error {
	config, err := a.OCSPConfig(ctx)
	if err != nil {
		return []error{err}
	}
	if !config.Presign || config.Disabled {
		return nil
	}
	issuers, err := a.Issuers(ctx)
	if err != nil {
		return []error{err}
	}
	var errs []error
	for _, issuer := range issuers {
		if issuer.Usage&SignOCSP == 0 || a.engine.now().After(issuer.Certificate().NotAfter) {
			continue
		}
		mine, err := a.turn(ctx, "presign-"+issuer.ID, config.Validity/8)
		if err == nil && mine {
			_, err = a.PresignOCSP(ctx, issuer.ID)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("OCSP answers of issuer %s: %w", issuer.ID, err))
		}
	}
	return errs
}
