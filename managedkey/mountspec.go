package managedkey

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Limits of what a mount says about itself, in bytes, and of the number of its options.
const (
	MaxMountDescription = 1024
	MaxMountOptions     = 64
	MaxMountOption      = 4096 // of an option's value
)

// MountConfigPrefix begins the names of options that are not for the engine's type but for every mount, such as lease times. Front ends show
// and change them apart from the others: who says what a mount's options are has not said anything about these.
const MountConfigPrefix = "config."

// MountSpec is a mount to make.
type MountSpec struct {
	Namespace namespace.Path
	Path      string // as for [Registry.Mount]

	// Type is the kind of engine that the mount is for, such as "pki": empty or a name as of a key. It never changes, but for a mount
	// without one, which TuneMount can give one.
	Type string

	Description string            // for people: at most MaxMountDescription bytes of UTF-8
	Options     map[string]string // for the engine; their names obey the rules of a key's name. They are no place for secrets
	Allowed     []string          // names or UUIDs of the keys that the mount may use
}

// MountChange is what is to be changed of a mount. What is nil or empty stays as it is.
type MountChange struct {
	Type        string // for a mount that has none, as those that [Registry.Mount] made; else it must be the one that it has
	Description *string
	Options     map[string]string // all of them; an empty map that isn't nil takes them away
	Allowed     []string          // all of them, by name or UUID; an empty list that isn't nil takes them away
}

// mountInfo is what a mount says about itself. It is immutable.
type mountInfo struct {
	kind, description string
	options           map[string]string
}

var noInfo mountInfo

func (m *Mount) about() *mountInfo {
	if info := m.info.Load(); info != nil {
		return info
	}
	return &noInfo
}

// describe stores what the mount says about itself; space.mu is held. Most mounts of programs say nothing.
func (m *Mount) describe(info *mountInfo) {
	if info.kind == "" && info.description == "" && len(info.options) == 0 {
		info = nil
	}
	m.info.Store(info)
}

// Type returns the kind of engine that the mount is for; it is empty for mounts that [Registry.Mount] made.
func (m *Mount) Type() string { return m.about().kind }

// Description returns what the mount is for, in words for people.
func (m *Mount) Description() string { return m.about().description }

// Options returns a copy of the options of the mount's engine; nil if there are none.
func (m *Mount) Options() map[string]string { return maps.Clone(m.about().options) }

// with returns the information with a change applied, or an error if the result would be malformed.
func (i *mountInfo) with(change MountChange) (*mountInfo, error) {
	out := *i
	if change.Type != "" {
		if i.kind != "" && i.kind != change.Type {
			return nil, fmt.Errorf("field Type is %.40q; the mount has the type %q, which can't change: %w", change.Type, i.kind, backend.ErrInvalidParams)
		}
		out.kind = strings.Clone(change.Type)
	}
	if change.Description != nil {
		out.description = *change.Description
	}
	if change.Options != nil {
		out.options = maps.Clone(change.Options)
	}
	return &out, out.validate()
}

func (i *mountInfo) equal(j *mountInfo) bool {
	return i.kind == j.kind && i.description == j.description && maps.Equal(i.options, j.options)
}

func (i *mountInfo) validate() error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), backend.ErrInvalidParams)
	}
	if i.kind != "" && namespace.ValidateName(i.kind) != nil {
		return refuse("field Type is %.40q; it takes at most %d of a-z, 0-9, '-', '_' and '.'", i.kind, namespace.MaxSegment)
	}
	if len(i.description) > MaxMountDescription || !utf8.ValidString(i.description) {
		return refuse("field Description has %d bytes; it takes at most %d, in UTF-8", len(i.description), MaxMountDescription)
	}
	if len(i.options) > MaxMountOptions {
		return refuse("field Options has %d members; it takes at most %d", len(i.options), MaxMountOptions)
	}
	for _, name := range slices.Sorted(maps.Keys(i.options)) {
		if namespace.ValidateName(name) != nil {
			return refuse("field Options has %.40q; names are of a-z, 0-9, '-', '_' and '.'", name)
		}
		if v := i.options[name]; len(v) > MaxMountOption || !utf8.ValidString(v) {
			return refuse("field Options, %s: the value has %d bytes; it takes at most %d, in UTF-8", name, len(v), MaxMountOption)
		}
	}
	return nil
}

