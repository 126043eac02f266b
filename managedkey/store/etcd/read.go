package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// firstChunk is how many records are asked for before it is known how long they are: etcd has no limit for bytes.
const firstChunk = 16

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (page store.Page, err error) {
	if err := store.ValidateList(prefix, after, limit); err != nil {
		return page, err
	}
	err = s.bounded(ctx, "list", func(ctx context.Context) error {
		for {
			page, err = s.list(ctx, prefix, after, limit)
			if !compacted(err) {
				return err
			} // the state that was read in parts is gone
		}
	})
	return page, err
}

func (s *Store) list(ctx context.Context, prefix, after string, limit int) (store.Page, error) {
	start, end := s.key(prefix), clientv3.GetPrefixRangeEnd(s.key(prefix))
	if after >= prefix && after != "" {
		start = s.key(after) + "\x00"
	}
	if start >= end {
		start = end // after is behind the prefix
	}
	get := func(n int, opts ...clientv3.OpOption) clientv3.Op {
		return clientv3.OpGet(start, append(opts, clientv3.WithRange(end), clientv3.WithLimit(int64(n)))...)
	}
	n := min(limit, firstChunk)
	resp, err := s.client.Txn(ctx).Then(clientv3.OpGet(s.counterKey()), get(n)).Commit()
	if err != nil {
		return store.Page{}, err
	}
	now, err := counterOf(resp.Responses[0].GetResponseRange().Kvs)
	if err != nil {
		return store.Page{}, err
	}
	page := store.Page{Revision: now.revision}
	kvs, more := resp.Responses[1].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().More
	size := 0
	for {
		for _, kv := range kvs {
			if size >= store.PageBytes {
				page.More = true
				return page, nil
			}
			key, _ := s.trim(kv.Key)
			record, err := parseCell(key, kv.Value)
			if err != nil {
				return store.Page{}, err
			}
			page.Records = append(page.Records, record)
			size += len(record.Value)
			start = string(kv.Key) + "\x00"
		}
		if page.More = more; !more || len(page.Records) >= limit || size >= store.PageBytes {
			return page, nil
		}
		each := size/len(page.Records) + 1
		n = min(limit-len(page.Records), (store.PageBytes-size)/each+1)
		next, err := s.client.Do(ctx, get(n, clientv3.WithRev(resp.Header.Revision)))
		if err != nil {
			return store.Page{}, err
		}
		kvs, more = next.Get().Kvs, next.Get().More
	}
}

// counterOf returns the counter, which must be there.
func counterOf(kvs []*mvccpb.KeyValue) (counter, error) {
	if len(kvs) == 0 {
		return counter{}, fmt.Errorf("the store has lost its revision; put it back from a backup: %w", store.ErrCorrupt)
	}
	c, err := parseCounter(kvs[0].Value)
	c.mod = kvs[0].ModRevision
	return c, err
}

// current returns the counter.
func (s *Store) current(ctx context.Context) (counter, error) {
	resp, err := s.client.Get(ctx, s.counterKey())
	if err != nil {
		return counter{}, err
	}
	return counterOf(resp.Kvs)
}

// locate returns the counter as it was at a revision before now's. The error wraps store.ErrCompacted if etcd doesn't keep
// it any more.
func (s *Store) locate(ctx context.Context, revision uint64, now counter) (counter, error) {
	if revision == now.revision {
		return now, nil
	}
	low, high := int64(1), now.mod // etcd's revisions between which it is
	dropped := false
	// If the store has the cluster for itself, each commit is one of etcd's revisions.
	guess := now.mod - int64(now.revision-revision)
	for low < high {
		if guess < low || guess >= high {
			guess = low + (high-low)/2
		}
		resp, err := s.client.Get(ctx, s.counterKey(), clientv3.WithRev(guess))
		switch {
		case errors.Is(err, rpctypes.ErrCompacted):
			dropped = true
			low = guess + 1
		case err != nil:
			return counter{}, err
		case len(resp.Kvs) == 0:
			low = guess + 1
		default:
			c, err := counterOf(resp.Kvs)
			if err != nil || c.revision == revision {
				return c, err
			}
			if c.revision < revision {
				low = guess + 1
			} else {
				high = c.mod
			}
		}
		guess = 0
	}
	if dropped {
		return counter{}, engine.Compacted(revision, revision, now.revision)
	}
	return counter{}, fmt.Errorf("the history has no revision %d: %w", revision, store.ErrCompacted)
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, from uint64) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		if err := store.ValidatePrefix(prefix); err != nil {
			yield(store.Event{}, err)
			return
		}
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		w := &watch{Store: s, prefix: prefix, from: from}
		err := w.run(inner, yield)
		switch {
		case err == nil: // the reader has enough
		case s.ctx.Err() != nil && ctx.Err() == nil:
			yield(store.Event{}, engine.Closed("watch"))
		case ctx.Err() != nil:
			yield(store.Event{}, fmt.Errorf("store: watch: %w", ctx.Err()))
		default:
			yield(store.Event{}, s.explain(inner, "watch", err))
		}
	}
}
