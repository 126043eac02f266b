package pkcs11

import (
	"cmp"
	"fmt"
	"slices"
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

	// MaxSessions bounds the sessions that this process opens on each token of the module; 0 means 64. A lower limit that
	// the token reports, or that shows when it refuses another session, is kept as well. Each session carries one
	// operation at a time; what finds none free waits in turn. For a token that computes on this machine's processors,
	// as SoftHSM2 does, no more operations run at once than there are processors. If several backends use the same
	// token, the one that connects first decides about this and the fields below.
	MaxSessions int

	// CallTimeout bounds operations of keys whose context has no deadline; 0 means backend.DefaultCallTimeout.
	CallTimeout time.Duration

	// IdleTimeout is after how long sessions that nobody uses are closed; 0 means a minute. MinIdle is how many are kept
	// all the same; 0 means 1, which also keeps the login.
	IdleTimeout time.Duration
	MinIdle     int

	// KeepAlive has every session that was not used for that long make a cheap call, for devices and firewalls that drop
	// idle ones; 0 means never.
	KeepAlive time.Duration

	// InlineCalls has operations run on the caller's goroutine while a session is free, which saves waking another thread
	// for each. A call that hangs in the module then holds its caller, whatever the context says. It is for modules that
	// compute in this process, such as SoftHSM2, where that matters.
	InlineCalls bool

	// VerifySignatures has every signature verified before it is returned, which takes tens of microseconds; see the
	// package documentation for what is verified without it.
	VerifySignatures bool

	// RawRSA lets RSA keys that decrypt also do so without a padding scheme (backend.RawRSAOptions, CKM_RSA_X_509).
	RawRSA bool

	// TokenNonces has the token make the nonces of AES-GCM, as FIPS 140 modules such as AWS CloudHSM insist.
	TokenNonces bool

	// PlainImport lets Import hand a key to the token in the clear (C_CreateObject) if the token has no mechanism to
	// unwrap it. Some tokens then mark the key as not always sensitive.
	PlainImport bool

	// PrivateKeyAttributes, PublicKeyAttributes and SecretKeyAttributes are added to the templates of keys that are made
	// or imported, and take the place of attributes that are set here by default; vendors document what they need. An
	// attribute whose Value is nil is not sent, for tokens that refuse to be told, unless it says what the key is made for.
	// Leaving out a usage, such as CKA_DECRYPT of a key that signs, lets the token decide whether the key has it;
	// tpm2-pkcs11, whose keys both sign and decrypt, makes them only if CKA_SIGN, CKA_DECRYPT, CKA_VERIFY and
	// CKA_ENCRYPT are left out. A private or secret key must be private, sensitive and not extractable also if that is
	// left out, or it is removed again and the error wraps backend.ErrUnsupported.
	PrivateKeyAttributes, PublicKeyAttributes, SecretKeyAttributes []Attribute
}

// Attribute is an attribute of an object (CK_ATTRIBUTE). Value is a bool, uint, string or []byte, or nil to leave the
// attribute out.
type Attribute struct {
	Type  uint
	Value any
}

const (
	defaultSessions    = 64
	maxSessions        = 4096
	defaultIdleTimeout = time.Minute

	libraryNameRule = "names have 1 to 64 letters, digits, '.', '_' and '-' and begin with a letter or digit"
)

func (l Library) callTimeout() time.Duration {
	return cmp.Or(l.CallTimeout, backend.DefaultCallTimeout)
}
func (l Library) idleTimeout() time.Duration { return cmp.Or(l.IdleTimeout, defaultIdleTimeout) }
func (l Library) minIdle() int               { return cmp.Or(l.MinIdle, 1) }

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
	case l.MaxSessions < 0 || l.MaxSessions > maxSessions:
		return invalid("library MaxSessions", "of %q is %d; it takes 1 to %d, or 0 for %d", l.Name, l.MaxSessions, maxSessions, defaultSessions)
	case l.MinIdle < 0 || l.MinIdle > maxSessions:
		return invalid("library MinIdle", "of %q is %d; it takes 1 to %d, or 0 for 1", l.Name, l.MinIdle, maxSessions)
	}
	for name, d := range map[string]time.Duration{"CallTimeout": l.CallTimeout, "IdleTimeout": l.IdleTimeout, "KeepAlive": l.KeepAlive} {
		if d < 0 {
			return invalid("library "+name, "of %q is %v; it must not be negative", l.Name, d)
		}
	}
	for _, a := range slices.Concat(l.PrivateKeyAttributes, l.PublicKeyAttributes, l.SecretKeyAttributes) {
		switch a.Value.(type) {
		case bool, uint, string, []byte:
		case nil:
			if a.Type == attrToken || a.Type == attrLabel || a.Type == attrID {
				return invalid("library attributes", "of %q leave out 0x%X, without which a new key could not be found", l.Name, a.Type)
			}
		default:
			return invalid("library attributes", "of %q have 0x%X of type %T; values are bool, uint, string, []byte or nil", l.Name, a.Type, a.Value)
		}
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
