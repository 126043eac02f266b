// Package softkey has what the engines that may have keys in software do alike: how a mount allows them, and how their keys come into a
// backend of such keys and out of it, by the contract alone.
package softkey

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// Option is the option of a mount that allows keys in software there, if it is "true".
const Option = "software_keys"

// Allowed reports whether the mount's option allows keys in software. It is asked each time, since options change.
func Allowed(m *managedkey.Mount) bool { return m.Options()[Option] == "true" }

// Check returns an error unless b can have the keys: it must be a [backend.Importer], and a [backend.ParamsDecoder] whose parameters are
// those of type software in the managed-keys API.
func Check(b backend.Backend) error {
	_, imports := b.(backend.Importer)
	if _, decodes := b.(backend.ParamsDecoder); !imports || !decodes {
		return fmt.Errorf("keys in software: a backend of type %q; it takes a backend.Importer that is a backend.ParamsDecoder: %w", b.Type(), backend.ErrInvalidParams)
	}
	return nil
}

// Params returns the parameters of the key of that name. keyType may be empty, if the key itself says what it is.
func Params(b backend.Backend, name, keyType string) (backend.Params, error) {
	fields := map[string]string{"key_name": name}
	if keyType != "" {
		fields["key_type"] = keyType
	}
	data, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return b.(backend.ParamsDecoder).DecodeParams(data)
}

// Discard takes a key out of the backend, as far as the contract goes: one that nobody knows takes its place.
func Discard(ctx context.Context, b backend.Backend, name string) error {
	params, err := Params(b, name, "AES")
	if err != nil {
		return err
	}
	nobodys := make([]byte, 32)
	rand.Read(nobodys) // it never fails
	_, err = b.(backend.Importer).Import(ctx, params, nobodys, &backend.ImportOptions{Replace: true})
	return err
}
