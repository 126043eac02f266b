package pki

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// CRL is a revocation list of an issuer as the store has it.
type CRL struct {
	DER                    []byte // must not be modified
	Number                 int64
	Base                   int64 // number of the complete list that a delta list is about; 0 for a complete one
	ThisUpdate, NextUpdate time.Time
	Entries                int

	// Stale says why this is not the newest list that there could be: its key is out of reach, or somebody else is making
	// the next one. It is nil otherwise. A stale list is still valid.
	Stale error
}

// CRLScope says which of an issuer's lists is meant. The zero value is the complete list of everything that it has signed.
type CRLScope struct {
	Shard int  // 1 to [CRLConfig].Shards: the list of the certificates with that Certificate.Shard; 0 is all of them
	Delta bool // the changes since the complete list of the shard
}

// name is what the scope's records are called.
func (s CRLScope) name(signer string) string {
	if s.Shard > 0 {
		return signer + fmt.Sprintf(".s%05d", s.Shard)
	}
	return signer
}

// published is a list that is in the store.
type published struct {
	Number     int64     `json:"number"` // 0 for none
	Base       int64     `json:"base,omitempty"`
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update"`
	Chunks     int       `json:"chunks"`
	SHA256     []byte    `json:"sha256"`
	Covers     uint64    `json:"covers"` // version of the scope's stale record before the revocations were read
	Entries    int       `json:"entries"`
	Points     []string  `json:"points,omitempty"` // URLs of the issuing distribution point
}

// crlRecord is the state of a scope's lists. Whoever makes one takes the next number first, so that no number is used
// twice, and publishes by comparison with that, so that none is published after a greater one. Complete and delta lists have
// their numbers from the same sequence (RFC 5280, Section 5.2.3).
type crlRecord struct {
	Taken int64     `json:"taken"`           // the greatest number that was taken
	Owner string    `json:"owner,omitempty"` // who makes the list of that number
	Until time.Time `json:"until"`           // when others may take the next number all the same

	published            // the complete list
	Delta     *published `json:"delta,omitempty"`
}

// of returns the published list, whose number is 0 if there is none.
func (r *crlRecord) of(scope CRLScope) published {
	switch {
	case !scope.Delta:
		return r.published
	case r.Delta == nil:
		return published{}
	}
	return *r.Delta
}

var errCRLBusy = fmt.Errorf("pki: CRL: it is being made: %w", backend.ErrUnavailable)

// CRL returns the newest complete revocation list of an issuer. If a certificate was revoked or released since the last
// one, or that ends soon (see [CRLConfig]), it is made first, by one process at a time; numbers only grow (RFC 5280, Section
// 5.2.3), over restarts and processes. Issuers that have the same name and key have one list.
//
// What can't be made now is no error as long as the last list is valid: see CRL.Stale.
func (a *Authority) CRL(ctx context.Context, issuer string) (*CRL, error) {
	return a.crl(ctx, issuer, CRLScope{}, false)
}

// RotateCRL makes the next list of an issuer, also if nothing has changed, from all revocations in the store. Of what was said of
// CRL only the error differs: a list that can't be made is one.
func (a *Authority) RotateCRL(ctx context.Context, issuer string) (*CRL, error) {
	return a.RotateScopedCRL(ctx, issuer, CRLScope{})
}

// ScopedCRL is CRL for any of an issuer's lists. The error wraps [store.ErrNotFound] for one that is not configured.
//
// A delta list is made anew when CRLConfig.DeltaInterval has passed since the last one and something has changed, and when there
// is a new complete list.
func (a *Authority) ScopedCRL(ctx context.Context, issuer string, scope CRLScope) (*CRL, error) {
	return a.crl(ctx, issuer, scope, false)
}

// RotateScopedCRL is RotateCRL for any of an issuer's lists.
func (a *Authority) RotateScopedCRL(ctx context.Context, issuer string, scope CRLScope) (*CRL, error) {
	crl, err := a.crl(ctx, issuer, scope, true)
	if err != nil {
		return nil, err
	}
	return crl, crl.Stale
}

// DeltaCRL is ScopedCRL for the changes since the complete list.
func (a *Authority) DeltaCRL(ctx context.Context, issuer string) (*CRL, error) {
	return a.crl(ctx, issuer, CRLScope{Delta: true}, false)
}

// crlJob is the making of a list.
type crlJob struct {
	issuer *Issuer
	ca     *CA
	config configRecord
	crl    CRLConfig // with the defaults
	scope  CRLScope
	name   string
	force  bool     // from all revocations
	points []string // URLs that a complete list of a shard should name
}

