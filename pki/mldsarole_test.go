package pki

import (
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// TestMLDSARoleIsRefused: a role that this program can't issue for is refused when it is made, with what it takes.
func TestMLDSARoleIsRefused(t *testing.T) {
	f := newFirm(t, nil)
	r := anyRole("r")
	r.KeyType = "ml-dsa"
	err := f.PutRole(t.Context(), r)
	if x509HasMLDSA {
		must(t, err)
		r.KeyBits = 45
		err = f.PutRole(t.Context(), r)
		wantError(t, err, backend.ErrInvalidParams, "ml-dsa")
		return
	}
	wantError(t, err, backend.ErrInvalidParams, "key_type ml-dsa", "Go 1.27")
}
