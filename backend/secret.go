package backend

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/managedkeys/managedkeys/internal/regularfile"
)

// Redacted is what a [Secret] shows in place of its value, as the managed-keys API does on read.
const Redacted = "redacted"

// maxSecretFile bounds what is read of a file that a secret refers to, in bytes.
const maxSecretFile = 64 << 10

// Secret is a PIN, password or credential: either the value itself or a reference to it, "env:NAME" for an environment
// variable or "file:/path" for the content of a file, less one trailing line break. A reference need not be stored
// anywhere else and is read when it is used.
//
// Formatting, JSON, text and slog show "redacted" (and nothing at all if it is empty); only [Secret.Resolve] gives the
// value. The package fmt can't call methods of unexported struct fields: keep a Secret in exported fields only.
type Secret string

// Resolve returns the value that s stands for. The error wraps [ErrCredentials] and names the variable or the file, but
// never shows a value: the variable is not set or empty; the file can't be read, is no regular file, is empty or is
// larger than 64 KiB. It never waits: a pipe or a device is not read.
// An empty Secret resolves to the empty string.
func (s Secret) Resolve() (string, error) {
	switch kind, name, _ := strings.Cut(string(s), ":"); kind {
	case "env":
		value := os.Getenv(name)
		if value == "" {
			return "", fmt.Errorf("backend: secret: environment variable %q is not set or empty: %w", name, ErrCredentials)
		}
		return value, nil
	case "file":
		return readSecret(name)
	}
	return string(s), nil
}

func readSecret(path string) (string, error) {
	data, _, err := regularfile.Read(path, maxSecretFile)
	switch {
	case err != nil:
		return "", fmt.Errorf("backend: secret: %w: %w", ErrCredentials, err)
	case len(data) > maxSecretFile:
		return "", fmt.Errorf("backend: secret: file %q is larger than %d bytes: %w", path, maxSecretFile, ErrCredentials)
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return "", fmt.Errorf("backend: secret: file %q is empty: %w", path, ErrCredentials)
	}
	return string(data), nil
}

// IsReference reports whether s is an "env:" or "file:" reference and not the value itself.
func (s Secret) IsReference() bool {
	return strings.HasPrefix(string(s), "env:") || strings.HasPrefix(string(s), "file:")
}

// Equal reports whether s and t are the same text, in time that depends on their lengths only. References are not
// resolved.
func (s Secret) Equal(t Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s), []byte(t)) == 1
}

// String returns [Redacted], or "" if s is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return Redacted
}

// Format writes the redacted text for every verb.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'q' || verb == 'v' && f.Flag('#') {
		fmt.Fprintf(f, "%q", s.String())
		return
	}
	io.WriteString(f, s.String())
}

// MarshalText returns the redacted text, and so do JSON and XML. Text is read back as it is.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns the redacted text.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Referrer is implemented by Params of which a Secret can be a reference in another way than [Secret.IsReference] tells, such as the path
// of a file. Whoever takes parameters from others asks it, because what a reference stands for is the program's own.
type Referrer interface {
	// References returns those secrets. It reads nothing.
	References() []Secret
}
