package pki

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// CRL is a revocation list of an issuer as the store has it.
type CRL struct {
	DER                    []byte // must not be modified
	Number                 int64
	ThisUpdate, NextUpdate time.Time

	// Stale says why this is not the newest list that there could be: its key is out of reach, or somebody else is making
	// the next one. It is nil otherwise. A stale list is still valid.
	Stale error
}

// crlRecord is the state of a signer's CRLs. Whoever makes one takes the next number first, so that no number is used
// twice, and publishes by comparison with that, so that none is published after a greater one.
type crlRecord struct {
	Taken int64     `json:"taken"`           // the greatest number that was taken
	Owner string    `json:"owner,omitempty"` // who makes the list of that number
	Until time.Time `json:"until"`           // when others may take the next number all the same

	Number     int64     `json:"number"` // of the list that is published, 0 for none
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update"`
	Chunks     int       `json:"chunks"`
	SHA256     []byte    `json:"sha256"`
	Covers     uint64    `json:"covers"` // version of the signer's stale record before the revocations were read
}

// cachedCRL is the list of that number.
type cachedCRL struct {
	number int64
	der    []byte
}

const (
	crlChunk = 512 << 10       // bytes of a part of a list in the store
	crlLease = 2 * time.Minute // for making a list; a longer one may be made in vain, and does no harm
)

var errCRLBusy = fmt.Errorf("pki: CRL: it is being made: %w", backend.ErrUnavailable)

// CRL returns the newest complete revocation list of an issuer. If a certificate was revoked or released since the last
// one, or that ends soon (see [CRLConfig]), it is made first, by one process at a time; numbers only grow (RFC 5280, Section
// 5.2.3), over restarts and processes. Issuers that have the same name and key have one list.
//
// What can't be made now is no error as long as the last list is valid: see CRL.Stale.
func (a *Authority) CRL(ctx context.Context, issuer string) (*CRL, error) {
	return a.crl(ctx, issuer, false)
}

// RotateCRL makes the next list of an issuer, also if nothing has changed. Of what was said of CRL only the error differs: a
// list that can't be made is one.
func (a *Authority) RotateCRL(ctx context.Context, issuer string) (*CRL, error) {
	crl, err := a.crl(ctx, issuer, true)
	if err != nil {
		return nil, err
	}
	return crl, crl.Stale
}

func (a *Authority) crl(ctx context.Context, ref string, force bool) (*CRL, error) {
	issuer, ca, err := a.ca(ctx, ref, 0)
	if err != nil {
		return nil, err
	}
	c, err := a.config(ctx)
	if err != nil {
		return nil, err
	}
	who := signer(ca.cert)
	for try := 0; ; try++ {
		var r crlRecord
		version, err := a.readIf(ctx, "crl/"+who, &r)
		if err != nil {
			return nil, err
		}
		changed, err := a.staleVersion(ctx, who)
		if err != nil {
			return nil, err
		}
		now := a.engine.now()
		left := r.NextUpdate.Sub(now)
		var stale error
		if force || r.Number == 0 || changed > r.Covers || left < c.CRL.orDefault().Grace {
			der, done, err := a.makeCRL(ctx, issuer, ca, c.CRL.orDefault(), &r, version)
			switch {
			case err == nil:
				return &CRL{DER: der, Number: done.Number, ThisUpdate: done.ThisUpdate, NextUpdate: done.NextUpdate}, nil
			case errors.Is(err, store.ErrConflict) && try < maxTries:
				force = false // somebody else has begun one after we were called
				if err := ctx.Err(); err != nil {
					return nil, fmt.Errorf("pki: CRL: %w", err)
				}
				continue
			case r.Number == 0 || left <= 0:
				return nil, err
			}
			stale = err
		}
		der, err := a.loadCRL(ctx, who, &r)
		if errors.Is(err, store.ErrNotFound) && try < maxTries {
			continue // the next one has replaced it meanwhile
		}
		if err != nil {
			return nil, err
		}
		return &CRL{DER: der, Number: r.Number, ThisUpdate: r.ThisUpdate, NextUpdate: r.NextUpdate, Stale: stale}, nil
	}
}

func (a *Authority) staleVersion(ctx context.Context, who string) (uint64, error) {
	record, err := a.store.Get(ctx, a.prefix+"stale/"+who)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("pki: CRL: %w", err)
	}
	return record.Version, nil
}

