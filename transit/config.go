package transit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Config is what of a key is to be changed. What is nil stays as it is.
type Config struct {
	// MinDecryptionVersion is the oldest version whose ciphertexts, signatures and MACs are taken; 0 is 1.
	MinDecryptionVersion *int

	// MinEncryptionVersion is the oldest version that may be asked for to make something new: 0, which asks for nothing beyond
	// MinDecryptionVersion, or not below that.
	MinEncryptionVersion *int

	DeletionAllowed      *bool
	Exportable           *bool // true stays true
	AllowPlaintextBackup *bool // true stays true
	AutoRotatePeriod     *time.Duration
}

// Configure changes a key. The error wraps [backend.ErrInvalidParams] if the result would make no sense; then nothing is changed.
func (e *Engine) Configure(ctx context.Context, name string, c Config) error {
	_, err := e.change(ctx, name, func(r *record) error { return c.apply(r, name) })
	return err
}

func (c *Config) apply(r *record, name string) error {
	if r.SoftDeleted {
		return fmt.Errorf("transit: key %q is deleted: %w", name, backend.ErrNotPermitted)
	}
	if n := c.MinDecryptionVersion; n != nil {
		r.MinDecryption = max(*n, 0)
		if *n < 0 {
			return invalid("min decryption version cannot be negative: %d", *n)
		}
		r.MinDecryption = max(r.MinDecryption, 1)
	}
	if n := c.MinEncryptionVersion; n != nil {
		if *n < 0 {
			return invalid("min encryption version cannot be negative: %d", *n)
		}
		r.MinEncryption = *n
	}
	latest := r.latest()
	switch {
	case r.MinDecryption > latest:
		return invalid("cannot set min decryption version of %d, latest key version is %d", r.MinDecryption, latest)
	case r.MinEncryption > latest:
		return invalid("cannot set min encryption version of %d, latest key version is %d", r.MinEncryption, latest)
	case r.MinEncryption != 0 && r.MinEncryption < r.MinDecryption:
		return invalid("cannot set min encryption/decryption values; min encryption version of %d must be greater than or equal to min decryption version of %d", r.MinEncryption, r.MinDecryption)
	case r.MinDecryption < r.MinAvailable || r.MinEncryption != 0 && r.MinEncryption < r.MinAvailable:
		return invalid("min decryption or encryption version should not be less than min available version, %d", r.MinAvailable)
	}
	if c.DeletionAllowed != nil {
		r.DeletionAllowed = *c.DeletionAllowed
	}
	for _, once := range []struct {
		field string
		want  *bool
		have  *bool
	}{{"exportable", c.Exportable, &r.Exportable}, {"allow_plaintext_backup", c.AllowPlaintextBackup, &r.PlaintextBackup}} {
		switch {
		case once.want == nil || *once.want == *once.have:
		case !*once.want:
			return invalid("%s can't be taken back", once.field)
		case r.managed():
			return invalid("%s: a managed key can't leave its key manager", once.field)
		default:
			*once.have = true
		}
	}
	if d := c.AutoRotatePeriod; d != nil {
		if err := checkPeriod(*d); err != nil {
			return err
		}
		if *d != 0 && r.Imported && !r.AllowRotation {
			return invalid("auto_rotate_period: an imported key that may not be rotated")
		}
		r.AutoRotate = int64(*d / time.Second)
	}
	return nil
}

// Trim takes the versions below oldest out of a key, for good; the managed keys themselves stay. The error wraps
// [backend.ErrInvalidParams] unless both minimum versions of the key are set and not below oldest, and oldest is not below what
// it was.
func (e *Engine) Trim(ctx context.Context, name string, oldest int) error {
	_, err := e.change(ctx, name, func(r *record) error {
		switch {
		case r.SoftDeleted:
			return fmt.Errorf("transit: key %q is deleted: %w", name, backend.ErrNotPermitted)
		case oldest < 0:
			return invalid("minimum available version cannot be negative: %d", oldest)
		case oldest < r.MinAvailable || oldest == 0:
			return invalid("minimum available version cannot be decremented: %d; it is %d", oldest, r.MinAvailable)
		case r.MinEncryption == 0:
			return invalid("minimum available version cannot be set when minimum encryption version is not set")
		case oldest > r.latest():
			return invalid("minimum available version cannot be higher than the latest key version: %d; it is %d", oldest, r.latest())
		case oldest > r.MinEncryption:
			return invalid("minimum available version cannot be higher than minimum encryption version: %d; it is %d", oldest, r.MinEncryption)
		case oldest > r.MinDecryption:
			return invalid("minimum available version cannot be higher than minimum decryption version: %d; it is %d", oldest, r.MinDecryption)
		}
		r.MinAvailable = oldest
		if oldest > r.First {
			r.Versions, r.First = r.Versions[oldest-r.First:], oldest
		}
		return nil
	})
	return err
}

// SoftDelete makes a key unusable until [Engine.Undelete]; it can be read, and deleted. It is as final as the operator wants,
// whether or not deletion is allowed.
func (e *Engine) SoftDelete(ctx context.Context, name string) error {
	_, err := e.change(ctx, name, func(r *record) error {
		r.SoftDeleted = true
		return nil
	})
	return err
}

// Undelete makes a key usable again that was deleted softly.
func (e *Engine) Undelete(ctx context.Context, name string) error {
	_, err := e.change(ctx, name, func(r *record) error {
		r.SoftDeleted = false
		return nil
	})
	return err
}

// DeleteKey deletes a transit key: what a software key encrypted is lost. Managed keys themselves stay. The error wraps
// [backend.ErrNotPermitted] unless the key's configuration allows it.
func (e *Engine) DeleteKey(ctx context.Context, name string) error {
	refused := func(k *key) error {
		switch {
		case k == nil:
			return fmt.Errorf("transit: key not found: %.80q: %w", name, backend.ErrKeyNotFound)
		case k.broken != nil:
			return k.broken
		case !k.rec.DeletionAllowed:
			return fmt.Errorf("transit: error deleting policy %s: deletion is not allowed for this key: %w", name, backend.ErrNotPermitted)
		}
		return nil
	}
	if validName(name) != nil {
		return refused(nil)
	}
	if e.store == nil {
		e.changing.Lock()
		defer e.changing.Unlock()
		k := e.known(name)
		if err := refused(k); err != nil {
			return err
		}
		e.keys.Delete(name)
		e.forget(k, nil)
		return nil
	}
	for attempt := 0; ; attempt++ {
		k, err := e.refresh(ctx, name)
		if err == nil {
			err = refused(k)
		}
		if err != nil {
			return err
		}
		revision, err := e.store.Apply(ctx, store.Op{Kind: store.Delete, Key: e.prefix + name, Expect: store.Expect(k.stored)})
		if err == nil {
			e.remove(name, revision)
			return nil
		}
		if !errors.Is(err, store.ErrConflict) || attempt >= attempts {
			return fmt.Errorf("transit: key %q: %w", name, err)
		}
	}
}
