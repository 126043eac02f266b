package managedkey

import (
	"context"
	"fmt"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// HasMount reports whether there is a mount with that id, wherever it is: in the registry's store, if it has one, as that is now, also
// if this process has not learnt of the last changes yet. It is for those who keep something for mounts, and want to know whether they
// may throw it away. It takes time in proportion to all mounts that there are. The error is that of the store, and wraps
// store.ErrConflict if mounts change so fast that they can't be read.
func (r *Registry) HasMount(ctx context.Context, id string) (bool, error) {
	if r.kept == nil {
		return r.mountByID(id), nil
	}
	if err := r.kept.open(); err != nil {
		return false, err
	}
	for range tries {
		found, stable, err := r.kept.findMount(ctx, id)
		if err != nil {
			return false, fmt.Errorf("managedkey: mount %.80q: %w", id, err)
		}
		if found || stable {
			return found, nil
		}
	}
	return false, fmt.Errorf("managedkey: mount %.80q: the mounts change while they are read: %w", id, store.ErrConflict)
}

// mountByID is HasMount for what this process knows.
func (r *Registry) mountByID(id string) bool {
	var spaces []*space
	r.mu.Lock()
	for s := range r.spaces.all {
		spaces = append(spaces, s)
	}
	r.mu.Unlock()
	for _, s := range spaces {
		s.mu.Lock()
		for _, m := range s.mounts {
			if m.id == id {
				s.mu.Unlock()
				return true
			}
		}
		s.mu.Unlock()
	}
	return false
}

// findMount goes through the mounts of the store. It is stable if they were read at one instant: one that was moved in between can be
// on neither of two pages.
func (k *kept) findMount(ctx context.Context, id string) (found, stable bool, err error) {
	after, first := "", uint64(0)
	for {
		page, err := k.store.List(ctx, mountsPrefix, after, store.MaxPage)
		if err != nil {
			return false, false, err
		}
		if after == "" {
			first = page.Revision
		}
		for _, record := range page.Records {
			var m mountRecord
			if err := decode(record.Key, record.Value, &m); err != nil {
				return false, false, err
			}
			if m.ID == id {
				return true, true, nil
			}
			after = record.Key
		}
		if !page.More || len(page.Records) == 0 {
			return false, page.Revision == first, nil
		}
	}
}
