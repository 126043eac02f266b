package pki

import (
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestTimesThatHaveNoText: a time that no record can hold (RFC 3339 has years to 9999) is an error, and nothing is stored.
func TestTimesThatHaveNoText(t *testing.T) {
	role := NewRole("web")
	role.NotAfter = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	wantError(t, role.Validate(), backend.ErrInvalidParams, "not_after")
	op := new(Authority).put("roles/web", store.Any, role)
	if op.Encode == nil {
		t.Fatal("what can't be stored would be")
	}
	_, err := op.Encode(1, op.Value)
	wantError(t, err, backend.ErrInvalidParams, "roles/web")
}
