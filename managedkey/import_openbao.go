package managedkey

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// openBaoUsages are what OpenBao's engines do with keys; it has no usages of its own.
const openBaoUsages = backend.UsageDefault | backend.UsageEncrypt | backend.UsageDecrypt

// ImportExternalKeys reads external keys of OpenBao from what its API and command line answer, by path, since the answers don't
// have their own names in them:
//
//	configs/my-hsm                   bao read -format=json sys/external-keys/configs/my-hsm
//	configs/my-hsm/keys/ca           bao read -format=json sys/external-keys/configs/my-hsm/keys/ca
//	configs/my-hsm/keys/ca/grants    bao list -format=json sys/external-keys/configs/my-hsm/keys/ca/grants
//
// A path may have sys/external-keys/ before it. Answers may be in their envelope ("data") or not. Those of the lists configs and
// configs/my-hsm/keys may be there too: each name that is listed must be there then.
//
// The form is that of OpenBao 2.7: of configs, keys and grants in its API documentation
// (https://openbao.org/docs/next/api/system/external-keys/), and of the parameters of the plugin pkcs11 in that
// (…/external-keys/plugins/pkcs11/) and in the plugin's source (github.com/openbao/go-kms-wrapping, kms/pkcs11/pkcs11.go,
// August 2026):
//
//   - of a config: plugin; lib, which is library here; slot (a number or text), serial, token_label and pin;
//   - of a key: id, in hexadecimal digits, label and mechanism. OpenBao finds out a mechanism that is missing; here
//     ImportOptions.Fill must give it;
//   - of grants: keys, paths that end in a slash.
//
// Secrets are "(redacted)", for ImportOptions.Fill to give. An entry is named as the key, in lower case, with its config before it
// where configs have keys of one name. Usages are sign, verify, encrypt and decrypt: OpenBao has none. Configs of other plugins,
// such as transit, are left out with a warning, as are rsa_oaep_hash and disable_software_encryption, which callers choose here,
// and other fields.
//
// Nothing is created, and errors are as for [Registry.ImportManagedKeys].
func (r *Registry) ImportExternalKeys(answers map[string]json.RawMessage, opts *ImportOptions) (Imports, error) {
	i := r.importer(opts)
	b := &bao{importer: i, configs: make(map[string]flatEntry), keys: make(map[baoKey]flatEntry), grants: make(map[baoKey][]string)}
	for _, path := range slices.Sorted(maps.Keys(answers)) {
		if err := b.answer(path, answers[path]); err != nil {
			i.refuse("", "", fmt.Errorf("path %.100q: %w", path, err))
		}
	}
	if len(i.errs) == 0 {
		b.check()
	}
	if len(i.errs) == 0 {
		b.convert()
	}
	return i.result()
}

// baoKey is where a key is.
type baoKey struct{ config, name string }

// bao is what was read.
type bao struct {
	*importer
	configs map[string]flatEntry
	keys    map[baoKey]flatEntry
	grants  map[baoKey][]string
	listed  []baoKey // of lists; without a name for configs
}

// answer takes in the answer of one path.
func (b *bao) answer(path string, value json.RawMessage) error {
	rest := strings.Trim(path, "/")
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, "v1/"), "sys/external-keys/")
	parts := strings.Split(rest, "/")
	bad := len(parts) > 5 || parts[0] != "configs" || len(parts) > 2 && parts[2] != "keys" || len(parts) > 4 && parts[4] != "grants"
	if bad || slices.Contains(parts, "") {
		return errors.New("it takes configs/CONFIG, configs/CONFIG/keys/KEY and configs/CONFIG/keys/KEY/grants")
	}
	switch len(parts) {
	case 2, 4:
		f, err := b.unwrapBao(value)
		if err != nil {
			return err
		}
		if len(parts) == 2 {
			return put(b.configs, parts[1], f)
		}
		return put(b.keys, baoKey{parts[1], parts[3]}, f)
	}
	names, err := b.list(value)
	if err != nil {
		return err
	}
	if len(parts) == 5 {
		return put(b.grants, baoKey{parts[1], parts[3]}, names)
	}
	for _, name := range names {
		if len(parts) == 1 {
			b.listed = append(b.listed, baoKey{config: name})
		} else {
			b.listed = append(b.listed, baoKey{parts[1], name})
		}
	}
	return nil
}

// put adds what isn't there yet.
func put[K comparable, V any](m map[K]V, key K, value V) error {
	if _, twice := m[key]; twice {
		return errors.New("it is given twice, with another prefix")
	}
	m[key] = value
	return nil
}

func (b *bao) unwrapBao(value json.RawMessage) (flatEntry, error) {
	if len(value) == 0 {
		return nil, errors.New("it is empty")
	}
	return b.unwrap(value)
}

