package managedkey

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/strictjson"
	"github.com/managedkeys/managedkeys/namespace"
)

// maxFlat is the size of the longest entry that is read, in bytes.
const maxFlat = 64 << 10

// flatEntry is the flat form of the managed-keys API: fields of the entry beside those of its backend's parameters.
type flatEntry map[string]json.RawMessage

// flatFields are the fields of an entry and how each is read.
var flatFields = map[string]func(e *Entry, kind string, value json.RawMessage) error{
	"name": func(e *Entry, _ string, v json.RawMessage) error { return flatSame(v, e.Ref.Name) },
	"type": func(_ *Entry, kind string, v json.RawMessage) error { return flatSame(v, kind) },
	"UUID": func(e *Entry, _ string, v json.RawMessage) error { return flatString(v, &e.UUID) },

	"allow_generate_key": func(e *Entry, _ string, v json.RawMessage) error { return flatBool(v, &e.AllowGenerateKey) },
	"allow_replace_key":  func(e *Entry, _ string, v json.RawMessage) error { return flatBool(v, &e.AllowReplaceKey) },
	"allow_store_key":    func(e *Entry, _ string, v json.RawMessage) error { return flatBool(v, &e.AllowStoreKey) },
	"any_mount":          func(e *Entry, _ string, v json.RawMessage) error { return flatBool(v, &e.AnyMount) },
	"usages":             func(e *Entry, _ string, v json.RawMessage) error { return e.Usages.UnmarshalJSON(v) },

	// These are our own.
	"key_version":            func(e *Entry, _ string, v json.RawMessage) error { return flatInt(v, &e.KeyVersion) },
	"min_decryption_version": func(e *Entry, _ string, v json.RawMessage) error { return flatInt(v, &e.MinDecryptionVersion) },
	"min_encryption_version": func(e *Entry, _ string, v json.RawMessage) error { return flatInt(v, &e.MinEncryptionVersion) },
	"connection":             func(e *Entry, _ string, v json.RawMessage) error { return flatString(v, &e.Connection) },
	"public_key_sha256": func(e *Entry, _ string, v json.RawMessage) error {
		var text string
		err := flatString(v, &text)
		if err == nil {
			if e.PublicKeySHA256, err = hex.DecodeString(text); err != nil {
				err = errors.New("it takes hexadecimal digits")
			}
		}
		return err
	},
}

func flatSame(value json.RawMessage, want string) error {
	var got string
	if err := flatString(value, &got); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("got %.80q, but the entry is of %q", got, want)
	}
	return nil
}

func flatString(value json.RawMessage, out *string) error {
	if value[0] != '"' || json.Unmarshal(value, out) != nil {
		return fmt.Errorf("got %.40s; it takes a string", value)
	}
	return nil
}

func flatInt(value json.RawMessage, out *int) error {
	n, err := strconv.Atoi(strings.Trim(string(value), `"`))
	if err != nil {
		return fmt.Errorf("got %.40s; it takes a whole number", value)
	}
	*out = n
	return nil
}

func flatBool(value json.RawMessage, out *bool) error {
	switch string(value) {
	case "true", `"true"`:
		*out = true
	case "false", `"false"`:
		*out = false
	default:
		return fmt.Errorf("got %.40s; it takes true or false", value)
	}
	return nil
}

// readFlat reads a JSON object, each of whose members is there once. Errors show nothing of the values.
func readFlat(data []byte) (flatEntry, error) {
	members, err := strictjson.Object(data, maxFlat)
	if err != nil {
		return nil, wrapInvalid(err)
	}
	out := make(flatEntry, len(members))
	for _, m := range members {
		out[m.Name] = m.Value
	}
	return out, nil
}

// common takes the fields of the entry itself out of f.
func (f flatEntry) common(e *Entry, kind string) error {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		read, ok := flatFields[name]
		if !ok {
			continue
		}
		err := errors.New("got null; leave it out")
		if string(f[name]) != "null" {
			err = read(e, kind, f[name])
		}
		if err != nil {
			return fmt.Errorf("field %s: %w", name, wrapInvalid(err))
		}
		delete(f, name)
	}
	return nil
}

func wrapInvalid(err error) error {
	if errors.Is(err, backend.ErrInvalidParams) {
		return err
	}
	return fmt.Errorf("%w: %w", err, backend.ErrInvalidParams)
}

