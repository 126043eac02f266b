package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

// bounded runs f with the timeout of the Store, and explains its error.
func (s *Store) bounded(ctx context.Context, op string, f func(ctx context.Context) error) error {
	if s.ctx.Err() != nil {
		return engine.Closed(op)
	}
	if ctx.Err() != nil {
		return engine.Ended(ctx, op)
	}
	limited, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	err := f(limited)
	if err != nil && s.ctx.Err() != nil && ctx.Err() == nil {
		return engine.Closed(op)
	}
	return s.explain(ctx, op, err)
}

// code returns the gRPC code of an error of the client.
func code(err error) codes.Code {
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return etcd.Code()
	}
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return codes.Unknown
}

// refused reports whether the cluster answered that it did not, and will not, do what it was asked.
func refused(err error) bool {
	switch code(err) {
	case codes.InvalidArgument, codes.ResourceExhausted, codes.PermissionDenied, codes.Unauthenticated,
		codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented:
		return true
	}
	return ours(err)
}

// ours reports whether err has one of the sentinels of package store.
func ours(err error) bool {
	for _, kind := range []error{store.ErrNotFound, store.ErrForeign, store.ErrCorrupt, store.ErrCompacted} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// explain returns err with what it means, and what to look at if the cluster did not answer.
func (s *Store) explain(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case ours(err):
		return fmt.Errorf("store/etcd: %s: %w", op, err)
	case errors.Is(ctx.Err(), context.Canceled):
		return engine.Ended(ctx, op)
	case ctx.Err() != nil:
		err = ctx.Err() // and not how far the client came
	}
	kinds := store.ErrUnavailable
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Unknown:
		kinds = fmt.Errorf("%w: check that a majority of the cluster at %s runs and can be reached", kinds, strings.Join(s.client.Endpoints(), ", "))
	case codes.Unauthenticated:
		kinds = fmt.Errorf("%w: %w", kinds, backend.ErrCredentials)
	case codes.PermissionDenied:
		kinds = fmt.Errorf("%w: %w", kinds, backend.ErrNotPermitted)
	}
	return fmt.Errorf("store/etcd: %s: %w: %w", op, kinds, err)
}

// compacted reports whether err says that a revision is no longer kept.
func compacted(err error) bool { return errors.Is(err, rpctypes.ErrCompacted) }
