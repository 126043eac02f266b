package transit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// backup is what Backup returns, as JSON in base64.
type backup struct {
	Format string `json:"format"` // backupFormat
	Name   string `json:"name"`
	Key    record `json:"key"`
}

const backupFormat = "managedkeys/transit-backup"

// Backup returns a transit key with all its versions and its configuration as text for [Engine.Restore]. That of a managed key
// says which managed keys there are and has no secret. That of a software key has the secrets in the clear: the error wraps
// [backend.ErrNotPermitted] unless the key is exportable and allows it.
func (e *Engine) Backup(ctx context.Context, name string) (string, error) {
	k, err := e.usable(ctx, "key", name)
	if err != nil {
		return "", err
	}
	if !k.rec.managed() {
		switch {
		case !k.rec.Exportable:
			return "", fmt.Errorf("transit: exporting is disallowed on the key %q: %w", name, backend.ErrNotPermitted)
		case !k.rec.PlaintextBackup:
			return "", fmt.Errorf("transit: plaintext backup is disallowed on the key %q: %w", name, backend.ErrNotPermitted)
		}
	}
	data, err := json.Marshal(backup{backupFormat, name, *k.rec})
	if err != nil {
		return "", fmt.Errorf("transit: backup of key %q: %w", name, err)
	}
	return base64.StdEncoding.EncodeToString(data), nil
}

// Restore makes a key from what Backup returned, and one of Vault or OpenBao from what theirs did, under name, or the name that it
// had if that is empty. If there is a key of that name, it is replaced if force is set; what it made can then be read only as far
// as the backup has the same versions.
//
// The error wraps [backend.ErrInvalidParams] if the backup can't be read, [backend.ErrKeyExists], or is that of making a software
// key, see [Engine.CreateKey].
func (e *Engine) Restore(ctx context.Context, name, text string, force bool) error {
	b, err := readBackup(ctx, text)
	if err != nil {
		return err
	}
	if name == "" {
		name = b.Name
	}
	if err := validName(name); err != nil {
		return err
	}
	rec := &b.Key
	if !rec.managed() {
		if err := e.allowSoftware(); err != nil {
			return err
		}
		for i := range rec.Versions {
			if v := &rec.Versions[i]; v.Material != nil && !rec.Derived {
				if err := e.prove(ctx, softTypes[rec.Type], v); err != nil {
					return err
				}
			}
		}
	}
	rec.ID = uuid.NewString()
	// What no process could read again, such as bytes that are there and empty, would keep all of them from starting.
	if rec, err = readable(rec); err == nil {
		_, err = newKey(name, 1, rec, nil)
	}
	if err != nil {
		return invalid("restore: %v", err)
	}
	if !force {
		return e.add(ctx, name, rec)
	}
	_, err = e.change(ctx, name, func(r *record) error {
		*r = *rec
		return nil
	})
	if errors.Is(err, backend.ErrKeyNotFound) && e.known(name) == nil {
		return e.add(ctx, name, rec)
	}
	return err
}

// readable returns a record as it is when it was stored and is read again.
func readable(rec *record) (*record, error) {
	value, err := rec.encode()
	if err != nil {
		return nil, err
	}
	return decodeRecord(value)
}

func readBackup(ctx context.Context, text string) (*backup, error) {
	data, vaults, err := openBackup(text)
	if err != nil {
		return nil, err
	}
	if vaults {
		return readVault(ctx, data)
	}
	b := new(backup)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(b); err != nil || b.Format != backupFormat {
		return nil, invalid("restore: it is no backup that this version of the program reads")
	}
	if err := b.Key.check(); err != nil {
		return nil, invalid("restore: the backup makes no sense: %v", err)
	}
	return b, nil
}

// openBackup returns the JSON of a backup, and whether it is one of Vault or OpenBao.
func openBackup(text string) (data []byte, vaults bool, err error) {
	if len(text) > base64.StdEncoding.EncodedLen(2*store.MaxValue) {
		return nil, false, invalid("restore: backup of %d bytes; it takes at most %d", len(text), base64.StdEncoding.EncodedLen(2*store.MaxValue))
	}
	data, ok := decode(strings.TrimSpace(text), base64.StdEncoding)
	if !ok {
		return nil, false, invalid("restore: the backup is not base64")
	}
	var kind struct {
		Format string          `json:"format"`
		Policy json.RawMessage `json:"policy"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, false, invalid("restore: the backup is not JSON")
	}
	return data, kind.Format == "" && kind.Policy != nil, nil
}