// params reads what is left of f as parameters of b.
func (f flatEntry) params(b backend.Backend) (backend.Params, error) {
	decoder, ok := b.(backend.ParamsDecoder)
	if !ok {
		return nil, fmt.Errorf("backend %q is no backend.ParamsDecoder: %w", b.Type(), backend.ErrUnsupported)
	}
	data, err := json.Marshal(map[string]json.RawMessage(f))
	if err != nil {
		return nil, fmt.Errorf("it takes one JSON object: %w", backend.ErrInvalidParams)
	}
	params, err := decoder.DecodeParams(data)
	if unknown, ok := errors.AsType[*backend.UnknownFieldError](err); ok {
		all := *unknown
		all.Takes = slices.Sorted(slices.Values(slices.Concat(all.Takes, slices.Collect(maps.Keys(flatFields)))))
		return nil, &all
	}
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(backend.SecretFields(params))) {
		if backend.SecretFields(params)[name] == backend.Redacted {
			return nil, fmt.Errorf("field %s is %q, and there is no entry that has it; it takes the secret itself or a reference: %w", name, backend.Redacted, backend.ErrInvalidParams)
		}
	}
	return params, matchesBackend(b, params)
}

// keep puts the secrets of stored in the place of those that are redacted, and returns the name of one, if there is any.
func (f flatEntry) keep(stored backend.Params) (kept string) {
	for name, secret := range backend.SecretFields(stored) {
		if value, ok := f[name]; ok && secret != "" && string(value) == `"`+backend.Redacted+`"` {
			f[name], _ = json.Marshal(string(secret)) // a string always has a JSON form
			kept = name
		}
	}
	return kept
}

// EncodeEntry returns an entry in the flat form of the managed-keys API, a JSON object that [DecodeEntry] describes. Secrets are
// "redacted", so that whoever may read entries may be shown it. Parameters that this process can't read, those of a connection
// that it doesn't have, are left out.
func EncodeEntry(e Entry) ([]byte, error) {
	if isNil(e.Backend) || isNil(e.Params) {
		return nil, fail("encode", e.Ref, "", fmt.Errorf("fields Backend and Params are required: %w", backend.ErrInvalidParams))
	}
	usages := e.Usages
	if usages == 0 {
		usages = backend.UsageDefault
	}
	out := make(map[string]any)
	if _, unreadable := e.Params.(rawParams); !unreadable {
		params, err := json.Marshal(e.Params)
		if err == nil {
			err = json.Unmarshal(params, &out)
		}
		if err != nil {
			return nil, fail("encode", e.Ref, e.Backend.Type(), fmt.Errorf("params %T have no flat form: %w", e.Params, backend.ErrUnsupported))
		}
	}
	maps.Copy(out, map[string]any{
		"name": e.Ref.Name, "type": e.Backend.Type(), "usages": usages,
		"allow_generate_key": e.AllowGenerateKey, "allow_replace_key": e.AllowReplaceKey,
		"allow_store_key": e.AllowStoreKey, "any_mount": e.AnyMount,
	})
	for name, n := range map[string]int{
		"key_version": e.KeyVersion, "min_decryption_version": e.MinDecryptionVersion, "min_encryption_version": e.MinEncryptionVersion,
	} {
		if n != 0 {
			out[name] = n
		}
	}
	for name, value := range map[string]string{"UUID": e.UUID, "connection": e.Connection, "public_key_sha256": hex.EncodeToString(e.PublicKeySHA256)} {
		if value != "" {
			out[name] = value
		}
	}
	return json.Marshal(out)
}

// DecodeEntry reads an entry for a key of b in the flat form of the managed-keys API: one JSON object with
//
//	name, type                              which may be left out, and must be those of ref and b
//	UUID                                    for an update, where it must be that of the entry
//	allow_generate_key, allow_replace_key, allow_store_key, any_mount
//	usages                                  a list, or one string with commas
//	connection, public_key_sha256           our own: Entry.Connection, and PublicKeySHA256 in hexadecimal
//	key_version, min_decryption_version, min_encryption_version
//	                                        our own; the first is for an update, where it must be that of the entry
//
// and the fields of b's parameters, such as key_label. Booleans and integers may be strings. It is strict: fields that are
// unknown, given twice, null or "redacted" are refused. The entry is not created.
//
// The error wraps backend.ErrInvalidParams and names the field, what it got (unless it is secret) and what it takes; for a
// misspelt field it says the nearest one. It wraps backend.ErrUnsupported if b is no backend.ParamsDecoder.
func DecodeEntry(ref namespace.Ref, b backend.Backend, data []byte) (Entry, error) {
	if isNil(b) {
		return Entry{}, fail("decode", ref, "", fmt.Errorf("the backend is nil: %w", backend.ErrInvalidParams))
	}
	e := Entry{Ref: ref, Backend: b}
	f, err := readFlat(data)
	if err == nil {
		err = f.common(&e, b.Type())
	}
	if err == nil {
		e.Params, err = f.params(b)
	}
	if err == nil {
		_, err = newState(&e)
	}
	if err != nil {
		return Entry{}, fail("decode", ref, b.Type(), err)
	}
	return e, nil
}

