// Package namespace names managed keys: a [Path] is a place in a hierarchy of namespaces and a [Ref] is one key's name
// inside a namespace.
//
// The root namespace is the empty path. Below it, segments are joined by a slash, as in "team-a/payments". Paths and
// names are plain strings, so that constants need no conversion; Parse functions and Validate methods say whether one is
// well formed, and everything that accepts one from outside calls them.
//
// All functions and methods are pure and safe for concurrent use.
package namespace

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Root is the namespace that contains every other.
const Root Path = ""

// Limits of a path and of a name, in bytes. A key name obeys the limit of a segment.
const (
	MaxSegment = 128
	MaxPath    = 1024
)

// ErrInvalid is wrapped by the error of every path, name or reference that is not well formed.
var ErrInvalid = errors.New("namespace: invalid name")

// reserved are the segments that stand for something else in the paths of the HTTP API (/v1/<namespace>/sys/…), so that
// no namespace can shadow them.
var reserved = []string{"audit", "auth", "cubbyhole", "identity", "root", "sys"}

// Reserved returns the names that can't be a segment of a [Path], sorted. They may be names of keys.
func Reserved() []string { return slices.Clone(reserved) }

// Path is a namespace. The zero value is [Root].
//
// A valid path has no leading or trailing slash and is at most [MaxPath] bytes long. Each segment is 1 to [MaxSegment]
// bytes of a-z, 0-9, '-', '_' and '.', begins with a letter or digit, and is not one of [Reserved].
type Path string

// ParsePath returns s as a Path. It changes nothing: for every accepted s, ParsePath(s).String() == s. The error wraps
// [ErrInvalid] and says which segment is wrong and what is allowed.
func ParsePath(s string) (Path, error) {
	p := Path(s)
	if err := p.Validate(); err != nil {
		return Root, err
	}
	return p, nil
}

// Validate returns nil if p is well formed, and otherwise the error of [ParsePath].
func (p Path) Validate() error {
	if p == Root {
		return nil
	}
	if len(p) > MaxPath {
		return fmt.Errorf("%w: path of %d bytes; at most %d are allowed", ErrInvalid, len(p), MaxPath)
	}
	for segment := range strings.SplitSeq(string(p), "/") {
		if err := validateSegment("path segment", segment); err != nil {
			return err
		}
		if slices.Contains(reserved, segment) {
			return fmt.Errorf("%w: path segment %q is reserved (so are %s)", ErrInvalid, segment, strings.Join(reserved, ", "))
		}
	}
	return nil
}

// String returns the path as text; it is empty for [Root].
func (p Path) String() string { return string(p) }

// Depth returns the number of segments; it is 0 for [Root].
func (p Path) Depth() int {
	if p == Root {
		return 0
	}
	return strings.Count(string(p), "/") + 1
}

// Base returns the last segment, or the empty string for [Root].
func (p Path) Base() string {
	return string(p)[strings.LastIndexByte(string(p), '/')+1:]
}

// Parent returns the path that directly contains p, and whether there is one: [Root] has no parent.
func (p Path) Parent() (Path, bool) {
	if p == Root {
		return Root, false
	}
	i := strings.LastIndexByte(string(p), '/')
	if i < 0 {
		return Root, true
	}
	return p[:i], true
}

// Child returns the path of segment directly below p. The error wraps [ErrInvalid] if segment is not a single valid
// segment or if the result would be longer than [MaxPath].
func (p Path) Child(segment string) (Path, error) {
	child := Path(segment)
	if p != Root {
		child = p + "/" + child
	}
	if err := validateSegment("path segment", segment); err != nil {
		return Root, err
	}
	if err := child.Validate(); err != nil {
		return Root, err
	}
	return child, nil
}

// Contains reports whether q is p itself or lies below it. Root contains every path; "a" does not contain "ab".
func (p Path) Contains(q Path) bool {
	if p == Root || p == q {
		return true
	}
	return len(q) > len(p) && q[len(p)] == '/' && q[:len(p)] == p
}

// Compare orders paths segment by segment, so that a path stands right before everything below it: it returns a negative
// number, zero or a positive number as p sorts before, with or after q. It is meant for [slices.SortFunc].
func (p Path) Compare(q Path) int {
	a, b := string(p), string(q)
	for a != "" && b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, "/")
		y, b, _ = strings.Cut(b, "/")
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// MarshalText returns the path as text, or the error of [Path.Validate].
func (p Path) MarshalText() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return []byte(p), nil
}

// UnmarshalText sets p as [ParsePath] does; p is unchanged if there is an error.
func (p *Path) UnmarshalText(text []byte) error {
	q, err := ParsePath(string(text))
	if err != nil {
		return err
	}
	*p = q
	return nil
}

// ValidateName returns nil if name can be the name of a key: 1 to [MaxSegment] bytes of a-z, 0-9, '-', '_' and '.', the
// first of them a letter or digit. The error wraps [ErrInvalid].
func ValidateName(name string) error { return validateSegment("key name", name) }

func validateSegment(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: empty %s", ErrInvalid, what)
	case len(s) > MaxSegment:
		return fmt.Errorf("%w: %s of %d bytes; at most %d are allowed", ErrInvalid, what, len(s), MaxSegment)
	}
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
			continue
		}
		if c != '-' && c != '_' && c != '.' {
			return fmt.Errorf("%w: %s %q has %q at byte %d; a-z, 0-9, '-', '_' and '.' are allowed", ErrInvalid, what, s, s[i:i+1], i)
		}
		if i == 0 {
			return fmt.Errorf("%w: %s %q begins with %q; it takes a letter or digit there", ErrInvalid, what, s, s[:1])
		}
	}
	return nil
}
