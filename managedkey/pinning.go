package managedkey

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// pinning returns call, and after it what pins the entry to the key in the store, so that all processes have the same pin
// before any of them uses the key. Where replace is set, the key takes the place of the one that was pinned. at is where call
// opens or makes the key; if the version is elsewhere by now, it is not pinned.
func (e *entry) pinning(at *state, replace bool, call callFunc) callFunc {
	if e.kept == nil {
		return call
	}
	k, number := e.space.registry.kept, e.number()
	return func(ctx context.Context) (backend.Key, error) {
		key, err := call(ctx)
		if err != nil || isNil(key) || key.Public() == nil {
			return key, err
		}
		pin, err := backend.Fingerprint(key.Public())
		if err != nil {
			return nil, err
		}
		if st := e.state.Load(); st.pin != nil && *st.pin == pin {
			return key, nil
		}
		err = k.amend(ctx, e.ref(), func(record *entryRecord, _ uint64) (bool, error) {
			place, hash := record.version(int(number)), hex.EncodeToString(pin[:])
			switch {
			case record.UUID != e.id || place == nil:
				return false, errDeleted
			case replace && record.KeyVersion != int(number):
				return false, errRotated
			case place.Pin == hash:
				return false, nil
			}
			there, err := place.version(e.ref(), record.Type, *k.conns.Load())
			if err != nil {
				return false, err
			}
			from := *at
			from.backend = k.registry.renewed(at.backend)
			switch {
			case from.elsewhere(&state{backend: there.Backend, params: there.Params}):
				return false, errMoved
			case place.Pin != "" && !replace:
				return false, fmt.Errorf("the public key has SHA-256 %s, the pin is %s: %w", hash, place.Pin, backend.ErrKeyChanged)
			}
			*record.pin(int(number)) = hash
			return true, nil
		})
		if !replace && errors.Is(err, errMoved) {
			err = errOvertaken // now this process knows of it, and whoever wants the key looks there
		}
		if err != nil {
			return nil, err
		}
		return key, nil
	}
}