// DecodeEntry is the function [DecodeEntry] for a backend of that type among the registry's connections, for Create and Update:
// the one that the field connection names; else the only one that the namespace may use and that has such keys (for PKCS#11, the
// library); else that of the entry that ref has already. A registry without a store only knows the last.
//
// A secret that is "redacted" stays what it is in the entry that ref has, so that who reads an entry, changes its policy and sends
// it back needs no secrets. With parameters or a connection that change it is refused: whoever may update an entry must not send
// its secrets elsewhere. All else is what data says: a field that is left out has its default, as in Create.
func (r *Registry) DecodeEntry(ref namespace.Ref, kind string, data []byte) (Entry, error) {
	e := Entry{Ref: ref}
	f, err := readFlat(data)
	if err == nil {
		err = f.common(&e, kind)
	}
	if err == nil {
		err = r.place(&e, kind, f)
	}
	if err == nil {
		_, err = r.newState(&e)
	}
	if err != nil {
		return Entry{}, fail("decode", ref, kind, err)
	}
	return e, nil
}

// place finds the backend of an entry and its parameters.
func (r *Registry) place(e *Entry, kind string, f flatEntry) error {
	var stored *Entry
	var kept string
	if now, err := r.Entry(e.Ref); err == nil && now.Backend.Type() == kind {
		stored = &now
		kept = f.keep(now.Params)
	}
	candidates, err := r.candidates(e, kind, stored)
	if err == nil {
		err = f.pick(e, candidates, stored)
	}
	if err == nil && kept != "" && (e.Connection != stored.Connection || !reflect.DeepEqual(e.Params, stored.Params)) {
		err = fmt.Errorf("field %s is %q, which keeps a secret for what it was given for; together with other parameters that change, it takes the secret itself or a reference: %w", kept, backend.Redacted, backend.ErrInvalidParams)
	}
	return err
}

// pick sets an entry's backend to that of the one candidate that can have the key, and its parameters. If several can, it is
// that of stored, if that isn't nil.
func (f flatEntry) pick(e *Entry, candidates []Connection, stored *Entry) error {
	var able []Connection
	var refusal error
	for _, at := range candidates {
		params, err := f.params(at.Backend)
		if err != nil {
			if refusal == nil { // backends of one type mostly say the same
				refusal = err
			}
			continue
		}
		able = append(able, at)
		e.Params = params
	}
	if len(able) > 1 && stored != nil {
		if i := slices.IndexFunc(able, func(at Connection) bool { return at.Name == stored.Connection }); i >= 0 {
			able = able[i : i+1]
			e.Params, _ = f.params(able[0].Backend) // worked before
		}
	}
	switch len(able) {
	case 0:
		return refusal
	case 1:
		e.Connection, e.Backend = able[0].Name, able[0].Backend
		return nil
	}
	return fmt.Errorf("connections %s can all have the key; field connection takes one of them: %w", connectionNames(able), backend.ErrInvalidParams)
}

// candidates returns the connections that may serve an entry.
func (r *Registry) candidates(e *Entry, kind string, stored *Entry) ([]Connection, error) {
	if r.kept == nil {
		switch {
		case e.Connection != "":
			return nil, fmt.Errorf("field connection is %.40q; a registry without a store has none: %w", e.Connection, backend.ErrInvalidParams)
		case stored == nil:
			return nil, fmt.Errorf("a registry without a store has no connections to choose from, and no entry here; use the function DecodeEntry: %w", backend.ErrUnsupported)
		}
		return []Connection{{Backend: stored.Backend}}, nil
	}
	var there, all []Connection
	conns := *r.kept.conns.Load()
	for _, name := range slices.Sorted(maps.Keys(conns)) {
		if at := conns[name]; at.admits(e.Ref.Namespace) {
			all = append(all, at)
			if at.Backend.Type() == kind && (e.Connection == "" || e.Connection == name) {
				there = append(there, at)
			}
		}
	}
	if len(there) > 0 {
		return there, nil
	}
	if e.Connection != "" {
		return nil, fmt.Errorf("field connection is %.40q, which is none of type %q that this namespace may use; it may use %s: %w", e.Connection, kind, connectionNames(all), backend.ErrInvalidParams)
	}
	return nil, fmt.Errorf("no connection is of type %.40q; this namespace may use %s: %w", kind, connectionNames(all), backend.ErrInvalidParams)
}

// connectionNames lists connections and their types for an error.
func connectionNames(all []Connection) string {
	if len(all) == 0 {
		return "none"
	}
	names := make([]string, len(all))
	for i, at := range all {
		names[i] = fmt.Sprintf("%s (%s)", at.Name, at.Backend.Type())
	}
	return strings.Join(names, ", ")
}
