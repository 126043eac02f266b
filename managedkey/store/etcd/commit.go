package etcd

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// Pauses between tries when the cluster does not answer.
const (
	firstPause, longestPause = 10 * time.Millisecond, 250 * time.Millisecond
)

// reconnects is how often a commit is tried that certainly wasn't sent.
const reconnects = 3

// attempt is a batch on its way to the cluster, over several tries.
type attempt struct {
	*Store
	batch []*engine.Tx
	keys  []string
	token []byte // identifies the batch in the counter

	at       counter           // what the next try builds on
	versions map[string]uint64 // of keys at that revision; nil if not known: then the expectations are taken for true
	sent     uint64            // the revision of a try whose answer did not come, 0 for none
}

// commit commits a batch.
func (s *Store) commit(ctx context.Context, batch []*engine.Tx) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	a := &attempt{Store: s, batch: batch, keys: engine.Keys(batch), token: make([]byte, tokenSize), at: s.last}
	rand.Read(a.token)
	pause, absent := firstPause, 0
	for {
		revision, done, err := a.try(ctx)
		if done {
			s.finish(batch, revision, nil)
			return
		}
		if err == nil {
			continue // somebody else was faster, and now the state is known
		}
		absent++
		if refused(err) || ctx.Err() != nil || a.sent == 0 && absent > reconnects {
			s.last = counter{}
			if a.sent != 0 {
				err = fmt.Errorf("store/etcd: apply: %w: %w", store.ErrUnknownOutcome, err)
			} else {
				err = s.explain(context.Background(), "apply", err)
			}
			s.finish(batch, 0, err)
			return
		}
		a.at, a.versions = counter{}, nil
		wait(ctx, pause)
		pause = min(2*pause, longestPause)
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (s *Store) finish(batch []*engine.Tx, revision uint64, err error) {
	for _, t := range batch {
		t.Finish(revision, err)
	}
}

// try makes one transaction. If it is neither done nor failed, the state was another one, and is now known.
func (a *attempt) try(ctx context.Context) (revision uint64, done bool, err error) {
	if a.at.mod == 0 || a.versions == nil && a.contradictory() {
		if err := a.load(ctx); err != nil {
			return 0, false, err
		}
		if revision, done, err := a.resolve(ctx); done || err != nil {
			return revision, done, err
		}
	}
	revision = a.at.revision + 1
	commit, writes := engine.Decide(a.batch, revision, a.version)
	if len(commit) == 0 && a.versions != nil {
		a.last = a.at
		return revision, true, nil // all have their result
	}
	conditions := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(a.counterKey()), "=", a.at.mod)}
	if a.versions == nil {
		conditions = append(conditions, a.conditions()...)
	}
	var then []clientv3.Op
	for _, w := range writes {
		if w.Deleted {
			then = append(then, clientv3.OpDelete(a.key(w.Key)))
		} else {
			then = append(then, clientv3.OpPut(a.key(w.Key), string(cell(revision, w.Value))))
		}
	}
	next := counter{revision: revision, token: a.token}
	if len(writes) > 0 {
		then = append(then, clientv3.OpPut(a.counterKey(), string(next.bytes())))
	}
	resp, err := a.client.Txn(ctx).If(conditions...).Then(then...).Else(a.gets()...).Commit()
	switch {
	case err != nil && !refused(err):
		a.sent = revision
		return 0, false, err
	case err != nil:
		return 0, false, err
	case !resp.Succeeded:
		if err := a.take(resp.Responses); err != nil {
			return 0, false, err
		}
		return a.resolve(ctx)
	}
	if len(writes) > 0 {
		next.mod = resp.Header.Revision
		a.last = next
	}
	return revision, true, nil
}

// version is what the try takes for the version of a key's record.
func (a *attempt) version(key string) uint64 {
	if a.versions != nil {
		return a.versions[key]
	}
	for _, t := range a.batch {
		for _, op := range t.Ops {
			if op.Key == key && op.Expect != store.Any {
				return uint64(op.Expect)
			}
		}
	}
	return math.MaxUint64 - 1 // some record
}

// contradictory reports whether two transactions expect different things of one key, or one of them only checks: then
// what is there must be known before.
func (a *attempt) contradictory() bool {
	expected := make(map[string]store.Expect)
	for _, t := range a.batch {
		writes := false
		for _, op := range t.Ops {
			writes = writes || op.Kind != store.Check
			if before, ok := expected[op.Key]; ok && before != op.Expect {
				return true
			}
			expected[op.Key] = op.Expect
		}
		if !writes {
			return true
		}
	}
	return false
}

// conditions returns the expectations as etcd compares. A version is the beginning of the value.
func (a *attempt) conditions() (all []clientv3.Cmp) {
	seen := make(map[string]bool)
	for _, t := range a.batch {
		for _, op := range t.Ops {
			key := a.key(op.Key)
			switch {
			case seen[key], op.Expect == store.Any:
			case op.Expect == store.Absent:
				all = append(all, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
			default:
				low := binary.BigEndian.AppendUint64(nil, uint64(op.Expect))
				high := binary.BigEndian.AppendUint64(nil, uint64(op.Expect)+1)
				all = append(all, clientv3.Compare(clientv3.Value(key), ">", string(low)), clientv3.Compare(clientv3.Value(key), "<", string(high)))
			}
			seen[key] = true
		}
	}
	return all
}

// gets returns the operations that read the state.
func (a *attempt) gets() []clientv3.Op {
	ops := []clientv3.Op{clientv3.OpGet(a.counterKey())}
	for _, key := range a.keys {
		ops = append(ops, clientv3.OpGet(a.key(key)))
	}
	return ops
}

// load reads the state.
func (a *attempt) load(ctx context.Context) error {
	resp, err := a.client.Txn(ctx).Then(a.gets()...).Commit()
	if err != nil {
		return err
	}
	return a.take(resp.Responses)
}

// take notes the answers of gets.
func (a *attempt) take(answers []*etcdserverpb.ResponseOp) (err error) {
	found := answers[0].GetResponseRange().Kvs
	if len(found) == 0 {
		return fmt.Errorf("the store has lost its revision; put it back from a backup: %w", store.ErrCorrupt)
	}
	if a.at, err = parseCounter(found[0].Value); err != nil {
		return err
	}
	a.at.mod = found[0].ModRevision
	a.versions = make(map[string]uint64)
	for i, answer := range answers[1:] {
		for _, kv := range answer.GetResponseRange().Kvs {
			record, err := parseCell(a.keys[i], kv.Value)
			if err != nil {
				return err
			}
			a.versions[record.Key] = record.Version
		}
	}
	return nil
}

// errOthers means that a try without an answer can't be told from those that came after it.
var errOthers = errors.New("the answer of the cluster was lost, and so is the history since")

// resolve finds out what became of a try without an answer. If it is still under way, it and the next try exclude each
// other, because both compare the counter, and they have the same token.
func (a *attempt) resolve(ctx context.Context) (revision uint64, done bool, err error) {
	if a.sent == 0 || a.at.revision < a.sent {
		return 0, false, nil
	}
	at := a.at
	if at.revision > a.sent {
		if at, err = a.locate(ctx, a.sent, a.at); errors.Is(err, store.ErrCompacted) {
			return 0, false, fmt.Errorf("%w: %w", errOthers, err)
		} else if err != nil {
			return 0, false, err
		}
	}
	if string(at.token) == string(a.token) {
		a.last = a.at
		return a.sent, true, nil
	}
	a.sent = 0
	return 0, false, nil
}
