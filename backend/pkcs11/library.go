package pkcs11

import (
	"fmt"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// Library is a stanza about one PKCS#11 module of this machine. Entries refer to it by name, so that an entry, which a
// tenant may write, can't make the program load a file.
type Library struct {
	// Name is the logical name: 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit. Names are
	// compared without case. Required.
	Name string

	// Path is the file of the module. Required.
	Path string

	// MaxSessions bounds the sessions that this process opens on each token of the module; 0 means 64, and at least 3
	// are needed. A lower limit that the token reports is kept as well. Two of the sessions hold the login and search
	// for keys; each of the others carries one operation at a time. If several backends use the same token, the one
	// that connects first decides.
	MaxSessions int

	// CallTimeout bounds operations of keys whose context has no deadline; 0 means backend.DefaultCallTimeout.
	CallTimeout time.Duration
}

const (
	defaultSessions = 64
	minSessions     = 3 // crypto11 keeps one and pools the others; one searches
	maxSessions     = 4096

	libraryNameRule = "names have 1 to 64 letters, digits, '.', '_' and '-' and begin with a letter or digit"
)

// isLibraryName holds no path: neither a separator nor a leading dot passes.
func isLibraryName(name string) bool {
	if len(name) == 0 || len(name) > 64 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// validate checks everything but the file itself.
func (l Library) validate() error {
	switch {
	case l.Name == "":
		return invalid("library Name", "is missing; %s", libraryNameRule)
	case !isLibraryName(l.Name):
		return invalid("library Name", "got %.80q; %s", l.Name, libraryNameRule)
	case l.Path == "":
		return invalid("library Path", "of %q is missing; it takes the file of a PKCS#11 module", l.Name)
	case strings.ContainsRune(l.Path, 0):
		return invalid("library Path", "of %q has a NUL character", l.Name)
	case l.MaxSessions != 0 && (l.MaxSessions < minSessions || l.MaxSessions > maxSessions):
		return invalid("library MaxSessions", "of %q is %d; it takes %d to %d, or 0 for %d", l.Name, l.MaxSessions, minSessions, maxSessions, defaultSessions)
	case l.CallTimeout < 0:
		return invalid("library CallTimeout", "of %q is %v; it must not be negative", l.Name, l.CallTimeout)
	}
	return nil
}

// validateLibraries checks each library and that their names differ.
func validateLibraries(libraries []Library) error {
	if len(libraries) == 0 {
		return fmt.Errorf("pkcs11: no library is given; at least one is required: %w", backend.ErrInvalidParams)
	}
	names := make(map[string]bool, len(libraries))
	for _, l := range libraries {
		if err := l.validate(); err != nil {
			return err
		}
		if folded := strings.ToLower(l.Name); names[folded] {
			return invalid("library Name", "%q is given twice; names are compared without case", l.Name)
		} else {
			names[folded] = true
		}
	}
	return nil
}
