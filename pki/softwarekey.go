package pki

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// softwareRecord is a private key of an issuer that is in software. Nothing gives its material out again.
type softwareRecord struct {
	Name  string `json:"name"`  // of the managed key
	PKCS8 []byte `json:"pkcs8"` // RFC 5958

	Made time.Time `json:"made"`
}

const (
	// softwareFresh is how long after a key was made a process may not have heard yet of the entry of its managed key, clocks included.
	softwareFresh = 2 * crlSkew

	// softwareWait is how long it is waited for then, and softwarePause how long from one look to the next.
	softwareWait, softwarePause = 5 * time.Second, 5 * time.Millisecond
)

// SoftwareKey is a managed key whose private key the authority keeps: see [Authority.KeepSoftwareKey].
type SoftwareKey struct {
	UUID string // of the managed key's entry
	Name string // in the mount
}

// AllowsSoftwareKeys returns an error that wraps [backend.ErrNotPermitted] if private keys may not be written to the store, since it isn't
// sealed and [Options].AllowUnsealed isn't set.
func (a *Authority) AllowsSoftwareKeys() error {
	if store.IsSealed(a.store) || a.unsealed {
		return nil
	}
	return fmt.Errorf("pki: software keys are not written to a store that is not sealed (package seal): %w", backend.ErrNotPermitted)
}

// KeepSoftwareKey writes the private key of a managed key that is in software to the store, so that it outlives the process, and every
// process that shares the store can sign with it, as its [Options].Restore puts it where that one has such keys. name is that
// of the managed key in the mount. It returns the UUID of that, also with an error of the store.
//
// The error is that of AllowsSoftwareKeys, wraps [backend.ErrInvalidParams] if the managed key has another public key, and
// [store.ErrConflict] if there is one for it already.
func (a *Authority) KeepSoftwareKey(ctx context.Context, name string, key crypto.Signer) (id string, err error) {
	if err := a.AllowsSoftwareKeys(); err != nil {
		return "", err
	}
	handle, err := a.mount.Key(ctx, name)
	if err != nil {
		return "", fmt.Errorf("pki: software key %.80q: %w", name, err)
	}
	if !equalKeys(handle.Public(), key.Public()) {
		return "", invalid("software key %.80q: the private key is not that of the managed key", name)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", invalid("software key %.80q: a key of type %T can't be stored", name, key)
	}
	_, err = a.apply(ctx, a.put("software/"+handle.UUID(), store.Absent, softwareRecord{Name: name, PKCS8: der, Made: moment(a.engine.now())}))
	return handle.UUID(), err
}

// ForgetSoftwareKey removes what KeepSoftwareKey has written for the managed key with that UUID, if there is anything. DeleteKey does so as
// well, for the last of the authority's keys that has the UUID.
func (a *Authority) ForgetSoftwareKey(ctx context.Context, id string) error {
	_, err := a.apply(ctx, a.remove("software/"+id, store.Any))
	return err
}

// SoftwareKeys returns the managed keys whose private keys the authority keeps, sorted by UUID.
func (a *Authority) SoftwareKeys(ctx context.Context) ([]SoftwareKey, error) {
	var out []SoftwareKey
	for record, err := range a.all(ctx, "software/") {
		if err != nil {
			return nil, err
		}
		var r softwareRecord
		if err := decodeSoftware(record, &r); err != nil {
			return nil, err
		}
		out = append(out, SoftwareKey{strings.TrimPrefix(record.Key, a.prefix+"software/"), r.Name})
	}
	return out, nil
}

// decodeSoftware reads a record, of which no error shows anything.
func decodeSoftware(record store.Record, out *softwareRecord) error {
	if err := decodeRecord(record, out); err != nil || out.Name == "" {
		return fmt.Errorf("pki: %s: %w", record.Key, store.ErrCorrupt)
	}
	return nil
}

// softwareKey returns the record for a managed key that is named by UUID or name. The error wraps store.ErrNotFound if there is none.
func (a *Authority) softwareKey(ctx context.Context, ref string) (*softwareRecord, error) {
	var r softwareRecord
	id := ref
	if uuid.Validate(ref) != nil {
		all, err := a.SoftwareKeys(ctx)
		if err != nil {
			return nil, err
		}
		for _, k := range all {
			if k.Name == ref {
				id = k.UUID
			}
		}
		if id == ref {
			return nil, fmt.Errorf("pki: software key %.80q: %w", ref, store.ErrNotFound)
		}
	}
	record, err := a.store.Get(ctx, a.prefix+"software/"+id)
	if err != nil {
		return nil, fmt.Errorf("pki: software key %.80q: %w", ref, err)
	}
	return &r, decodeSoftware(record, &r)
}

// restoreKey puts a software key that is kept here where this process has such keys. It reports whether it did, and whether the key is so
// new that its entry may still be on its way. One that is there and may not be used is not restored, unless it is new.
func (a *Authority) restoreKey(ctx context.Context, ref string, missing bool) (restored, fresh bool, err error) {
	r, err := a.softwareKey(ctx, ref)
	if errors.Is(err, store.ErrNotFound) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if fresh = a.engine.now().Sub(r.Made).Abs() < softwareFresh; !missing && !fresh {
		return false, false, nil
	}
	private, err := x509.ParsePKCS8PrivateKey(r.PKCS8)
	key, ok := private.(crypto.Signer)
	if err != nil || !ok { // the parser may quote what it read
		return false, false, fmt.Errorf("pki: software key %.80q: its private key can't be read: %w", ref, store.ErrCorrupt)
	}
	if err := a.restore(ctx, a.mount, r.Name, key); err != nil {
		return false, false, fmt.Errorf("pki: software key %.80q: %w", ref, err)
	}
	return true, fresh, nil
}

// ManagedKey returns a managed key of the mount, in the version that ref names, or the newest. One in software that this process doesn't have
// yet is taken from the store.
func (a *Authority) ManagedKey(ctx context.Context, ref KeyRef) (*managedkey.Key, error) {
	return a.engine.open(ctx, ref.Name, func() (*managedkey.Key, error) {
		if ref.Version != 0 {
			return a.mount.KeyVersion(ctx, ref.Name, ref.Version)
		}
		return a.mount.Key(ctx, ref.Name)
	})
}

// open calls open, and again if there is no such key and it could be restored: for a while if the key is new, since another process has
// just made it, and this one hears of the managed key by and by.
func (e *Engine) open(ctx context.Context, name string, open func() (*managedkey.Key, error)) (*managedkey.Key, error) {
	away := func(err error) bool {
		return errors.Is(err, backend.ErrKeyNotFound) || errors.Is(err, backend.ErrNotPermitted) // the grant comes after the entry
	}
	key, err := open()
	if e.restore == nil || !away(err) {
		return key, err
	}
	restored, fresh, failed := e.restore(ctx, name, errors.Is(err, backend.ErrKeyNotFound))
	switch {
	case failed != nil:
		return nil, cause(failed)
	case !restored:
		return nil, err
	}
	for begun := time.Now(); ; {
		key, err = open()
		if !away(err) || !fresh || time.Since(begun) > softwareWait {
			return key, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("pki: software key %.80q: %w; before that: %v", name, backend.ContextError(ctx), err)
		case <-time.After(softwarePause):
		}
	}
}