func (a *Authority) crlJob(ctx context.Context, ref string, scope CRLScope, force bool) (*crlJob, error) {
	issuer, ca, err := a.ca(ctx, ref, 0)
	if err != nil {
		return nil, err
	}
	c, err := a.config(ctx)
	if err != nil {
		return nil, err
	}
	job := &crlJob{issuer: issuer, ca: ca, config: c, crl: c.CRL.orDefault(), scope: scope, name: scope.name(signer(ca.cert)), force: force}
	switch {
	case scope.Shard < 0 || scope.Shard > c.Shards:
		return nil, fmt.Errorf("pki: CRL: shard %d; there are %d: %w", scope.Shard, c.Shards, store.ErrNotFound)
	case scope.Delta && !job.crl.Delta:
		return nil, fmt.Errorf("pki: CRL: delta lists are not configured: %w", store.ErrNotFound)
	case scope.Delta && scope.Shard == 0 && c.Shards > 0:
		return nil, fmt.Errorf("pki: CRL: with shards, each has a delta list of its own: %w", store.ErrNotFound)
	}
	return job, nil
}

func (a *Authority) crl(ctx context.Context, ref string, scope CRLScope, force bool) (*CRL, error) {
	job, err := a.crlJob(ctx, ref, scope, force)
	if err != nil {
		return nil, err
	}
	lost := uint64(0) // version of the record of a list that could not be read
	for try := 0; ; try++ {
		fresh, err := a.freshCRL(ctx, job)
		if err != nil {
			return nil, err
		}
		if fresh.der == nil {
			fresh.der, err = a.loadCRL(ctx, job.name, &fresh.published)
		}
		if (errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrCorrupt)) && try < maxTries && (lost != fresh.version || fresh.stale == nil) {
			// The next one has replaced it meanwhile, or it is lost, and the revocations are not.
			job.force, lost = lost == fresh.version, fresh.version
			continue
		}
		if err != nil {
			return nil, err
		}
		return fresh.crl(fresh.der, fresh.stale), nil
	}
}

// freshCRL is a list that is published.
type freshCRL struct {
	published
	der     []byte // nil if it was made before, and not read
	version uint64 // of the scope's record then
	stale   error  // why it is not the newest one that there could be
}

// freshCRL makes a list if it is due, or forced, and finds out what is published.
func (a *Authority) freshCRL(ctx context.Context, job *crlJob) (*freshCRL, error) {
	if job.scope.Delta { // there is none without a complete list
		complete := *job
		complete.scope.Delta, complete.force = false, false
		if _, err := a.freshCRL(ctx, &complete); err != nil {
			return nil, err
		}
	}
	var where crlList
	if job.scope.Shard > 0 && !job.scope.Delta && a.points(ctx, job, &where) == nil { // else what makes the list says why it can't
		job.points = where.point
	}
	taken := int64(-1) // before we were called; a greater number is of a list that was begun later
	for try := 0; ; try++ {
		var r crlRecord
		version, err := a.readIf(ctx, "crl/"+job.name, &r)
		if err != nil {
			return nil, err
		}
		changed, err := a.staleVersion(ctx, job.name)
		if err != nil {
			return nil, err
		}
		if try == 0 {
			taken = r.Taken
		}
		last, now := r.of(job.scope), a.engine.now()
		if !(job.force && last.Number <= taken) && !job.due(&r, changed, now) {
			return &freshCRL{published: last, version: version}, nil
		}
		der, done, err := a.makeCRL(ctx, job, &r, version)
		switch {
		case err == nil:
			return &freshCRL{published: *done, der: der}, nil
		case errors.Is(err, store.ErrConflict) && try < maxTries: // somebody else has begun one
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("pki: CRL: %w", err)
			}
		case last.Number == 0 || !last.NextUpdate.After(now):
			return nil, err
		default:
			return &freshCRL{published: last, version: version, stale: err}, nil
		}
	}
}

// due reports whether the next list should be made.
func (j *crlJob) due(r *crlRecord, changed uint64, now time.Time) bool {
	last := r.of(j.scope)
	left := last.NextUpdate.Sub(now)
	switch {
	case last.Number == 0:
		return true
	case last.ThisUpdate.Sub(now) > crlSkew:
		return true // it was made by a process whose clock was wrong, and nobody takes it yet
	case j.scope.Delta:
		return last.Base != r.Number || left < j.crl.DeltaInterval || changed > last.Covers && now.Sub(last.ThisUpdate) >= j.crl.DeltaInterval
	}
	for _, url := range j.points { // certificates of an issuer that is new may name it already
		if !slices.Contains(last.Points, url) {
			return true
		}
	}
	return left < j.crl.Grace || changed > last.Covers && !j.crl.AutoRebuild
}

func (p *published) crl(der []byte, stale error) *CRL {
	return &CRL{DER: der, Number: p.Number, Base: p.Base, ThisUpdate: p.ThisUpdate, NextUpdate: p.NextUpdate, Entries: p.Entries, Stale: stale}
}

func (a *Authority) staleVersion(ctx context.Context, name string) (uint64, error) {
	record, err := a.store.Get(ctx, a.prefix+"stale/"+name)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("pki: CRL: %w", err)
	}
	return record.Version, nil
}
