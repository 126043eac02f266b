// Package bolt keeps a store in one file, by go.etcd.io/bbolt: the engine for one process on one machine. The file is
// locked while it is open; a second process is refused.
//
// A commit is on the disk (fdatasync) before it is acknowledged: what was acknowledged survives the end of the process and
// of the machine at any instant, and a transaction is there as a whole or not at all. Transactions that come at the same
// time share a commit.
//
// # The file
//
// It is a bbolt database with three buckets; integers are 8 bytes, big-endian.
//
//	meta  "format" → "managedkeys/store", "schema" → 1, "revision", "floor"
//	keys  key → version
//	log   version ‖ key → CRC-32C ‖ flags ‖ value
//
// log has the records, the values that they replaced, and deletions (flags 1, without a value), for as long as they are
// not older than Options.History revisions, and a hundredth of that, or still current. The checksum is that of the rest of
// the entry, version and key included. meta's floor is the revision up to which history was dropped.
//
// The file never shrinks, but reuses what became free; a copy made by [Store.Backup] is a store, too. A file from a backup
// has the revisions that it had then: processes that follow the store must list again.
package bolt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// Defaults of [Options].
const (
	DefaultHistory  = 10_000
	DefaultLockWait = time.Second
)

// Options are the options of [Open].
type Options struct {
	History  int           // revisions that are kept for watches to begin at, and up to 1 % more: 1 or more, default DefaultHistory
	LockWait time.Duration // how long Open waits for another process to close the file, default DefaultLockWait
}

// Store is a store.Store in a file. It is safe for concurrent use.
type Store struct {
	db      *bbolt.DB
	file    *os.File // of db
	path    string
	history uint64
	queue   *engine.Queue
	changed engine.Signal
	closed  chan struct{}
	once    sync.Once
	err     error       // of closing; set by once
	broken  atomic.Bool // a write ended in a panic: bbolt's locks may be held for ever
}

var _ store.Store = (*Store)(nil)

// Open opens the store in the file path, and makes it if there is none, in a folder that must exist, readable by the owner
// only. opts may be nil. The caller closes it.
//
// The error wraps store.ErrUnavailable if another process has the file, or the system refuses it; store.ErrForeign if the
// file is something else or was written by a newer version of this package; store.ErrCorrupt if it is damaged; and
// backend.ErrNotPermitted if others may read it. A file that can't be opened is left as it is.
func Open(path string, opts *Options) (*Store, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	if o.History < 0 || o.LockWait < 0 {
		return nil, fmt.Errorf("store/bolt: options: history %d and lock wait %v must not be negative: %w", o.History, o.LockWait, store.ErrInvalid)
	}
	if err := checkFile(path); err != nil {
		return nil, err
	}
	s := &Store{path: path, history: uint64(cmp.Or(o.History, DefaultHistory)), closed: make(chan struct{})}
	wait := cmp.Or(o.LockWait, DefaultLockWait)
	openFile := func(name string, flag int, perm os.FileMode) (f *os.File, err error) {
		s.file, err = os.OpenFile(name, flag, perm)
		return s.file, err
	}
	err := s.guard("open", func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: wait, FreelistType: bbolt.FreelistMapType, OpenFile: openFile})
		return openError(err, wait)
	})
	if err != nil {
		if s.file != nil {
			release(s.file) // bbolt has done so unless it panicked
		}
		return nil, err
	}
	if err := s.guard("open", s.initialise); err != nil {
		s.closeFile()
		return nil, err
	}
	s.queue = engine.NewQueue(s.commit)
	return s, nil
}

// checkFile refuses what can't be a store before bbolt writes to it or waits for it.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("store/bolt: %w: %w", store.ErrUnavailable, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("store/bolt: %q is not a regular file but %v: %w", path, info.Mode().Type(), store.ErrForeign)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o027 != 0:
		return fmt.Errorf("store/bolt: %q has permissions %#o, which let others in; chmod 600 mends it: %w", path, info.Mode().Perm(), backend.ErrNotPermitted)
	}
	return nil
}

