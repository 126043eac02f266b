package store

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ValidateKey returns nil if key is a path of at most MaxKey bytes: segments that are joined by slashes, none of them
// empty, in UTF-8 without control characters. The error wraps [ErrInvalid], or [ErrTooLarge].
func ValidateKey(key string) error { return validatePath("key", key) }

func validatePath(field, path string) error {
	switch {
	case path == "":
		return fmt.Errorf("store: %s: it is empty: %w", field, ErrInvalid)
	case len(path) > MaxKey:
		return fmt.Errorf("store: %s: got %d bytes, beginning with %.40q; it takes at most %d: %w", field, len(path), path, MaxKey, ErrTooLarge)
	case !utf8.ValidString(path):
		return fmt.Errorf("store: %s: %.100q is not UTF-8: %w", field, path, ErrInvalid)
	case path[0] == '/' || path[len(path)-1] == '/' || strings.Contains(path, "//"):
		return fmt.Errorf("store: %s: %.100q has an empty segment: %w", field, path, ErrInvalid)
	case strings.ContainsFunc(path, unicode.IsControl):
		return fmt.Errorf("store: %s: %.100q has a control character: %w", field, path, ErrInvalid)
	}
	return nil
}

// ValidatePrefix returns nil if prefix is empty or a valid key followed by a slash. The error is as for [ValidateKey].
func ValidatePrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	path, ok := strings.CutSuffix(prefix, "/")
	if !ok {
		return fmt.Errorf("store: prefix: got %.100q; it takes nothing, or a path that ends in a slash: %w", prefix, ErrInvalid)
	}
	return validatePath("prefix", path)
}

// ValidateList returns nil if the arguments of List are within bounds. The error is as for [ValidateKey].
func ValidateList(prefix, after string, limit int) error {
	if err := ValidatePrefix(prefix); err != nil {
		return err
	}
	if after != "" {
		if err := validatePath("after", after); err != nil {
			return err
		}
	}
	if limit < 1 || limit > MaxPage {
		return fmt.Errorf("store: limit: got %d; it takes 1 to %d: %w", limit, MaxPage, ErrInvalid)
	}
	return nil
}

// ValidateOps returns nil if ops are a transaction that Apply takes. The error is as for [ValidateKey].
func ValidateOps(ops []Op) error {
	if len(ops) == 0 {
		return fmt.Errorf("store: apply: got no ops: %w", ErrInvalid)
	}
	if len(ops) > MaxOps {
		return fmt.Errorf("store: apply: got %d ops; it takes at most %d: %w", len(ops), MaxOps, ErrTooLarge)
	}
	total := 0
	seen := make(map[string]struct{}, len(ops))
	for _, op := range ops {
		if err := validateOp(op); err != nil {
			return err
		}
		if _, ok := seen[op.Key]; ok {
			return fmt.Errorf("store: apply: key %q appears twice: %w", op.Key, ErrInvalid)
		}
		seen[op.Key] = struct{}{}
		total += len(op.Key) + len(op.Value)
	}
	if total > MaxApply {
		return fmt.Errorf("store: apply: got %d bytes of keys and values; it takes at most %d: %w", total, MaxApply, ErrTooLarge)
	}
	return nil
}

func validateOp(op Op) error {
	if err := ValidateKey(op.Key); err != nil {
		return err
	}
	switch op.Kind {
	case Put:
		return ValidateValue(op.Key, op.Value)
	case Delete, Check:
		if op.Value != nil || op.Encode != nil {
			return fmt.Errorf("store: apply: %q: only Put takes a value: %w", op.Key, ErrInvalid)
		}
		if op.Kind == Delete && op.Expect == Absent {
			return fmt.Errorf("store: apply: %q: Delete doesn't take the expectation Absent: %w", op.Key, ErrInvalid)
		}
		return nil
	}
	return fmt.Errorf("store: apply: %q: got kind %d; it takes Put, Delete or Check: %w", op.Key, op.Kind, ErrInvalid)
}

// ValidateValue returns nil if a value has at most MaxValue bytes. The error wraps [ErrTooLarge].
func ValidateValue(key string, value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("store: value of %q: got %d bytes; it takes at most %d: %w", key, len(value), MaxValue, ErrTooLarge)
	}
	return nil
}

// Bytes returns the value that a Put stores under that version. The error wraps [ErrTooLarge] if Encode made too much of
// it, or is Encode's own.
func (op Op) Bytes(version uint64) ([]byte, error) {
	if op.Encode == nil {
		return op.Value, nil
	}
	value, err := op.Encode(version, op.Value)
	if err != nil {
		return nil, err
	}
	return value, ValidateValue(op.Key, value)
}
