package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/internal/engine"
)

const (
	format = "managedkeys/store"
	schema = 1

	flagDeleted = 1
	headerSize  = 5 // of an entry of log: checksum and flags

	// watchBytes is about how many bytes of values a watch reads at once.
	watchBytes = 1 << 20
)

var (
	bucketMeta, bucketKeys, bucketLog               = []byte("meta"), []byte("keys"), []byte("log")
	metaFormat, metaSchema, metaRevision, metaFloor = []byte("format"), []byte("schema"), []byte("revision"), []byte("floor")

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// initialise makes the buckets of a new file, or checks those that are there.
func (s *Store) initialise() error {
	empty := false
	err := s.db.View(func(t *bbolt.Tx) error {
		if name, _ := t.Cursor().First(); name == nil {
			empty = true
			return nil
		}
		_, err := newTx(t)
		return err
	})
	if err != nil || !empty {
		return err
	}
	return s.db.Update(func(t *bbolt.Tx) error {
		for _, name := range [][]byte{bucketKeys, bucketLog} {
			if _, err := t.CreateBucket(name); err != nil {
				return err
			}
		}
		meta, err := t.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		return errors.Join(meta.Put(metaFormat, []byte(format)), meta.Put(metaSchema, number(schema)),
			meta.Put(metaRevision, number(0)), meta.Put(metaFloor, number(0)))
	})
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// logKey is the key of an entry of log.
func logKey(version uint64, key string) []byte { return append(number(version), key...) }

// tx is a transaction on a file that is a store.
type tx struct {
	bolt            *bbolt.Tx
	meta, keys, log *bbolt.Bucket
	revision, floor uint64
}

// newTx checks that the file is a store that this version reads.
func newTx(t *bbolt.Tx) (tx, error) {
	x := tx{bolt: t, meta: t.Bucket(bucketMeta), keys: t.Bucket(bucketKeys), log: t.Bucket(bucketLog)}
	if x.meta == nil || !bytes.Equal(x.meta.Get(metaFormat), []byte(format)) {
		return tx{}, fmt.Errorf("it is a bbolt database, but not of the format %q: %w", format, store.ErrForeign)
	}
	version, err := x.number(metaSchema)
	if err != nil {
		return tx{}, err
	}
	if version != schema {
		return tx{}, fmt.Errorf("schema: got %d; this version takes %d; open it with the version that wrote it or a newer one: %w", version, schema, store.ErrForeign)
	}
	if x.keys == nil || x.log == nil {
		return tx{}, fmt.Errorf("a bucket is missing; put the file back from a backup: %w", store.ErrCorrupt)
	}
	if x.revision, err = x.number(metaRevision); err != nil {
		return tx{}, err
	}
	x.floor, err = x.number(metaFloor)
	return x, err
}

func (x tx) number(name []byte) (uint64, error) {
	data := x.meta.Get(name)
	if len(data) != 8 {
		return 0, fmt.Errorf("meta %q has %d bytes, not 8; put the file back from a backup: %w", name, len(data), store.ErrCorrupt)
	}
	return binary.BigEndian.Uint64(data), nil
}

// version returns the version of a key's record, 0 if there is none.
func (x tx) version(key string) uint64 {
	if data := x.keys.Get([]byte(key)); len(data) == 8 {
		return binary.BigEndian.Uint64(data)
	}
	return 0
}

func damaged(key string, version uint64, what string) error {
	return fmt.Errorf("record %q, version %d: %s; put the file back from a backup: %w", key, version, what, store.ErrCorrupt)
}

// decode checks an entry of log and returns a copy of its value.
func decode(at, data []byte) (value []byte, deleted bool, err error) {
	if len(at) < 8 {
		return nil, false, fmt.Errorf("a key of the log has %d bytes: %w", len(at), store.ErrCorrupt)
	}
	if len(data) < headerSize {
		return nil, false, damaged(string(at[8:]), binary.BigEndian.Uint64(at), "it is missing or cut off")
	}
	if binary.BigEndian.Uint32(data) != checksum(at, data[4:]) {
		return nil, false, damaged(string(at[8:]), binary.BigEndian.Uint64(at), "its checksum is wrong")
	}
	if data[4] == flagDeleted {
		return nil, true, nil
	}
	return bytes.Clone(data[headerSize:]), false, nil
}

func checksum(at, rest []byte) uint32 {
	return crc32.Update(crc32.Checksum(at, castagnoli), castagnoli, rest)
}

func encode(at []byte, w engine.Write) []byte {
	data := make([]byte, headerSize, headerSize+len(w.Value))
	if w.Deleted {
		data[4] = flagDeleted
	}
	data = append(data, w.Value...)
	binary.BigEndian.PutUint32(data, checksum(at, data[4:]))
	return data
}

func (x tx) get(key string) (store.Record, bool, error) {
	version := x.version(key)
	if version == 0 {
		return store.Record{}, false, nil
	}
	at := logKey(version, key)
	record, err := current(key, version, at, x.log.Get(at))
	return record, err == nil, err
}

// current returns the record of a key from its newest entry of log.
func current(key string, version uint64, at, data []byte) (store.Record, error) {
	value, deleted, err := decode(at, data)
	if err == nil && deleted {
		err = damaged(key, version, "it is listed, but was deleted")
	}
	return store.Record{Key: key, Value: value, Version: version}, err
}

func (x tx) list(prefix, after string, limit int) (store.Page, error) {
	page := store.Page{Revision: x.revision}
	size := 0
	c, entries := x.keys.Cursor(), x.log.Cursor()
	var at []byte
	k, v := c.Seek([]byte(max(prefix, after)))
	if after != "" && string(k) == after {
		k, v = c.Next()
	}
	for ; k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
		if len(page.Records) == limit || size >= store.PageBytes {
			page.More = true
			break
		}
		if len(v) != 8 {
			continue // as for get, it isn't there
		}
		version := binary.BigEndian.Uint64(v)
		if version == 0 {
			continue
		}
		at = append(append(at[:0], v...), k...)
		found, data := entries.Seek(at)
		if !bytes.Equal(found, at) {
			data = nil
		}
		record, err := current(string(k), version, at, data)
		if err != nil {
			return store.Page{}, err
		}
		if page.Records == nil {
			page.Records = make([]store.Record, 0, min(limit, 64))
		}
		page.Records = append(page.Records, record)
		size += len(record.Value)
	}
	return page, nil
}

func (x tx) events(prefix string, from uint64) (events []store.Event, next uint64, err error) {
	if from < x.floor || from > x.revision {
		return nil, 0, engine.Compacted(from, x.floor, x.revision)
	}
	size := 0
	c := x.log.Cursor()
	for at, data := c.Seek(number(from + 1)); at != nil; at, data = c.Next() {
		value, deleted, err := decode(at, data)
		if err != nil {
			return nil, 0, err
		}
		version, key := binary.BigEndian.Uint64(at), at[8:]
		if !bytes.HasPrefix(key, []byte(prefix)) {
			continue
		}
		last := len(events) - 1
		if last < 0 || events[last].Revision != version {
			if size >= watchBytes {
				return events, events[last].Revision, nil
			}
			events, last = append(events, store.Event{Revision: version}), last+1
		}
		record := store.Record{Key: string(key), Value: value, Version: version}
		events[last].Changes = append(events[last].Changes, store.Change{Record: record, Deleted: deleted})
		size += len(key) + len(value)
	}
	return events, x.revision, nil
}

// verify looks at everything.
func (x tx) verify(ctx context.Context) error {
	const most = 20 // errors that are told
	var errs []error
	if err := checkPages(x.bolt); err != nil {
		return err
	}
	for err := range x.bolt.Check() {
		if len(errs) < most {
			errs = append(errs, fmt.Errorf("structure: %w: %w", err, store.ErrCorrupt))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...) // walking it could end nowhere
	}
	c := x.log.Cursor()
	for at, data := c.First(); at != nil && len(errs) < most; at, data = c.Next() {
		if ctx.Err() != nil {
			return engine.Ended(ctx, "verify")
		}
		if _, _, err := decode(at, data); err != nil {
			errs = append(errs, err)
		}
	}
	c = x.keys.Cursor()
	for key, _ := c.First(); key != nil && len(errs) < most; key, _ = c.Next() {
		if _, found, err := x.get(string(key)); err != nil || !found {
			errs = append(errs, cmpErr(err, damaged(string(key), 0, "it has no version")))
		}
	}
	return errors.Join(slices.CompactFunc(errs, func(a, b error) bool { return a.Error() == b.Error() })...)
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// lowest returns how far history can be dropped after a commit.
func lowest(revision, history uint64) uint64 {
	if revision <= history {
		return 0
	}
	return revision - history
}
