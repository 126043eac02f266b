package managedkey

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// maxImport bounds what is read at once, in bytes.
const maxImport = 64 << 20

// ImportManagedKeys reads managed keys of HashiCorp Vault Enterprise as its API and command line answer reads of them: what
//
//	vault read -format=json sys/managed-keys/pkcs11/issuing-ca
//
// prints and GET /v1/sys/managed-keys/:type/:name returns, in its envelope ("request_id", …, "data") or the data alone; one or
// many, one after the other or in JSON arrays. Answers to lists (vault list -format=json, or {"keys": […]}) may be among them:
// each name that is listed must be there too. The form is that of the API documentation
// (https://developer.hashicorp.com/vault/api-docs/system/managed-keys, of version 1.21). Of it are taken:
//
//   - name and type, which are required, UUID, allow_generate_key, allow_replace_key, allow_store_key, any_mount and usages, where
//     "random" is generate_random;
//   - the fields of the type's parameters here; a field that is null, empty, 0 or false was not set. slot may be a number, and
//     gives way to token_label;
//   - "redacted" for a secret, which ImportOptions.Fill must give;
//   - other fields are left out with a warning.
//
// Grants are in Vault's mounts: ImportOptions.Mounts takes the answer of GET /v1/sys/mounts or of vault secrets list
// -format=json, of which config.allowed_managed_keys is read.
//
// Nothing is created. The result is all of data or an error, which joins what is wrong with each key; each is an *[Error], wraps
// backend.ErrInvalidParams, names the field and shows no secret.
func (r *Registry) ImportManagedKeys(data []byte, opts *ImportOptions) (Imports, error) {
	i := r.importer(opts)
	listed, err := i.vault(data)
	if err != nil {
		i.refuse("", "", err)
		return i.result()
	}
	for _, name := range listed {
		if !i.names[name] {
			i.refuse(name, "", errors.New("it is listed, but was not read"))
		}
	}
	if err := i.mounts(); err != nil {
		i.refuse("", "", fmt.Errorf("ImportOptions.Mounts: %w", err))
	}
	return i.result()
}

// vault reads answers, and returns the names of those that were lists.
func (i *importer) vault(data []byte) (listed []string, err error) {
	if len(data) > maxImport {
		return nil, fmt.Errorf("got %d bytes; it takes at most %d", len(data), maxImport)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	for n := 1; ; n++ {
		var value json.RawMessage
		if err := dec.Decode(&value); err == io.EOF {
			return listed, nil
		} else if err != nil {
			return nil, fmt.Errorf("answer %d is not JSON", n) // the decoder's error could quote a secret
		}
		answers := []json.RawMessage{value}
		if value[0] == '[' {
			if err := json.Unmarshal(value, &answers); err != nil {
				return nil, fmt.Errorf("answer %d is not JSON", n)
			}
		}
		for _, answer := range answers {
			names, err := i.answer(answer)
			if err != nil {
				return nil, fmt.Errorf("answer %d: %w", n, err)
			}
			listed = append(listed, names...)
		}
	}
}

// answer reads one answer: a key, or the names of a list.
func (i *importer) answer(value json.RawMessage) (listed []string, err error) {
	if value[0] == '"' { // of a list on the command line
		var name string
		err := json.Unmarshal(value, &name)
		return []string{name}, err
	}
	f, err := i.unwrap(value)
	if err != nil {
		return nil, err
	}
	if keys, ok := f["keys"]; ok && len(f) == 1 {
		if json.Unmarshal(keys, &listed) != nil {
			return nil, errors.New("field keys: it takes a list of names")
		}
		return listed, nil
	}
	var name, kind string
	for field, out := range map[string]*string{"name": &name, "type": &kind} {
		if err := flatString(f.or(field), out); err != nil || *out == "" {
			return nil, fmt.Errorf("field %s: it takes a string, in the answer of a read of sys/managed-keys", field)
		}
	}
	var key Imported
	if err := f.fromVault(&key); err != nil {
		i.refuse(name, kind, err)
		return nil, nil
	}
	i.add(name, kind, f, key)
	return nil, nil
}

// unwrap returns the data of an answer, which may be in its envelope.
func (i *importer) unwrap(value json.RawMessage) (flatEntry, error) {
	f, err := readFlat(value)
	if err != nil {
		return nil, err
	}
	if problems, ok := f["errors"]; ok && len(f) == 1 {
		return nil, fmt.Errorf("it is an error: %.200s", problems)
	}
	data, ok := f["data"]
	if !ok {
		return f, nil
	}
	var warnings []string
	if json.Unmarshal(f.or("warnings"), &warnings) == nil {
		for _, w := range warnings {
			i.warn("the other system says: %.300q", w)
		}
	}
	if data[0] != '{' {
		return nil, errors.New("field data: it takes an object")
	}
	return readFlat(data)
}

// fromVault makes fields those of the flat form here.
func (f flatEntry) fromVault(key *Imported) error {
	if id, ok := f["uuid"]; ok && f["UUID"] == nil { // as some clients write it
		f["UUID"] = id
		delete(f, "uuid")
	}
	for field := range flatFields { // no fields of parameters, which read drops
		if value, ok := f[field]; ok && isEmpty(value) {
			delete(f, field)
		}
	}
	if usages, ok := f["usages"]; ok {
		var names []string
		if json.Unmarshal(usages, &names) != nil {
			var joined string
			if err := flatString(usages, &joined); err != nil {
				return fmt.Errorf("field usages: %w", err)
			}
			names = strings.Split(joined, ",")
		}
		for i, name := range names {
			if names[i] = strings.TrimSpace(name); names[i] == "random" {
				names[i] = "generate_random"
			}
		}
		f["usages"], _ = json.Marshal(names) // strings always have a JSON form
	}
	if err := f.slotText(); err != nil {
		return err
	}
	f.oneToken(key)
	return nil
}

// mounts reads which mounts were granted which keys.
func (i *importer) mounts() error {
	if i.opts.Mounts == nil {
		return nil
	}
	if len(i.opts.Mounts) > maxImport {
		return fmt.Errorf("got %d bytes; it takes at most %d", len(i.opts.Mounts), maxImport)
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(i.opts.Mounts, &all) != nil {
		return errors.New("it takes one JSON object")
	}
	if _, wrapped := all["request_id"]; wrapped {
		data := all["data"]
		all = nil
		if json.Unmarshal(data, &all) != nil {
			return errors.New("field data: it takes an object")
		}
	}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		var mount struct {
			Config struct {
				Allowed []string `json:"allowed_managed_keys"`
			} `json:"config"`
		}
		if err := json.Unmarshal(all[path], &mount); err != nil {
			return fmt.Errorf("mount %.80q: it takes an object with config.allowed_managed_keys", path)
		}
		for _, name := range mount.Config.Allowed {
			at := slices.IndexFunc(i.out.Keys, func(k Imported) bool { return k.Entry.Ref.Name == name || k.UUID != "" && k.UUID == name })
			if at < 0 {
				i.warn("mount %.80q was granted %.80q, which is not among the keys", path, name)
				continue
			}
			key := &i.out.Keys[at]
			if mount := strings.TrimSuffix(path, "/"); !slices.Contains(key.Mounts, mount) {
				key.Mounts = append(key.Mounts, mount)
			}
		}
	}
	return nil
}