// list returns the names of a list. One that has none is answered with 404 and {"errors": []}, or nothing.
func (b *bao) list(value json.RawMessage) (names []string, err error) {
	if len(value) > maxImport {
		return nil, fmt.Errorf("got %d bytes; it takes at most %d", len(value), maxImport)
	}
	if json.Unmarshal(value, &names) == nil { // of the command line
		return names, nil
	}
	var none struct {
		Errors []json.RawMessage `json:"errors"`
	}
	if json.Unmarshal(value, &none) == nil && none.Errors != nil && len(none.Errors) == 0 {
		return nil, nil
	}
	f, err := b.unwrapBao(value)
	if err != nil || len(f) == 0 {
		return nil, err
	}
	if json.Unmarshal(f.or("keys"), &names) != nil {
		return nil, errors.New("field keys: it takes a list of names")
	}
	return names, nil
}

// check refuses what lacks another part.
func (b *bao) check() {
	need := func(config string, ok bool, name, what string) {
		if !ok {
			b.refuse(name, "", fmt.Errorf("%s of config %.80q is not among the answers", what, config))
		}
	}
	for _, at := range b.listed {
		_, ok := b.configs[at.config]
		if at.name != "" {
			_, ok = b.keys[at]
		}
		need(at.config, ok, at.name, "a read of what a list has")
	}
	for at := range b.keys {
		_, ok := b.configs[at.config]
		need(at.config, ok, at.name, "a read")
	}
	for at := range b.grants {
		_, ok := b.keys[at]
		need(at.config, ok, at.name, "a read of the key")
	}
}

// convert makes entries of the keys.
func (b *bao) convert() {
	all := slices.SortedFunc(maps.Keys(b.keys), func(a, c baoKey) int {
		return strings.Compare(a.config+"/"+a.name, c.config+"/"+c.name)
	})
	count := make(map[string]int)
	for _, at := range all {
		count[plainName(at.name)]++
	}
	for _, at := range all {
		var plugin string
		if err := flatString(b.configs[at.config].or("plugin"), &plugin); err != nil {
			b.refuse(at.name, "", fmt.Errorf("config %.80q: field plugin: it takes a string", at.config))
			continue
		}
		if plugin != "pkcs11" {
			b.warn("key %.80q of config %.80q is left out: there is no backend for the plugin %.40q", at.name, at.config, plugin)
			continue
		}
		name := plainName(at.name)
		if count[name] > 1 || name == "" {
			name = plainName(at.config + "-" + at.name)
		}
		key := Imported{Mounts: mountPaths(b.grants[at]), Entry: Entry{Usages: openBaoUsages}}
		if name != at.name {
			key.Warnings = append(key.Warnings, fmt.Sprintf("key %.80q of config %.80q is named %q here", at.name, at.config, name))
		}
		b.pkcs11(name, at, key)
	}
}

func mountPaths(grants []string) []string {
	var paths []string
	for _, grant := range grants {
		paths = append(paths, strings.TrimSuffix(grant, "/"))
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// baoFields are the fields of the plugin pkcs11, by what they are here; "" for what has no meaning.
var baoFields = map[string]string{
	"lib": "library", "slot": "slot", "serial": "token_serial", "token_label": "token_label", "pin": "pin", // of configs
	"id": "key_id", "label": "key_label", "mechanism": "mechanism", // of keys
	"plugin": "", "disable_software_encryption": "", "rsa_oaep_hash": "",
}

// pkcs11 makes an entry of a key of the plugin pkcs11.
func (b *bao) pkcs11(name string, at baoKey, key Imported) {
	f := make(flatEntry)
	for _, from := range []flatEntry{b.configs[at.config], b.keys[at]} {
		for _, field := range slices.Sorted(maps.Keys(from)) {
			value := from[field]
			ours := baoFields[field]
			switch {
			case ours != "":
				f[ours] = value
			case field != "plugin" && !isEmpty(value):
				key.Warnings = append(key.Warnings, fmt.Sprintf("field %.40q has no meaning here and is left out", field))
			}
		}
	}
	err := f.slotText()
	f.oneToken(&key)
	if err == nil && !isEmpty(f.or("key_id")) {
		var id string
		if err = flatString(f["key_id"], &id); err == nil {
			f["key_id"], err = json.Marshal("0x" + strings.TrimPrefix(id, "0x"))
		}
	}
	if err == nil && isEmpty(f.or("mechanism")) {
		key.Entry.Ref.Namespace, key.Entry.Ref.Name = b.opts.Namespace, name
		err = b.fill(key.Entry.Ref, "mechanism", f)
	} else if err == nil && f["mechanism"][0] == '"' {
		f["mechanism"] = json.RawMessage(strings.ReplaceAll(string(f["mechanism"]), "-", "_")) // OpenBao takes both
	}
	if err != nil {
		b.refuse(name, "pkcs11", err)
		return
	}
	b.add(name, "pkcs11", f, key)
}
