// Package etcd keeps a store in an etcd cluster (v3.4 or newer), by its client. Any number of processes share it. It
// survives the loss of servers for as long as a majority is left.
//
// All keys of a store begin with Options.Prefix; nothing else may write there.
//
//	PREFIX rev      "mks" ‖ schema (1 byte) ‖ revision (8 bytes) ‖ token of the last commit (16 bytes)
//	PREFIX k/KEY    version (8 bytes) ‖ 0 (1 byte) ‖ value
//
// Integers are big-endian. Each commit is one etcd transaction that writes rev, and compares it, so that revisions count
// commits, whatever else the cluster is used for, and are known before they are written. That makes commits of different
// processes at the same instant repeat; those of one process share a transaction.
//
// An answer that is lost does not leave a commit in doubt for as long as the cluster comes back within the call: its token
// tells whether it happened.
//
// History is what etcd keeps: run it with --auto-compaction-mode and --auto-compaction-retention, for at least as long as a
// process may be cut off without reading everything again. A cluster that was put back from a backup has the revisions
// that it had then: processes that follow the store must be started again.
package etcd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// Defaults of [Options].
const (
	DefaultPrefix  = "/managedkeys/"
	DefaultTimeout = 10 * time.Second
)

// What [Connect] sets where the configuration has nothing: a connection that died without a word is noticed after the sum
// of the latter two. etcd refuses clients that ask more often than every 5 s.
const (
	dialTimeout      = 5 * time.Second
	keepAliveTime    = 5 * time.Second
	keepAliveTimeout = 2 * time.Second
)

// schema is the version of the format.
const schema = 1

// Options are the options of [Open] and [Connect].
type Options struct {
	Prefix  string        // of all etcd keys of the store, not empty, default DefaultPrefix
	Timeout time.Duration // how long the cluster may take for one call, default DefaultTimeout
}

// Store is a store.Store in an etcd cluster. It is safe for concurrent use.
type Store struct {
	client  *clientv3.Client
	own     bool // client is closed with the Store
	prefix  string
	timeout time.Duration
	queue   *engine.Queue

	ctx    context.Context // ends when the Store is closed
	cancel context.CancelFunc
	once   sync.Once
	err    error // of closing; set by once

	last counter // as the queue's goroutine saw it; only that one uses it
}

var _ store.Store = (*Store)(nil)

// Connect opens the store in the cluster that cfg describes, with a client of its own. Where cfg has no timeouts of
// dialling and keep-alives, they are set to 5 s, 5 s and 2 s, and without a logger nothing is logged. opts may be nil. The caller closes the Store. The error is as
// for [Open].
func Connect(ctx context.Context, cfg clientv3.Config, opts *Options) (*Store, error) {
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, dialTimeout)
	cfg.DialKeepAliveTime = cmp.Or(cfg.DialKeepAliveTime, keepAliveTime)
	cfg.DialKeepAliveTimeout = cmp.Or(cfg.DialKeepAliveTimeout, keepAliveTimeout)
	if cfg.Logger == nil && cfg.LogConfig == nil {
		cfg.Logger = zap.NewNop() // and not standard error
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("store/etcd: %w: %w", store.ErrUnavailable, err)
	}
	s, err := Open(ctx, client, opts)
	if err != nil {
		client.Close()
		return nil, err
	}
	s.own = true
	return s, nil
}

