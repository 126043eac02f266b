package backend

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
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
	if near := nearest(e.Field, e.Takes); near != "" {
		meant = fmt.Sprintf("; did you mean %q", near)
	}
	return fmt.Sprintf("backend: params: unknown field %.40q%s; backend %q takes %s: %v", e.Field, meant, e.Backend, strings.Join(e.Takes, ", "), ErrInvalidParams)
}

// Unwrap returns ErrInvalidParams.
func (e *UnknownFieldError) Unwrap() error { return ErrInvalidParams }

// nearest returns the one of names that text is a misspelling of, or "".
func nearest(text string, names []string) string {
	const longest = 40
	if len(text) > longest {
		return ""
	}
	best, found := 1+len(text)/4, ""
	for _, name := range slices.Sorted(slices.Values(names)) {
		if strings.EqualFold(text, name) {
			return name
		}
		if d := distance(text, name); d <= best && (found == "" || d < best) {
			best, found = d, name
		}
	}
	return found
}

// distance is the number of bytes to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

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
