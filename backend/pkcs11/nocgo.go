//go:build !cgo

package pkcs11

import (
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// errNoCgo says why this build can't load modules.
var errNoCgo = fmt.Errorf("pkcs11: this program was built without cgo, which loading a PKCS#11 module needs; "+
	"build it with CGO_ENABLED=1 and a C compiler: %w", backend.ErrUnsupported)

// newModule is never called: New refuses before.
func newModule(string) module { return nil }
