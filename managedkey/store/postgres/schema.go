package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

const format = "managedkeys/store"

// migrations make the tables; the schema's version is how many of them were made. Each one can be repeated, and made by
// two processes at once where the engine has no advisory locks. TABLE stands for the name.
//
// The rows of TABLE are the records (live), the values that they replaced, and deletions (without a value), the latter two
// for as long as history is kept. So it is both the state and the log.
var migrations = []string{
	`CREATE TABLE IF NOT EXISTS TABLE (
		version BIGINT NOT NULL, key BYTEA NOT NULL, value BYTEA, live BOOLEAN NOT NULL, PRIMARY KEY (version, key));
	CREATE UNIQUE INDEX IF NOT EXISTS TABLE_live ON TABLE (key) WHERE live;
	CREATE INDEX IF NOT EXISTS TABLE_old ON TABLE (version) WHERE NOT live`,
}

// The one row of TABLE_meta. token is that of the last commit, by which its process finds out whether it happened.
const createMeta = `CREATE TABLE IF NOT EXISTS TABLE_meta (
	id INT PRIMARY KEY, format TEXT NOT NULL, schema BIGINT NOT NULL, revision BIGINT NOT NULL, floor BIGINT NOT NULL, token BYTEA NOT NULL)`

// statements are the texts of all queries, with the table's name.
type statements struct {
	table                                                             string
	get, list, events, revision, lock, versions, retire, insert, drop string
	advance, schema                                                   string
}

func newStatements(table string) statements {
	s := func(text string) string { return strings.ReplaceAll(text, "TABLE", table) }
	return statements{
		table: table,
		get:   s(`SELECT version, value FROM TABLE WHERE key = $1 AND live`),
		// One statement sees one state, so the revision fits the records. Values are summed up to end a page early.
		list: s(`SELECT m.revision, r.total, r.key, r.version, r.value FROM TABLE_meta m LEFT JOIN (
				SELECT p.key, p.version, p.value, count(*) OVER () AS total,
					sum(octet_length(p.value)) OVER (ORDER BY p.key) - octet_length(p.value) AS before
				FROM (SELECT key, version, value FROM TABLE
					WHERE live AND key >= $1 AND ($2::BYTEA IS NULL OR key < $2) AND key > $3 ORDER BY key LIMIT $4) p
			) r ON r.before < $5 WHERE m.id = 1 ORDER BY r.key`),
		events: s(`SELECT m.revision, m.floor, r.version, r.key, r.value, r.before FROM TABLE_meta m LEFT JOIN (
				SELECT p.version, p.key, p.value,
					(sum(octet_length(coalesce(p.value, ''))) OVER (ORDER BY p.version, p.key))::BIGINT AS before
				FROM (SELECT version, key, value FROM TABLE
					WHERE version > $1 AND key >= $2 AND ($3::BYTEA IS NULL OR key < $3) ORDER BY version, key LIMIT $4) p
			) r ON r.before < $5 WHERE m.id = 1 ORDER BY r.version, r.key`),
		revision: s(`SELECT revision FROM TABLE_meta WHERE id = 1`),
		lock:     s(`SELECT revision, floor, token FROM TABLE_meta WHERE id = 1 FOR UPDATE`),
		versions: s(`SELECT key, version FROM TABLE WHERE live AND key = ANY($1)`),
		retire:   s(`UPDATE TABLE SET live = FALSE WHERE live AND key = ANY($1)`),
		insert:   s(`INSERT INTO TABLE (version, key, value, live) VALUES ($1, $2, $3, $4)`),
		drop:     s(`DELETE FROM TABLE WHERE NOT live AND version <= $1`),
		advance:  s(`UPDATE TABLE_meta SET revision = $1, floor = $2, token = $3 WHERE id = 1`),
		schema:   s(`SELECT format, schema FROM TABLE_meta WHERE id = 1`),
	}
}

// migrate makes the tables, or brings them up to date, and finds out what the engine can do.
func (s *Store) migrate(ctx context.Context) error {
	return s.bounded(ctx, "open", func(ctx context.Context) error {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		have, err := s.version(ctx, conn.Conn())
		if err == nil && have < len(migrations) {
			err = s.create(ctx, conn.Conn())
		}
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, `SELECT pg_notify($1, '')`, s.sql.table+"_probe")
		s.notify = err == nil
		var refused *pgconn.PgError
		if errors.As(err, &refused) {
			return nil // an engine without it
		}
		return err
	})
}

// version returns the version of the tables, 0 if there are none.
func (s *Store) version(ctx context.Context, conn *pgx.Conn) (int, error) {
	var kind string
	var have int
	err := conn.QueryRow(ctx, s.sql.schema).Scan(&kind, &have)
	var refused *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.As(err, &refused) && refused.Code == undefinedTable:
		return 0, nil
	case errors.As(err, &refused) && refused.Code == undefinedColumn, err == nil && kind != format:
		return 0, fmt.Errorf("table %s_meta is not one of the format %q: %w", s.sql.table, format, store.ErrForeign)
	case err == nil && have > len(migrations):
		return 0, fmt.Errorf("schema of table %s: got %d; this version takes %d; use the version that made it or a newer one: %w", s.sql.table, have, len(migrations), store.ErrForeign)
	}
	return have, err
}

// create makes what is missing, one process at a time.
func (s *Store) create(ctx context.Context, conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // does nothing after Commit
	hash := fnv.New64a()
	hash.Write([]byte("managedkeys " + s.sql.table))
	if nested, err := tx.Begin(ctx); err != nil {
		return err
	} else if _, err := nested.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(hash.Sum64())); err != nil {
		if err := nested.Rollback(ctx); err != nil {
			return err
		}
	} else if err := nested.Commit(ctx); err != nil {
		return err
	}
	run := func(text string, args ...any) error {
		for statement := range strings.SplitSeq(strings.ReplaceAll(text, "TABLE_", s.sql.table+"_"), ";") {
			statement = strings.NewReplacer("EXISTS TABLE", "EXISTS "+s.sql.table, "ON TABLE", "ON "+s.sql.table).Replace(statement)
			if _, err := tx.Exec(ctx, statement, args...); err != nil {
				return err
			}
		}
		return nil
	}
	if err := run(createMeta); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO `+s.sql.table+`_meta (id, format, schema, revision, floor, token) VALUES (1, $1, 0, 0, 0, '') ON CONFLICT (id) DO NOTHING`, format)
	if err != nil {
		return err
	}
	have, err := s.version(ctx, conn) // again: another process may have been faster
	if err != nil {
		return err
	}
	for _, migration := range migrations[have:] {
		if err := run(migration); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `UPDATE `+s.sql.table+`_meta SET schema = $1 WHERE id = 1`, len(migrations))
	if err != nil {
		return err
	}
	return tx.Commit(ctx)
}
