package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// What a watch reads at once. Rows are those of three commits at least, so that one of them is complete.
const (
	watchRows  = 3 * store.MaxOps
	watchBytes = 4 << 20
)

// events reads the log for a watch.
func (s *Store) events(ctx context.Context, prefix string, from uint64) (events []store.Event, next uint64, err error) {
	low, high := bounds(prefix)
	err = s.read(ctx, "watch", func(ctx context.Context) error {
		events, next = nil, from
		rows, err := s.pool.Query(ctx, s.sql.events, int64(from), low, high, watchRows, watchBytes)
		if err != nil {
			return err
		}
		var revision, floor uint64
		var version, before *int64
		var key, value []byte
		n, size, cut := 0, 0, false
		_, err = pgx.ForEachRow(rows, []any{&revision, &floor, &version, &key, &value, &before}, func() error {
			if from < floor || from > revision {
				return engine.Compacted(from, floor, revision)
			}
			if key == nil {
				return nil
			}
			n, size = n+1, size+len(value)
			last := len(events) - 1
			if last < 0 || events[last].Revision != uint64(*version) {
				events, last = append(events, store.Event{Revision: uint64(*version)}), last+1
			}
			record := store.Record{Key: string(key), Value: value, Version: uint64(*version)}
			events[last].Changes = append(events[last].Changes, store.Change{Record: record, Deleted: value == nil})
			return nil
		})
		if err != nil {
			return err
		}
		// If there may be more, the last commit may not be whole.
		if cut = n == watchRows || size >= watchBytes-store.MaxApply; cut && len(events) > 1 {
			events = events[:len(events)-1]
		}
		if next = revision; cut {
			next = events[len(events)-1].Revision
		}
		return nil
	})
	return events, next, err
}

// listen wakes watches until the Store is closed: when the server notifies it, when the revision has changed without a
// notification, and after a connection was lost.
func (s *Store) listen() {
	for s.ctx.Err() == nil {
		s.follow()
		s.changed.Broadcast()
		pause(s.ctx, s.opts.Poll)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// follow listens on one connection until it is lost.
func (s *Store) follow() {
	conn, err := s.connect()
	if err != nil {
		return
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.opts.Timeout)
		defer cancel()
		conn.Close(ctx)
	}()
	listening := s.notify
	if listening {
		err := s.limited(func(ctx context.Context) error {
			_, err := conn.Exec(ctx, "LISTEN "+s.sql.table)
			return err
		})
		if listening = err == nil; conn.IsClosed() {
			return
		}
	}
	seen := uint64(0)
	for s.ctx.Err() == nil {
		// A notification may be lost (a pooler, a server that failed over), so the revision is looked up all the same.
		now := uint64(0)
		err := s.limited(func(ctx context.Context) error { return conn.QueryRow(ctx, s.sql.revision).Scan(&now) })
		if err != nil {
			return
		}
		if now != seen {
			s.changed.Broadcast()
			seen = now
		}
		if !listening {
			pause(s.ctx, s.opts.Poll)
			continue
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.opts.Poll)
		_, err = conn.WaitForNotification(ctx)
		cancel()
		if err != nil && !pgconn.Timeout(err) {
			return
		}
		if err == nil {
			s.changed.Broadcast()
		}
	}
}

// limited runs f with the timeout of the Store.
func (s *Store) limited(f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.opts.Timeout)
	defer cancel()
	return f(ctx)
}

// connect makes a connection like those of the pool.
func (s *Store) connect() (conn *pgx.Conn, err error) {
	cfg := s.pool.Config()
	err = s.limited(func(ctx context.Context) (err error) {
		if cfg.BeforeConnect != nil {
			if err := cfg.BeforeConnect(ctx, cfg.ConnConfig); err != nil {
				return err
			}
		}
		conn, err = pgx.ConnectConfig(ctx, cfg.ConnConfig)
		return err
	})
	return conn, err
}
