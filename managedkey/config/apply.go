package config

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// errChanged is what a change is refused with that was planned for something else than there is.
var errChanged = fmt.Errorf("it has changed since the plan was made; plan again: %w", store.ErrConflict)

// parallel is how many changes are made at once. A store on a disk commits them together.
const parallel = 64

// Apply makes the changes of a plan: first entries are made and changed, then mounts, grants, revocations, unmounts and deletions.
// Changes that were made already do no harm: entries are changed only if they are what they were when the plan was made, by their
// versions in the store.
//
// If something fails, what can be done beside it is done, but nothing that comes after it; what was made stays. The error is an
// *[Error] with all that failed. Where it wraps store.ErrConflict, plan again.
func Apply(ctx context.Context, plan *Plan) error {
	for changes := plan.Changes; len(changes) > 0; {
		n := 1
		for n < len(changes) && changes[n].phase() == changes[0].phase() {
			n++
		}
		if err := applyAll(ctx, changes[:n]); err != nil {
			return err
		}
		changes = changes[n:]
	}
	return nil
}

// applyAll makes changes that don't depend on one another.
func applyAll(ctx context.Context, changes []Change) error {
	var p problems
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan *Change)
	for range min(parallel, len(changes)) {
		wg.Go(func() {
			for c := range next {
				err := ctx.Err()
				if err == nil {
					err = c.run(ctx)
				}
				if err != nil {
					mu.Lock()
					p.fail(c.Pos, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range changes {
		next <- &changes[i]
	}
	close(next)
	wg.Wait()
	return p.err()
}

// remove deletes an entry if it is still what it was.
func remove(ctx context.Context, reg *managedkey.Registry, e managedkey.Entry) error {
	now, err := reg.Entry(e.Ref)
	if err != nil {
		return err
	}
	if now.UUID != e.UUID {
		return errors.Join(errChanged)
	}
	return reg.Delete(ctx, e.Ref)
}
