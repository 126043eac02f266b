package pki

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// Duration is a time span that JSON has as seconds, or as text: "72h", "30d", "3600".
type Duration time.Duration

// String returns the span as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON returns whole seconds.
func (d Duration) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, int64(time.Duration(d)/time.Second), 10), nil
}

// UnmarshalJSON takes a number of seconds, and a text with a unit or without.
func (d *Duration) UnmarshalJSON(data []byte) error {
	text := string(data)
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	unit := time.Second
	if days, ok := strings.CutSuffix(text, "d"); ok {
		text, unit = days, 24*time.Hour
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n > math.MaxInt64/int64(unit) || n < math.MinInt64/int64(unit) {
			return fmt.Errorf("%.40q is too long", text)
		}
		*d = Duration(time.Duration(n) * unit)
		return nil
	}
	span, err := time.ParseDuration(text)
	if err != nil || unit != time.Second || span%time.Second != 0 {
		return fmt.Errorf("got %.40s; it takes seconds, or text such as \"72h\" and \"30d\"", data)
	}
	*d = Duration(span)
	return nil
}

// Strings is a list that JSON also has as one text with commas.
type Strings []string

// MarshalJSON returns a list, also of nothing.
func (s Strings) MarshalJSON() ([]byte, error) { return json.Marshal(append([]string{}, s...)) }

// UnmarshalJSON takes a list of texts, or a text with commas, around which spaces don't count.
func (s *Strings) UnmarshalJSON(data []byte) error {
	*s = nil
	if len(data) == 0 || data[0] != '"' {
		return json.Unmarshal(data, (*[]string)(s))
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*s = append(*s, part)
		}
	}
	return nil
}

// MaxRole is the largest role in JSON, in bytes.
const MaxRole = 256 << 10

// DecodeRole reads a role of that name from JSON, and validates it. What is not given has the default of [NewRole]. A field that
// there isn't, or that is given twice, is an error that says so.
func DecodeRole(name string, data []byte) (Role, error) {
	r := NewRole(name)
	if err := decodeStrict(data, &r); err != nil {
		return Role{}, invalid("role %.140s: %w", name, err)
	}
	if err := r.Validate(); err != nil {
		return Role{}, err
	}
	return r, nil
}

// decodeStrict reads one JSON object into out, a struct, with exactly its fields. null leaves a field as it is.
func decodeStrict(data []byte, out any) error {
	if len(data) > MaxRole {
		return fmt.Errorf("got %d bytes; it takes at most %d", len(data), MaxRole)
	}
	fields := make(map[string]reflect.Value)
	for f, v := range reflect.ValueOf(out).Elem().Fields() {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != "" && tag != "-" {
			fields[tag] = v
		}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("it takes one JSON object")
	}
	seen := make(map[string]bool)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return fmt.Errorf("malformed JSON: %w", err)
		}
		name, _ := t.(string)
		field, ok := fields[name]
		switch {
		case !ok:
			return fmt.Errorf("unknown field %.40q; it takes %s", name, strings.Join(sortedKeys(fields), ", "))
		case seen[name]:
			return fmt.Errorf("field %s: it is given twice", name)
		}
		seen[name] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fmt.Errorf("field %s: malformed JSON: %w", name, err)
		}
		if err := json.Unmarshal(raw, field.Addr().Interface()); err != nil {
			return fmt.Errorf("field %s: %w", name, err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("malformed JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("there is something after the JSON object")
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// plain returns an error's text without what every error of this package begins and ends with, to be wrapped by another.
func plain(err error) error {
	text := strings.TrimPrefix(err.Error(), "pki: ")
	return errors.New(strings.TrimSuffix(text, ": "+backend.ErrInvalidParams.Error()))
}
