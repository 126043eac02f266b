package pki

import (
	"context"
	"fmt"
	"math/big"
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
	if r.Owner != "" && now.Before(r.Until) {
		return nil, nil, errCRLBusy
	}
	if _, err := job.ca.key(ctx); err != nil {
		return nil, nil, err // no number is taken for what can't be signed
	}
	next := *r
	next.Taken, next.Owner, next.Until = r.Taken+1, uuid.NewString(), now.Add(crlLease).UTC()
	version, err := a.apply(ctx, a.put("crl/"+job.name, store.Expect(version), next))
	if err != nil {
		return nil, nil, err
	}
	der, done, err := a.signCRL(ctx, job, &next)
	if err == nil {
		err = a.storeCRL(ctx, job.name, done, der)
	}
	again, cancel := detached(ctx)
	defer cancel()
	next.Owner, next.Until = "", time.Time{}
	if err != nil {
		r.Taken = next.Taken
		r.Owner, r.Until = "", time.Time{}
		_, _ = a.apply(again, a.put("crl/"+job.name, store.Expect(version), r)) // else the lease ends by itself
		return nil, nil, err
	}
	if job.scope.Delta {
		next.Delta = done
	} else {
		next.published = *done
	}
	if _, err := a.apply(again, a.put("crl/"+job.name, store.Expect(version), next)); err != nil {
		return nil, nil, err
	}
	a.crls.put(done.cacheKey(job.name), done.SHA256, der)
	a.dropCRLs(again, job.name, r, &next)
	if !job.scope.Delta { // the complete list has them
		a.dropChanges(again, job.name, done.Covers)
	}
	return der, done, nil
}

// signCRL reads what there is to say and signs a list of it.
func (a *Authority) signCRL(ctx context.Context, job *crlJob, r *crlRecord) ([]byte, *published, error) {
	done := &published{Number: r.Taken}
	var err error
	if done.Covers, err = a.staleVersion(ctx, job.name); err != nil {
		return nil, nil, err
	}
	urls, err := a.urlsOf(job.config, job.issuer, job.scope.Shard)
	if err != nil && job.scope.Shard > 0 {
		return nil, nil, err
	}
	l := &crlList{number: big.NewInt(r.Taken), alg: job.issuer.CRLAlgorithm, this: a.engine.now().UTC().Truncate(time.Second)}
	if job.scope.Shard > 0 {
		l.point = urls.CRL
	}
	validity := job.crl.Expiry
	if job.scope.Delta {
		done.Base = r.Number
		l.base, validity = big.NewInt(r.Number), deltaIntervals*job.crl.DeltaInterval
	} else if err == nil && !(job.scope.Shard == 0 && job.config.Shards > 0) {
		l.freshest = urls.DeltaCRL
	}
	l.next = l.this.Add(validity).Truncate(time.Second)
	t := CRLTemplate{Number: l.number, ThisUpdate: l.this, NextUpdate: l.next}
	if _, err := t.list(a.engine.now(), job.ca.cert); err != nil {
		return nil, nil, err
	}
	if err := a.readCRL(ctx, job, l, r); err != nil {
		return nil, nil, err
	}
	der, err := job.ca.signList(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	done.ThisUpdate, done.NextUpdate, done.Entries = l.this, l.next, l.count
	return der, done, nil
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
