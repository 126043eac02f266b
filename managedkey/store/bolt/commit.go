package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// History is dropped when it has 1/dropped more revisions than are to be kept: neighbours share pages, which each commit would write
// anew for the few entries of one revision. One commit drops sweep revisions at most, so that none takes long.
const (
	dropped = 100
	sweep   = 1000
)

// errNothing ends a bbolt transaction that has nothing to write.
var errNothing = errors.New("nothing to write")

// commit commits a batch, in one transaction of bbolt and with one write to the disk.
func (s *Store) commit(_ context.Context, batch []*engine.Tx) {
	var revision uint64
	var commit []*engine.Tx
	err := s.update(func(x tx) error {
		revision = x.revision + 1
		var writes []engine.Write
		commit, writes = engine.Decide(batch, revision, x.version)
		if len(writes) == 0 {
			return errNothing
		}
		if err := x.write(revision, writes); err != nil {
			return err
		}
		if floor := lowest(revision, s.history); floor >= x.floor+max(1, s.history/dropped) {
			return x.drop(floor)
		}
		return nil
	})
	switch {
	case errors.Is(err, errNothing):
		return
	case err == nil:
	default:
		err = s.outcome(revision, err)
		commit = batch // those that were decided have their result
	}
	for _, t := range commit {
		t.Finish(revision, err)
	}
	s.changed.Broadcast()
}

// update is guard for a transaction that writes.
func (s *Store) update(f func(x tx) error) error {
	if s.broken.Load() {
		return fmt.Errorf("store/bolt: apply: file %q: an earlier write found it damaged: %w", s.path, store.ErrCorrupt)
	}
	return s.guard("apply", func() error {
		done := false
		defer func() { s.broken.Store(!done) }()
		err := s.db.Update(func(t *bbolt.Tx) error {
			x, err := newTx(t)
			if err != nil {
				return err
			}
			return f(x)
		})
		done = true
		return err
	})
}

// outcome explains why a commit failed. bbolt writes what makes a commit count last, so it is looked up whether that
// happened: then it may be on the disk, or will be.
func (s *Store) outcome(revision uint64, err error) error {
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrForeign) || errors.Is(err, store.ErrClosed) {
		return err
	}
	reached := false
	look := s.view(context.Background(), "apply", func(x tx) error {
		reached = x.revision >= revision
		return nil
	})
	if reached || look != nil {
		return fmt.Errorf("%w: %w", err, store.ErrUnknownOutcome)
	}
	return fmt.Errorf("%w: %w", err, store.ErrUnavailable)
}

// write adds a commit.
func (x tx) write(revision uint64, writes []engine.Write) error {
	x.log.FillPercent = 1 // it grows at its end only
	for _, w := range writes {
		at := logKey(revision, w.Key)
		if err := x.log.Put(at, encode(at, w)); err != nil {
			return err
		}
		if w.Old != 0 && w.Old <= x.floor {
			if err := x.log.Delete(logKey(w.Old, w.Key)); err != nil {
				return err
			}
		}
		err := error(nil)
		if w.Deleted {
			err = x.keys.Delete([]byte(w.Key))
		} else {
			err = x.keys.Put([]byte(w.Key), number(revision))
		}
		if err != nil {
			return err
		}
	}
	return x.meta.Put(metaRevision, number(revision))
}

// drop forgets history up to floor: what was replaced, and deletions.
func (x tx) drop(floor uint64) error {
	if floor <= x.floor {
		return nil
	}
	floor = min(floor, x.floor+sweep)
	var old [][]byte
	c := x.log.Cursor()
	for at, _ := c.Seek(number(x.floor + 1)); len(at) > 8; at, _ = c.Next() {
		version := binary.BigEndian.Uint64(at)
		if version > floor {
			break
		}
		if x.version(string(at[8:])) != version { // deletions have no record either
			old = append(old, at)
		}
	}
	for _, at := range old {
		if err := x.log.Delete(at); err != nil {
			return err
		}
	}
	return x.meta.Put(metaFloor, number(floor))
}