// CreateMount makes a mount as [Registry.Mount] does, which says more about itself. The error is that of Mount.
func (r *Registry) CreateMount(ctx context.Context, spec MountSpec) (made *Mount, err error) {
	ref := namespace.Ref{Namespace: spec.Namespace}
	ctx, done, err := r.beginMount(ctx, ref, spec.Path, spec.Allowed, &made)
	if err != nil {
		return nil, err
	}
	defer done(&err)
	if ctx.Err() != nil {
		return nil, fail("mount", ref, "", backend.ContextError(ctx))
	}
	err = spec.Namespace.Validate()
	if err == nil {
		err = validateMountPath(spec.Path)
	}
	if err != nil {
		return nil, fail("mount", ref, "", invalidRef(err))
	}
	info := &mountInfo{strings.Clone(spec.Type), strings.Clone(spec.Description), maps.Clone(spec.Options)}
	if err := info.validate(); err != nil {
		return nil, fail("mount", ref, "", err)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, fail("mount", ref, "", fmt.Errorf("no randomness for a UUID: %w: %w", backend.ErrUnavailable, err))
	}
	path := strings.Clone(spec.Path)
	if r.kept != nil {
		return r.kept.mount(ctx, spec.Namespace, id.String(), path, info, spec.Allowed)
	}
	return r.mount(spec.Namespace, id.String(), path, info, spec.Allowed)
}

// TuneMount changes a mount. Where it has to change more entries than a store takes at once (49), keys are first taken away and
// then added in groups, and an error says how many were changed; else it does all or nothing.
//
// The error wraps backend.ErrInvalidParams if the change is malformed or m is nil or of another registry, backend.ErrKeyNotFound if
// there is no such entry, backend.ErrNotPermitted if the mount was closed, or what the store returned.
func (r *Registry) TuneMount(ctx context.Context, m *Mount, change MountChange) (err error) {
	if err := r.own("tune", m); err != nil {
		return err
	}
	ctx, done, err := r.begin(ctx, "tune", namespace.Ref{Namespace: m.Namespace()}, func(op *Operation) {
		op.on(m)
		if change.Allowed != nil {
			op.Options = "granted " + strings.Join(change.Allowed, ", ")
		}
	})
	if err != nil {
		return err
	}
	defer done(&err)
	if ctx.Err() != nil {
		return m.fail("tune", "", "", backend.ContextError(ctx))
	}
	if _, err := m.about().with(change); err != nil {
		return m.fail("tune", "", "", err)
	}
	if r.kept != nil {
		err = r.kept.tune(ctx, m, change)
	} else {
		err = m.tune(change)
	}
	if err != nil {
		return m.fail("tune", "", "", err)
	}
	return nil
}

// tune is Registry.TuneMount without a store.
func (m *Mount) tune(change MountChange) error {
	m.space.mu.Lock()
	defer m.space.mu.Unlock()
	if m.closed.Load() {
		return errUnmounted
	}
	info, err := m.about().with(change)
	if err != nil {
		return err
	}
	add, drop, err := m.difference(change.Allowed)
	if err != nil {
		return err
	}
	for _, e := range drop {
		m.seat(e).granted.Store(false)
	}
	for _, e := range add {
		m.sit(e).granted.Store(true)
	}
	m.describe(info)
	return nil
}

// difference returns the entries that the mount needs a grant for and those that it has one too many for, so that it has exactly
// those that allowed names; nothing if allowed is nil. space.mu is held.
func (m *Mount) difference(allowed []string) (add, drop []*entry, err error) {
	if allowed == nil {
		return nil, nil, nil
	}
	wanted := make(map[*entry]bool, len(allowed))
	for _, nameOrUUID := range allowed {
		e := m.space.resolve(nameOrUUID)
		if e == nil {
			return nil, nil, fmt.Errorf("key %.128q: %w", nameOrUUID, errAbsent)
		}
		if s := m.seat(e); !wanted[e] && (s == nil || !s.granted.Load()) {
			add = append(add, e)
		}
		wanted[e] = true
	}
	for s := range m.seats.all {
		if s.granted.Load() && !wanted[s.entry] {
			drop = append(drop, s.entry)
		}
	}
	return add, drop, nil
}

// Mounts returns the mounts of exactly this namespace, sorted by path.
func (r *Registry) Mounts(ns namespace.Path) []*Mount {
	s := r.space(ns)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Mount
	for _, path := range slices.Sorted(maps.Keys(s.mounts)) {
		out = append(out, s.mounts[path])
	}
	return out
}

// MountAt returns the mount of the namespace that serves a path, such as "pki/issue/web": the one whose own path is the longest
// that path begins with, in whole segments; and what is left of path, without a slash in front. It returns nil if there is none.
func (r *Registry) MountAt(ns namespace.Path, path string) (m *Mount, rest string) {
	s := r.space(ns)
	if s == nil {
		return nil, ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		if m := s.mounts[path[:end]]; m != nil {
			return m, strings.TrimPrefix(path[end:], "/")
		}
	}
	return nil, ""
}
