package httpapi

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON (RFC 8259) from front to back, each byte once, without building what it reads. It takes what encoding/json
// takes, but for strings that are no UTF-8 or escape half a surrogate pair, which that one replaces.
type scanner struct {
	data []byte
	pos  int
	text []byte // the last string that had escapes
}

// Errors of a scanner. They show nothing of the data, which may be secret.
var (
	errEnd    = errors.New("unexpected EOF")
	errSyntax = errors.New("it takes one JSON object")
	errString = errors.New("a string is malformed")
)

// next skips white space and returns the byte that follows, which is not consumed.
func (s *scanner) next() (byte, error) {
	for ; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c, nil
		}
	}
	return 0, errEnd
}

// take consumes c, which must be next.
func (s *scanner) take(c byte) error {
	got, err := s.next()
	if err == nil && got != c {
		err = errSyntax
	}
	if err == nil {
		s.pos++
	}
	return err
}

// more consumes the separator in front of an element, if one follows, and otherwise the end of the object or array. first says that
// no element has been read.
func (s *scanner) more(end byte, first bool) (bool, error) {
	c, err := s.next()
	switch {
	case err != nil:
		return false, err
	case c == end:
		s.pos++
		return false, nil
	case first:
		return true, nil
	}
	err = s.take(',')
	return err == nil, err
}

// object consumes an object. member is called after each name and must consume the value; name is valid until then.
func (s *scanner) object(member func(name []byte) error) error {
	err := s.take('{')
	for first := true; err == nil; first = false {
		var more bool
		if more, err = s.more('}', first); !more {
			break
		}
		var name []byte
		if name, err = s.string(); err == nil {
			err = s.take(':')
		}
		if err == nil {
			err = member(name)
		}
	}
	return err
}

// end returns an error unless nothing but white space is left.
func (s *scanner) end() error {
	if _, err := s.next(); err == nil {
		return errSyntax
	}
	return nil
}

// string consumes a string and returns what it says, which is valid until the next string is read.
func (s *scanner) string() ([]byte, error) {
	if err := s.take('"'); err != nil {
		return nil, err
	}
	rest := s.data[s.pos:]
	n := bytes.IndexByte(rest, '"')
	if n < 0 {
		return nil, errEnd
	}
	raw := rest[:n]
	if bytes.IndexByte(raw, '\\') >= 0 {
		return s.unescape()
	}
	s.pos += n + 1
	for _, c := range raw {
		if c < ' ' {
			return nil, errString
		}
	}
	if !utf8.Valid(raw) {
		return nil, errString
	}
	return raw, nil
}

// escapes are what stands after a backslash, and what it means (RFC 8259, Section 7).
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape consumes the rest of a string that has escapes.
func (s *scanner) unescape() ([]byte, error) {
	out := s.text[:0]
	for ; s.pos < len(s.data); s.pos++ {
		c := s.data[s.pos]
		switch {
		case c == '"':
			s.pos++
			s.text = out
			if !utf8.Valid(out) {
				return nil, errString
			}
			return out, nil
		case c < ' ':
			return nil, errString
		case c != '\\':
			out = append(out, c)
			continue
		}
		if s.pos++; s.pos == len(s.data) {
			return nil, errEnd
		}
		switch c := s.data[s.pos]; {
		case c == 'u':
			r, err := s.unicode()
			if err != nil {
				return nil, err
			}
			out = utf8.AppendRune(out, r)
		case escapes[c] == 0:
			return nil, errString
		default:
			out = append(out, escapes[c])
		}
	}
	return nil, errEnd
}

// unicode reads an escaped rune, or two halves of one. It stands on the u, and ends on the last digit.
func (s *scanner) unicode() (rune, error) {
	r, err := s.hex()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if !bytes.HasPrefix(s.data[s.pos+1:], []byte(`\u`)) {
		return 0, errString
	}
	s.pos += 2
	low, err := s.hex()
	if err != nil {
		return 0, err
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, errString
	}
	return r, nil
}

// hex reads the four digits after a u.
func (s *scanner) hex() (rune, error) {
	if len(s.data)-s.pos < 5 {
		return 0, errEnd
	}
	n, err := strconv.ParseUint(string(s.data[s.pos+1:s.pos+5]), 16, 16)
	if err != nil {
		return 0, errString
	}
	s.pos += 4
	return rune(n), nil
}

// word consumes what is no string, array or object: true, false, null or a number, which are not checked.
func (s *scanner) word() ([]byte, error) {
	if _, err := s.next(); err != nil {
		return nil, err
	}
	start := s.pos
	for s.pos < len(s.data) && strings.IndexByte(" \t\r\n,:\"[]{}", s.data[s.pos]) < 0 {
		s.pos++
	}
	if s.pos == start {
		return nil, errSyntax
	}
	return s.data[start:s.pos], nil
}
