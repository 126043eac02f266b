package config

import (
	"slices"
	"strings"
)

// Policy is a policy block: rules in the policy language of Vault.
type Policy struct {
	Name  string
	Rules []Rule
	Pos   Pos
}

// Rule says what may be done at a path.
type Rule struct {
	// Pattern is a path below /v1/, such as "sys/managed-keys/pkcs11/ca". A "*" at its end stands for any rest, and "+" for any
	// one segment.
	Pattern      string
	Capabilities []string // of Capabilities, sorted, each once
	Pos          Pos
}

// Capabilities returns what rules can allow, sorted. "deny" wins over everything else.
func Capabilities() []string {
	return []string{"create", "delete", "deny", "list", "patch", "read", "sudo", "update"}
}

// maxPattern bounds the pattern of a rule, in bytes.
const maxPattern = 2048

func (l *loader) policy(b *block) {
	l.decode(b, new(struct{}))
	p := &Policy{Name: b.labels[0], Pos: b.pos}
	l.name(b.pos, "policy", p.Name)
	for _, inner := range b.blocks {
		var in struct {
			Capabilities []string `config:"capabilities,required"`
		}
		l.decode(inner, &in)
		r := Rule{Pattern: strings.TrimPrefix(inner.labels[0], "/"), Pos: inner.pos}
		switch star := strings.IndexByte(r.Pattern, '*'); {
		case r.Pattern == "" || len(r.Pattern) > maxPattern:
			l.add(inner.pos, "the pattern has %d bytes; it takes 1 to %d", len(r.Pattern), maxPattern)
		case star >= 0 && star != len(r.Pattern)-1:
			l.add(inner.pos, `pattern %.100q has "*" inside; it takes it at the end, and "+" for any one segment`, r.Pattern)
		case slices.ContainsFunc(strings.Split(r.Pattern, "/"), func(s string) bool { return s == ".." || len(s) > 1 && strings.Contains(s, "+") }):
			l.add(inner.pos, `pattern %.100q has ".." or a "+" that is not a whole segment`, r.Pattern)
		}
		for _, c := range in.Capabilities {
			if !slices.Contains(Capabilities(), c) {
				l.add(argPos(inner, "capabilities"), "unknown capability %.60q; %s", c, takes(c, Capabilities()))
			}
		}
		slices.Sort(in.Capabilities)
		r.Capabilities = slices.Compact(in.Capabilities)
		if slices.ContainsFunc(p.Rules, func(o Rule) bool { return o.Pattern == r.Pattern }) {
			l.add(inner.pos, "the policy has another rule for %.100q", r.Pattern)
		}
		p.Rules = append(p.Rules, r)
	}
	l.once(l.policies, "policy", p.Name, b.pos)
	l.cfg.Policies = append(l.cfg.Policies, p)
}
