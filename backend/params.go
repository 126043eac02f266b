package backend

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/managedkeys/managedkeys/internal/strictjson"
)

// ParamsDecoder is a Backend that can read parameters of its keys from JSON, as the managed-keys API and stores of entries
// have them.
type ParamsDecoder interface {
	Backend

	// DecodeParams returns what [DecodeParams] returns for the backend's own type of parameters.
	DecodeParams(data []byte) (Params, error)
}

// maxParams is the size of the longest object that DecodeParams reads, in bytes.
const maxParams = 64 << 10

// DecodeParams reads a JSON object whose members are the fields of T, a struct, by their JSON names. It is strict: members
// that T doesn't have, that appear twice or that are spelt in another case are refused, and so is null. As in the
// managed-keys API, integers and booleans may be strings: "2048", "true".
//
// The result is validated. The error wraps [ErrInvalidParams] and names the field, what it got (unless it is secret) and
// what it takes. That of an unknown field is an *[UnknownFieldError].
func DecodeParams[T Params](data []byte) (T, error) {
	var params T
	members, err := strictjson.Object(data, maxParams)
	if err != nil {
		return params, fmt.Errorf("backend: params: %w: %w", ErrInvalidParams, err)
	}
	fields, value := fieldsOf(reflect.TypeFor[T]()), reflect.ValueOf(&params).Elem()
	for _, m := range members {
		i, ok := fields[m.Name]
		if !ok {
			return params, &UnknownFieldError{m.Name, params.BackendType(), slices.Sorted(maps.Keys(fields))}
		}
		if err := setField(value.Field(i), m.Value); err != nil {
			return params, fmt.Errorf("backend: params: %s: %w: %w", m.Name, ErrInvalidParams, err)
		}
	}
	return params, params.Validate()
}

// fieldNames are the fields of each type of parameters, as fieldsOf returns them: a registry reads a great many of one type.
var fieldNames sync.Map

// fieldsOf returns the index of each field of a struct by its JSON name. The map must not be modified.
func fieldsOf(t reflect.Type) map[string]int {
	if known, ok := fieldNames.Load(t); ok {
		return known.(map[string]int)
	}
	fields := make(map[string]int)
	for i := range t.NumField() {
		field := t.Field(i)
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); field.IsExported() && name != "" && name != "-" {
			fields[name] = i
		}
	}
	known, _ := fieldNames.LoadOrStore(t, fields)
	return known.(map[string]int)
}

// setField sets a field to a JSON value. The error never shows the value of a Secret.
func setField(field reflect.Value, value json.RawMessage) error {
	refuse := func() error {
		takes := map[reflect.Kind]string{reflect.Bool: "true or false", reflect.Int: "a whole number", reflect.String: "a string"}[field.Kind()]
		if takes == "" {
			takes = field.Type().String()
		}
		if field.Type() == reflect.TypeFor[Secret]() {
			return fmt.Errorf("it takes %s", takes)
		}
		return fmt.Errorf("got %.60s; it takes %s", value, takes)
	}
	if string(value) == "null" {
		return refuse()
	}
	custom := false // the type has a form of its own
	switch field.Addr().Interface().(type) {
	case json.Unmarshaler, encoding.TextUnmarshaler:
		custom = true
	}
	var text string
	if !custom && field.Kind() != reflect.String && json.Unmarshal(value, &text) == nil {
		switch field.Kind() {
		case reflect.Bool:
			if text != "true" && text != "false" {
				return refuse()
			}
			value = json.RawMessage(text)
		case reflect.Int:
			n, err := strconv.Atoi(text)
			if err != nil {
				return refuse()
			}
			value = strconv.AppendInt(nil, int64(n), 10)
		}
	}
	err := json.Unmarshal(value, field.Addr().Interface())
	if err == nil {
		return nil
	}
	if _, mismatch := errors.AsType[*json.UnmarshalTypeError](err); custom && !mismatch {
		return err // the type knows best what it takes
	}
	return refuse()
}

// ParamsEncoder is a type of Params that has other parameters in it, which [EncodeParams] can't see.
type ParamsEncoder interface {
	Params

	// EncodeParams returns what [EncodeParams] is to return.
	EncodeParams() ([]byte, error)
}

// EncodeParams returns params as the JSON object that [DecodeParams] reads, with secrets as they are. It is for storage that
// is sealed; everywhere else, json.Marshal shows them as "redacted". params must be a struct or a ParamsEncoder.
func EncodeParams(params Params) ([]byte, error) {
	if e, ok := params.(ParamsEncoder); ok {
		return e.EncodeParams()
	}
	v := reflect.ValueOf(params)
	if v.Kind() != reflect.Struct {
		return nil, fmt.Errorf("backend: params are %T, not a struct: %w", params, ErrInvalidParams)
	}
	members := make(map[string]any)
	for name, i := range fieldsOf(v.Type()) {
		field := v.Field(i)
		if field.IsZero() {
			continue
		}
		if s, ok := field.Interface().(Secret); ok {
			members[name] = string(s)
		} else {
			members[name] = field.Interface()
		}
	}
	return json.Marshal(members)
}
