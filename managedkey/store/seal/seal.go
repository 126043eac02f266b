package seal

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Errors of this package.
var (
	// ErrSealKey: the seal key is not the one with which the store was sealed. It wraps backend.ErrCredentials.
	ErrSealKey = fmt.Errorf("wrong seal key: %w", backend.ErrCredentials)

	// ErrKeyring: the data keys are missing or damaged. It wraps store.ErrCorrupt.
	ErrKeyring = fmt.Errorf("no usable keyring: %w", store.ErrCorrupt)

	// ErrNotSealed: the store holds records, but not encrypted ones. It wraps store.ErrForeign.
	ErrNotSealed = fmt.Errorf("store holds records that are not sealed: %w", store.ErrForeign)
)

// Limits of a sealed store that are lower than those of its engine.
const (
	MaxValue = store.MaxValue - overhead // bytes of a value
	MaxOps   = store.MaxOps - 1          // ops in one Apply: one more checks the keyring
)

const (
	valueFormat = 1
	overhead    = 1 + 4 + nonceSize + tagSize
)

// DefaultMaxValues is how many values one data key encrypts if Options don't say, and at most.
const DefaultMaxValues = 1 << 32

// Options are the options of [Open].
type Options struct {
	// EncryptNames tells to encrypt names, too. It is decided when the store is made; later it must be the same, or false.
	EncryptNames bool

	// MaxValues is how many values one data key encrypts before it is replaced: 1000 or more, at most and by default
	// DefaultMaxValues.
	MaxValues uint64

	// Manual tells not to encrypt values anew in the background after a rotation: the program calls Reencrypt.
	Manual bool

	// Logger is told about work in the background; nil means slog.Default().
	Logger *slog.Logger
}

// Store is a store.Store over another one, which it encrypts. It is safe for concurrent use.
type Store struct {
	inner store.Store
	opts  Options

	ring atomic.Pointer[ring]

	mu     sync.Mutex // held while the ring is read or changed by this process, and while values are counted
	key    Key
	budget budget

	ctx    context.Context // ends when the Store is closed
	cancel context.CancelFunc
	work   sync.WaitGroup // in the background
	busy   atomic.Bool    // values are being encrypted anew in the background
}

var _ store.Sealer = (*Store)(nil)

// Sealed implements [store.Sealer]: it returns true.
func (*Store) Sealed() bool { return true }

// errNoRing: the store has no keys yet.
var errNoRing = errors.New("seal: there is no keyring")

// Open opens the sealed store in inner with its seal key; if inner is empty, it makes one. The Store closes inner when it is
// closed, and not if Open fails. opts may be nil.
//
// The error wraps ErrSealKey if the seal key is another one; ErrKeyring if there are sealed records but no keys for them, or
// damaged ones; ErrNotSealed if inner holds other records; store.ErrForeign if it was made by a newer version of this package;
// store.ErrInvalid if opts are out of bounds or contradict the store; and else what inner or the seal key return.
func Open(ctx context.Context, inner store.Store, key Key, opts *Options) (*Store, error) {
	s := &Store{inner: inner, key: key}
	if opts != nil {
		s.opts = *opts
	}
	s.opts.MaxValues = cmp.Or(s.opts.MaxValues, DefaultMaxValues)
	if s.opts.MaxValues < minValues || s.opts.MaxValues > DefaultMaxValues {
		return nil, fmt.Errorf("seal: options: max values: got %d; it takes %d to %d: %w", s.opts.MaxValues, minValues, uint64(DefaultMaxValues), store.ErrInvalid)
	}
	if s.opts.Logger == nil {
		s.opts.Logger = slog.Default()
	}
	r, err := readRing(ctx, inner, key, nil)
	for errors.Is(err, errNoRing) {
		if err = s.create(ctx); err == nil || errors.Is(err, store.ErrConflict) { // somebody else was faster
			r, err = readRing(ctx, inner, key, nil)
		}
	}
	if err != nil {
		return nil, err
	}
	if s.opts.EncryptNames && r.siv == nil {
		return nil, fmt.Errorf("seal: options: encrypt names: the store was made without; it can't be changed: %w", store.ErrInvalid)
	}
	s.ring.Store(r)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if len(r.payload.Keys) > 1 && !s.opts.Manual {
		s.background()
	}
	return s, nil
}