// Open opens the store in the cluster of client, and makes it if there is none. client stays the caller's, who closes it
// after the Store; it should have keep-alives (DialKeepAliveTime), by which a watch notices that its server is gone.
//
// opts may be nil. The error wraps store.ErrUnavailable if the cluster can't be reached or has no leader;
// backend.ErrCredentials or backend.ErrNotPermitted, too, if it refuses the user; store.ErrForeign if there is something
// else under the prefix, or a store of a newer version of this package; and store.ErrInvalid if opts are out of bounds.
func Open(ctx context.Context, client *clientv3.Client, opts *Options) (*Store, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	if o.Timeout < 0 {
		return nil, fmt.Errorf("store/etcd: options: timeout: got %v; it takes more than 0: %w", o.Timeout, store.ErrInvalid)
	}
	s := &Store{client: client, prefix: cmp.Or(o.Prefix, DefaultPrefix), timeout: cmp.Or(o.Timeout, DefaultTimeout)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.bounded(ctx, "open", s.initialise); err != nil {
		s.cancel()
		return nil, err
	}
	s.queue = engine.NewQueue(s.commit)
	return s, nil
}

// initialise makes the counter, if there is nothing yet.
func (s *Store) initialise(ctx context.Context) error {
	resp, err := s.client.Txn(ctx).Then(
		clientv3.OpGet(s.counterKey()),
		clientv3.OpGet(s.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly()),
	).Commit()
	if err != nil {
		return err
	}
	switch found := resp.Responses[0].GetResponseRange().Kvs; {
	case len(found) == 1:
		_, err := parseCounter(found[0].Value)
		return err
	case resp.Responses[1].GetResponseRange().Count > 0:
		return fmt.Errorf("there are keys under %q, but no store: %w", s.prefix, store.ErrForeign)
	}
	_, err = s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(s.counterKey()), "=", 0)).
		Then(clientv3.OpPut(s.counterKey(), string(counter{token: make([]byte, tokenSize)}.bytes()))).Commit()
	return err
}

func (s *Store) counterKey() string { return s.prefix + "rev" }

func (s *Store) key(key string) string { return s.prefix + "k/" + key }

// counter is where the store stands.
type counter struct {
	revision uint64
	token    []byte
	mod      int64 // etcd's revision when it was written; 0 if not known
}

const (
	counterMagic = "mks"
	tokenSize    = 16
	counterSize  = len(counterMagic) + 1 + 8 + tokenSize
)

func (c counter) bytes() []byte {
	data := append([]byte(counterMagic), schema)
	data = binary.BigEndian.AppendUint64(data, c.revision)
	return append(data, c.token...)
}

// parseCounter is the reverse of bytes. The error wraps store.ErrForeign.
func parseCounter(data []byte) (counter, error) {
	rest, ok := bytes.CutPrefix(data, []byte(counterMagic))
	if !ok || len(rest) == 0 {
		return counter{}, fmt.Errorf("the revision is not one of a store: %w", store.ErrForeign)
	}
	if rest[0] != schema {
		return counter{}, fmt.Errorf("schema: got %d; this version takes %d; use the version that made it or a newer one: %w", rest[0], schema, store.ErrForeign)
	}
	if len(data) != counterSize {
		return counter{}, fmt.Errorf("the revision has %d bytes, not %d: %w", len(data), counterSize, store.ErrCorrupt)
	}
	return counter{revision: binary.BigEndian.Uint64(rest[1:]), token: bytes.Clone(rest[9:])}, nil
}

const cellHeader = 9

func cell(version uint64, value []byte) []byte {
	data := make([]byte, 0, cellHeader+len(value))
	data = binary.BigEndian.AppendUint64(data, version)
	return append(append(data, 0), value...)
}

// parseCell is the reverse of cell. The error wraps store.ErrCorrupt.
func parseCell(key string, data []byte) (store.Record, error) {
	if len(data) < cellHeader || data[8] != 0 {
		return store.Record{}, fmt.Errorf("%q was not written by a store: %w", key, store.ErrCorrupt)
	}
	return store.Record{Key: key, Value: bytes.Clone(data[cellHeader:]), Version: binary.BigEndian.Uint64(data)}, nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (record store.Record, err error) {
	if err := store.ValidateKey(key); err != nil {
		return record, err
	}
	err = s.bounded(ctx, "get", func(ctx context.Context) error {
		resp, err := s.client.Get(ctx, s.key(key))
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			return fmt.Errorf("%q: %w", key, store.ErrNotFound)
		}
		record, err = parseCell(key, resp.Kvs[0].Value)
		return err
	})
	return record, err
}

// Apply implements store.Store.
func (s *Store) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	return s.queue.Apply(ctx, ops)
}

// Close implements store.Store. It waits for a commit in flight, for Options.Timeout at most.
func (s *Store) Close() error {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
		defer cancel()
		s.queue.Close(ctx)
		s.cancel()
		if s.own {
			if s.err = s.client.Close(); errors.Is(s.err, context.Canceled) {
				s.err = nil // it says so of its own context
			}
		}
	})
	return s.err
}

// trim returns the key of a record without what the store puts before it.
func (s *Store) trim(key []byte) (string, bool) { return strings.CutPrefix(string(key), s.key("")) }
