package config

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// rootLabel is how the root namespace is written in the label of its block.
const rootLabel = "root"

// namespace reads a namespace block.
func (l *loader) namespace(b *block) {
	var in struct {
		Prune bool `config:"prune"`
	}
	l.decode(b, &in)
	n := &Namespace{Prune: in.Prune, Pos: b.pos}
	if b.labels[0] != rootLabel {
		n.Path = namespace.Path(b.labels[0])
		if err := n.Path.Validate(); err != nil {
			l.add(b.pos, "%s", err)
		}
	}
	l.once(l.namespaces, "namespace", string(n.Path), b.pos)
	l.cfg.Namespaces = append(l.cfg.Namespaces, n)
}

// place splits a label into namespace and the rest: after its last slash; or the argument namespace is the namespace, and the rest
// is the whole label.
func (l *loader) place(b *block, label string) (namespace.Path, string) {
	if a := b.args["namespace"]; a != nil {
		text, ok := a.value.(string)
		ns := namespace.Path(text)
		if text == rootLabel {
			ns = namespace.Root
		}
		if err := ns.Validate(); !ok || err != nil {
			l.add(a.pos, "argument \"namespace\" of %s takes a namespace such as \"team-a\", or \"root\"", b.describe())
			return "", label
		}
		return ns, label
	}
	i := strings.LastIndexByte(label, '/')
	if i < 0 {
		return namespace.Root, label
	}
	return namespace.Path(label[:i]), label[i+1:]
}

// key reads a managed_key block.
func (l *loader) key(b *block) {
	ns, name := l.place(b, b.labels[1])
	k := &Key{Ref: namespace.Ref{Namespace: ns, Name: name}, Type: b.labels[0], Pos: b.pos, flat: &flat{has: make(map[string]Pos)}}
	if err := k.Ref.Validate(); err != nil {
		l.add(b.pos, "%s", err)
		return
	}
	l.once(l.keys, "managed_key", k.Ref.String(), b.pos)
	fields := make(map[string]any)
	for name, a := range b.args {
		if name == "namespace" {
			continue
		}
		fields[name] = a.value
		k.flat.has[name] = a.pos
	}
	if at, ok := k.flat.has["UUID"]; ok {
		l.add(at, "argument \"UUID\" is assigned when the entry is made; leave it out")
		return
	}
	k.Connection, _ = fields["connection"].(string)
	var ok bool
	if k.flat.newest, ok = l.entry(b, k, fields); ok {
		l.versions(b, k, fields)
	}
	l.cfg.Keys = append(l.cfg.Keys, k)
}

// versions reads the older versions of a key. What they don't say is as in the newest.
func (l *loader) versions(b *block, k *Key, newest map[string]any) {
	inherited := maps.Clone(newest)
	for _, name := range []string{"public_key_sha256", "key_version", "min_decryption_version", "min_encryption_version"} {
		delete(inherited, name)
	}
	for _, v := range b.blocks {
		n, err := strconv.Atoi(v.labels[0])
		if err != nil || n < 1 {
			l.add(v.pos, "version %.40q; it takes a number from 1", v.labels[0])
			continue
		}
		fields := maps.Clone(inherited)
		for name, a := range v.args {
			fields[name] = a.value
		}
		data, ok := l.entry(v, k, fields)
		if ok {
			k.flat.older = append(k.flat.older, olderFlat{n, data, v.pos})
		}
	}
	slices.SortStableFunc(k.flat.older, func(a, b olderFlat) int { return a.number - b.number })
	for i, o := range k.flat.older {
		if i > 0 && o.number != k.flat.older[i-1].number+1 {
			l.add(o.pos, "version %d after version %d; versions are in order, without gaps, each once", o.number, k.flat.older[i-1].number)
		}
	}
	if n := len(k.flat.older); n > 0 {
		newest := k.version()
		if last := k.flat.older[n-1]; newest != last.number+1 {
			l.add(last.pos, "version %d is the last of the older ones, but key_version is %d; it is one more than the last", last.number, newest)
		}
	}
}

// version returns the number of the version that the block itself is about.
func (k *Key) version() int {
	var in struct {
		Version json.RawMessage `json:"key_version"`
	}
	if json.Unmarshal(k.flat.newest, &in) == nil {
		if n, err := strconv.Atoi(strings.Trim(string(in.Version), `"`)); err == nil && n > 0 {
			return n
		}
	}
	if n := len(k.flat.older); n > 0 {
		return k.flat.older[n-1].number + 1
	}
	return 1
}

