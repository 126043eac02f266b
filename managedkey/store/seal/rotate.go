package seal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Status is what there is to know about the keys of a sealed store, as this process knows it.
type Status struct {
	SealKind     string   // of the seal key: "aead", "wrap", "rsa-oaep" or "passphrase"
	SealID       string   // of the seal key; empty for a passphrase
	DataKeys     []uint32 // ids; more than one while values are being encrypted anew
	Active       uint32   // the id of the one that encrypts
	EncryptNames bool
}

// Status returns the state of the keys. It makes no call.
func (s *Store) Status() Status {
	r := s.ring.Load()
	status := Status{SealKind: r.wrapped.Kind, SealID: r.wrapped.ID, Active: r.payload.Active, EncryptNames: r.siv != nil}
	for _, k := range r.payload.Keys {
		status.DataKeys = append(status.DataKeys, k.ID)
	}
	return status
}

// RotateSealKey wraps the root key with another seal key, which this process uses from then on. It is one small
// transaction: nothing is encrypted anew. Other processes go on working; they need the new seal key when they are
// started again, or when RotateDataKey makes a new root key. If it fails, the old seal key is still the one.
func (s *Store) RotateSealKey(ctx context.Context, key Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		r := s.ring.Load()
		next := *r
		var err error
		if next.wrapped, err = wrapRoot(ctx, key, r.root); err != nil {
			return err
		}
		if err := s.save(ctx, r, &next, false); !errors.Is(err, store.ErrConflict) {
			if err == nil {
				s.key = key
			}
			return err
		}
	}
}

// save writes next, or its root key only, in the place of r. If somebody else was faster, the error wraps store.ErrConflict and the ring is the
// new one. s.mu is held.
func (s *Store) save(ctx context.Context, r, next *ring, putRing bool) error {
	_, err := s.inner.Apply(ctx, next.ops(putRing, true)...)
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return err
	}
	fresh, readErr := readRing(ctx, s.inner, s.key, next)
	if readErr != nil && err != nil {
		fresh, readErr = readRing(ctx, s.inner, s.key, r)
	}
	if readErr != nil {
		return readErr
	}
	s.ring.Store(fresh)
	return err
}

// RotateDataKey makes a new root key and a new data key, with which everything is encrypted that is written from then on, by
// all processes. What is there is encrypted anew in the background, unless Options.Manual is set; see [Store.Reencrypt].
func (s *Store) RotateDataKey(ctx context.Context) error {
	s.mu.Lock()
	err := s.replaceKey(ctx, s.ring.Load())
	s.mu.Unlock()
	if err == nil && !s.opts.Manual {
		s.background()
	}
	return err
}

// replaceKey makes a new root key and data key. If others change the keys meanwhile, it tries again. s.mu is held.
func (s *Store) replaceKey(ctx context.Context, r *ring) error {
	for {
		next := *r
		next.root = newKey(keySize)
		next.payload.Keys = nil
		for _, k := range r.payload.Keys {
			next.payload.Keys = append(next.payload.Keys, k)
			next.payload.Active = max(next.payload.Active, k.ID)
		}
		next.payload.Active++
		next.payload.Keys = append(next.payload.Keys, dataKey{next.payload.Active, newKey(keySize)})
		// A seal key that is not the store's would lock everybody else out.
		if _, err := unwrapRoot(ctx, s.key, r.wrapped); err != nil {
			return err
		}
		var err error
		if next.wrapped, err = wrapRoot(ctx, s.key, next.root); err != nil {
			return err
		}
		if err := s.save(ctx, r, &next, true); !errors.Is(err, store.ErrConflict) {
			return err
		}
		r = s.ring.Load()
	}
}

