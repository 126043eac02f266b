package config

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// key plans what has to change of an entry.
func (p *planner) key(k *Key) {
	want, older, at, err := p.want(k)
	if err != nil {
		p.fail(at, err)
		return
	}
	now, err := p.reg.Entry(k.Ref)
	switch {
	case errors.Is(err, backend.ErrKeyNotFound):
		want.Older = older
		fields := []string{"type: " + k.Type, "connection: " + want.Connection}
		want.Backend = nil
		p.change(Change{Action: Create, Ref: k.Ref, Pos: k.Pos, Fields: fields, run: func(ctx context.Context) error { return p.reg.Create(ctx, want) }})
		return
	case err == nil && now.Backend.Type() != k.Type:
		err = &invalid{fmt.Sprintf("the entry %q is of type %q, the file says %q; an entry keeps its type: delete it first", k.Ref, now.Backend.Type(), k.Type)}
	case err == nil && k.version() > now.KeyVersion:
		err = p.rotate(k, want, older, now)
		if err == nil {
			return
		}
	}
	if err != nil {
		p.fail(k.Pos, err)
		return
	}
	next, fields, moves := merge(k, want, older, now)
	if len(fields) == 0 {
		return
	}
	action := Update
	if moves {
		action = Move
	}
	p.change(Change{Action: action, Ref: k.Ref, Pos: k.Pos, Fields: fields, run: func(ctx context.Context) error { return p.reg.Update(ctx, next) }})
}

// want returns the entry that a block describes, and its older versions; at is where an error is to be looked for.
func (p *planner) want(k *Key) (want managedkey.Entry, older []managedkey.OlderVersion, at Pos, err error) {
	want, err = p.reg.DecodeEntry(k.Ref, k.Type, k.flat.newest)
	if err != nil {
		return want, nil, blame(k.Pos, k.flat.has, err), err
	}
	for _, o := range k.flat.older {
		e, err := p.reg.DecodeEntry(k.Ref, k.Type, o.data)
		if err != nil {
			return want, nil, o.pos, fmt.Errorf("version %d: %w", o.number, err)
		}
		older = append(older, managedkey.OlderVersion{Version: o.number, Connection: e.Connection, Params: e.Params, PublicKeySHA256: e.PublicKeySHA256})
	}
	want.KeyVersion = k.version()
	if want.Usages == 0 {
		want.Usages = backend.UsageDefault
	}
	return want, older, k.Pos, nil
}

// rotate plans that an entry gets the versions that it doesn't have yet. What else changes is planned again afterwards.
func (p *planner) rotate(k *Key, want managedkey.Entry, older []managedkey.OlderVersion, now managedkey.Entry) error {
	all := append(slices.Clone(older), managedkey.OlderVersion{Version: want.KeyVersion, Connection: want.Connection, Params: want.Params, PublicKeySHA256: want.PublicKeySHA256})
	if first := all[0].Version; first > now.KeyVersion+1 {
		return &invalid{fmt.Sprintf("the entry %q has version %d, and the file nothing on version %d", k.Ref, now.KeyVersion, now.KeyVersion+1)}
	}
	all = slices.DeleteFunc(all, func(o managedkey.OlderVersion) bool { return o.Version <= now.KeyVersion })
	fields := []string{fmt.Sprintf("key_version: %d → %d", now.KeyVersion, want.KeyVersion)}
	p.change(Change{Action: Rotate, Ref: k.Ref, Pos: k.Pos, Fields: fields, run: func(ctx context.Context) error {
		if at, err := p.reg.Entry(k.Ref); err != nil || at.UUID != now.UUID || at.KeyVersion != now.KeyVersion {
			return errors.Join(err, errChanged)
		}
		for _, o := range all {
			opts := &managedkey.RotateOptions{Params: o.Params, Connection: o.Connection, PublicKeySHA256: o.PublicKeySHA256}
			if _, err := p.reg.Rotate(ctx, k.Ref, opts); err != nil {
				return err
			}
		}
		at, err := p.reg.Entry(k.Ref)
		if err != nil {
			return err
		}
		if next, fields, _ := merge(k, want, older, at); len(fields) > 0 {
			return p.reg.Update(ctx, next)
		}
		return nil
	}})
	return nil
}

