package pki

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
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

// makeDue makes the lists of one signer that are due. It ends with the first one that none of the issuers can make.
func (a *Authority) makeDue(ctx context.Context, issuers []*Issuer, config *configRecord) error {
	scopes := []CRLScope{{}}
	if config.Shards > 0 {
		scopes = nil
		for shard := 1; shard <= config.Shards; shard++ {
			scopes = append(scopes, CRLScope{Shard: shard})
		}
	}
	for _, scope := range scopes {
		if config.CRL.Delta {
			scope.Delta = true // it makes the complete one if that is due
		}
		var errs []error
		for _, issuer := range issuers {
			crl, err := a.crl(ctx, issuer.ID, scope, false)
			if err == nil {
				err = crl.Stale
			}
			if err == nil || errors.Is(err, errCRLBusy) {
				errs = nil
				break
			}
			errs = append(errs, fmt.Errorf("issuer %s: %w", issuer.ID, err))
			if ctx.Err() != nil {
				break
			}
		}
		if errs != nil {
			return errors.Join(errs...)
		}
	}
	return nil
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
