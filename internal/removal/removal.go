// Package removal removes what an engine keeps in a store for a mount that is gone: in pages, and to the end although processes may die
// meanwhile.
package removal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Linger is how long a removal is remembered after it has begun, so that what requests that were under way in other processes have
// written late goes as well.
const Linger = time.Hour

// mark says that a removal has begun. It is at <kind>-removed/<id of the mount>.
type mark struct {
	Begun time.Time `json:"begun"`
}

func marks(kind string) string { return kind + "-removed/" }

// Mount removes all records below <kind>/<id>/, and returns how many. What it doesn't get to, Finish does. The error wraps
// backend.ErrInvalidParams if id is no UUID, as which nothing of another mount can be meant.
func Mount(ctx context.Context, st store.Store, kind, id string, now time.Time) (int, error) {
	if uuid.Validate(id) != nil || len(id) != 36 {
		return 0, fmt.Errorf("%s: removal: id of a mount %.80q; it takes a UUID: %w", kind, id, backend.ErrInvalidParams)
	}
	value, err := json.Marshal(mark{now.UTC().Truncate(time.Second)})
	if err != nil {
		return 0, fmt.Errorf("%s: removal: %w", kind, err)
	}
	if _, err := st.Apply(ctx, store.Op{Kind: store.Put, Key: marks(kind) + id, Value: value, Expect: store.Any}); err != nil {
		return 0, fmt.Errorf("%s: removal: %w", kind, err)
	}
	return below(ctx, st, kind, kind+"/"+id+"/")
}

// Finish goes on with all removals that have begun, forgets those that began longer than Linger ago, and returns how many records were
// removed. One that fails keeps none of the others from it.
func Finish(ctx context.Context, st store.Store, kind string, now time.Time) (int, error) {
	var errs []error
	total := 0
	for record, err := range store.All(ctx, st, marks(kind)) {
		if err != nil {
			return total, fmt.Errorf("%s: removal: %w", kind, errors.Join(append(errs, err)...))
		}
		var m mark
		id := strings.TrimPrefix(record.Key, marks(kind))
		if json.Unmarshal(record.Value, &m) != nil || uuid.Validate(id) != nil {
			errs = append(errs, fmt.Errorf("%s: removal: %s: %w", kind, record.Key, store.ErrCorrupt))
			continue
		}
		n, err := below(ctx, st, kind, kind+"/"+id+"/")
		total += n
		if err == nil && now.Sub(m.Begun) > Linger {
			_, err = st.Apply(ctx, store.Op{Kind: store.Delete, Key: record.Key, Expect: store.Expect(record.Version)})
			if errors.Is(err, store.ErrConflict) {
				err = nil // it was begun once more
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return total, errors.Join(errs...)
}

// atOnce is how many records are removed in a transaction. A sealed store takes fewer than store.MaxOps.
const atOnce = store.MaxOps / 2

// below removes the records under prefix.
func below(ctx context.Context, st store.Store, kind, prefix string) (n int, err error) {
	for {
		page, err := st.List(ctx, prefix, "", store.MaxPage) // what was there is gone, so that the next page is the first one
		if err != nil {
			return n, fmt.Errorf("%s: removal: %w", kind, err)
		}
		for records := page.Records; len(records) > 0; {
			some := records[:min(len(records), atOnce)]
			ops := make([]store.Op, len(some))
			for i, record := range some {
				ops[i] = store.Op{Kind: store.Delete, Key: record.Key, Expect: store.Any}
			}
			if _, err := st.Apply(ctx, ops...); err != nil {
				return n, fmt.Errorf("%s: removal: %w", kind, err)
			}
			n, records = n+len(some), records[len(some):]
		}
		if !page.More {
			return n, nil
		}
	}
}

// every is from one look of Keep to the next.
const every = 10 * time.Minute

// Keep calls Finish now and then from time to time until ctx ends, and tells report each error.
func Keep(ctx context.Context, st store.Store, kind string, now func() time.Time, report func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if _, err := Finish(ctx, st, kind, now()); err != nil && ctx.Err() == nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
