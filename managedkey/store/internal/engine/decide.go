package engine

import (
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Write is one change that a batch makes.
type Write struct {
	Key     string
	Value   []byte // nil if deleted
	Old     uint64 // the version that it replaces, 0 for none
	Deleted bool
}

// Change returns w as a watch shows it.
func (w Write) Change(revision uint64) store.Change {
	return store.Change{Record: store.Record{Key: w.Key, Value: w.Value, Version: revision}, Deleted: w.Deleted}
}

// Keys returns all keys of a batch.
func Keys(batch []*Tx) []string {
	var keys []string
	for _, t := range batch {
		for _, op := range t.Ops {
			keys = append(keys, op.Key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Decide finishes the transactions of batch whose expectations don't hold, or whose values can't be made, and those that
// change nothing. The others are to be committed as revision; it returns what they write, sorted by key. version tells
// the version of a key's record before the batch, 0 for none.
func Decide(batch []*Tx, revision uint64, version func(key string) uint64) (commit []*Tx, writes []Write) {
	for _, t := range batch {
		if t.Finished() {
			continue
		}
		mine, err := decide(t.Ops, revision, version)
		switch {
		case err != nil:
			t.Finish(0, err)
		case len(mine) == 0:
			t.Finish(revision-1, nil)
		default:
			commit, writes = append(commit, t), append(writes, mine...)
		}
	}
	slices.SortFunc(writes, func(a, b Write) int { return strings.Compare(a.Key, b.Key) })
	return commit, writes
}

func decide(ops []store.Op, revision uint64, version func(key string) uint64) ([]Write, error) {
	// Expectations first: a conflict is the more useful answer, and encoding costs time. So does looking a version up.
	olds := make([]uint64, len(ops))
	for i, op := range ops {
		olds[i] = version(op.Key)
		if !op.Expect.Holds(olds[i]) {
			return nil, &store.ConflictError{Key: op.Key, Expect: op.Expect, Version: olds[i]}
		}
	}
	var writes []Write
	for i, op := range ops {
		old := olds[i]
		switch {
		case op.Kind == store.Put:
			value, err := op.Bytes(revision)
			if err != nil {
				return nil, err
			}
			writes = append(writes, Write{Key: op.Key, Value: value, Old: old})
		case op.Kind == store.Delete && old != 0:
			writes = append(writes, Write{Key: op.Key, Old: old, Deleted: true})
		}
	}
	return writes, nil
}
