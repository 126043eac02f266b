package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// stressKeys are the keys that the clients of a stress fight for. They are few, so that there are many conflicts.
var stressKeys = [...]string{"s/a", "s/b", "s/dir/c", "s/dir/d"}

const fenceKey = "s/fence"

// cell is the state of one key: what the model knows of a record.
type cell struct {
	version uint64
	value   string
}

// state is the state of the model. It is comparable.
type state struct {
	revision uint64
	cells    cells
}

// cells are the records by index. The last one is for keys that no client wrote, which an engine must not show: the model
// leaves it empty.
type cells [len(stressKeys) + 1]cell

// index returns the position of a key in cells.
func index(key string) int {
	for i, k := range stressKeys {
		if k == key {
			return i
		}
	}
	return len(stressKeys)
}

// operation is one call and its result, as its client saw them.
type operation struct {
	client       int
	call, ending time.Duration

	ops  []store.Op // of Apply
	id   string     // of Apply; the value of all its puts
	key  string     // of Get
	list bool

	revision uint64 // of Apply or List
	found    cells  // by Get (of its key) and List
	conflict *store.ConflictError
	err      error
}

// unknown reports whether an Apply may or may not have happened.
func (o *operation) unknown() bool { return errors.Is(o.err, store.ErrUnknownOutcome) }

// follows reports whether what is found may have come of what was seen before, by operations that were pending then: an engine may carry
// out a transaction whose outcome nobody was told long after others.
func follows(found, seen cells, pending []*operation) bool {
	for i, now := range found {
		if now == seen[i] {
			continue
		}
		if !slices.ContainsFunc(pending, func(o *operation) bool {
			return slices.ContainsFunc(o.ops, func(op store.Op) bool {
				put := op.Kind == store.Put && now.value == o.id && now.version > seen[i].version
				return index(op.Key) == i && (put || op.Kind == store.Delete && now == cell{})
			})
		}) {
			return false
		}
	}
	return true
}

// step is the sequential specification: whether o, with the result that it had, may happen in state s, and the state
// after it.
func step(s state, o *operation) (bool, state) {
	switch {
	case o.list:
		return s.cells == o.found && o.revision >= s.revision, s
	case o.key != "":
		i := index(o.key)
		return s.cells[i] == o.found[i], s
	case o.conflict != nil:
		c := o.conflict
		return s.cells[index(c.Key)].version == c.Version && !c.Expect.Holds(c.Version), s
	}
	if o.revision < s.revision {
		return false, s
	}
	for _, op := range o.ops {
		if !op.Expect.Holds(s.cells[index(op.Key)].version) {
			return false, s
		}
	}
	for _, op := range o.ops {
		switch i := index(op.Key); op.Kind {
		case store.Put:
			s.cells[i] = cell{o.revision, string(op.Value)}
		case store.Delete:
			s.cells[i] = cell{}
		}
	}
	s.revision = o.revision
	return true, s
}

// model is step for porcupine.
var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, input, _ any) (bool, any) {
		ok, next := step(s.(state), input.(*operation))
		return ok, next
	},
	DescribeOperation: func(input, _ any) string { return input.(*operation).String() },
}

func (o *operation) String() string {
	switch {
	case o.list:
		return fmt.Sprintf("list at %d: %v", o.revision, o.found)
	case o.key != "":
		return fmt.Sprintf("get %s: %v", o.key, o.found[index(o.key)])
	}
	var parts []string
	for _, op := range o.ops {
		parts = append(parts, fmt.Sprintf("%s %s if %d", [...]string{"put", "delete", "check"}[op.Kind], op.Key, op.Expect))
	}
	return fmt.Sprintf("apply %s (%s): %d %v", o.id, strings.Join(parts, ", "), o.revision, o.err)
}

// linearizable checks a history. Of the calls of Apply whose outcome is unknown, made tells which ones happened, and at
// which revision: every watch shows it. One that happened may have done so at any time after it was called.
func linearizable(history []*operation, made map[string]uint64, timeout time.Duration) error {
	var ops []porcupine.Operation
	var end time.Duration
	for _, o := range history {
		end = max(end, o.ending)
	}
	for _, o := range history {
		ending := o.ending
		if o.unknown() {
			revision, happened := made[o.id]
			if !happened {
				continue
			}
			o.revision, ending = revision, end
		}
		ops = append(ops, porcupine.Operation{ClientId: o.client, Input: o, Call: int64(o.call), Return: int64(ending)})
	}
	switch porcupine.CheckOperationsTimeout(model, ops, timeout) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("no answer after %v whether %d operations are linearizable", timeout, len(ops))
	}
	return fmt.Errorf("%d operations are not linearizable", len(ops))
}