// makeCRL makes and publishes a list, and returns its record. The error wraps store.ErrConflict if somebody else was faster, and is
// errCRLBusy if somebody else is at it.
func (a *Authority) makeCRL(ctx context.Context, issuer *Issuer, ca *CA, c CRLConfig, r *crlRecord, version uint64) ([]byte, *crlRecord, error) {
	if issuer.Usage&SignCRLs == 0 {
		return nil, nil, fmt.Errorf("pki: CRL: issuer %s: its usage doesn't allow %s: %w", issuer.ID, SignCRLs, backend.ErrNotPermitted)
	}
	now := a.engine.now()
	if r.Owner != "" && now.Before(r.Until) {
		return nil, nil, errCRLBusy
	}
	if _, err := ca.key(ctx); err != nil {
		return nil, nil, err // no number is taken for what can't be signed
	}
	who := signer(ca.cert)
	next := *r
	next.Taken, next.Owner, next.Until = r.Taken+1, uuid.NewString(), now.Add(crlLease).UTC()
	version, err := a.apply(ctx, a.put("crl/"+who, store.Expect(version), next))
	if err != nil {
		return nil, nil, err
	}
	der, err := a.signCRL(ctx, issuer, ca, c, &next)
	if err == nil {
		err = a.storeCRL(ctx, who, next.Taken, der)
	}
	again, cancel := detached(ctx)
	defer cancel()
	next.Owner, next.Until = "", time.Time{}
	if err != nil {
		r.Taken = next.Taken
		r.Owner, r.Until = "", time.Time{}
		_, _ = a.apply(again, a.put("crl/"+who, store.Expect(version), r)) // else the lease ends by itself
		return nil, nil, err
	}
	sum := sha256.Sum256(der)
	next.Number, next.Chunks, next.SHA256 = next.Taken, chunks(der), sum[:]
	if _, err := a.apply(again, a.put("crl/"+who, store.Expect(version), next)); err != nil {
		return nil, nil, err
	}
	a.mu.Lock()
	a.crls[who] = cachedCRL{next.Number, der}
	a.mu.Unlock()
	a.dropCRLs(again, who, next.Number)
	return der, &next, nil
}

func chunks(der []byte) int { return (len(der) + crlChunk - 1) / crlChunk }

// signCRL reads the revocations and signs a list of them. It fills in the record's times and what it covers.
func (a *Authority) signCRL(ctx context.Context, issuer *Issuer, ca *CA, c CRLConfig, r *crlRecord) ([]byte, error) {
	who := signer(ca.cert)
	var err error
	if r.Covers, err = a.staleVersion(ctx, who); err != nil {
		return nil, err
	}
	t := CRLTemplate{Number: big.NewInt(r.Taken), SignatureAlgorithm: issuer.CRLAlgorithm}
	for entry, err := range a.revoked(ctx, who) {
		if err != nil {
			return nil, err
		}
		t.Revoked = append(t.Revoked, entry)
	}
	t.ThisUpdate = a.engine.now().UTC().Truncate(time.Second)
	t.NextUpdate = t.ThisUpdate.Add(c.Expiry)
	for i := range t.Revoked { // by a process whose clock is ahead
		if at := &t.Revoked[i].RevocationTime; at.After(t.ThisUpdate) {
			*at = t.ThisUpdate
		}
	}
	der, err := ca.CRL(ctx, t)
	if err != nil {
		return nil, err
	}
	r.ThisUpdate, r.NextUpdate = t.ThisUpdate, t.NextUpdate.Truncate(time.Second)
	return der, nil
}

func chunkKey(who string, number int64, chunk int) string {
	return fmt.Sprintf("crl-data/%s/%020d/%06d", who, number, chunk)
}

// storeCRL stores the parts of a list that is not published yet.
func (a *Authority) storeCRL(ctx context.Context, who string, number int64, der []byte) error {
	i := 0
	for part := range slices.Chunk(der, crlChunk) {
		op := store.Op{Kind: store.Put, Key: a.prefix + chunkKey(who, number, i), Value: part, Expect: store.Any}
		if _, err := a.apply(ctx, op); err != nil {
			return err
		}
		i++
	}
	return nil
}

// loadCRL returns the list that is published. The error wraps store.ErrNotFound if it isn't any more.
func (a *Authority) loadCRL(ctx context.Context, who string, r *crlRecord) ([]byte, error) {
	a.mu.Lock()
	cached := a.crls[who]
	a.mu.Unlock()
	if cached.number == r.Number {
		return cached.der, nil
	}
	var der bytes.Buffer
	for i := range r.Chunks {
		record, err := a.store.Get(ctx, a.prefix+chunkKey(who, r.Number, i))
		if err != nil {
			return nil, fmt.Errorf("pki: CRL: %w", err)
		}
		der.Write(record.Value)
	}
	if sum := sha256.Sum256(der.Bytes()); !bytes.Equal(sum[:], r.SHA256) {
		return nil, fmt.Errorf("pki: CRL %d: %w: its parts don't have its checksum", r.Number, store.ErrCorrupt)
	}
	a.mu.Lock()
	a.crls[who] = cachedCRL{r.Number, der.Bytes()}
	a.mu.Unlock()
	return der.Bytes(), nil
}

// dropCRLs removes the parts of lists before the one of that number. What is left goes with the next list.
func (a *Authority) dropCRLs(ctx context.Context, who string, number int64) {
	first := a.prefix + chunkKey(who, number, 0)
	for record, err := range a.all(ctx, "crl-data/"+who+"/") {
		if err != nil || strings.Compare(record.Key, first) >= 0 && len(record.Key) == len(first) {
			continue
		}
		_, _ = a.apply(ctx, store.Op{Kind: store.Delete, Key: record.Key, Expect: store.Any})
	}
}
