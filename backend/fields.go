package backend

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/internal/nearest"
)

// UnknownFieldError reports a field that parameters don't have. It wraps [ErrInvalidParams].
type UnknownFieldError struct {
	Field   string
	Backend string   // type of the backend whose parameters were read
	Takes   []string // the fields that there are
}

// Error names the field, what it may have been meant to be, and all that there are.
func (e *UnknownFieldError) Error() string {
	meant := ""
	if near := nearest.Name(e.Field, slices.Sorted(slices.Values(e.Takes))); near != "" {
		meant = fmt.Sprintf("; did you mean %q", near)
	}
	return fmt.Sprintf("backend: params: unknown field %.40q%s; backend %q takes %s: %v", e.Field, meant, e.Backend, strings.Join(e.Takes, ", "), ErrInvalidParams)
}

// Unwrap returns ErrInvalidParams.
func (e *UnknownFieldError) Unwrap() error { return ErrInvalidParams }

// SecretFields returns the fields of params, a struct, that are secrets, by their JSON names and empty ones among them: for
// whoever edits parameters in JSON, where secrets are [Redacted]. It is nil for params that are no struct.
func SecretFields(params Params) map[string]Secret {
	v := reflect.ValueOf(params)
	if v.Kind() != reflect.Struct {
		return nil
	}
	secrets := make(map[string]Secret)
	for name, i := range fieldsOf(v.Type()) {
		if s, ok := v.Field(i).Interface().(Secret); ok {
			secrets[name] = s
		}
	}
	return secrets
}
