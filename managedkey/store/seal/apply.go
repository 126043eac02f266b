package seal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Apply implements store.Store. It takes at most MaxOps ops, and values of at most MaxValue bytes.
func (s *Store) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	if err := store.ValidateOps(ops); err != nil {
		return 0, err
	}
	if len(ops) > MaxOps {
		return 0, fmt.Errorf("seal: apply: got %d ops; it takes at most %d: %w", len(ops), MaxOps, store.ErrTooLarge)
	}
	for _, op := range ops {
		if len(op.Value) > MaxValue {
			return 0, fmt.Errorf("seal: value of %q: got %d bytes; it takes at most %d: %w", op.Key, len(op.Value), MaxValue, store.ErrTooLarge)
		}
	}
	for {
		r := s.ring.Load()
		inside, err := s.seal(r, ops)
		if err != nil {
			return 0, err
		}
		revision, err := s.inner.Apply(ctx, inside...)
		var conflict *store.ConflictError
		switch {
		case errors.Is(err, errSpent):
			if err := s.reserve(ctx, r); err != nil {
				return 0, err
			}
		case errors.As(err, &conflict) && conflict.Key == ringPath:
			// Others rotated a key: the values must be encrypted with the new one.
			if err := s.reload(ctx, r); err != nil {
				return 0, err
			}
		case conflict != nil:
			key, err := r.outer(conflict.Key)
			if err != nil {
				return 0, err
			}
			return 0, &store.ConflictError{Key: key, Expect: conflict.Expect, Version: conflict.Version}
		default:
			return revision, err
		}
	}
}

// seal returns the engine's transaction for ops.
func (s *Store) seal(r *ring, ops []store.Op) ([]store.Op, error) {
	inside := make([]store.Op, 0, len(ops)+1)
	for _, op := range ops {
		name, err := r.inner(op.Key)
		if err != nil {
			return nil, err
		}
		outside := op
		op.Key = name
		if op.Kind == store.Put {
			op.Encode = func(version uint64, _ []byte) ([]byte, error) {
				value, err := outside.Bytes(version)
				if err != nil {
					return nil, err
				}
				if len(value) > MaxValue {
					return nil, fmt.Errorf("seal: value of %q: got %d bytes; it takes at most %d: %w", outside.Key, len(value), MaxValue, store.ErrTooLarge)
				}
				if !s.budget.take(r.payload.Active) {
					return nil, errSpent
				}
				return r.sealValue(dataPrefix+outside.Key, version, value), nil
			}
		}
		inside = append(inside, op)
	}
	return append(inside, store.Op{Kind: store.Check, Key: ringPath, Expect: store.Expect(r.version)}), nil
}

// errSpent: this process has encrypted as many values as it has reserved.
var errSpent = errors.New("seal: no values are left to encrypt")

// minValues is the least of Options.MaxValues; a process reserves a part of it at once.
const minValues = 1000

// mostReserved is how many values a process reserves at most: one transaction for each so many.
const mostReserved = 1 << 16

// budget counts the values that this process may still encrypt with a data key. All processes together may encrypt
// Options.MaxValues; they take their shares from the record seal/usage/ID.
type budget struct {
	share atomic.Pointer[share]
}

type share struct {
	id   uint32
	left atomic.Int64
}

// take counts one value.
func (b *budget) take(id uint32) bool {
	s := b.share.Load()
	return s != nil && s.id == id && s.left.Add(-1) >= 0
}

func usagePath(id uint32) string { return fmt.Sprintf("%s%d", usagePrefix, id) }

// reserve takes a share for the active key of r, or makes a new key when all is taken.
func (s *Store) reserve(ctx context.Context, r *ring) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.ring.Load(); now != r {
		return nil // there is another key
	}
	id := r.payload.Active
	if sh := s.budget.share.Load(); sh != nil && sh.id == id && sh.left.Load() > 0 {
		return nil // others have done it
	}
	path := usagePath(id)
	used, expect := uint64(0), store.Absent
	record, err := s.inner.Get(ctx, path)
	if err == nil {
		value, err := r.openValue(path, record.Version, record.Value)
		if err != nil || len(value) != 8 {
			return fmt.Errorf("%s: %w: %w", path, ErrKeyring, err)
		}
		used, expect = binary.BigEndian.Uint64(value), store.Expect(record.Version)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	n := min(mostReserved, s.opts.MaxValues/10)
	if used+n > s.opts.MaxValues {
		s.opts.Logger.InfoContext(ctx, "seal: data key is used up; a new one takes its place", "id", id, "values", used)
		return s.replaceKey(ctx, r)
	}
	_, err = s.inner.Apply(ctx,
		store.Op{Key: path, Value: binary.BigEndian.AppendUint64(nil, used+n), Expect: expect,
			Encode: func(version uint64, value []byte) ([]byte, error) { return r.sealValue(path, version, value), nil }},
		store.Op{Kind: store.Check, Key: ringPath, Expect: store.Expect(r.version)})
	var conflict *store.ConflictError
	switch {
	case err == nil:
		sh := &share{id: id}
		sh.left.Store(int64(n) - 1) // the record itself is one
		s.budget.share.Store(sh)
		return nil
	case errors.As(err, &conflict) && conflict.Key == ringPath:
		fresh, err := readRing(ctx, s.inner, s.key, r)
		if err == nil {
			s.ring.Store(fresh)
		}
		return err
	case conflict != nil:
		return nil // another process took a share; the caller comes again
	}
	return err
}