// entry returns fields in JSON, checked as far as the parameters of the type are known.
func (l *loader) entry(b *block, k *Key, fields map[string]any) (json.RawMessage, bool) {
	data, err := json.Marshal(fields)
	if err != nil {
		l.add(b.pos, "%s can't be read as an object", b.describe()) // a number that JSON doesn't have
		return nil, false
	}
	if l.with == nil {
		return data, true
	}
	builder, known := l.with.Backends[k.Type]
	if !known {
		l.add(b.pos, "unknown type %.60q of a managed_key; %s", k.Type, takes(k.Type, l.with.backendTypes()))
		return data, false
	}
	if builder.Params == nil {
		return data, true
	}
	e, err := managedkey.DecodeEntry(k.Ref, params{k.Type, builder.Params}, data)
	if err != nil {
		l.fail(blame(b.pos, b.places(), err), err)
		return data, false
	}
	l.secrets(b, e.Params)
	return data, true
}

// secrets checks the secrets of parameters.
func (l *loader) secrets(b *block, p backend.Params) {
	for name, s := range backend.SecretFields(p) {
		if s != "" {
			l.secret(argPos(b, name), name, s)
		}
	}
}

// mount reads a mount block.
func (l *loader) mount(b *block) {
	var in struct {
		Namespace   string            `config:"namespace"` // read by place
		Allowed     []string          `config:"allowed_managed_keys"`
		Description string            `config:"description"`
		Options     map[string]string `config:"options"`
	}
	l.decode(b, &in)
	ns, path := l.place(b, strings.TrimSuffix(b.labels[1], "/"))
	m := &Mount{Type: b.labels[0], Namespace: ns, Path: path, Allowed: in.Allowed, Description: in.Description, Options: in.Options, Pos: b.pos}
	m.described = b.args["description"] != nil
	l.name(b.pos, "type of a mount", m.Type)
	err := ns.Validate()
	if err == nil {
		err = namespace.Path(path).Validate()
	}
	if err != nil {
		l.add(b.pos, "%s", err)
		return
	}
	if path == "" {
		l.add(b.pos, "%s has no path", b.describe())
	}
	l.mountInfo(b, m)
	seen := make(map[string]bool)
	for _, name := range m.Allowed {
		l.name(argPos(b, "allowed_managed_keys"), "allowed_managed_keys", name)
		if seen[name] {
			l.add(argPos(b, "allowed_managed_keys"), "allowed_managed_keys has %.140q twice", name)
		}
		seen[name] = true
	}
	l.once(l.mounts, "mount", m.String(), b.pos)
	l.cfg.Mounts = append(l.cfg.Mounts, m)
}

// mountInfo checks what a mount says about itself.
func (l *loader) mountInfo(b *block, m *Mount) {
	if n := len(m.Description); n > managedkey.MaxMountDescription {
		l.add(argPos(b, "description"), "description has %d bytes; it takes at most %d", n, managedkey.MaxMountDescription)
	}
	if n := len(m.Options); n > managedkey.MaxMountOptions {
		l.add(argPos(b, "options"), "options has %d members; it takes at most %d", n, managedkey.MaxMountOptions)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Options)) {
		l.name(argPos(b, "options"), "options", name)
		if n := len(m.Options[name]); n > managedkey.MaxMountOption {
			l.add(argPos(b, "options"), "option %.140q has %d bytes; it takes at most %d", name, n, managedkey.MaxMountOption)
		}
	}
}

// String returns the namespace and the path of the mount; the colon is in neither.
func (m *Mount) String() string {
	if m.Namespace == namespace.Root {
		return m.Path
	}
	return string(m.Namespace) + "/:" + m.Path
}

// mountRelations checks what mounts say of others. Keys of a namespace that the files own must be in the files; others may be made
// by other means, and are looked for when there is a registry.
func (l *loader) mountRelations() {
	owned := make(map[namespace.Path]bool)
	for _, n := range l.cfg.Namespaces {
		owned[n.Path] = n.Prune
	}
	names := make(map[namespace.Path][]string)
	for _, k := range l.cfg.Keys {
		names[k.Ref.Namespace] = append(names[k.Ref.Namespace], k.Ref.Name)
	}
	for _, m := range l.cfg.Mounts {
		l.declared(m.Namespace, m.Pos)
		if !owned[m.Namespace] {
			continue
		}
		for _, name := range m.Allowed {
			if _, ok := l.keys[namespace.Ref{Namespace: m.Namespace, Name: name}.String()]; !ok {
				l.add(m.Pos, "mount %q allows %.140q, which is no managed_key of the namespace; %s", m, name, takes(name, names[m.Namespace]))
			}
		}
	}
}

// CheckMountTypes returns an *[Error] about the mounts whose type is none of types: a program knows which engines it has.
func (c *Config) CheckMountTypes(types ...string) error {
	var p problems
	for _, m := range c.Mounts {
		if !slices.Contains(types, m.Type) {
			p.add(m.Pos, "unknown type %.60q of a mount; %s", m.Type, takes(m.Type, types))
		}
	}
	return p.err()
}
