package managedkey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Discovered is a key that a backend holds.
type Discovered struct {
	// Entry is ready for Create, and may be changed before. Its name is the key's label or what its id ends in, in lower case,
	// with a number behind it if the namespace or a key before has the name. It allows signing and verifying if the key may
	// be able to sign; if it is known that it can't, all that it can do but for random bytes. All switches are off.
	Entry Entry

	// Info is what the backend says of the key, and URI its canonical name, the zero value if the backend has none.
	Info backend.KeyInfo
	URI  URI

	// Ref is an entry of the registry that points at the key already, of whatever namespace; the zero value if there is none.
	Ref namespace.Ref
}

// Discover yields the keys that a backend holds as entries of namespace ns, in the order in which the backend lists them. at says
// which backend: by Name or Backend in a registry with a store, as in an Entry, and by Backend without one. scope says where to
// look, as for the backend's List.
//
// It makes no key and changes nothing. It opens a key only to find out whether an entry that was never opened, and that names
// the key by its label or id alone, points at it; entries that were made before the iteration began are looked at. It
// takes time and memory in proportion to the keys and entries that there are.
//
// The sequence ends after the first error, which wraps backend.ErrUnsupported if the backend lists no keys, backend.ErrInvalidParams
// or what the backend's List returned.
func (r *Registry) Discover(ctx context.Context, ns namespace.Path, at Connection, scope backend.Params) iter.Seq2[Discovered, error] {
	return func(yield func(Discovered, error) bool) {
		from := Entry{Ref: namespace.Ref{Namespace: ns}, Connection: at.Name, Backend: at.Backend}
		kind := ""
		refuse := func(err error) { yield(Discovered{}, fail("discover", from.Ref, kind, err)) }
		if err := ns.Validate(); err != nil {
			refuse(invalidRef(err))
			return
		}
		if err := r.locate(&from); err != nil {
			refuse(err)
			return
		}
		kind = from.Backend.Type()
		lister, ok := from.Backend.(backend.Lister)
		if !ok {
			refuse(fmt.Errorf("the backend lists no keys: %w", backend.ErrUnsupported))
			return
		}
		known := r.pointers(from.Backend, scope)
		names := naming{registry: r, ns: ns, used: make(map[string]bool), next: make(map[string]int)}
		for info, err := range lister.List(ctx, scope) {
			var d Discovered
			if err == nil {
				d, err = discovered(from, info, &names)
			}
			if err == nil {
				d.Ref, err = known.find(ctx, info)
			}
			if err != nil {
				refuse(err)
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// locate fills in the backend and the connection of an entry whose parameters aren't known yet.
func (r *Registry) locate(e *Entry) error {
	switch {
	case r.kept != nil:
		return r.kept.conns.Load().complete(e.Ref.Namespace, &e.Connection, &e.Backend)
	case e.Connection != "":
		return fmt.Errorf("field Name is %.40q; a registry without a store has no connections: %w", e.Connection, backend.ErrInvalidParams)
	case isNil(e.Backend):
		return fmt.Errorf("field Backend is nil; it takes a backend.Backend: %w", backend.ErrInvalidParams)
	}
	return nil
}

// discovered returns the entry for a key.
func discovered(from Entry, info backend.KeyInfo, names *naming) (Discovered, error) {
	if isNil(info.Params) {
		return Discovered{}, fmt.Errorf("key %.200q is listed without parameters: %w", info.ID, backend.ErrIntegrity)
	}
	e := from
	e.Params = info.Params
	e.Ref.Name = names.choose(info)
	if can := info.Usages &^ backend.UsageGenerateRandom; can != 0 && !can.Has(backend.UsageSign) {
		e.Usages = can
	}
	d := Discovered{Entry: e, Info: info}
	if info.URI == "" {
		return d, nil
	}
	uri, err := ParseURI(info.URI)
	if err != nil || uri.Type() != e.Backend.Type() {
		return Discovered{}, fmt.Errorf("key %.200q is listed with a URI that is no canonical name: %w", info.ID, backend.ErrIntegrity)
	}
	d.URI = uri
	return d, nil
}

// maxCandidates bounds how many entries are looked at that have one name of a key in common. More than one or two are no
// matter of chance: the name is then that of something else, such as a version "1".
const maxCandidates = 16

// pointers are the entries of a backend, by what they point at.
type pointers struct {
	backend backend.Backend
	scope   map[string]string             // strings of the scope, which say nothing about one key
	opened  map[string]namespace.Ref      // by the key's id
	exact   map[string]namespace.Ref      // by encoded parameters
	named   map[string][]*pointsSomewhere // by each string of their parameters
}

// pointsSomewhere is an entry that was never opened.
type pointsSomewhere struct {
	ref    namespace.Ref
	params backend.Params
	id     string // of the key, once it was opened
	tried  bool
}

// pointers returns what the registry has for a backend.
func (r *Registry) pointers(b backend.Backend, scope backend.Params) *pointers {
	p := &pointers{backend: b, scope: texts(scope), opened: make(map[string]namespace.Ref),
		exact: make(map[string]namespace.Ref), named: make(map[string][]*pointsSomewhere)}
	r.mu.Lock()
	var spaces []*space
	for s := range r.spaces.all {
		spaces = append(spaces, s)
	}
	r.mu.Unlock()
	slices.SortFunc(spaces, func(a, b *space) int { return a.path.Compare(b.path) })
	for _, s := range spaces {
		s.mu.Lock()
		for e := range s.names.all {
			p.add(e)
		}
		s.mu.Unlock()
	}
	return p
}

// add takes an entry in, unless it is another backend's.
func (p *pointers) add(e *entry) {
	st := e.state.Load()
	if st.is(deleted) || !sameBackend(st.backend, p.backend) {
		return
	}
	ref := e.ref()
	if st.bound != nil {
		p.opened[st.bound.id] = least(p.opened, st.bound.id, ref)
		return
	}
	if code, err := backend.EncodeParams(st.params); err == nil {
		p.exact[string(code)] = least(p.exact, string(code), ref)
	}
	entry := &pointsSomewhere{ref: ref, params: st.params}
	for _, text := range texts(st.params) {
		if here := p.named[text]; len(here) <= maxCandidates && !slices.Contains(here, entry) {
			p.named[text] = append(here, entry)
		}
	}
}

// least returns the first by name of ref and what m has, so that the answer is the same each time.
func least(m map[string]namespace.Ref, key string, ref namespace.Ref) namespace.Ref {
	if old, ok := m[key]; ok && old.String() < ref.String() {
		return old
	}
	return ref
}

// texts returns the fields of params that are text and no secrets.
func texts(params backend.Params) map[string]string {
	if isNil(params) {
		return nil
	}
	var fields map[string]any
	if code, err := backend.EncodeParams(params); err != nil || json.Unmarshal(code, &fields) != nil {
		return nil
	}
	secrets := backend.SecretFields(params)
	out := make(map[string]string)
	for name, value := range fields {
		if text, ok := value.(string); ok && text != "" {
			if _, secret := secrets[name]; !secret {
				out[name] = text
			}
		}
	}
	return out
}

// find returns the entry that points at a key, or the zero value.
func (p *pointers) find(ctx context.Context, info backend.KeyInfo) (namespace.Ref, error) {
	if ref, ok := p.opened[info.ID]; ok {
		return ref, nil
	}
	if code, err := backend.EncodeParams(info.Params); err == nil {
		if ref, ok := p.exact[string(code)]; ok {
			return ref, nil
		}
	}
	lookups := []string{info.Label, info.ID, info.URI}
	for name, text := range texts(info.Params) {
		if p.scope[name] != text {
			lookups = append(lookups, text)
		}
	}
	slices.Sort(lookups)
	for _, text := range slices.Compact(lookups) {
		here := p.named[text]
		if text == "" || len(here) > maxCandidates {
			continue
		}
		for _, candidate := range here {
			id, err := candidate.open(ctx, p.backend)
			if err != nil {
				return namespace.Ref{}, err
			}
			if id == info.ID {
				return candidate.ref, nil
			}
		}
	}
	return namespace.Ref{}, nil
}

// noKey are the errors that say that an entry points at no key, or at none that can be told.
var noKey = []error{backend.ErrKeyNotFound, backend.ErrAmbiguousKey, backend.ErrKeyDisabled, backend.ErrUnsupported, backend.ErrInvalidParams, backend.ErrNotPermitted}

// open returns the id of the key that the entry points at, "" if there is none. The key is opened once.
func (e *pointsSomewhere) open(ctx context.Context, b backend.Backend) (string, error) {
	if e.tried {
		return e.id, nil
	}
	key, err := b.Open(ctx, e.params)
	switch {
	case err == nil:
		e.id = key.ID()
	case !slices.ContainsFunc(noKey, func(no error) bool { return errors.Is(err, no) }):
		return "", fmt.Errorf("the key of entry %s: %w", e.ref, err)
	}
	e.tried = true
	return e.id, nil
}
