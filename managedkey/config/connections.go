package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/namespace"
)

// library reads a kms_library block as the connection that it is.
func (l *loader) library(b *block) {
	name, ok := "", false
	if a := b.args["name"]; a != nil {
		name, ok = a.value.(string)
	}
	if !ok {
		l.add(argPos(b, "name"), "%s has no name; it takes a string", b.describe())
		return
	}
	// Libraries are compared without case, and may have a dot in their names, which connections don't.
	name = strings.ReplaceAll(strings.ToLower(name), ".", "-")
	l.connect(b, b.labels[0], name)
}

func (l *loader) connection(b *block) { l.connect(b, b.labels[0], b.labels[1]) }

// connect reads a connection.
func (l *loader) connect(b *block, kind, name string) {
	c := &Connection{Type: kind, Name: name, Pos: b.pos}
	bad := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' }
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, bad) {
		l.add(b.pos, `the name of a connection is %.80q; it takes 1 to 64 lower-case letters, digits, "-" and "_"`, name)
	}
	own := &block{kind: b.kind, labels: b.labels, pos: b.pos, args: make(map[string]*argument)}
	rest := &block{kind: b.kind, labels: b.labels, pos: b.pos, args: maps.Clone(b.args)}
	if a := rest.args["namespaces"]; a != nil {
		own.args["namespaces"] = a
		delete(rest.args, "namespaces")
		var in struct {
			Namespaces []namespace.Path `config:"namespaces"`
		}
		l.decode(own, &in)
		c.Namespaces = in.Namespaces
	}
	c.stanza = &stanza{block: rest}
	if l.with != nil {
		builder, known := l.with.Backends[kind]
		if !known {
			l.add(b.pos, "unknown type %.60q of a connection; %s", kind, takes(kind, l.with.backendTypes()))
		} else {
			s := builder.New()
			before := len(l.errors)
			l.decode(rest, s)
			if len(l.errors) == before {
				if err := s.Validate(); err != nil {
					l.fail(blame(b.pos, b.places(), err), err)
				}
			}
			c.stanza.value = s
		}
	}
	l.once(l.connections, "connection", name, b.pos)
	l.cfg.Connections = append(l.cfg.Connections, c)
}

// admits reports whether entries of a namespace may use the connection.
func (c *Connection) admits(ns namespace.Path) bool {
	return c.Namespaces == nil || slices.ContainsFunc(c.Namespaces, func(p namespace.Path) bool { return p.Contains(ns) })
}

// uses returns the names of the connections that the connection is made of.
func (c *Connection) uses() []string {
	if u, ok := c.stanza.value.(User); ok {
		return u.Uses()
	}
	return nil
}

// sorted returns the connections so that each comes after those that it uses. What is in a circle is left out.
func sorted(all []*Connection) []*Connection {
	var out []*Connection
	there := make(map[string]bool)
	for len(out) < len(all) {
		before := len(out)
		for _, c := range all {
			if !there[c.Name] && !slices.ContainsFunc(c.uses(), func(name string) bool { return !there[name] }) {
				there[c.Name] = true
				out = append(out, c)
			}
		}
		if len(out) == before {
			break
		}
	}
	return out
}

// store reads the store.
func (l *loader) store(b *block) {
	l.once(l.singles, "the", "store", b.pos)
	s := &Store{Type: b.labels[0], Pos: b.pos, stanza: &stanza{block: b}}
	if l.with != nil {
		build, known := l.with.Stores[s.Type]
		if !known {
			l.add(b.pos, "unknown type %.60q of a store; %s", s.Type, takes(s.Type, l.with.storeTypes()))
			return
		}
		value := build()
		before := len(l.errors)
		l.decode(b, value)
		if len(l.errors) == before {
			if err := value.Validate(); err != nil {
				l.fail(blame(b.pos, b.places(), err), err)
			}
		}
		s.stanza.value = value
	}
	l.cfg.Store = s
}

// relations checks what blocks say of one another, once all are there.
func (l *loader) relations() {
	cfg := l.cfg
	byName := make(map[string]*Connection)
	for _, c := range cfg.Connections {
		byName[c.Name] = c
		for _, ns := range c.Namespaces {
			l.declared(ns, argPos(c.stanza.block, "namespaces"))
		}
	}
	for _, c := range cfg.Connections {
		for _, name := range c.uses() {
			if byName[name] == nil {
				l.add(c.Pos, "connection %q is made of %.80q, which there isn't; %s", c.Name, name, takes(name, slices.Collect(maps.Keys(byName))))
			}
		}
	}
	if len(l.errors) == 0 {
		for _, c := range cfg.Connections {
			if !slices.Contains(sorted(cfg.Connections), c) {
				l.add(c.Pos, "connection %q is made of itself", c.Name)
			}
		}
	}
	for _, k := range cfg.Keys {
		l.declared(k.Ref.Namespace, k.Pos)
		l.keyConnection(k, byName)
	}
	l.mountRelations()
	l.sealRelations(byName)
	l.accessRelations()
}

// declared refuses a namespace that is not among those of the files, if these have any.
func (l *loader) declared(ns namespace.Path, pos Pos) {
	if len(l.namespaces) == 0 || ns == namespace.Root {
		return
	}
	if _, ok := l.namespaces[string(ns)]; !ok {
		l.add(pos, "unknown namespace %q; %s", ns, takes(string(ns), slices.Collect(maps.Keys(l.namespaces))))
	}
}

// keyConnection checks that there is a connection for a key.
func (l *loader) keyConnection(k *Key, byName map[string]*Connection) {
	pos := k.Pos
	if at, ok := k.flat.has["connection"]; ok {
		pos = at
	}
	var names []string
	types := make(map[string]bool)
	for _, c := range l.cfg.Connections {
		types[c.Type] = true
		if c.Type == k.Type && c.admits(k.Ref.Namespace) {
			names = append(names, c.Name)
		}
	}
	c := byName[k.Connection]
	switch {
	case k.Connection == "" && len(names) == 0:
		l.add(k.Pos, "no connection of type %.60q may be used in namespace %q; %s", k.Type, k.Ref.Namespace, takes(k.Type, slices.Collect(maps.Keys(types))))
	case k.Connection == "":
	case c == nil:
		l.add(pos, "unknown connection %.80q; %s", k.Connection, takes(k.Connection, names))
	case c.Type != k.Type:
		l.add(pos, "connection %q is of type %q, the key of type %q; %s", c.Name, c.Type, k.Type, takes("", names))
	case !c.admits(k.Ref.Namespace):
		l.add(pos, "connection %q may not be used in namespace %q; %s", c.Name, k.Ref.Namespace, takes("", names))
	}
}
