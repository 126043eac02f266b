package pki

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// maintainAtOnce is how many issuers are seen to at the same time.
const maintainAtOnce = 8

// Maintain does what must be done from time to time: it makes the CRLs that are due, delta lists included, renews the certificates of
// delegated OCSP responders, and signs OCSP answers ahead if [OCSPConfig] says so; each issuer by itself, so that one
// whose key is out of reach keeps none of the others waiting. With shards, the list of everything that an issuer has
// signed is made for those who ask for it. The error joins what went wrong.
func (a *Authority) Maintain(ctx context.Context) error {
	issuers, err := a.Issuers(ctx)
	if err != nil {
		return err
	}
	config, err := a.config(ctx)
	if err != nil {
		return err
	}
	bySigner := make(map[string][]*Issuer) // any of them can make its lists
	for _, issuer := range issuers {
		if issuer.Usage&SignCRLs != 0 && !a.engine.now().After(issuer.Certificate().NotAfter) {
			who := signer(issuer.Certificate())
			bySigner[who] = append(bySigner[who], issuer)
		}
	}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	slots := make(chan struct{}, maintainAtOnce)
	for _, issuers := range bySigner {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := a.makeDue(ctx, issuers, &config); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if ctx.Err() == nil {
		errs = append(errs, a.renewResponders(ctx)...)
		errs = append(errs, a.presignDue(ctx)...)
	}
	return errors.Join(errs...)
}

// makeDue makes the lists of one signer that are due. It ends with the first one that none of the issuers can make, unless that is the
// fault of what the store has of it.
func (a *Authority) makeDue(ctx context.Context, issuers []*Issuer, config *configRecord) error {
	var scopes []CRLScope
	for shard := 1; shard <= config.Shards; shard++ {
		scopes = append(scopes, CRLScope{Shard: shard, Delta: config.CRL.Delta}) // a delta list's complete one is made if that is due
	}
	if config.CRL.Shards == 0 || !slices.ContainsFunc(issuers, func(i *Issuer) bool { return a.sharded(config, i) }) {
		// What is issued now is in the list of everything.
		scopes = append(scopes, CRLScope{Delta: config.CRL.Delta && config.Shards == 0})
	}
	var failed []error
	for _, scope := range scopes {
		err := a.makeDueOf(ctx, issuers, scope)
		if err == nil {
			continue
		}
		failed = append(failed, err)
		if !errors.Is(err, store.ErrCorrupt) || ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// sharded reports whether what an issuer signs says which shard it is in.
func (a *Authority) sharded(config *configRecord, issuer *Issuer) bool {
	urls, err := a.urlsOf(*config, issuer, 1)
	return err != nil || len(urls.CRL) > 0
}

// makeDueOf makes a list with the first of the issuers that can.
func (a *Authority) makeDueOf(ctx context.Context, issuers []*Issuer, scope CRLScope) error {
	var errs []error
	for _, issuer := range issuers {
		job, err := a.crlJob(ctx, issuer.ID, scope, false)
		var fresh *freshCRL
		if err == nil {
			fresh, err = a.freshCRL(ctx, job)
		}
		if err == nil {
			err = fresh.stale
		}
		if err == nil || errors.Is(err, errCRLBusy) {
			return nil
		}
		if errors.Is(err, errNoPoint) {
			var r crlRecord
			if _, readErr := a.readIf(ctx, "crl/"+job.name, &r); readErr == nil && r.Number == 0 {
				return nil // there never was one, and nobody is told of it
			}
		}
		errs = append(errs, fmt.Errorf("issuer %s: %w", issuer.ID, err))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// Run calls Maintain now and then every interval, until ctx ends, and tells report, which may be nil, each error. It returns
// ctx.Err().
func (a *Authority) Run(ctx context.Context, interval time.Duration, report func(error)) error {
	if interval <= 0 {
		return invalid("run: interval %v; it takes a positive one", interval)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := a.Maintain(ctx); err != nil && ctx.Err() == nil && report != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