func openError(err error, wait time.Duration) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("another process has had the file open for %v; only one can use it: %w", wait, store.ErrUnavailable)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("it is no bbolt database, or its beginning was overwritten: %w: %w", store.ErrForeign, err)
	case errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrInvalidMapping):
		return fmt.Errorf("its beginning is damaged; put the file back from a backup: %w: %w", store.ErrCorrupt, err)
	}
	var system *os.PathError
	if errors.As(err, &system) {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return fmt.Errorf("put the file back from a backup: %w: %w", store.ErrCorrupt, err)
}

// guard runs f, which uses bbolt. bbolt trusts its file: what it finds in a damaged one makes it panic, or read beyond the
// end of the file, which is a fault.
func (s *Store) guard(op string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the database has an impossible structure (%v); put the file back from a backup: %w", p, store.ErrCorrupt)
		}
		if errors.Is(err, berrors.ErrDatabaseNotOpen) {
			err = engine.Closed(op)
		} else if err != nil {
			err = fmt.Errorf("store/bolt: %s: file %q: %w", op, s.path, err)
		}
	}()
	return f()
}

// view runs f in a transaction that reads.
func (s *Store) view(ctx context.Context, op string, f func(tx tx) error) error {
	select {
	case <-s.closed:
		return engine.Closed(op)
	default:
	}
	if ctx.Err() != nil {
		return engine.Ended(ctx, op)
	}
	return s.guard(op, func() error {
		return s.db.View(func(t *bbolt.Tx) error {
			tx, err := newTx(t)
			if err != nil {
				return err
			}
			return f(tx)
		})
	})
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (record store.Record, err error) {
	if err := store.ValidateKey(key); err != nil {
		return record, err
	}
	found := false
	err = s.view(ctx, "get", func(tx tx) (err error) {
		record, found, err = tx.get(key)
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("store/bolt: %q: %w", key, store.ErrNotFound)
	}
	return record, err
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (page store.Page, err error) {
	if err := store.ValidateList(prefix, after, limit); err != nil {
		return page, err
	}
	err = s.view(ctx, "list", func(tx tx) (err error) {
		page, err = tx.list(prefix, after, limit)
		return err
	})
	return page, err
}

// Apply implements store.Store.
func (s *Store) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	return s.queue.Apply(ctx, ops)
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, from uint64) iter.Seq2[store.Event, error] {
	read := func(ctx context.Context, prefix string, from uint64) (events []store.Event, next uint64, err error) {
		err = s.view(ctx, "watch", func(tx tx) (err error) {
			events, next, err = tx.events(prefix, from)
			return err
		})
		return events, next, err
	}
	log := &engine.Log{Read: read, Changed: &s.changed, Closed: s.closed}
	return log.Watch(ctx, prefix, from)
}

// Backup writes a copy of the whole file, as it is at one instant, to w and returns its length in bytes. The copy is a
// store that can be opened. Reads go on meanwhile, and writes until the file must grow.
func (s *Store) Backup(ctx context.Context, w io.Writer) (n int64, err error) {
	cw := &contextWriter{ctx: ctx, w: w}
	err = s.view(ctx, "backup", func(tx tx) (err error) {
		if n, err = tx.bolt.WriteTo(cw); cw.err != nil {
			return cw.err // bbolt keeps its text only
		}
		return err
	})
	return n, err
}

// contextWriter fails when its context has ended. It notes the error with which it failed.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
	err error
}

func (w *contextWriter) Write(data []byte) (n int, err error) {
	if err = w.ctx.Err(); err == nil {
		n, err = w.w.Write(data)
	}
	w.err = err
	return n, err
}

// Verify reads the whole file and checks its structure and all checksums. The error wraps store.ErrCorrupt, joined for
// all that is wrong, and tells which keys are affected.
func (s *Store) Verify(ctx context.Context) error {
	return s.view(ctx, "verify", func(tx tx) error { return tx.verify(ctx) })
}

// Close implements store.Store. It waits for commits and reads in progress, and unlocks the file.
func (s *Store) Close() error {
	s.queue.Close(context.Background())
	s.once.Do(func() {
		close(s.closed)
		s.err = s.closeFile()
	})
	return s.err
}

func (s *Store) closeFile() error {
	if s.broken.Load() {
		// bbolt would wait for its own locks for ever. The file must be unlocked all the same.
		return release(s.file)
	}
	return s.guard("close", s.db.Close)
}
