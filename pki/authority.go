package pki

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Authority is a certificate authority that keeps what it does: issuers, roles, certificates and revocations, in a store
// that several processes may share. Use [OpenAuthority].
//
// Every certificate has a record before the managed key is asked to sign it, and is stored as signed before it is
// returned: see [Certificate]. Serial numbers are unique in the store, whoever issues.
//
// The errors of all methods wrap those of [Engine] and of package store; [store.ErrNotFound] is for issuers, roles and
// certificates that are not there. All methods are safe for concurrent use.
type Authority struct {
	engine *Engine
	mount  *managedkey.Mount
	store  store.Store
	prefix string // of all keys: pki/<id of the mount>/

	restore  func(context.Context, *managedkey.Mount, string, crypto.Signer) error // may be nil
	unsealed bool

	recalled recalled
	crls     crlCache
	ocsp     ocspState
}

// OpenAuthority returns the authority of a mount, whose state is in st under "pki/", followed by the mount's id. Neither
// may be nil; nil opts are the zero value. It makes no key manager's call, so that an issuer whose key is away, or gone,
// keeps nobody from opening.
func OpenAuthority(ctx context.Context, mount *managedkey.Mount, st store.Store, opts *Options) (*Authority, error) {
	a := &Authority{engine: New(mount, opts), mount: mount, store: st, prefix: "pki/" + mount.ID() + "/"}
	if opts != nil {
		a.restore, a.unsealed = opts.Restore, opts.AllowUnsealed
	}
	if a.restore != nil {
		a.engine.restore = a.restoreKey
	}
	err := update(ctx, a, "config/mount", func(c *mountRecord, version uint64) error {
		if version == 0 {
			c.Created = a.engine.now().UTC().Truncate(time.Second)
			return nil
		}
		return errUnchanged
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// The store has, below pki/<id of the mount>/ and as JSON where nothing else is said:
//
//	config/{main,issuers,mount}         URLs, cluster and CRLs; the default issuer; when it was made and how far it is tidied
//	config/{keys,tidy}                  the default key; when to tidy by itself
//	issuers/<id>, issuer-names/<name>   issuers; ids by name
//	keys/<SHA-256>, key-names/<name>    managed keys that were used, by public key; ids by name
//	software/<UUID>                     private keys in software, by managed key
//	roles/<name>                        roles, as DecodeRole reads them
//	certs/<serial>                      certificates; what finds them is in search.go
//	revoked/<signer>/<serial>           what is in CRLs, as entry in DER; a signer is a name and a key
//	revoked/<signer>/<shard>/<serial>   the same of certificates that are in shards
//	changes/<scope>/<serial>            entries that complete CRLs don't have yet; a scope is a signer, or its shard
//	stale/<scope>                       empty; its version is that of the last change
//	crl/<scope>                         number, lease and times of CRLs
//	crl-data/<scope>/<number>/<part>    CRLs in DER
//	ocsp-responders/<signer>            delegated responders
//	ocsp/<signer>/<serial>              OCSP answers
//	tidy                                the tidy that is under way, with its lease, or the last one
//	turns/<work>                        who does what only one process needs to do, and until when

// Engine returns the engine below, for certificates that nothing shall be kept of.
func (a *Authority) Engine() *Engine { return a.engine }

// mountRecord is what is known of the authority as a whole.
type mountRecord struct {
	Created time.Time `json:"created"`
	Tidied  int64     `json:"tidied,omitempty"` // the first day, counted from 1970, that Tidy has left anything of
}

// read fills in out with the JSON under key, below the authority's prefix, and returns the record's version.
func (a *Authority) read(ctx context.Context, key string, out any) (uint64, error) {
	record, err := a.store.Get(ctx, a.prefix+key)
	if err != nil {
		return 0, fmt.Errorf("pki: %s: %w", key, err)
	}
	if err := json.Unmarshal(record.Value, out); err != nil {
		return 0, fmt.Errorf("pki: %s: %w: %w", key, store.ErrCorrupt, err)
	}
	return record.Version, nil
}

// readIf is read with 0 and no error if there is no such record.
func (a *Authority) readIf(ctx context.Context, key string, out any) (uint64, error) {
	version, err := a.read(ctx, key, out)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return version, err
}

// put returns the op that writes value as JSON. What has no JSON form, as a time after the year 9999, makes the transaction fail.
func (a *Authority) put(key string, expect store.Expect, value any) store.Op {
	op := store.Op{Kind: store.Put, Key: a.prefix + key, Expect: expect}
	data, err := json.Marshal(value)
	if err != nil {
		op.Encode = func(uint64, []byte) ([]byte, error) { return nil, invalid("record %q can't be stored: %w", key, err) }
		return op
	}
	op.Value = data
	return op
}

func (a *Authority) remove(key string, expect store.Expect) store.Op {
	return store.Op{Kind: store.Delete, Key: a.prefix + key, Expect: expect}
}

// apply makes the changes. If the answer was lost it looks whether the first op, a put, was done.
func (a *Authority) apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	revision, err := a.store.Apply(ctx, ops...)
	if errors.Is(err, store.ErrUnknownOutcome) && ops[0].Kind == store.Put {
		again, cancel := detached(ctx)
		defer cancel()
		record, err2 := a.store.Get(again, ops[0].Key)
		if err2 == nil && string(record.Value) == string(ops[0].Value) {
			return record.Version, nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("pki: %w", err)
	}
	return revision, nil
}

// errUnchanged is returned by a change that has nothing to do.
var errUnchanged = errors.New("pki: nothing to change")

// maxTries is how often a change is tried again that somebody else was faster with.
const maxTries = 100

// update changes a record by comparison until nobody else interferes. change gets the record, zero with version 0 if
// there is none; what it returns ends the update, errUnchanged without an error.
func update[T any](ctx context.Context, a *Authority, key string, change func(*T, uint64) error) error {
	for try := 0; ; try++ {
		var value T
		version, err := a.readIf(ctx, key, &value)
		if err != nil {
			return err
		}
		if err := change(&value, version); errors.Is(err, errUnchanged) {
			return nil
		} else if err != nil {
			return err
		}
		_, err = a.apply(ctx, a.put(key, store.Expect(version), value))
		if err == nil || !errors.Is(err, store.ErrConflict) || try == maxTries {
			return err
		}
	}
}

// detached returns a context for what must be finished although the caller may go away.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
}

// cause returns what an error of this package wraps, for a text of its own around it.
func cause(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}
