package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// dropEvery is after how many revisions history is dropped: a statement for many rows.
const dropEvery = 64

// attempt is a batch on its way to the server, over several tries.
type attempt struct {
	*Store
	batch []*engine.Tx
	token []byte // in the row of the revision, if this batch was the last one that was committed
	sent  uint64 // the revision of a try whose answer did not come, 0 for none
}

// errOthers means that a try without an answer can't be told from those that came after it.
var errOthers = errors.New("the answer of the server was lost and others have written since")

// commit commits a batch.
func (s *Store) commit(ctx context.Context, batch []*engine.Tx) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	a := &attempt{Store: s, batch: batch, token: make([]byte, 16)}
	rand.Read(a.token)
	var revision uint64
	absent := 0
	err := retrying(ctx, func(err error) bool {
		if lost(err) {
			return true
		}
		absent++
		return gone(err) && !errors.Is(err, errOthers) && (a.sent != 0 || absent <= reconnects)
	}, func() (err error) {
		revision, err = a.try(ctx)
		return err
	})
	for _, t := range batch {
		switch {
		case err == nil:
			t.Finish(revision, nil)
		case a.sent != 0:
			t.Finish(0, fmt.Errorf("store/postgres: apply: %w: %w", store.ErrUnknownOutcome, err))
		default:
			t.Finish(0, s.explain(context.Background(), "apply", err))
		}
	}
	s.changed.Broadcast()
}

// try makes one transaction: it locks the revision and reads what there is, decides, and writes.
func (a *attempt) try(ctx context.Context) (revision uint64, err error) {
	conn, err := a.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release() // which closes a connection that is still in a transaction
	now, floor, versions, err := a.look(ctx, conn.Conn())
	if err != nil {
		a.rollback(ctx, conn.Conn())
		return 0, err
	}
	if a.sent != 0 {
		// The row is locked, so the try before has ended, one way or the other.
		if string(now.token) == string(a.token) {
			a.rollback(ctx, conn.Conn())
			return now.revision, nil
		}
		if now.revision >= a.sent {
			a.rollback(ctx, conn.Conn())
			return 0, errOthers
		}
		a.sent = 0
	}
	revision = now.revision + 1
	commit, writes := engine.Decide(a.batch, revision, func(key string) uint64 { return versions[key] })
	if len(commit) == 0 {
		a.rollback(ctx, conn.Conn())
		return revision, nil
	}
	return revision, a.write(ctx, conn.Conn(), revision, floor, writes)
}

func (a *attempt) rollback(ctx context.Context, conn *pgx.Conn) {
	if !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
		conn.Exec(ctx, "ROLLBACK")
	}
}

// place is where the store stands.
type place struct {
	revision uint64
	token    []byte
}

// look begins the transaction: one round trip.
func (a *attempt) look(ctx context.Context, conn *pgx.Conn) (now place, floor uint64, versions map[string]uint64, err error) {
	var keys [][]byte
	for _, key := range engine.Keys(a.batch) {
		keys = append(keys, []byte(key))
	}
	versions = make(map[string]uint64)
	var b pgx.Batch
	b.Queue("BEGIN ISOLATION LEVEL SERIALIZABLE")
	b.Queue(a.sql.lock).QueryRow(func(row pgx.Row) error { return row.Scan(&now.revision, &floor, &now.token) })
	b.Queue(a.sql.versions, keys).Query(func(rows pgx.Rows) error {
		var key []byte
		var version uint64
		_, err := pgx.ForEachRow(rows, []any{&key, &version}, func() error {
			versions[string(key)] = version
			return nil
		})
		return err
	})
	err = conn.SendBatch(ctx, &b).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("table %s_meta has lost its row: %w", a.sql.table, store.ErrForeign)
	}
	return now, floor, versions, err
}

// write ends the transaction: one round trip. It sets sent if the answer does not come.
func (a *attempt) write(ctx context.Context, conn *pgx.Conn, revision, floor uint64, writes []engine.Write) error {
	var b pgx.Batch
	var replaced [][]byte
	for _, w := range writes {
		if w.Old != 0 {
			replaced = append(replaced, []byte(w.Key))
		}
	}
	if len(replaced) > 0 {
		b.Queue(a.sql.retire, replaced)
	}
	for _, w := range writes {
		value := w.Value
		if !w.Deleted && value == nil {
			value = []byte{}
		}
		b.Queue(a.sql.insert, revision, []byte(w.Key), value, !w.Deleted)
	}
	if history := uint64(a.opts.History); revision%min(dropEvery, history) == 0 && revision > history {
		floor = max(floor, revision-history)
		b.Queue(a.sql.drop, floor)
	}
	b.Queue(a.sql.advance, revision, floor, a.token)
	if a.notify {
		b.Queue(`SELECT pg_notify($1, '')`, a.sql.table)
	}
	b.Queue("COMMIT")
	results := conn.SendBatch(ctx, &b)
	var err error
	for range b.Len() {
		var tag pgconn.CommandTag
		if tag, err = results.Exec(); err != nil {
			break
		}
		if tag.String() == "ROLLBACK" {
			err = errors.New("the server rolled back")
		}
	}
	if end := results.Close(); err == nil {
		err = end
	}
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && !gone(err):
		a.rollback(ctx, conn)
	default:
		a.sent = revision
	}
	return err
}
