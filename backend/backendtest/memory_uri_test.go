package backendtest_test

import (
	"fmt"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// uri returns the canonical URI of a key.
func (m *memory) uri(e *entry) string {
	switch {
	case m.is("uri-missing"):
		return ""
	case m.is("uri-shows-pin"):
		return "memory:" + e.label + "?pin=" + pin
	case m.is("uri-of-another") && e.kind == "p256":
		return "memory:p384"
	}
	return "memory:" + e.label
}

func (m *memory) ParseURI(uri string, scope backend.Params) (backend.Params, error) {
	if _, ok := scope.(params); !ok && scope != nil && !m.is("uri-foreign-scope") {
		return nil, fmt.Errorf("memory: scope is %T: %w", scope, backend.ErrInvalidParams)
	}
	label, ok := strings.CutPrefix(uri, "memory:")
	if !ok && m.is("uri-lax") {
		return params{Label: "p256"}, nil
	}
	label, _, _ = strings.Cut(label, "?")
	p := params{Label: label}
	if !ok {
		return nil, fmt.Errorf("memory: URI: it takes memory:LABEL: %w", backend.ErrInvalidParams)
	}
	return p, p.Validate()
}

func (m *memory) Matches(p backend.Params) error {
	if m.is("matches-foreign") {
		return nil
	}
	if m.is("matches-nothing") {
		return fmt.Errorf("memory: none of ours: %w", backend.ErrInvalidParams)
	}
	_, err := backend.ParamsAs[params](p)
	return err
}
