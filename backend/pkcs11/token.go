package pkcs11

import (
	"debug/elf"
	"errors"
	"fmt"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// tokenInfo is what a token says of itself before login.
type tokenInfo struct{ cryptoki.TokenInfo }

// Flags of CK_TOKEN_INFO (PKCS #11 Specification Version 3.1, Section 3.2).
const (
	flagRNG             = 0x00000001
	flagWriteProtected  = 0x00000002
	flagUserPINSet      = 0x00000008
	flagInitialized     = 0x00000400
	flagUserPINCountLow = 0x00010000
	flagUserPINFinalTry = 0x00020000
	flagUserPINLocked   = 0x00040000
)

func (t tokenInfo) initialized() bool { return t.Flags&flagInitialized != 0 }

// identity returns what a token is known by when it comes back, maybe in another slot.
func (t tokenInfo) identity() string {
	if t.Serial == "" {
		return fmt.Sprintf("%q in slot %d", t.Label, t.Slot)
	}
	return fmt.Sprintf("%q %q", t.Label, t.Serial)
}

// usable returns an error that wraps a sentinel and says why the token can't be logged in to. Asking costs no login
// attempt.
func (c *conn) usable() error {
	switch {
	case !c.info.initialized():
		return fmt.Errorf("the token is not initialised: %w", backend.ErrUnavailable)
	case c.info.Flags&flagUserPINLocked != 0:
		return fmt.Errorf("the user's PIN is locked (CKF_USER_PIN_LOCKED); the security officer must set a new one: %w", backend.ErrCredentials)
	case c.info.Flags&flagUserPINSet == 0:
		return fmt.Errorf("the user's PIN was never set; the security officer must do that: %w", backend.ErrCredentials)
	}
	return nil
}

// countsWrongPIN reports whether the token says that it was given a wrong PIN since the last right one.
func (t tokenInfo) countsWrongPIN() bool {
	return t.Flags&(flagUserPINCountLow|flagUserPINFinalTry|flagUserPINLocked) != 0
}

// sessionLimit returns how many sessions this process may open on the token.
func (t tokenInfo) sessionLimit(lib Library) int {
	limit := lib.MaxSessions
	if limit == 0 {
		limit = defaultSessions
	}
	for _, n := range []uint{t.MaxSessions, t.MaxRWSessions} {
		if n > 0 && n < uint(limit) {
			limit = int(n)
		}
	}
	return limit
}

// neededLibraries returns, for the message of a failed load, the libraries that the module in path is linked with.
func neededLibraries(err error, path string) string {
	if !errors.Is(err, cryptoki.ErrRefused) {
		return ""
	}
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil || len(libraries) == 0 {
		return ""
	}
	return "; it needs " + strings.Join(libraries, ", ") + " (see ldd)"
}
