package pki

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// maxRecalled bounds the records of an authority that are kept decoded.
const maxRecalled = 10_000

// recalled are records that were decoded before: those of roles, issuers and settings, which every certificate needs. The store is asked for
// them each time all the same, so that a change counts for all that begins after it, whoever made it; only decoding is saved.
type recalled struct {
	mu sync.RWMutex
	of map[string]recalledRecord // by key
}

// recalledRecord is a record and what it was decoded to.
type recalledRecord struct {
	store.Record
	decoded any
}

// recall returns what decode makes of a record: the same as last time if the record is. Nobody may modify it.
func recall[T any](r *recalled, record store.Record, decode func(store.Record) (*T, error)) (*T, error) {
	r.mu.RLock()
	known, ok := r.of[record.Key]
	r.mu.RUnlock()
	// A store that was put back from a backup has had the version before, with another value.
	if ok && known.Version == record.Version && bytes.Equal(known.Value, record.Value) {
		return known.decoded.(*T), nil
	}
	decoded, err := decode(record)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = make(map[string]recalledRecord)
	}
	if _, ok := r.of[record.Key]; !ok && len(r.of) >= maxRecalled {
		for victim := range r.of { // any
			delete(r.of, victim)
			break
		}
	}
	r.of[record.Key] = recalledRecord{record, decoded}
	return decoded, nil
}

// recallIf returns what the JSON under key, below the authority's prefix, says, and zero values if there is none. Nobody may modify it.
func recallIf[T any](ctx context.Context, a *Authority, key string) (*T, error) {
	record, err := a.store.Get(ctx, a.prefix+key)
	if errors.Is(err, store.ErrNotFound) {
		return new(T), nil
	}
	if err != nil {
		return nil, fmt.Errorf("pki: %s: %w", key, err)
	}
	return recall(&a.recalled, record, func(record store.Record) (*T, error) {
		out := new(T)
		return out, decodeRecord(record, out)
	})
}

// heldIssuer is an issuer as it is stored. It must not be modified.
type heldIssuer struct {
	issuer *Issuer
	ca     func() (*CA, error) // made when it is first needed
}

func (a *Authority) heldIssuer(id string, record store.Record) (*heldIssuer, error) {
	return recall(&a.recalled, record, func(record store.Record) (*heldIssuer, error) {
		var r issuerRecord
		if err := decodeRecord(record, &r); err != nil {
			return nil, err
		}
		issuer, err := r.issuer(id, record.Version)
		if err != nil {
			return nil, err
		}
		return &heldIssuer{issuer, sync.OnceValues(func() (*CA, error) { return a.engine.caOf(issuer) })}, nil
	})
}

// caOf returns the CA of an issuer. By a manual chain and by what was found, what it issues must be right.
func (e *Engine) caOf(i *Issuer) (*CA, error) {
	if i.found == nil {
		return e.newCA(i.Key, i.Chain)
	}
	ca, err := e.newCA(i.Key, i.found)
	if err == nil {
		err = ca.shown(i.Chain)
	}
	if err != nil {
		return nil, err
	}
	return ca, nil
}

// ca returns an issuer as the store has it now, ready to be used if it has the usage. Its key is not looked at yet: every
// use does so.
func (a *Authority) ca(ctx context.Context, ref string, usage IssuerUsage) (*Issuer, *CA, error) {
	id, record, err := a.issuerRecord(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	issuer, ca, err := a.caOf(id, record)
	if err != nil {
		return nil, nil, err
	}
	if issuer.Usage&usage != usage {
		return nil, nil, fmt.Errorf("pki: issuer %q: its usage doesn't allow %s: %w", ref, usage, backend.ErrNotPermitted)
	}
	return issuer, ca, nil
}

// caOf is ca for a record that was read, whatever the usage. The issuer must not be modified.
func (a *Authority) caOf(id string, record store.Record) (*Issuer, *CA, error) {
	held, err := a.heldIssuer(id, record)
	if err != nil {
		return nil, nil, err
	}
	ca, err := held.ca()
	if err != nil {
		return nil, nil, err
	}
	return held.issuer, ca, nil
}
