// Package postgres keeps a store in PostgreSQL, or in an engine that speaks its protocol, by pgx. Any number of processes
// share it.
//
// A store is one table, and a row of a second one that has the schema's version and the revision. Each commit locks that
// row, so that revisions are in the order of commits and a watch misses nothing; transactions that come from one process
// at the same time share a commit. Transactions are SERIALIZABLE and repeated when the engine says that they lost against
// another one. What is used is plain SQL, ON CONFLICT and partial indexes. LISTEN and NOTIFY, and advisory locks, are used
// where the engine has them: without them, watches look for changes every Options.Poll, as they also do in case a
// notification is lost, and migrations rely on being repeatable.
//
// The server must be the primary: with several hosts in the connection string, use target_session_attrs=read-write. What
// is acknowledged is as durable as the server's synchronous_commit says. With a pooler between, it must keep a transaction
// on one connection (PgBouncer: session or transaction pooling).
//
// A database that was put back from a backup has the revisions that it had then: processes that follow the store must be
// started again.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// Defaults of [Options].
const (
	DefaultTable   = "managedkeys_store"
	DefaultHistory = 10_000
	DefaultPoll    = 500 * time.Millisecond
	DefaultTimeout = 10 * time.Second
)

// Options are the options of [Open] and [Connect].
type Options struct {
	// Table is the name of the table, 1 to 40 of a-z, 0-9 and _, default DefaultTable. The tables are looked for, and made,
	// as the search_path says. Stores with other tables are other stores.
	Table string

	History int           // revisions that are kept for watches to begin at: 1 or more, default DefaultHistory
	Poll    time.Duration // how often a watch looks for changes without a notification, default DefaultPoll
	Timeout time.Duration // how long the server may take for one call, default DefaultTimeout
}

var tableName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,39}$`)

func (o Options) withDefaults() (Options, error) {
	o.Table = cmp.Or(o.Table, DefaultTable)
	if !tableName.MatchString(o.Table) {
		return o, fmt.Errorf("store/postgres: options: table: got %.50q; it takes 1 to 40 of a-z, 0-9 and _, not beginning with a digit: %w", o.Table, store.ErrInvalid)
	}
	if o.History < 0 || o.Poll < 0 || o.Timeout < 0 {
		return o, fmt.Errorf("store/postgres: options: history %d, poll %v and timeout %v must not be negative: %w", o.History, o.Poll, o.Timeout, store.ErrInvalid)
	}
	o.History = cmp.Or(o.History, DefaultHistory)
	o.Poll = cmp.Or(o.Poll, DefaultPoll)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	return o, nil
}

// Store is a store.Store in a PostgreSQL database. It is safe for concurrent use.
type Store struct {
	pool    *pgxpool.Pool
	own     bool // pool is closed with the Store
	opts    Options
	sql     statements
	notify  bool // the engine has pg_notify
	queue   *engine.Queue
	changed engine.Signal

	ctx     context.Context // ends when the Store is closed
	cancel  context.CancelFunc
	once    sync.Once      // of Close
	listens sync.Once      // of the goroutine that listens
	running sync.WaitGroup // that goroutine
}

var _ store.Store = (*Store)(nil)

// Connect opens the store in the database that url names, a connection string or "postgres://" URL, with a pool of
// connections of its own. Parameters of the pool may be in url: pool_max_conns and others, see pgxpool.ParseConfig. opts
// may be nil. The caller closes the Store. The error is as for [Open], or wraps backend.ErrCredentials if url can't be
// resolved.
func Connect(ctx context.Context, url backend.Secret, opts *Options) (*Store, error) {
	text, err := url.Resolve()
	if err != nil {
		return nil, fmt.Errorf("store/postgres: url: %w", err)
	}
	cfg, err := pgxpool.ParseConfig(text)
	if err != nil {
		// The driver's reason has the text, and takes out only those passwords that it finds: not that of "password = …", with spaces.
		return nil, fmt.Errorf("store/postgres: url: it takes keyword=value pairs or a postgres:// URL, with settings that pgxpool.ParseConfig knows; what is wrong is not shown, since it may be the password: %w", store.ErrInvalid)
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return nil, fmt.Errorf("store/postgres: %w: %w", store.ErrUnavailable, err)
	}
	s, err := Open(ctx, pool, opts)
	if err != nil {
		pool.Close()
		return nil, err
	}
	s.own = true
	return s, nil
}

// Open opens the store in the database of pool, and makes its tables if there are none, or brings those of an older version
// up to date; only then it needs the right to. pool stays the caller's, who closes it after the Store. For watches the Store
// makes one connection more, configured like those of pool.
//
// opts may be nil. The error wraps store.ErrUnavailable if the server can't be reached or refuses; backend.ErrCredentials,
// too, if it refuses the user; store.ErrForeign if the tables are something else or of a newer version of this package; and
// store.ErrInvalid if opts are out of bounds.
func Open(ctx context.Context, pool *pgxpool.Pool, opts *Options) (*Store, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{pool: pool, opts: o, sql: newStatements(o.Table)}
	if err := s.migrate(ctx); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.queue = engine.NewQueue(s.commit)
	return s, nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Record, error) {
	if err := store.ValidateKey(key); err != nil {
		return store.Record{}, err
	}
	record := store.Record{Key: key}
	err := s.read(ctx, "get", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, s.sql.get, []byte(key)).Scan(&record.Version, &record.Value)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return store.Record{}, fmt.Errorf("store/postgres: %q: %w", key, store.ErrNotFound)
	}
	if err != nil {
		return store.Record{}, err
	}
	return record, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (page store.Page, err error) {
	if err := store.ValidateList(prefix, after, limit); err != nil {
		return page, err
	}
	from, to := bounds(prefix)
	err = s.read(ctx, "list", func(ctx context.Context) error {
		page = store.Page{}
		rows, err := s.pool.Query(ctx, s.sql.list, from, to, []byte(after), limit+1, store.PageBytes)
		if err != nil {
			return err
		}
		var key, value []byte
		var version, total *int64
		_, err = pgx.ForEachRow(rows, []any{&page.Revision, &total, &key, &version, &value}, func() error {
			if key == nil {
				return nil // the revision's row without a record
			}
			if len(page.Records) < limit {
				page.Records = append(page.Records, store.Record{Key: string(key), Value: value, Version: uint64(*version)})
			}
			page.More = int64(len(page.Records)) < *total
			return nil
		})
		return err
	})
	return page, err
}

// bounds returns the first key under a prefix and the first one behind, which is nil if there is none.
func bounds(prefix string) (from, to []byte) {
	if prefix == "" {
		return []byte{}, nil
	}
	to = []byte(prefix)
	to[len(to)-1]++ // it is a slash
	return []byte(prefix), to
}

// Apply implements store.Store.
func (s *Store) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	return s.queue.Apply(ctx, ops)
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, from uint64) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		s.listens.Do(func() { s.running.Go(s.listen) })
		log := &engine.Log{Read: s.events, Changed: &s.changed, Closed: s.ctx.Done(), Retry: s.opts.Poll}
		log.Watch(ctx, prefix, from)(yield)
	}
}

// Close implements store.Store. It waits for a commit in flight, for Options.Timeout at most.
func (s *Store) Close() error {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.opts.Timeout)
		defer cancel()
		s.queue.Close(ctx)
		s.cancel()
		s.listens.Do(func() {}) // none begins any more
		s.running.Wait()
		if s.own {
			s.pool.Close()
		}
	})
	return nil
}
