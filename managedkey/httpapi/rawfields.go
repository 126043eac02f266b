package httpapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Raw stores a member as it is in JSON, for what has a form of its own. It is there and not null if *out is not nil afterwards.
func (f *Fields) Raw(name string, out *json.RawMessage) {
	if value, ok := f.take(name); ok {
		*out = value
	}
}

// Clone returns fields of which all can be taken that could be taken of f, for those who may have to begin again.
func (f *Fields) Clone() *Fields {
	return &Fields{members: maps.Clone(f.members), known: slices.Clone(f.known), err: f.err}
}

// Has reports whether there is a member of that name that is not null and that nobody took.
func (f *Fields) Has(name string) bool {
	value, ok := f.members[name]
	return ok && string(value) != "null"
}

// Time stores a moment in the form of RFC 3339, such as "2027-01-31T12:00:00Z". An empty string stores nothing.
func (f *Fields) Time(name string, out *time.Time) {
	var text string
	f.String(name, &text)
	if text == "" {
		return
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		f.refuse(name, "a time such as 2027-01-31T12:00:00Z")
		return
	}
	*out = at
}

// Refuse makes a member wrong whose form is right, and says what it takes. The first thing that is wrong counts.
func (f *Fields) Refuse(name, takes string) { f.refuse(name, takes) }

// Text stores a string, or a number as it is written.
func (f *Fields) Text(name string, out *string) {
	value, ok := f.take(name)
	if !ok {
		return
	}
	if value[0] == '-' || '0' <= value[0] && value[0] <= '9' {
		*out = string(value)
		return
	}
	if value[0] != '"' || json.Unmarshal(value, out) != nil {
		f.refuse(name, "a string or a number")
	}
}

// Objects calls take with each object of a list, in order; a string that has such a list in JSON counts as well, as the command line
// sends it. What is wrong in one of them is wrong in f, with its place, and ends the calls.
func (f *Fields) Objects(name string, take func(one *Fields)) {
	value, ok := f.take(name)
	if !ok || f.err != nil {
		return
	}
	var text string
	if value[0] == '"' && json.Unmarshal(value, &text) == nil {
		if text = strings.TrimSpace(text); text == "" {
			return
		}
		value = json.RawMessage(text)
	}
	var list []json.RawMessage
	if value[0] != '[' || json.Unmarshal(value, &list) != nil {
		f.refuse(name, "a list of objects")
		return
	}
	for i, data := range list {
		place := fmt.Sprintf("%s[%d]", name, i)
		one, err := parseFields(data)
		if err != nil {
			f.refuse(place, "an object, whose members are given once")
			return
		}
		take(one)
		if f.Join(place, one); f.err != nil {
			return
		}
	}
}
