package managedkey

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// ImportOptions are the options of [Registry.ImportManagedKeys] and [Registry.ImportExternalKeys]. The zero value is fine, and so
// is nil.
type ImportOptions struct {
	// Namespace is that of the entries.
	Namespace namespace.Path

	// Backends are those that the keys are in; nil means the registry's connections.
	Backends []backend.Backend

	// Fill gives the value of a field that the other system doesn't tell: a secret, which it redacts, or the mechanism of a
	// PKCS#11 key in OpenBao, which it may find out by itself. An empty value leaves the field out, for backends that have the
	// credentials themselves. If Fill is nil, such a field is an error that names it.
	Fill func(ref namespace.Ref, field string) (string, error)

	// Mounts is what Vault's sys/mounts answers, to read from it which mounts were granted which keys; nil if that isn't
	// wanted.
	Mounts []byte
}

// Imports are what was read of another system.
type Imports struct {
	Keys     []Imported // by name
	Warnings []string   // about what was left out and is no key's
}

// Imported is one key.
type Imported struct {
	Entry    Entry    // ready for Create, which assigns a UUID of its own
	UUID     string   // that it had; empty if it had none
	Mounts   []string // paths of the mounts that were granted it, sorted, without a slash at the end
	Warnings []string // about what of it has no meaning here
}

// importer reads keys.
type importer struct {
	registry *Registry
	opts     ImportOptions
	names    map[string]bool
	out      Imports
	errs     []error
}

func (r *Registry) importer(opts *ImportOptions) *importer {
	i := &importer{registry: r, names: make(map[string]bool)}
	if opts != nil {
		i.opts = *opts
	}
	return i
}

// result returns what was read, or all that went wrong.
func (i *importer) result() (Imports, error) {
	if len(i.errs) > 0 {
		return Imports{}, errors.Join(i.errs...)
	}
	slices.SortFunc(i.out.Keys, func(a, b Imported) int { return strings.Compare(a.Entry.Ref.Name, b.Entry.Ref.Name) })
	return i.out, nil
}

func (i *importer) refuse(name, kind string, err error) {
	i.errs = append(i.errs, fail("import", namespace.Ref{Namespace: i.opts.Namespace, Name: name}, kind, wrapInvalid(err)))
}

func (i *importer) warn(format string, args ...any) {
	i.out.Warnings = append(i.out.Warnings, fmt.Sprintf(format, args...))
}

// isEmpty reports whether a field has the zero value that systems show where nothing was set.
func isEmpty(value json.RawMessage) bool {
	return slices.Contains([]string{"null", `""`, "0", "false", "[]", "{}"}, string(value))
}

// isRedacted reports whether a value is a secret that doesn't show: Vault's form of it, and OpenBao's.
func isRedacted(value json.RawMessage) bool {
	return string(value) == `"`+backend.Redacted+`"` || string(value) == `"(`+backend.Redacted+`)"`
}

// add reads a key in the flat form. key has what is known of it already.
func (i *importer) add(name, kind string, f flatEntry, key Imported) {
	key.Entry.Ref = namespace.Ref{Namespace: i.opts.Namespace, Name: name}
	if err := i.read(kind, f, &key); err != nil {
		i.refuse(name, kind, err)
		return
	}
	i.out.Keys = append(i.out.Keys, key)
}

func (i *importer) read(kind string, f flatEntry, key *Imported) error {
	e := &key.Entry
	if i.names[e.Ref.Name] {
		return errors.New("there is another key of that name")
	}
	i.names[e.Ref.Name] = true
	if err := f.common(e, kind); err != nil {
		return err
	}
	key.UUID, e.UUID = e.UUID, ""
	for _, field := range slices.Sorted(maps.Keys(f)) {
		switch {
		case isEmpty(f[field]):
			delete(f, field)
		case isRedacted(f[field]):
			if err := i.fill(e.Ref, field, f); err != nil {
				return err
			}
		}
	}
	candidates, err := i.candidates(e, kind)
	if err != nil {
		return err
	}
	for range len(f) {
		_, err := f.params(candidates[0].Backend)
		unknown, ok := errors.AsType[*backend.UnknownFieldError](err)
		if !ok {
			break
		}
		key.Warnings = append(key.Warnings, fmt.Sprintf("field %.40q has no meaning here and is left out", unknown.Field))
		delete(f, unknown.Field)
	}
	if err := f.pick(e, candidates, nil); err != nil {
		return err
	}
	if i.opts.Backends != nil {
		e.Connection = ""
	}
	copied := *e
	_, err = i.registry.newState(&copied)
	return err
}

// fill asks for a field.
func (i *importer) fill(ref namespace.Ref, field string, f flatEntry) error {
	if i.opts.Fill == nil {
		return fmt.Errorf("field %s isn't told by the other system; it takes ImportOptions.Fill", field)
	}
	value, err := i.opts.Fill(ref, field)
	if err != nil {
		return fmt.Errorf("field %s: %w", field, err)
	}
	if value == "" {
		delete(f, field)
		return nil
	}
	f[field], err = json.Marshal(value)
	return err
}

// candidates returns where a key of that type can be.
func (i *importer) candidates(e *Entry, kind string) ([]Connection, error) {
	if i.opts.Backends == nil {
		return i.registry.candidates(e, kind, nil)
	}
	var there, all []Connection
	for _, b := range i.opts.Backends {
		if isNil(b) {
			continue
		}
		at := Connection{Name: b.Type(), Backend: b}
		all = append(all, at)
		if b.Type() == kind {
			there = append(there, at)
		}
	}
	if len(there) == 0 {
		return nil, fmt.Errorf("no backend is of type %.40q; ImportOptions.Backends has %s", kind, connectionNames(all))
	}
	return there, nil
}

// slotText makes a slot's number the decimal text that it is here.
func (f flatEntry) slotText() error {
	value, ok := f["slot"]
	if !ok || string(value) == "null" {
		return nil
	}
	text := string(value)
	if value[0] == '"' {
		if err := flatString(value, &text); err != nil || text == "" {
			return err
		}
	}
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		return fmt.Errorf("field slot: got %.40s; it takes a number", value)
	}
	f["slot"], err = json.Marshal(strconv.FormatUint(n, 10))
	return err
}

// oneToken leaves out the slot of a token that has a better name: here a token is named by its slot or otherwise.
func (f flatEntry) oneToken(key *Imported) {
	value, ok := f["slot"]
	if !ok || isEmpty(f.or("token_label")) && isEmpty(f.or("token_serial")) {
		return
	}
	if string(value) != `"0"` { // what shows where no slot was set
		key.Warnings = append(key.Warnings, fmt.Sprintf("field slot, %.40s, is left out: the token has a label or serial number", value))
	}
	delete(f, "slot")
}

// or returns a field, or null.
func (f flatEntry) or(name string) json.RawMessage {
	if value, ok := f[name]; ok {
		return value
	}
	return json.RawMessage("null")
}
