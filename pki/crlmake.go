package pki

import (
	"context"
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

// makeCRL makes and publishes a list, and returns it. The error wraps store.ErrConflict if somebody else was faster, and is
// errCRLBusy if somebody else is at it.
func (a *Authority) makeCRL(ctx context.Context, job *crlJob, r *crlRecord, version uint64) ([]byte, *published, error) {
	if job.issuer.Usage&SignCRLs == 0 {
		return nil, nil, fmt.Errorf("pki: CRL: issuer %s: its usage doesn't allow %s: %w", job.issuer.ID, SignCRLs, backend.ErrNotPermitted)
	}
	now := a.engine.now()
	if r.leased(now) {
		return nil, nil, errCRLBusy
	}
	if err := errors.Join(job.reachable(ctx), a.points(ctx, job, new(crlList))); err != nil {
		return nil, nil, err // no number is taken for what can't be signed
	}
	key := "crl/" + job.name
	next := *r
	next.Taken, next.Owner, next.Until = r.Taken+1, uuid.NewString(), now.Add(crlLease).UTC()
	version, err := a.apply(ctx, a.put(key, store.Expect(version), next))
	if err != nil {
		return nil, nil, err
	}
	held, stop := a.keepLease(ctx, key, next, version)
	der, done, err := a.signCRL(held, job, &next)
	if err == nil {
		err = a.storeCRL(held, job.name, done, der)
	}
	if lost := context.Cause(held); err != nil && errors.Is(lost, store.ErrConflict) {
		err = lost
	}
	version = stop()
	again, cancel := detached(ctx)
	defer cancel()
	next.Owner, next.Until = "", time.Time{}
	if err != nil {
		if !errors.Is(err, store.ErrConflict) {
			_, _ = a.apply(again, a.put(key, store.Expect(version), next)) // else the lease ends by itself
		}
		a.removeCRL(again, job.name, done)
		return nil, nil, err
	}
	if job.scope.Delta {
		next.Delta = done
	} else {
		next.published = *done
	}
	if _, err := a.apply(again, a.put(key, store.Expect(version), next)); err != nil {
		if errors.Is(err, store.ErrConflict) { // else it may be published
			a.removeCRL(again, job.name, done)
		}
		return nil, nil, err
	}
	a.crls.put(done.cacheKey(job.name), done.SHA256, der)
	a.dropCRLs(again, job.name, r, &next)
	if !job.scope.Delta { // the complete list has them
		again, cancel := detached(ctx) // there may be many
		defer cancel()
		a.dropChanges(again, job.name, done.Covers)
	}
	return der, done, nil
}

// reachable returns why the key of a list can't be had, if it can't.
func (j *crlJob) reachable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, crlSigning)
	defer cancel()
	_, err := j.ca.key(ctx)
	return err
}

// signCRL reads what there is to say and signs a list of it.
func (a *Authority) signCRL(ctx context.Context, job *crlJob, r *crlRecord) ([]byte, *published, error) {
	done := &published{Number: r.Taken}
	var err error
	if done.Covers, err = a.staleVersion(ctx, job.name); err != nil {
		return nil, nil, err
	}
	// Read after that, so that the first revocation in a shard doesn't come with a configuration that has none.
	if job.config, err = a.config(ctx); err != nil {
		return nil, nil, err
	}
	job.crl = job.config.CRL.orDefault()
	now := a.engine.now()
	l := &crlList{number: big.NewInt(r.Taken), alg: job.issuer.CRLAlgorithm, this: r.thisUpdate(now)}
	if err := a.points(ctx, job, l); err != nil {
		return nil, nil, err
	}
	validity := job.crl.Expiry
	if job.scope.Delta {
		done.Base = r.Number
		l.base, validity = big.NewInt(r.Number), deltaIntervals*job.crl.DeltaInterval
		if len(r.Points) > 0 {
			l.point = r.Points // a delta list has the scope of its base (RFC 5280, Section 6.3.3 (c))
		}
	}
	l.next = l.this.Add(validity).Truncate(time.Second)
	t := CRLTemplate{Number: l.number, ThisUpdate: l.this, NextUpdate: l.next}
	if l.this.After(now) {
		now = l.this
	}
	if _, err := t.list(now, job.ca.cert); err != nil {
		return nil, nil, err
	}
	if err := a.readCRL(ctx, job, l, r); err != nil {
		return nil, nil, err
	}
	done.Entries = l.count
	der, err := job.ca.signList(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	done.ThisUpdate, done.NextUpdate, done.Points = l.this, l.next, l.point
	return der, done, nil
}

// thisUpdate returns the time of the next list: now, or that of the last one if the clock of the process that made that is a little ahead,
// so that a list with a greater number never is the older one.
func (r *crlRecord) thisUpdate(now time.Time) time.Time {
	this := now.UTC().Truncate(time.Second)
	for _, last := range []published{r.published, r.of(CRLScope{Delta: true})} {
		if last.Number != 0 && last.ThisUpdate.After(this) && last.ThisUpdate.Sub(now) <= crlSkew {
			this = last.ThisUpdate.UTC()
		}
	}
	return this
}

// errNoPoint says that the list of a shard would be taken for that of all certificates.
var errNoPoint = fmt.Errorf("pki: CRL: there are shards, and no URL of CRLs that tells them apart: %w", backend.ErrInvalidParams)

// points fills in where a list and its delta list are to be found.
//
// The list of a shard has the URLs of all issuers that have its name and key: what they sign has theirs, and a verifier takes a list only
// if it names one of a certificate's (RFC 5280, Section 6.3.3 (b)(2)(i)).
func (a *Authority) points(ctx context.Context, job *crlJob, l *crlList) error {
	urls, err := a.urlsOf(job.config, job.issuer, job.scope.Shard)
	if job.scope.Shard == 0 {
		if err == nil && job.config.Shards == 0 {
			l.freshest = urls.DeltaCRL
		}
		return nil
	}
	if err != nil {
		return err
	}
	issuers, err := a.Issuers(ctx)
	if err != nil {
		return err
	}
	l.freshest, l.point = urls.DeltaCRL, urls.CRL
	for _, issuer := range issuers {
		if issuer.ID == job.issuer.ID || signer(issuer.Certificate()) != signer(job.ca.cert) {
			continue
		}
		urls, err := a.urlsOf(job.config, issuer, job.scope.Shard)
		if err != nil {
			continue // it can't issue certificates that have a shard
		}
		for _, url := range urls.CRL {
			if !slices.Contains(l.point, url) {
				l.point = append(slices.Clip(l.point), url)
			}
		}
	}
	if len(l.point) == 0 {
		return errNoPoint
	}
	return nil
}

// shardOf returns the shard of a serial number: always the same one, and each as often as others.
func shardOf(serial *big.Int, shards int) int {
	if shards == 0 {
		return 0
	}
	return int(new(big.Int).Mod(serial, big.NewInt(int64(shards))).Int64()) + 1
}

func revokedPrefix(signer string, shard int) string {
	return "revoked/" + strings.Replace(CRLScope{Shard: shard}.name(signer), ".", "/", 1) + "/"
}
