// Package strictjson reads JSON objects from people and programs that may be wrong or hostile: a member that is given twice, a
// second value, an object that is too long or nested too deep is an error. No error shows anything of a value, which may be secret.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
// inside members are not looked into, except for how deep they are nested: give them to Object as well. The values are parts of data.
func Object(data []byte, max int) ([]Member, error) {
	if len(data) > max {
		return nil, &tooLong{len(data), max}
	}
	if deep(data) {
		return nil, fmt.Errorf("it is nested too deep; it takes %d levels", MaxDepth)
	}
	// From here on it is known to be JSON, and only where things end is looked for: json.Decoder takes several times as long.
	if data = bytes.TrimLeft(data, space); len(data) == 0 || data[0] != '{' || !json.Valid(data) {
		return nil, ErrMalformed
	}
	var members []Member
	for data = next(data); data[0] != '}'; {
		end := valueEnd(data)
		name, err := unquote(data[:end])
		if err != nil { // not reached
			return nil, ErrMalformed
		}
		data = next(data[end:]) // after the colon
		end = valueEnd(data)
		members = append(members, Member{name, data[:end:end]})
		if data = bytes.TrimLeft(data[end:], space); data[0] == ',' {
			data = next(data)
		}
	}
	if err := once(members); err != nil {
		return nil, err
	}
	return members, nil
}

// space is what may stand between tokens: RFC 8259, Section 2.
const space = " \t\r\n"

// next returns data after its first token of one byte, and the space behind that.
func next(data []byte) []byte {
	data = bytes.TrimLeft(data, space)
	return bytes.TrimLeft(data[1:], space)
}

// valueEnd returns the length of the value that data begins with.
func valueEnd(data []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case quoted && c == '"':
			if quoted = false; depth == 0 {
				return i + 1
			}
		case quoted:
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			if depth--; depth == 0 {
				return i + 1
			}
		case depth == 0 && (c == ',' || c == '}' || c == ']' || c == ' ' || c == '\t' || c == '\r' || c == '\n'):
			return i
		}
	}
	return len(data)
}

// unquote returns what a string says.
func unquote(quoted []byte) (text string, err error) {
	inner := quoted[1 : len(quoted)-1]
	for _, c := range inner {
		if c == '\\' || c >= 0x80 {
			return text, json.Unmarshal(quoted, &text)
		}
	}
	return string(inner), nil
}

// few is for how many members it is faster to compare each with each.
const few = 8

// once returns an error if a member is there twice.
func once(members []Member) error {
	twice := func(name string) error { return fmt.Errorf("field %.40q is given twice", name) }
	if len(members) <= few {
		for i, m := range members {
			for _, other := range members[:i] {
				if other.Name == m.Name {
					return twice(m.Name)
				}
			}
		}
		return nil
	}
	seen := make(map[string]bool, len(members))
	for _, m := range members {
		if seen[m.Name] {
			return twice(m.Name)
		}
		seen[m.Name] = true
	}
	return nil
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
