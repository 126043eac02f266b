package managedkey

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestReport is what [Registry.Test] found. It has nothing that is secret.
type TestReport struct {
	Ref             namespace.Ref
	UUID            string               // of the entry
	Backend         string               // type of the backend
	KeyID           string               // the key manager's own identifier of the key
	PublicKeySHA256 []byte               // as Entry has it; nil if the key is symmetric
	Capabilities    backend.Capabilities // as Key.Capabilities has them
	Lacking         backend.Usage        // what the entry allows and the key can't do
	Opening         time.Duration        // how long it took until the key was open; next to nothing if it was already
	Steps           []TestStep           // in the order in which they were done
}

// TestStep is one operation that was tried.
type TestStep struct {
	Usage     backend.Usage // the one that it needs
	Algorithm string        // such as "ECDSA with SHA-256" or "RSA OAEP with SHA-256"; the key's own if there is no choice
	Duration  time.Duration // of the operation, without what was done to check its result
	Err       error         // nil if all was right, or an *Error
}

// String returns the report as a small table for people. The last column says "ok" or what is wrong.
func (r *TestReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s in %s, key %q, opened in %v\n", r.Ref, r.Capabilities.Algorithm, r.Backend, r.KeyID, short(r.Opening))
	if r.PublicKeySHA256 != nil {
		fmt.Fprintf(&b, "public key SHA-256 %x\n", r.PublicKeySHA256)
	}
	if r.Lacking != 0 {
		fmt.Fprintf(&b, "allowed, but not by the key: %s\n", r.Lacking)
	}
	if len(r.Steps) == 0 {
		b.WriteString("nothing to test\n")
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range r.Steps {
		result := "ok"
		if s.Err != nil {
			result = "FAILED: " + strings.Join(strings.Fields(cause(s.Err).Error()), " ")
		}
		fmt.Fprintf(w, "%s\t%s\t%v\t%s\n", s.Usage, s.Algorithm, short(s.Duration), result)
	}
	w.Flush()
	return b.String()
}

// short returns d with about three digits.
func short(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
