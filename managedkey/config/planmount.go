package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// mount plans what has to change of a mount.
func (p *planner) mount(m *Mount) {
	for _, name := range m.Allowed {
		if all := p.entries(m.Namespace); !slices.Contains(all, name) {
			p.add(m.Pos, "mount %q allows %.140q, which is no key of the namespace; %s", m, name, takes(name, all))
			return
		}
	}
	at, err := p.reg.OpenMount(m.Namespace, m.Path)
	switch {
	case errors.Is(err, backend.ErrKeyNotFound):
		p.newMount(m)
	case err != nil:
		p.fail(m.Pos, err)
	case at.Type() != m.Type && at.Type() != "": // a program that had no types has made it: it becomes the file's
		p.add(m.Pos, "the mount %q has type %.60q, and the file says %q; the type of a mount can't change: delete the mount and create it",
			m, at.Type(), m.Type)
	default:
		p.tune(m, at)
		p.grants(m, at)
	}
}

// newMount plans a mount that there isn't.
func (p *planner) newMount(m *Mount) {
	c := Change{Action: Mounted, Ref: namespace.Ref{Namespace: m.Namespace}, Mount: m.Path, Pos: m.Pos, Fields: []string{"type: " + m.Type}}
	if m.Description != "" {
		c.Fields = append(c.Fields, fmt.Sprintf("description: %q", m.Description))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Options)) {
		c.Fields = append(c.Fields, fmt.Sprintf("options.%s: %q", name, m.Options[name]))
	}
	if len(m.Allowed) > 0 {
		c.Fields = append(c.Fields, "allowed_managed_keys: "+strings.Join(m.Allowed, ", "))
	}
	c.run = func(ctx context.Context) error {
		_, err := p.reg.CreateMount(ctx, managedkey.MountSpec{
			Namespace: m.Namespace, Path: m.Path, Type: m.Type, Description: m.Description, Options: m.Options, Allowed: m.Allowed,
		})
		return err
	}
	p.change(c)
}

// tune plans that a mount says of itself what the file does. A description or a lease time that the file says nothing about stays as it
// is; an option is a permission to the engine, and gone when it is taken out of the file.
func (p *planner) tune(m *Mount, at *managedkey.Mount) {
	c := Change{Action: Tune, Ref: namespace.Ref{Namespace: m.Namespace}, Mount: m.Path, Pos: m.Pos}
	var change managedkey.MountChange
	if at.Type() == "" {
		c.Fields = append(c.Fields, "type: none → "+m.Type)
		change.Type = m.Type
	}
	if now := at.Description(); m.described && now != m.Description {
		c.Fields = append(c.Fields, fmt.Sprintf("description: %q → %q", now, m.Description))
		change.Description = &m.Description
	}
	now, next := at.Options(), make(map[string]string) // nil would leave them
	for name, value := range now {
		if strings.HasPrefix(name, managedkey.MountConfigPrefix) {
			next[name] = value // tuned, unless the file says otherwise
		}
	}
	maps.Copy(next, m.Options)
	if !maps.Equal(now, next) {
		c.Fields = append(c.Fields, compareOptions(now, next)...)
		change.Options = next
	}
	if len(c.Fields) == 0 {
		return
	}
	c.run = func(ctx context.Context) error { return p.reg.TuneMount(ctx, at, change) }
	p.change(c)
}

// compareOptions returns the options that differ, as fields of a Change.
func compareOptions(was, is map[string]string) (fields []string) {
	all := maps.Clone(is)
	if all == nil {
		all = make(map[string]string)
	}
	maps.Copy(all, was)
	shown := func(of map[string]string, name string) string {
		if value, ok := of[name]; ok {
			return fmt.Sprintf("%q", value)
		}
		return "none"
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if before, after := shown(was, name), shown(is, name); before != after {
			fields = append(fields, fmt.Sprintf("options.%s: %s → %s", name, before, after))
		}
	}
	return fields
}

// grants plans which keys a mount may use.
func (p *planner) grants(m *Mount, at *managedkey.Mount) {
	if m.Allowed == nil {
		return
	}
	now := at.Allowed()
	for _, name := range m.Allowed {
		if _, has := slices.BinarySearch(now, name); !has {
			p.grant(Grant, at, name, m.Pos, p.reg.Grant)
		}
	}
	wanted := slices.Sorted(slices.Values(m.Allowed))
	for _, name := range now {
		if _, want := slices.BinarySearch(wanted, name); !want {
			p.grant(Revoke, at, name, m.Pos, p.reg.Revoke)
		}
	}
}

func (p *planner) grant(a Action, m *managedkey.Mount, name string, pos Pos, do func(context.Context, *managedkey.Mount, string) error) {
	ref := namespace.Ref{Namespace: m.Namespace(), Name: name}
	p.change(Change{Action: a, Ref: ref, Mount: m.Path(), Pos: pos, run: func(ctx context.Context) error { return do(ctx, m, name) }})
}
