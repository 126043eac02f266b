package config

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// Action is what a Change does.
type Action string

// The actions. Deleting an entry never deletes the key.
const (
	Create  Action = "create"  // make an entry
	Update  Action = "update"  // change the policy of one, or its pin
	Move    Action = "move"    // point one at another place; its key is opened there first, and must be the same
	Rotate  Action = "rotate"  // give one its next version, which is there already
	Delete  Action = "delete"  // remove an entry
	Mounted Action = "mount"   // make a mount
	Tune    Action = "tune"    // change what one says about itself
	Unmount Action = "unmount" // remove one
	Grant   Action = "grant"   // let a mount use a key
	Revoke  Action = "revoke"  // take that back
)

// Change is a part of a Plan.
type Change struct {
	Action Action
	Ref    namespace.Ref // of the entry; of a mount only its namespace
	Mount  string        // path of the mount, if there is one
	Fields []string      // what changes, as "max_parallel: 1 → 4"; values that are secret are not shown
	Pos    Pos           // what asks for it

	run func(context.Context) error
}

// phase returns when the change is made: those of a phase are made together, and after those of all phases before it.
func (c *Change) phase() int {
	return slices.Index([]Action{Create, Mounted, Tune, Grant, Revoke, Unmount, Delete}, c.kind())
}

// kind is Create for all that changes entries.
func (c *Change) kind() Action {
	switch c.Action {
	case Update, Move, Rotate:
		return Create
	}
	return c.Action
}

// String returns the change in a line for people, and a line for each field that changes. It begins with + for what is new, - for
// what goes, and ~ for what changes.
func (c Change) String() string {
	sign := "~"
	switch c.Action {
	case Create, Mounted, Grant:
		sign = "+"
	case Delete, Unmount, Revoke:
		sign = "-"
	}
	what := c.Ref.String()
	if c.Mount != "" {
		what = (&Mount{Namespace: c.Ref.Namespace, Path: c.Mount}).String()
		if c.Ref.Name != "" {
			what = fmt.Sprintf("%s: %s", what, c.Ref.Name)
		}
	}
	text := sign + " " + string(c.Action) + " " + what
	for _, f := range c.Fields {
		text += "\n    " + f
	}
	return text
}

// Plan is what Apply would change of a registry, so that it is as a configuration says. It holds for the registry as it was.
type Plan struct {
	Changes []Change // in the order in which they are made
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool { return len(p.Changes) == 0 }

// String returns the changes, one after the other, and how many there are. No secret is in it.
func (p *Plan) String() string {
	if p.Empty() {
		return "nothing to do\n"
	}
	var b strings.Builder
	count := make(map[byte]int)
	for _, c := range p.Changes {
		text := c.String()
		count[text[0]]++
		b.WriteString(text + "\n")
	}
	fmt.Fprintf(&b, "%d to add, %d to change, %d to remove\n", count['+'], count['~'], count['-'])
	return b.String()
}

// planner makes a Plan.
type planner struct {
	problems
	cfg     *Config
	reg     *managedkey.Registry
	changes []Change
	names   map[namespace.Path][]string // of the entries that there will be
}

// Plan returns what has to change of a registry so that it is as the configuration says. It changes nothing, and reads no key
// manager. The registry must have the configuration's connections, as that of a [System] has.
//
// Entries and mounts that are in no file are left alone, unless a namespace block says prune = true.
//
// Where the file leaves out a mount's description or allowed_managed_keys, they stay, however they came about; description = "" and
// allowed_managed_keys = [] take them away. Options, which permit things to engines, are the file's as a whole: one that it doesn't have is
// gone. But each of those whose names begin with managedkey.MountConfigPrefix, such as the lease times that are tuned over HTTP, is
// the file's only if it says it, as in options = { "config.max_lease_ttl" = "86400" }. A mount that has no type, since a program made it, gets
// the file's.
//
// A managed_key block is the whole entry, as a request of the managed-keys API is: what it leaves out has its default, so that a right or
// a part of the key's address that is taken out of the file is gone. Only public_key_sha256 and the min_ versions, where the file leaves
// them out, stay as the entry has them. An entry that was rotated keeps its newest key: the file then speaks of the version that it spoke of before.
//
// The error is an *[Error], with the places of what can't be had: an entry or a mount of another type, a mount that allows a key that
// there isn't.
func (c *Config) Plan(ctx context.Context, reg *managedkey.Registry) (*Plan, error) {
	p := &planner{cfg: c, reg: reg, names: make(map[namespace.Path][]string)}
	for _, k := range c.Keys {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		p.key(k)
	}
	for _, m := range c.Mounts {
		p.mount(m)
	}
	for _, n := range c.Namespaces {
		if n.Prune {
			p.prune(n)
		}
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(p.changes, func(a, b Change) int { return a.phase() - b.phase() })
	return &Plan{p.changes}, nil
}

func (p *planner) change(c Change) { p.changes = append(p.changes, c) }

// entries returns the names of the entries of a namespace, those that the files will make among them, sorted.
func (p *planner) entries(ns namespace.Path) []string {
	if all, ok := p.names[ns]; ok {
		return all
	}
	all := p.reg.List(ns)
	for _, k := range p.cfg.Keys {
		if k.Ref.Namespace == ns {
			all = append(all, k.Ref.Name)
		}
	}
	slices.Sort(all)
	p.names[ns] = slices.Compact(all)
	return p.names[ns]
}

// prune plans the removal of what is in a namespace and in no file.
func (p *planner) prune(n *Namespace) {
	keep := make(map[string]bool)
	for _, m := range p.cfg.Mounts {
		if m.Namespace == n.Path {
			keep["/"+m.Path] = true
		}
	}
	for _, k := range p.cfg.Keys {
		if k.Ref.Namespace == n.Path {
			keep[k.Ref.Name] = true
		}
	}
	for _, m := range p.reg.Mounts(n.Path) {
		if !keep["/"+m.Path()] {
			p.change(Change{Action: Unmount, Ref: namespace.Ref{Namespace: n.Path}, Mount: m.Path(), Pos: n.Pos,
				run: func(ctx context.Context) error { return p.reg.Unmount(ctx, m) }})
		}
	}
	for _, name := range p.reg.List(n.Path) {
		if keep[name] {
			continue
		}
		ref := namespace.Ref{Namespace: n.Path, Name: name}
		e, err := p.reg.Entry(ref)
		if err != nil {
			continue // it has just gone by itself
		}
		p.change(Change{Action: Delete, Ref: ref, Pos: n.Pos, run: func(ctx context.Context) error { return remove(ctx, p.reg, e) }})
	}
}
