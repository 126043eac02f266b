package namespace

import (
	"fmt"
	"strings"
)

// Ref is the full name of a key: its namespace and its name there. It is comparable and fit to be a map key.
type Ref struct {
	Namespace Path   // where the key lives; the zero value is Root
	Name      string // unique within Namespace; see ValidateName
}

// ParseRef reads a reference as [Ref.String] writes it: the last segment is the name and what stands before it is the
// namespace, so "team-a/payments/issuing-ca" is the key issuing-ca of team-a/payments, and "issuing-ca" is a key of
// [Root]. The error wraps [ErrInvalid].
func ParseRef(s string) (Ref, error) {
	r := Ref{Name: s}
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		if i == 0 {
			return Ref{}, fmt.Errorf("%w: reference %.*q begins with a slash", ErrInvalid, MaxSegment, s)
		}
		r = Ref{Namespace: Path(s[:i]), Name: s[i+1:]}
	}
	if err := r.Validate(); err != nil {
		return Ref{}, err
	}
	return r, nil
}

// Validate returns nil if both parts are well formed; the error wraps [ErrInvalid].
func (r Ref) Validate() error {
	if err := r.Namespace.Validate(); err != nil {
		return err
	}
	return ValidateName(r.Name)
}

// String returns the namespace and the name joined by a slash, or the name alone in [Root].
func (r Ref) String() string {
	if r.Namespace == Root {
		return r.Name
	}
	return string(r.Namespace) + "/" + r.Name
}

// Compare orders references by namespace ([Path.Compare]) and then by name.
func (r Ref) Compare(s Ref) int {
	if c := r.Namespace.Compare(s.Namespace); c != 0 {
		return c
	}
	return strings.Compare(r.Name, s.Name)
}

// MarshalText returns the reference as [Ref.String] does, or the error of [Ref.Validate].
func (r Ref) MarshalText() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return []byte(r.String()), nil
}

// UnmarshalText sets r as [ParseRef] does; r is unchanged if there is an error.
func (r *Ref) UnmarshalText(text []byte) error {
	s, err := ParseRef(string(text))
	if err != nil {
		return err
	}
	*r = s
	return nil
}
