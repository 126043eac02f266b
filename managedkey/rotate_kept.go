package managedkey

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// settle writes into the entry's record which version its newest is, if the record has the newest of its name: that will be
// another one as soon as the next is made, and if this process is stopped before it is recorded, nobody else would find the key.
func (ro *rotation) settle(ctx context.Context, k *kept) error {
	if reflect.DeepEqual(ro.exact, ro.was.Params) {
		return nil
	}
	exact, err := backend.EncodeParams(ro.exact)
	if err != nil {
		return err
	}
	return k.amend(ctx, ro.entry.ref(), func(record *entryRecord, _ uint64) (bool, error) {
		older, err := ro.older(record, k, exact)
		if err != nil {
			return false, err
		}
		changed := !bytes.Equal(record.Params, older.Params)
		record.Params = older.Params
		return changed, nil
	})
}

// older returns what the newest version of record will be when it isn't that any more. exact are the parameters that it has if nobody
// has moved it meanwhile.
func (ro *rotation) older(record *entryRecord, k *kept, exact []byte) (olderRecord, error) {
	switch {
	case record.UUID != ro.entry.id:
		return olderRecord{}, errDeleted
	case record.KeyVersion != int(ro.number)-1:
		return olderRecord{}, errRotated
	}
	older := *record.version(record.KeyVersion)
	at, err := older.version(ro.entry.ref(), record.Type, *k.conns.Load())
	if err == nil && at.Connection == ro.was.Connection && reflect.DeepEqual(at.Params, ro.was.Params) {
		older.Params = exact
	}
	return older, err
}

// keep adds the version to the entry's record, and so to the entry.
func (ro *rotation) keep(ctx context.Context, k *kept) error {
	next, err := backend.EncodeParams(ro.next.params)
	if err != nil {
		return err
	}
	exact, err := backend.EncodeParams(ro.exact)
	if err != nil {
		return err
	}
	err = k.amend(ctx, ro.entry.ref(), func(record *entryRecord, _ uint64) (bool, error) {
		older, err := ro.older(record, k, exact)
		if err != nil {
			return false, err
		}
		record.Older = append(slices.Clone(record.Older), older)
		record.KeyVersion, record.Connection, record.Params, record.Pin = int(ro.number), ro.connection, next, hex.EncodeToString(pinBytes(ro.next.pin))
		return true, nil
	})
	if errors.Is(err, store.ErrTooLarge) {
		err = fmt.Errorf("the entry's record is full; Trim takes old versions away: %w", err)
	}
	return err
}
