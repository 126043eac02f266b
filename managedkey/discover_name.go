package managedkey

import (
	"strconv"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// naming gives names to keys.
type naming struct {
	registry *Registry
	ns       namespace.Path
	used     map[string]bool // names that were given
	next     map[string]int  // by name, the number that the next one of that name gets, so that equal names take no time each
}

// choose returns a name for a key that nobody has.
func (n *naming) choose(info backend.KeyInfo) string {
	base := nameOf(info)
	name := base
	for n.taken(name) {
		number := max(n.next[base], 2)
		n.next[base] = number + 1
		suffix := "-" + strconv.Itoa(number)
		name = base[:min(len(base), namespace.MaxSegment-len(suffix))] + suffix
	}
	n.used[name] = true
	return name
}

func (n *naming) taken(name string) bool {
	return n.used[name] || n.registry.find(namespace.Ref{Namespace: n.ns, Name: name}) != nil
}

// nameOf returns a valid name that is made of a key's label or, if it has none, of its id.
func nameOf(info backend.KeyInfo) string {
	name := plainName(strings.TrimPrefix(info.Label, "alias/")) // as AWS has them
	if name == "" {
		id := info.ID
		if own, ok := texts(info.Params)["key_id"]; ok { // what is meant by an id in a PKCS#11 URI
			id = own
		}
		name = plainName(strings.TrimPrefix(id[strings.LastIndexByte(id, '/')+1:], "0x"))
		name = plainName("key-" + name)
	}
	if _, isID := parseID(name); isID { // which no entry may have
		name = "key-" + name
	}
	return name
}

// plainName returns text in lower case, with a hyphen for each run of characters that names don't have, cut to the length of
// a name; "" if nothing is left.
func plainName(text string) string {
	var b strings.Builder
	hyphen := false
	for _, c := range strings.ToLower(text) {
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '.':
			if hyphen && b.Len() > 0 {
				b.WriteByte('-')
			}
			hyphen = false
			if b.Len() > 0 || c != '_' && c != '.' {
				b.WriteRune(c)
			}
		default:
			hyphen = true
		}
		if b.Len() >= namespace.MaxSegment {
			break
		}
	}
	return b.String()[:min(b.Len(), namespace.MaxSegment)]
}
