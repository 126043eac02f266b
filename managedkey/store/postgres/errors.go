package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// Codes of PostgreSQL's errors (its documentation, Appendix A).
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	undefinedTable       = "42P01"
	undefinedColumn      = "42703"

	classConnection    = "08"
	classAuthorisation = "28"
	classIntervention  = "57" // shutdown, crash, starting up
)

// Pauses between attempts.
const (
	firstPause, longestPause = 2 * time.Millisecond, 200 * time.Millisecond
	jitter                   = 0.5
)

// reconnects is how often a call is tried again because the server is not there: connections of the pool may be dead
// although the server has come back.
const reconnects = 3

// lost reports whether a transaction was rolled back only because of others: it can be repeated.
func lost(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code == serializationFailure || refused.Code == deadlockDetected)
}

// gone reports whether err is about the connection or the state of the server, not about the statement.
func gone(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return strings.HasPrefix(refused.Code, classConnection) || strings.HasPrefix(refused.Code, classIntervention)
	}
	return !errors.Is(err, pgx.ErrNoRows) && !errors.Is(err, store.ErrForeign)
}

// retrying runs f again for as long as its error says so, until ctx ends.
func retrying(ctx context.Context, again func(err error) bool, f func() error) error {
	policy := retrypolicy.NewBuilder[any]().
		HandleIf(func(_ any, err error) bool { return err != nil && ctx.Err() == nil && again(err) }).
		WithMaxRetries(-1).WithBackoff(firstPause, longestPause).WithJitterFactor(jitter).Build()
	var last error
	done := false
	err := failsafe.With(policy).WithContext(ctx).Run(func() error {
		last = f()
		done = last == nil
		return last
	})
	switch {
	case done:
		return nil // failsafe has an error if ctx ended meanwhile
	case err != nil && last != nil:
		return last // and not what failsafe says of it
	}
	return err
}

// bounded runs f with the timeout of the Store, and explains its error.
func (s *Store) bounded(ctx context.Context, op string, f func(ctx context.Context) error) error {
	if ctx.Err() != nil {
		return engine.Ended(ctx, op)
	}
	limited, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	return s.explain(ctx, op, f(limited))
}

// read runs f, which only reads, again if the connection was lost.
func (s *Store) read(ctx context.Context, op string, f func(ctx context.Context) error) error {
	if s.ctx.Err() != nil {
		return engine.Closed(op)
	}
	return s.bounded(ctx, op, func(ctx context.Context) error {
		attempts := 0
		return retrying(ctx, func(err error) bool {
			attempts++
			return lost(err) || gone(err) && attempts <= reconnects
		}, func() error { return f(ctx) })
	})
}

// explain returns err with what it means, and what to look at if the server did not answer.
func (s *Store) explain(ctx context.Context, op string, err error) error {
	var refused *pgconn.PgError
	switch {
	case err == nil, errors.Is(err, pgx.ErrNoRows):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return engine.Ended(ctx, op)
	case errors.Is(err, store.ErrForeign), errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrCompacted):
		return fmt.Errorf("store/postgres: %s: %w", op, err)
	case errors.As(err, &refused) && strings.HasPrefix(refused.Code, classAuthorisation):
		return fmt.Errorf("store/postgres: %s: %w: %w: %w", op, store.ErrUnavailable, backend.ErrCredentials, err)
	case refused != nil && ctx.Err() == nil && !strings.HasPrefix(refused.Code, classIntervention):
		return fmt.Errorf("store/postgres: %s: %w: %w", op, store.ErrUnavailable, err)
	case ctx.Err() != nil:
		err = ctx.Err() // and not how far the driver came
	}
	return fmt.Errorf("store/postgres: %s: %w: check that the server at %s runs and can be reached: %w", op, store.ErrUnavailable, s.servers(), err)
}

// servers returns the addresses of the servers, for people.
func (s *Store) servers() string {
	cfg := s.pool.Config().ConnConfig
	all := []string{net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))}
	for _, other := range cfg.Fallbacks {
		if addr := net.JoinHostPort(other.Host, strconv.Itoa(int(other.Port))); !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	return strings.Join(all, ", ")
}
