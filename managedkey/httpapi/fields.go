package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/internal/strictjson"
)

// Fields are the members of a JSON object that a client sent. Each method takes a member out and stores it, or does nothing if there
// is none; [Fields.Done] says what was wrong. No error shows a value, since it may be secret.
type Fields struct {
	members map[string]json.RawMessage
	known   []string
	err     error
}

// ReadFields returns the object that is the body of a request; nothing if there is no body. The error is an *[Error].
func ReadFields(r *http.Request) (*Fields, error) {
	data, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return new(Fields), nil
	}
	return parseFields(data)
}

func parseFields(data []byte) (*Fields, error) {
	members, err := strictjson.Object(data, len(data))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "failed to decode JSON input: %v", err)
	}
	f := &Fields{members: make(map[string]json.RawMessage, len(members))}
	for _, m := range members {
		f.members[m.Name] = m.Value
	}
	return f, nil
}

// readBody returns the body of a request, which must be JSON as far as can be told: what curl -d sends without being told otherwise
// counts.
func readBody(r *http.Request) ([]byte, error) {
	if r.Header.Get("Content-Encoding") != "" {
		return nil, refuse(http.StatusUnsupportedMediaType, "header Content-Encoding: the body must not be encoded")
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	data, err := readAll(r)
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil, refuse(http.StatusRequestTimeout, "the body did not come in time")
	case err != nil && !errors.As(err, new(*http.MaxBytesError)):
		return nil, refuse(http.StatusBadRequest, "the body can't be read: it was cut off or is malformed")
	case err != nil:
		return nil, err
	case len(data) == 0:
		return nil, nil
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	form := kind == "application/x-www-form-urlencoded" && data[0] == '{'
	charset := strings.ToLower(params["charset"])
	patch := kind == "application/merge-patch+json" && r.Method == http.MethodPatch
	if r.Header.Get("Content-Type") != "" && (err != nil || kind != "application/json" && !form && !patch) || charset != "" && charset != "utf-8" {
		return nil, refuse(http.StatusUnsupportedMediaType, "header Content-Type: it takes application/json, in UTF-8")
	}
	if string(bytes.TrimSpace(data)) == "null" { // what stock clients write if there is nothing to say
		return nil, nil
	}
	return data, nil
}

// take returns a member that is there and not null.
func (f *Fields) take(name string) (json.RawMessage, bool) {
	f.known = append(f.known, name)
	value, ok := f.members[name]
	delete(f.members, name)
	return value, ok && string(value) != "null"
}

func (f *Fields) refuse(name, takes string) {
	if f.err == nil {
		f.err = refuse(http.StatusBadRequest, "field %s: it takes %s", name, takes)
	}
}

// String stores a string.
func (f *Fields) String(name string, out *string) {
	if value, ok := f.take(name); ok && (value[0] != '"' || json.Unmarshal(value, out) != nil) {
		f.refuse(name, "a string")
	}
}

// Bool stores true or false, which may be a string.
func (f *Fields) Bool(name string, out *bool) {
	value, ok := f.take(name)
	if !ok {
		return
	}
	switch strings.Trim(string(value), `"`) {
	case "true", "1":
		*out = true
	case "false", "0", "":
		*out = false
	default:
		f.refuse(name, "true or false")
	}
}

// Int stores a whole number, which may be a string.
func (f *Fields) Int(name string, out *int) {
	value, ok := f.take(name)
	if !ok {
		return
	}
	n, err := strconv.Atoi(strings.Trim(string(value), `"`))
	if err != nil {
		f.refuse(name, "a whole number")
		return
	}
	*out = n
}

// maxTTL is the longest time that is taken: 100 years.
const maxTTL = 100 * 365 * 24 * time.Hour

// Duration stores a time: a number of seconds, which may be a string, or a string such as "90m", "8760h" or "30d". An empty string
// stores nothing.
func (f *Fields) Duration(name string, out *time.Duration) {
	value, ok := f.take(name)
	text := strings.Trim(string(value), `"`)
	if !ok || text == "" {
		return
	}
	d, err := parseDuration(text)
	if err != nil || d < 0 || d > maxTTL {
		f.refuse(name, `seconds, or a time such as "90m", "8760h" or "30d", of at most 100 years`)
		return
	}
	*out = d
}

func parseDuration(text string) (time.Duration, error) {
	if n, err := strconv.ParseInt(strings.TrimSuffix(text, "d"), 10, 32); err == nil {
		unit := time.Second
		if strings.HasSuffix(text, "d") {
			unit = 24 * time.Hour
		}
		if n > int64(maxTTL/unit) {
			return maxTTL + 1, nil
		}
		return time.Duration(n) * unit, nil
	}
	return time.ParseDuration(text)
}

// Strings stores a list of strings, which may be one string with commas. A list that is there is never nil; empty strings in it are
// left out.
func (f *Fields) Strings(name string, out *[]string) {
	value, ok := f.take(name)
	if !ok {
		return
	}
	var list []string
	var text string
	switch {
	case value[0] == '"' && json.Unmarshal(value, &text) == nil:
		list = strings.Split(text, ",")
	case value[0] != '[' || json.Unmarshal(value, &list) != nil:
		f.refuse(name, "a list of strings")
		return
	}
	*out = make([]string, 0, len(list))
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" {
			*out = append(*out, s)
		}
	}
}

// Map stores an object of strings. One that is there is never nil.
func (f *Fields) Map(name string, out *map[string]string) {
	value, ok := f.take(name)
	if !ok {
		return
	}
	members, err := strictjson.Object(value, len(value))
	if err != nil {
		f.refuse(name, "an object of strings, each given once")
		return
	}
	*out = make(map[string]string, len(members))
	for _, m := range members {
		var text string
		if m.Value[0] != '"' || json.Unmarshal(m.Value, &text) != nil {
			f.refuse(name, "an object of strings, each given once")
			return
		}
		(*out)[m.Name] = text
	}
}

// Object returns an object within the object, empty if there is none. What is wrong in it is to be joined with [Fields.Join].
func (f *Fields) Object(name string) *Fields {
	value, ok := f.take(name)
	if !ok {
		return new(Fields)
	}
	inner, err := parseFields(value)
	if err != nil {
		f.refuse(name, "an object, whose members are given once")
		return new(Fields)
	}
	return inner
}

// Join makes what is wrong in a part of the object wrong in f.
func (f *Fields) Join(name string, part *Fields) {
	err := part.Done()
	if err == nil || f.err != nil {
		return
	}
	messages := slices.Clone(StatusOf(err).Messages)
	messages[0] = name + ", " + messages[0]
	f.err = &Error{http.StatusBadRequest, messages}
}

// Unset takes members that clients send with every request and that mean nothing here, as long as they say nothing: null, false, 0,
// and what is empty.
func (f *Fields) Unset(names ...string) {
	for _, name := range names {
		value, ok := f.take(name)
		if ok && !slices.Contains([]string{"false", "0", `""`, "[]", "{}"}, string(value)) {
			f.refuse(name, "no value here: this server has no such setting")
		}
	}
}

// Done returns the first thing that was wrong, or an error for members that nobody took; an *[Error].
func (f *Fields) Done() error {
	if f.err != nil {
		return f.err
	}
	for _, name := range slices.Sorted(maps.Keys(f.members)) {
		return refuse(http.StatusBadRequest, "field %.60q is unknown; there are: %s", name, takes(f.known))
	}
	return nil
}

func takes(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return fmt.Sprint(strings.Join(slices.Sorted(slices.Values(names)), ", "))
}