// merge returns the update that makes now what the file says, what it changes, and whether a key has to be opened for it.
func merge(k *Key, want managedkey.Entry, older []managedkey.OlderVersion, now managedkey.Entry) (next managedkey.Entry, fields []string, moves bool) {
	next = now
	next.Backend, next.Older, next.PublicKeySHA256 = nil, nil, nil
	differ := func(name string, was, is any) {
		if was != is {
			fields = append(fields, fmt.Sprintf("%s: %v → %v", name, was, is))
		}
	}
	next.Usages, next.AllowGenerateKey, next.AllowReplaceKey = want.Usages, want.AllowGenerateKey, want.AllowReplaceKey
	next.AllowStoreKey, next.AnyMount = want.AllowStoreKey, want.AnyMount
	if _, says := k.flat.has["min_decryption_version"]; says {
		next.MinDecryptionVersion = normal(want.MinDecryptionVersion, now.MinDecryptionVersion)
	}
	if _, says := k.flat.has["min_encryption_version"]; says {
		next.MinEncryptionVersion = normal(want.MinEncryptionVersion, now.MinEncryptionVersion)
	}
	differ("usages", now.Usages.String(), next.Usages.String())
	differ("allow_generate_key", now.AllowGenerateKey, next.AllowGenerateKey)
	differ("allow_replace_key", now.AllowReplaceKey, next.AllowReplaceKey)
	differ("allow_store_key", now.AllowStoreKey, next.AllowStoreKey)
	differ("any_mount", now.AnyMount, next.AnyMount)
	differ("min_decryption_version", now.MinDecryptionVersion, next.MinDecryptionVersion)
	differ("min_encryption_version", now.MinEncryptionVersion, next.MinEncryptionVersion)

	if want.KeyVersion == now.KeyVersion {
		place := comparePlaces(now.Connection, want.Connection, now.Params, want.Params, false)
		moves = len(place) > 0
		fields = append(fields, place...)
		if moves {
			next.Connection, next.Params = want.Connection, want.Params
		}
		if pin := want.PublicKeySHA256; len(pin) > 0 && !bytes.Equal(pin, now.PublicKeySHA256) {
			next.PublicKeySHA256 = pin
			differ("public_key_sha256", or(hex.EncodeToString(now.PublicKeySHA256), "none"), hex.EncodeToString(pin))
			moves = moves || len(now.PublicKeySHA256) > 0
		}
	} else {
		older = append(slices.Clone(older), managedkey.OlderVersion{Version: want.KeyVersion, Connection: want.Connection, Params: want.Params})
	}
	all := slices.Clone(now.Older)
	changed := false
	for i := range all {
		o := &all[i]
		j := slices.IndexFunc(older, func(w managedkey.OlderVersion) bool { return w.Version == o.Version })
		o.Backend = nil
		if j < 0 {
			continue
		}
		if place := comparePlaces(o.Connection, older[j].Connection, o.Params, older[j].Params, true); len(place) > 0 {
			for _, f := range place {
				fields = append(fields, fmt.Sprintf("version %d: %s", o.Version, f))
			}
			o.Connection, o.Params, changed = older[j].Connection, older[j].Params, true
		}
	}
	if changed {
		next.Older, moves = all, true
	}
	return next, fields, moves
}

// normal returns a min_ version as the entry has it: 0 and 1 both exclude nothing.
func normal(want, now int) int {
	if want <= 1 && now <= 1 {
		return now
	}
	return want
}

func or(text, instead string) string {
	if text == "" {
		return instead
	}
	return text
}

// comparePlaces returns what differs between two places of a key. Of a version that isn't the newest, the entry may say more than the
// file, such as the version in the key manager.
func comparePlaces(wasAt, isAt string, was, is backend.Params, older bool) (fields []string) {
	if wasAt != isAt {
		fields = append(fields, fmt.Sprintf("connection: %s → %s", wasAt, isAt))
	}
	a, b := members(was), members(is)
	secrets := backend.SecretFields(is)
	names := slices.Concat(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if bytes.Equal(a[name], b[name]) || older && b[name] == nil {
			continue
		}
		if _, secret := secrets[name]; secret || secrets == nil {
			fields = append(fields, name+": changed, not shown")
			continue
		}
		fields = append(fields, fmt.Sprintf("%s: %s → %s", name, or(string(a[name]), "none"), or(string(b[name]), "none")))
	}
	return fields
}

// members returns parameters by their names, secrets among them.
func members(p backend.Params) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage)
	if data, err := backend.EncodeParams(p); err == nil {
		_ = json.Unmarshal(data, &out) // what EncodeParams makes is an object
	}
	return out
}