// create makes the keys of a new store.
func (s *Store) create(ctx context.Context) error {
	page, err := s.inner.List(ctx, "", "", 1)
	if err != nil {
		return err
	}
	if len(page.Records) > 0 {
		data, err := s.inner.List(ctx, dataPrefix, "", 1)
		if err != nil {
			return err
		}
		if len(data.Records) > 0 {
			return fmt.Errorf("seal: there are sealed records, but %s and %s are missing; put them back from a backup: %w", rootPath, ringPath, ErrKeyring)
		}
		return fmt.Errorf("seal: the first one is %.100q: %w", page.Records[0].Key, ErrNotSealed)
	}
	r := &ring{root: newKey(keySize), payload: payload{Active: 1, Keys: []dataKey{{1, newKey(keySize)}}}}
	if s.opts.EncryptNames {
		r.payload.Names = newKey(2 * keySize)
	}
	if r.wrapped, err = wrapRoot(ctx, s.key, r.root); err != nil {
		return err
	}
	_, err = s.inner.Apply(ctx, r.ops(true, true)...)
	return err
}

// reload reads the keys again, unless this process has done so since it saw r.
func (s *Store) reload(ctx context.Context, seen *ring) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.ring.Load()
	if now != seen {
		return nil
	}
	r, err := readRing(ctx, s.inner, s.key, now)
	if errors.Is(err, errNoRing) {
		err = fmt.Errorf("seal: %s and %s have gone; put them back from a backup: %w", rootPath, ringPath, ErrKeyring)
	}
	if err == nil {
		s.ring.Store(r)
	}
	return err
}

// valueContext returns the additional data of a value.
func valueContext(path string, version uint64, id uint32) []byte {
	data := append([]byte("managedkeys/seal value\x00"), valueFormat)
	data = binary.BigEndian.AppendUint64(data, version)
	data = binary.BigEndian.AppendUint32(data, id)
	return append(data, path...)
}

// sealValue returns what the engine stores for a value; path is dataPrefix and the key, or seal/…, in the clear.
func (r *ring) sealValue(path string, version uint64, plaintext []byte) []byte {
	id := r.payload.Active
	dst := make([]byte, 0, overhead+len(plaintext))
	dst = binary.BigEndian.AppendUint32(append(dst, valueFormat), id)
	return encrypt(r.aeads[id], dst, plaintext, valueContext(path, version, id))
}

// errUnknownKey: a value was encrypted with a data key that is not in the keyring.
var errUnknownKey = errors.New("seal: data key is not in the keyring")

// keyID returns the id of the data key of a value.
func keyID(data []byte) (uint32, bool) {
	if len(data) < overhead || data[0] != valueFormat {
		return 0, false
	}
	return binary.BigEndian.Uint32(data[1:]), true
}

// openValue is the reverse of sealValue.
func (r *ring) openValue(path string, version uint64, data []byte) ([]byte, error) {
	id, ok := keyID(data)
	if !ok {
		return nil, fmt.Errorf("seal: %.100q, version %d, is not a sealed value: %w", path, version, store.ErrCorrupt)
	}
	aead := r.aeads[id]
	if aead == nil {
		return nil, fmt.Errorf("seal: %.100q, version %d, is under data key %d: %w: %w", path, version, id, errUnknownKey, store.ErrCorrupt)
	}
	plaintext, err := decrypt(aead, data[5:], valueContext(path, version, id))
	if err != nil {
		return nil, fmt.Errorf("seal: %.100q, version %d: the value was altered, moved from another key or put back from another version: %w", path, version, store.ErrCorrupt)
	}
	return plaintext, nil
}

// dropped reports whether a value names a data key older than those that there are.
func (r *ring) dropped(data []byte) bool {
	id, ok := keyID(data)
	return ok && id > 0 && !slices.ContainsFunc(r.payload.Keys, func(k dataKey) bool { return k.ID <= id })
}

