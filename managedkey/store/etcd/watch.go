package etcd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// watch is a call of Watch.
type watch struct {
	*Store
	prefix string
	from   uint64 // the revision up to which everything was shown
	next   int64  // etcd's revision from which to go on; 0 if not known yet
}

// run shows changes until ctx ends, the history is gone, or the reader has enough: then it returns nil. In between it
// begins anew whenever the stream of events breaks, from where it was.
func (w *watch) run(ctx context.Context, yield func(store.Event, error) bool) error {
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, longestPause) {
		if w.client.Ctx().Err() != nil {
			return store.ErrClosed
		}
		err := w.begin(ctx)
		if err == nil {
			var shown, enough bool
			if shown, enough, err = w.stream(ctx, yield); enough {
				return nil
			}
			if shown {
				pause = firstPause
			}
		}
		if err != nil && ours(err) {
			return err
		}
		wait(ctx, pause)
	}
	return ctx.Err()
}

// begin finds out where the watch begins.
func (w *watch) begin(ctx context.Context) error {
	if w.next != 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	now, err := w.current(ctx)
	if err != nil {
		return err
	}
	if w.from > now.revision {
		return engine.Compacted(w.from, 0, now.revision)
	}
	at, err := w.locate(ctx, w.from, now)
	if err != nil {
		return err
	}
	w.next = at.mod + 1
	return nil
}

// stream shows changes until the stream of events breaks. The error, if it is one of package store's, ends the watch.
func (w *watch) stream(ctx context.Context, yield func(store.Event, error) bool) (shown, enough bool, err error) {
	// A server that has lost its leader would go on saying nothing.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := w.client.Watch(ctx, w.Store.prefix, clientv3.WithPrefix(), clientv3.WithRev(w.next), clientv3.WithProgressNotify())
	for resp := range events {
		if resp.CompactRevision != 0 {
			return shown, false, fmt.Errorf("watch from revision %d: %w", w.from, store.ErrCompacted)
		}
		if err := resp.Err(); err != nil {
			return shown, false, err
		}
		for len(resp.Events) > 0 {
			mod := resp.Events[0].Kv.ModRevision
			n := slices.IndexFunc(resp.Events, func(e *clientv3.Event) bool { return e.Kv.ModRevision != mod })
			if n < 0 {
				n = len(resp.Events)
			}
			event, err := w.event(resp.Events[:n])
			if err != nil {
				return shown, false, err
			}
			resp.Events, w.next = resp.Events[n:], mod+1
			if event.Revision <= w.from {
				continue // the counter's first value
			}
			w.from = event.Revision
			if len(event.Changes) > 0 {
				if shown = true; !yield(event, nil) {
					return shown, true, nil
				}
			}
		}
		if resp.IsProgressNotify() {
			w.next = max(w.next, resp.Header.Revision+1)
		}
	}
	return shown, false, nil
}

// event returns what one transaction changed.
func (w *watch) event(all []*clientv3.Event) (event store.Event, err error) {
	counted := false
	for _, e := range all {
		if e.Type == clientv3.EventTypePut && string(e.Kv.Key) == w.counterKey() {
			c, err := parseCounter(e.Kv.Value)
			if err != nil {
				return event, err
			}
			event.Revision, counted = c.revision, true
		}
	}
	if !counted {
		return event, fmt.Errorf("%q was changed by something else than a store: %w", all[0].Kv.Key, store.ErrCorrupt)
	}
	for _, e := range all {
		key, ok := w.trim(e.Kv.Key)
		if !ok || !strings.HasPrefix(key, w.prefix) {
			continue
		}
		change := store.Change{Record: store.Record{Key: key, Version: event.Revision}, Deleted: e.Type == clientv3.EventTypeDelete}
		if !change.Deleted {
			if change.Record, err = parseCell(key, e.Kv.Value); err != nil {
				return event, err
			}
		}
		event.Changes = append(event.Changes, change)
	}
	slices.SortFunc(event.Changes, func(a, b store.Change) int { return strings.Compare(a.Key, b.Key) })
	return event, nil
}
