package httpapi

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/namespace"
)

// Capability is what may be done with a path: a set of bits.
type Capability uint8

// The capabilities. Deny takes away all others, of whatever policy.
const (
	Create Capability = 1 << iota
	Read
	Update
	Patch // taken by paths of engines alone
	Delete
	List
	Sudo
	Deny
)

const everything = Deny - 1

var capabilityNames = []string{"create", "read", "update", "patch", "delete", "list", "sudo", "deny"}

// ParseCapabilities returns the capabilities of that names. The error says which name is unknown.
func ParseCapabilities(names ...string) (Capability, error) {
	var out Capability
	for _, name := range names {
		i := slices.Index(capabilityNames, name)
		if i < 0 {
			return 0, fmt.Errorf("httpapi: capability %.40q; there are %s", name, strings.Join(capabilityNames, ", "))
		}
		out |= 1 << i
	}
	return out, nil
}

// Names returns the capabilities by name, sorted; only "deny" if c has that or nothing.
func (c Capability) Names() []string {
	if c == 0 || c&Deny != 0 {
		return []string{"deny"}
	}
	names := make([]string, 0, bits.OnesCount8(uint8(c)))
	for i, name := range capabilityNames {
		if c&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// allows reports whether c has all of want.
func (c Capability) allows(want Capability) bool { return c&Deny == 0 && c&want == want }

// RootPolicy is the policy that may do everything, in the namespace of the identity that has it and below. It can't be defined.
const RootPolicy = "root"

// Policy is a named set of rules.
type Policy struct {
	Name  string
	Rules []Rule
}

// Rule says what may be done with paths. Path is relative to the namespace of who has the policy: "sys/mounts/pki", and
// "team-a/sys/mounts/pki" in a namespace below. A segment "+" stands for any one segment, and "*" at the very end for anything.
//
// Of the rules that a path fits, the most specific one decides, as in Vault: without wildcards; else the one whose first wildcard is
// furthest to the right; else one without "*"; else the one with fewer "+"; else the longest; else the last in the alphabet. Rules
// of several policies for the same path are joined.
type Rule struct {
	Path         string
	Capabilities []string
}

// Policies is an Authorizer. It is immutable.
type Policies struct {
	all map[string]*policy
}

type policy struct {
	exact    map[string]Capability // by path without a slash at the end
	patterns []pattern
}

// pattern is a rule with wildcards.
type pattern struct {
	path     string
	segments []string // without the "*"
	glob     bool     // the last segment is the beginning of what may follow
	first    int      // where the first wildcard is
	pluses   int
	may      Capability
}

// NewPolicies returns an Authorizer with these policies. The error says which policy and rule is malformed.
func NewPolicies(all ...Policy) (*Policies, error) {
	out := &Policies{make(map[string]*policy, len(all))}
	for _, in := range all {
		refuse := func(format string, args ...any) (*Policies, error) {
			return nil, fmt.Errorf("httpapi: policy %.60q: %s", in.Name, fmt.Sprintf(format, args...))
		}
		if in.Name == "" || in.Name == RootPolicy || out.all[in.Name] != nil {
			return refuse("a name is required, other than %q, and once", RootPolicy)
		}
		p := &policy{exact: make(map[string]Capability)}
		for _, rule := range in.Rules {
			may, err := ParseCapabilities(rule.Capabilities...)
			if err != nil {
				return refuse("path %.80q: %v", rule.Path, err)
			}
			if err := p.add(rule.Path, may); err != nil {
				return refuse("path %.80q: %v", rule.Path, err)
			}
		}
		out.all[in.Name] = p
	}
	return out, nil
}

func (p *policy) add(path string, may Capability) error {
	path = strings.TrimPrefix(path, "/")
	if i := strings.IndexByte(path, '*'); i >= 0 && i < len(path)-1 {
		return fmt.Errorf(`"*" is taken at the end only`)
	}
	if path == "" || len(path) > maxPath {
		return fmt.Errorf("it takes 1 to %d bytes", maxPath)
	}
	one := pattern{path: path, may: may, first: len(path)}
	rest := path
	if rest, one.glob = strings.CutSuffix(path, "*"); one.glob {
		one.first = len(rest)
	}
	one.segments = strings.Split(rest, "/")
	at := 0
	for _, segment := range one.segments {
		if segment == "+" {
			one.pluses++
			one.first = min(one.first, at)
		}
		at += len(segment) + 1
	}
	if !one.glob && one.pluses == 0 {
		p.exact[strings.TrimSuffix(path, "/")] |= may
		return nil
	}
	if i := slices.IndexFunc(p.patterns, func(other pattern) bool { return other.path == path }); i >= 0 {
		p.patterns[i].may |= may
		return nil
	}
	p.patterns = append(p.patterns, one)
	return nil
}

// fits reports whether the pattern is one of path.
func (p *pattern) fits(path string) bool {
	for i, want := range p.segments {
		last := i == len(p.segments)-1
		if last && p.glob && want != "+" {
			return strings.HasPrefix(path, want)
		}
		got, rest, more := strings.Cut(path, "/")
		if want == "+" && got == "" || want != "+" && want != got {
			return false
		}
		if last {
			return p.glob || !more || rest == "" // a list has a slash at the end
		}
		if !more {
			return false
		}
		path = rest
	}
	return false
}

// below reports whether p is less specific than q.
func (p *pattern) below(q *pattern) bool {
	switch {
	case p.first != q.first:
		return p.first < q.first
	case p.glob != q.glob:
		return p.glob
	case p.pluses != q.pluses:
		return p.pluses > q.pluses
	case len(p.path) != len(q.path):
		return len(p.path) < len(q.path)
	}
	return p.path < q.path
}

// relative returns a path of namespace ns as the policies of an identity have it; ok is false if the identity may not be there.
func relative(id *Identity, ns namespace.Path, path string) (full string, ok bool) {
	if !id.Namespace.Contains(ns) {
		return "", false
	}
	below := strings.TrimPrefix(strings.TrimPrefix(string(ns), string(id.Namespace)), "/")
	if below != "" {
		path = below + "/" + path
	}
	return path, true
}

// Capabilities implements [Authorizer].
func (p *Policies) Capabilities(_ context.Context, id *Identity, ns namespace.Path, path string) (Capability, error) {
	path, ok := relative(id, ns, path)
	if !ok {
		return 0, nil
	}
	if slices.Contains(id.Policies, RootPolicy) {
		return everything, nil
	}
	var exact Capability
	var best *pattern
	var joined Capability
	found := false
	for _, name := range id.Policies {
		policy := p.all[name]
		if policy == nil {
			continue
		}
		if may, ok := policy.exact[strings.TrimSuffix(path, "/")]; ok {
			exact, found = exact|may, true
		}
		for i := range policy.patterns {
			one := &policy.patterns[i]
			switch {
			case !one.fits(path):
			case best == nil || best.below(one):
				best, joined = one, one.may
			case best.path == one.path:
				joined |= one.may
			}
		}
	}
	if !found {
		exact = joined
	}
	if exact&Deny != 0 {
		return Deny, nil
	}
	return exact, nil
}

// Reaches implements [Reacher]: whether some rule allows something for path or for what is below it.
func (p *Policies) Reaches(ctx context.Context, id *Identity, ns namespace.Path, path string) (bool, error) {
	may, err := p.Capabilities(ctx, id, ns, path+"/")
	if err != nil || may.allows(0) && may != 0 {
		return err == nil, err
	}
	full, ok := relative(id, ns, path)
	if !ok {
		return false, nil
	}
	want := strings.Split(full, "/")
	for _, name := range id.Policies {
		policy := p.all[name]
		if policy == nil {
			continue
		}
		for rule, may := range policy.exact {
			if may != 0 && may&Deny == 0 && (rule == full || strings.HasPrefix(rule, full+"/")) {
				return true, nil
			}
		}
		for _, one := range policy.patterns {
			if one.may != 0 && one.may&Deny == 0 && one.meets(want) {
				return true, nil
			}
		}
	}
	return false, nil
}

// meets reports whether the pattern may be one of something below the path that is split into want.
func (p *pattern) meets(want []string) bool {
	for i, segment := range want {
		if i >= len(p.segments) {
			return p.glob
		}
		last := i == len(p.segments)-1
		switch got := p.segments[i]; {
		case got == "+" || got == segment:
		case last && p.glob:
			return strings.HasPrefix(segment, got)
		default:
			return false
		}
	}
	return true
}
