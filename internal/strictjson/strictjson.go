// Package strictjson reads JSON objects from people and programs that may be wrong or hostile: a member that is given twice, a
// second value, an object that is too long or nested too deep is an error. No error shows anything of a value, which may be secret.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxDepth is how deep the arrays and objects of an object may be nested, the object itself included.
const MaxDepth = 32

// ErrMalformed is what is returned for everything that isn't exactly one JSON object. It doesn't say where: what is there can be
// secret.
var ErrMalformed = errors.New("it takes one JSON object")

// ErrTooLong is wrapped by the error for an object that is too long.
var ErrTooLong = errors.New("too long")

// Member is one member of an object.
type Member struct {
	Name  string
	Value json.RawMessage
}

// Object returns the members of the object that data is, in their order. max is the greatest length of data, in bytes. Objects
// inside members are not looked into, except for how deep they are nested: give them to Object as well.
func Object(data []byte, max int) ([]Member, error) {
	if len(data) > max {
		return nil, &tooLong{len(data), max}
	}
	if deep(data) {
		return nil, fmt.Errorf("it is nested too deep; it takes %d levels", MaxDepth)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, ErrMalformed
	}
	var members []Member
	seen := make(map[string]bool)
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, ErrMalformed
		}
		if seen[name] {
			return nil, fmt.Errorf("field %.40q is given twice", name)
		}
		seen[name] = true
		m := Member{Name: name}
		if err := dec.Decode(&m.Value); err != nil {
			return nil, ErrMalformed
		}
		members = append(members, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, ErrMalformed
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, ErrMalformed
	}
	return members, nil
}

type tooLong struct{ got, max int }

func (e *tooLong) Error() string {
	return fmt.Sprintf("got %d bytes; it takes at most %d", e.got, e.max)
}
func (e *tooLong) Unwrap() error { return ErrTooLong }

// deep reports whether data is nested deeper than MaxDepth, before anything recursive looks at it.
func deep(data []byte) bool {
	depth, inString, escaped := 0, false, false
	for _, c := range data {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped, inString = c == '\\', c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