// open returns a record of the engine as it is outside. If its data key is not known, the keyring is read again.
func (s *Store) open(ctx context.Context, record store.Record) (store.Record, error) {
	for again := true; ; again = false {
		r := s.ring.Load()
		key, err := r.outer(record.Key)
		if err != nil {
			return store.Record{}, err
		}
		value, err := r.openValue(dataPrefix+key, record.Version, record.Value)
		if errors.Is(err, errUnknownKey) && again {
			if err := s.reload(ctx, r); err != nil {
				return store.Record{}, err
			}
			continue
		}
		return store.Record{Key: key, Value: value, Version: record.Version}, err
	}
}

// Get implements store.Store. The error wraps store.ErrCorrupt if the value does not belong there.
func (s *Store) Get(ctx context.Context, key string) (store.Record, error) {
	if err := store.ValidateKey(key); err != nil {
		return store.Record{}, err
	}
	name, err := s.ring.Load().inner(key)
	if err != nil {
		return store.Record{}, err
	}
	return again(s, func() (store.Record, []byte, error) {
		record, err := s.inner.Get(ctx, name)
		if errors.Is(err, store.ErrNotFound) {
			return store.Record{}, nil, fmt.Errorf("seal: %q: %w", key, store.ErrNotFound) // and not the engine's name for it
		}
		if err != nil {
			return store.Record{}, nil, err
		}
		opened, err := s.open(ctx, record)
		return opened, record.Value, err
	})
}

// rereads is how often a value is read again because its data key was dropped between reading and decrypting it.
const rereads = 5

// again reads a second time, and more, if what was read is under a data key that was dropped meanwhile: it was encrypted anew
// then. read returns the value that it could not open, too.
func again[T any](s *Store, read func() (T, []byte, error)) (T, error) {
	for n := 0; ; n++ {
		out, value, err := read()
		if n == rereads || !errors.Is(err, errUnknownKey) || !s.ring.Load().dropped(value) {
			return out, err
		}
	}
}

// List implements store.Store. With encrypted names the order is another one than that of the keys, and after must be
// empty or a key under prefix.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (store.Page, error) {
	if err := store.ValidateList(prefix, after, limit); err != nil {
		return store.Page{}, err
	}
	r := s.ring.Load()
	inside, err := r.inner(prefix)
	if err != nil {
		return store.Page{}, err
	}
	if after != "" {
		if after, err = r.inner(after); err != nil {
			return store.Page{}, err
		}
	}
	return again(s, func() (store.Page, []byte, error) {
		page, err := s.inner.List(ctx, inside, after, limit)
		if err != nil {
			return store.Page{}, nil, err
		}
		for i, record := range page.Records {
			if page.Records[i], err = s.open(ctx, record); err != nil {
				return store.Page{}, record.Value, err
			}
		}
		return page, nil, nil
	})
}

// Watch implements store.Store. Changes that are older than the last rotation of the data key are treated as no longer kept.
func (s *Store) Watch(ctx context.Context, prefix string, from uint64) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		err := store.ValidatePrefix(prefix)
		inside := ""
		if err == nil {
			inside, err = s.ring.Load().inner(prefix)
		}
		if err != nil {
			yield(store.Event{}, err)
			return
		}
		for event, err := range s.inner.Watch(ctx, inside, from) {
			if err == nil {
				err = s.openEvent(ctx, &event)
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// openEvent opens the changes of an event.
func (s *Store) openEvent(ctx context.Context, event *store.Event) (err error) {
	for i, change := range event.Changes {
		if change.Deleted {
			event.Changes[i].Key, err = s.ring.Load().outer(change.Key)
		} else {
			event.Changes[i].Record, err = s.open(ctx, change.Record)
		}
		if errors.Is(err, errUnknownKey) && s.ring.Load().dropped(change.Value) {
			err = fmt.Errorf("seal: watch: revision %d is under a data key that was dropped: %w", event.Revision, store.ErrCompacted)
		}
		if err != nil {
			*event = store.Event{}
			return err
		}
	}
	return nil
}

// Close implements store.Store. It stops what runs in the background, which Open resumes, and closes the inner Store.
func (s *Store) Close() error {
	s.cancel()
	s.work.Wait()
	return s.inner.Close()
}
