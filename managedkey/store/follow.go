package store

import (
	"context"
	"errors"
	"slices"
)

// Follow keeps a reader up to date. It calls load with all records under prefix, and from then on change with what each
// commit changes, in order; what the records of load have already is left out. When the changes since are no longer kept
// (ErrCompacted), it calls load again, which replaces everything.
//
// It returns when ctx ends, when the Store is closed or can't be read, or with the error of load or change; it never returns
// nil. After an error that wraps ErrUnavailable, calling it again may help. Both functions are called on the caller's
// goroutine, one at a time.
func Follow(ctx context.Context, s Store, prefix string, load func(records []Record, revision uint64) error, change func(Event) error) error {
	for {
		records, revision, err := Load(ctx, s, prefix)
		if err != nil {
			return err
		}
		if err := load(records, revision); err != nil {
			return err
		}
		var seen versions
		for _, record := range records {
			if record.Version > revision {
				seen.add(record)
			}
		}
		if err := follow(ctx, s, prefix, revision, &seen, change); !errors.Is(err, ErrCompacted) {
			return err
		}
	}
}

func follow(ctx context.Context, s Store, prefix string, revision uint64, seen *versions, change func(Event) error) error {
	for event, err := range s.Watch(ctx, prefix, revision) {
		if err != nil {
			return err
		}
		event.Changes = slices.DeleteFunc(event.Changes, seen.has)
		if len(event.Changes) == 0 {
			continue
		}
		if err := change(event); err != nil {
			return err
		}
	}
	return ErrClosed // not reached: a watch ends with an error
}

// versions are those of records that were read after the revision from which a watch begins. Only such can be met again.
type versions struct {
	of  map[string]uint64
	max uint64
}

func (v *versions) add(r Record) {
	if v.of == nil {
		v.of = make(map[string]uint64)
	}
	v.of[r.Key] = r.Version
	v.max = max(v.max, r.Version)
}

// has reports whether the reader has a change, or what came after it, already.
func (v *versions) has(c Change) bool {
	if c.Version > v.max {
		v.of = nil // nothing that comes is older
		return false
	}
	return c.Version <= v.of[c.Key]
}
