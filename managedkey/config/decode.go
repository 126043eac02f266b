package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// decode sets the fields of *out, a struct, to the arguments of a block. A field has its argument's name in the tag "config", and
// ",required" after it if it must be given; embedded structs have more of them. As in the managed-keys API, integers and booleans
// may be strings. Durations are strings such as "10s", or seconds.
func (l *loader) decode(b *block, out any) {
	fields := make(map[string]field)
	fieldsOf(reflect.ValueOf(out).Elem(), fields)
	for _, name := range slices.Sorted(maps.Keys(b.args)) {
		a := b.args[name]
		f, known := fields[name]
		if !known {
			l.add(a.pos, "unknown argument %.60q of %s; %s", name, b.describe(), takes(name, slices.Collect(maps.Keys(fields))))
			continue
		}
		if err := set(f.value, a.value); err != nil {
			l.add(a.pos, "argument %q of %s: %s", name, b.describe(), err)
			continue
		}
		if s, ok := f.value.Interface().(backend.Secret); ok {
			l.secret(a.pos, name, s)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if _, given := b.args[name]; fields[name].required && !given {
			l.add(b.pos, "%s has no argument %q, which is required", b.describe(), name)
		}
	}
}

// describe names a block in errors.
func (b *block) describe() string {
	text := b.kind
	for _, label := range b.labels {
		text += fmt.Sprintf(" %.100q", label)
	}
	return text
}

// field is a field of a struct that an argument is for.
type field struct {
	value    reflect.Value
	required bool
}

func fieldsOf(v reflect.Value, into map[string]field) {
	for f, value := range v.Fields() {
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			fieldsOf(value, into)
			continue
		}
		if name, option, _ := strings.Cut(f.Tag.Get("config"), ","); name != "" {
			into[name] = field{value, option == "required"}
		}
	}
}

// set sets a field. The error says what it takes, and shows what it got unless the field is a secret.
func set(v reflect.Value, value any) error {
	want := ""
	text, isText := value.(string)
	number, isNumber := value.(json.Number)
	if isNumber {
		text = number.String()
	}
	switch p := v.Addr().Interface().(type) {
	case *backend.Secret:
		if !isText {
			return fmt.Errorf("it takes a string")
		}
		*p = backend.Secret(text)
		return nil
	case *time.Duration:
		if d, err := time.ParseDuration(text); err == nil && d >= 0 && isText {
			*p = d
			return nil
		}
		if n, err := strconv.ParseInt(text, 10, 32); err == nil && n >= 0 {
			*p = time.Duration(n) * time.Second
			return nil
		}
		return fmt.Errorf("got %s; it takes a duration such as \"10s\", or a whole number of seconds", show(value))
	case encoding.TextUnmarshaler:
		if !isText {
			return fmt.Errorf("got %s; it takes a string", show(value))
		}
		return p.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		if isText {
			v.SetString(text)
			return nil
		}
		want = "a string"
	case reflect.Bool:
		b, isBool := value.(bool)
		switch {
		case isBool:
			v.SetBool(b)
			return nil
		case text == "true" || text == "false" || text == "1" || text == "0": // as HCL of old had them
			v.SetBool(text == "true" || text == "1")
			return nil
		}
		want = "true or false"
	case reflect.Int, reflect.Int64:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && !v.OverflowInt(n) {
			v.SetInt(n)
			return nil
		}
		want = "a whole number"
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		if n, err := strconv.ParseUint(text, 10, 64); err == nil && !v.OverflowUint(n) {
			v.SetUint(n)
			return nil
		}
		want = "a whole number that is not negative"
	case reflect.Float64:
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			v.SetFloat(f)
			return nil
		}
		want = "a number"
	case reflect.Slice:
		return setList(v, value)
	case reflect.Map:
		return setMap(v, value)
	}
	return fmt.Errorf("got %s; it takes %s", show(value), want)
}

func setList(v reflect.Value, value any) error {
	list, ok := value.([]any)
	if !ok {
		return fmt.Errorf("got %s; it takes a list of strings", show(value))
	}
	out := reflect.MakeSlice(v.Type(), len(list), len(list))
	for i, e := range list {
		if err := set(out.Index(i), e); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	v.Set(out)
	return nil
}

func setMap(v reflect.Value, value any) error {
	members, ok := value.(map[string]any)
	if !ok {
		return fmt.Errorf("got %s; it takes an object", show(value))
	}
	out := make(map[string]string, len(members))
	for name, e := range members {
		text, ok := e.(string)
		if !ok {
			return fmt.Errorf("member %.60q: it takes a string", name)
		}
		out[name] = text
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

// show returns a value for an error.
func show(value any) string {
	switch value.(type) {
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("%.60q", fmt.Sprint(value))
}