// Reencrypt encrypts every value anew that is not under the active data key, and then drops the other data keys. Records
// keep their values and get new versions; watches show them. It can be interrupted at any time and called again, and by
// several processes at once. It returns how many values it wrote.
func (s *Store) Reencrypt(ctx context.Context) (n int, err error) {
	// The keys as they are now: from here on no process writes with another one than the active one of these, or a newer one.
	if err := s.reload(ctx, s.ring.Load()); err != nil {
		return 0, err
	}
	r := s.ring.Load()
	if len(r.payload.Keys) == 1 {
		return 0, nil
	}
	var group []store.Record
	size := 0
	flush := func() error {
		done, err := s.rewrite(ctx, group)
		n, group, size = n+done, nil, 0
		return err
	}
	for record, err := range store.All(ctx, s.inner, dataPrefix) {
		if err != nil {
			return n, err
		}
		if id, ok := keyID(record.Value); ok && id == r.payload.Active {
			continue
		}
		if len(group) == MaxOps || size+len(record.Value) > store.MaxValue {
			if err := flush(); err != nil {
				return n, err
			}
		}
		group, size = append(group, record), size+len(record.Value)
	}
	if err := flush(); err != nil {
		return n, err
	}
	return n, s.dropKeys(ctx, r)
}

// rewrite writes records again, with the active key. Those that others change at the same time have it already.
func (s *Store) rewrite(ctx context.Context, records []store.Record) (n int, err error) {
	var ops []store.Op
	for _, record := range records {
		outside, err := s.open(ctx, record)
		if err != nil {
			return 0, err
		}
		ops = append(ops, store.Op{Key: outside.Key, Value: outside.Value, Expect: store.Expect(outside.Version)})
	}
	if len(ops) == 0 {
		return 0, nil
	}
	_, err = s.Apply(ctx, ops...)
	if err == nil {
		return len(ops), nil
	}
	if !errors.Is(err, store.ErrConflict) {
		return 0, err
	}
	if len(ops) == 1 {
		return 0, nil
	}
	for i := range records {
		done, err := s.rewrite(ctx, records[i:i+1])
		n += done
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// dropKeys drops the data keys of r that are not active, after all values are under another one.
func (s *Store) dropKeys(ctx context.Context, r *ring) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := make(map[uint32]bool)
	for _, k := range r.payload.Keys {
		old[k.ID] = k.ID != r.payload.Active
	}
	for {
		now := s.ring.Load()
		next := *now
		next.payload.Keys = nil
		var usages []store.Op
		for _, k := range now.payload.Keys {
			if old[k.ID] && len(usages) < MaxOps/2 {
				usages = append(usages, store.Op{Kind: store.Delete, Key: usagePath(k.ID), Expect: store.Any})
			} else {
				next.payload.Keys = append(next.payload.Keys, k)
			}
		}
		if len(usages) == 0 {
			return nil // others have done it
		}
		_, err := s.inner.Apply(ctx, append(next.ops(true, false), usages...)...)
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
		fresh, readErr := readRing(ctx, s.inner, s.key, now)
		if readErr != nil {
			return readErr
		}
		s.ring.Store(fresh)
	}
}

// Pauses of the work in the background after it failed.
const (
	firstPause, longestPause = 100 * time.Millisecond, time.Minute
)

// background encrypts values anew until that is done or the Store is closed, once at a time.
func (s *Store) background() {
	if !s.busy.CompareAndSwap(false, true) {
		return
	}
	s.work.Go(func() {
		defer s.busy.Store(false)
		for pause := firstPause; s.ctx.Err() == nil; pause = min(2*pause, longestPause) {
			n, err := s.Reencrypt(s.ctx)
			if err == nil && len(s.ring.Load().payload.Keys) == 1 {
				s.opts.Logger.InfoContext(s.ctx, "seal: values were encrypted anew and old data keys dropped", "values", n)
				return
			}
			if err != nil && s.ctx.Err() == nil {
				s.opts.Logger.WarnContext(s.ctx, "seal: encrypting values anew failed; it is tried again", "values", n, "error", fmt.Sprint(err), "after", pause)
			}
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-s.ctx.Done():
			}
			timer.Stop()
		}
	})
}
