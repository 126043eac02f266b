package transit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Rotate appends a version to a transit key, of which the newest version of the managed key of that name or UUID is the key from
// now on. It may be of another kind than before. Versions that exist keep theirs. A software key gets a new key; managedKey must
// be empty for it.
//
// An empty managedKey means that of the latest version: if it was rotated since (see [managedkey.Registry.Rotate]) its newest
// version is taken, and if not, the key manager makes one, which the entry must allow.
//
// The error wraps [backend.ErrKeyNotFound] if there is no transit key of that name, [backend.ErrInvalidParams] if the
// latest version has this very managed key already, [backend.ErrNotPermitted] for an imported key that may not be rotated,
// store.ErrConflict if other processes were faster again and again, or what the mount returned.
func (e *Engine) Rotate(ctx context.Context, name, managedKey string) error {
	return e.rotate(ctx, name, managedKey, func(*record) error { return nil })
}

// errTaken: another process has just made a version of the very managed key that was to be the next one.
var errTaken = errors.New("there is such a version already")

// rotate is Rotate if check still agrees when the version is added.
func (e *Engine) rotate(ctx context.Context, name, managedKey string, check func(*record) error) error {
	for attempt := 0; ; attempt++ {
		err := e.rotateOnce(ctx, name, managedKey, check)
		switch {
		case !errors.Is(err, errTaken):
			return err
		case attempt >= attempts:
			return fmt.Errorf("transit: key %q: other processes rotate it as well, or seem to: %w: %w", name, store.ErrConflict, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("transit: key %q: %w", name, ctx.Err())
		case <-time.After(rand.N(time.Duration(1+attempt) * 2 * time.Millisecond)):
		}
	}
}

func (e *Engine) rotateOnce(ctx context.Context, name, managedKey string, check func(*record) error) error {
	k, err := e.usable(ctx, "key", name)
	if err != nil {
		return err
	}
	k = e.newer(ctx, k, k.latest()+1) // what is known here may be old
	if err := k.rec.rotatable(name); err != nil {
		return err
	}
	var next versionRecord
	switch {
	case k.rec.managed():
		next, err = e.nextManaged(ctx, k, managedKey)
	case managedKey != "":
		return invalid("managed key %.80q: key %q is of type %s and has none", managedKey, name, k.rec.Type)
	default:
		if err = e.allowSoftware(); err == nil {
			next, err = softTypes[k.rec.Type].newMaterial(ctx, k.rec)
		}
	}
	if err != nil {
		return err
	}
	_, err = e.change(ctx, name, func(r *record) error {
		if r.ID != k.rec.ID {
			return fmt.Errorf("transit: key %q was deleted and made again: %w", name, backend.ErrKeyNotFound)
		}
		if err := errors.Join(r.rotatable(name), check(r)); err != nil {
			return err
		}
		switch last := r.at(r.latest()); {
		case !r.managed():
		case managedKey == "" && (r.latest() != k.latest() || last.same(&next)): // next may not be the newest any more
			return errTaken
		case last.same(&next):
			return invalid("key %q: version %d is already the managed key %.80q; rotating takes another one", name, r.latest(), managedKey)
		}
		next.Created = e.now()
		r.append(next)
		return nil
	})
	return err
}

// rotatable refuses keys that may not have another version.
func (r *record) rotatable(name string) error {
	switch {
	case r.SoftDeleted:
		return fmt.Errorf("transit: key %q is deleted: %w", name, backend.ErrNotPermitted)
	case r.Imported && !r.AllowRotation:
		return fmt.Errorf("transit: imported key %q does not allow rotation within the engine: %w", name, backend.ErrNotPermitted)
	case len(r.Versions) >= maxVersions || r.latest() == maxVersion:
		return invalid("key %q has %d versions; Trim takes old ones away", name, len(r.Versions))
	}
	return nil
}

// nextManaged returns the version of a managed key that comes after the latest of k.
func (e *Engine) nextManaged(ctx context.Context, k *key, managedKey string) (versionRecord, error) {
	own, latest := managedKey == "", k.rec.at(k.latest())
	if own {
		managedKey = latest.ManagedKey
	}
	next, err := e.open(ctx, managedKey)
	if err != nil || !own || !latest.same(&next) && next.Of >= latest.Of {
		return next, err
	}
	if next.Of < latest.Of { // the news of what the other process has rotated is on its way
		return next, errTaken
	}
	switch _, err := e.mount.Rotate(ctx, managedKey); {
	case e.store != nil && (errors.Is(err, store.ErrConflict) || errors.Is(err, backend.ErrKeyExists)):
		return next, fmt.Errorf("%w: %w", errTaken, err)
	case err != nil:
		return next, fmt.Errorf("transit: key %q: %w", k.name, err)
	}
	return e.open(ctx, managedKey)
}

// errNotDue: another process was faster.
var errNotDue = errors.New("not due")

// due reports whether the key is to be rotated by now.
func (r *record) due(now time.Time) bool {
	return r.AutoRotate > 0 && !r.SoftDeleted && !now.Before(r.at(r.latest()).Created.Add(time.Duration(r.AutoRotate)*time.Second))
}

// Tick rotates the keys whose AutoRotatePeriod has passed since their latest version was made, and returns their names and the
// errors of those that could not be, joined. Of several processes that do so at the same time, one rotates a software key.
func (e *Engine) Tick(ctx context.Context) (rotated []string, err error) {
	var failures []error
	for _, name := range e.List() {
		if k := e.known(name); k == nil || k.broken != nil || !k.rec.due(e.now()) {
			continue
		}
		err := e.rotate(ctx, name, "", func(r *record) error {
			if !r.due(e.now()) {
				return errNotDue
			}
			return nil
		})
		switch {
		case err == nil:
			rotated = append(rotated, name)
		case !errors.Is(err, errNotDue):
			failures = append(failures, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return rotated, errors.Join(failures...)
}

// Run calls Tick every so often, until ctx ends, and tells the logger what it did. It returns ctx.Err().
func (e *Engine) Run(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		rotated, err := e.Tick(ctx)
		for _, name := range rotated {
			e.opts.Logger.Info("transit: rotated", "key", name)
		}
		if err != nil && ctx.Err() == nil {
			e.opts.Logger.Error("transit: rotating keys", "error", err)
		}
	}
}
