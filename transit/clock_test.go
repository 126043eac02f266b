package transit

import (
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// TestTimeThatHasNoText: a clock that is beyond the year 9999, which no record can hold, is an error, and no key is made.
func TestTimeThatHasNoText(t *testing.T) {
	h := newHouse(t)
	h.addManaged(t, "p256", allUsages)
	st := memory.New(nil)
	defer st.Close()
	e, err := Open(t.Context(), h.mount, st, &Options{Now: func() time.Time { return time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	wantError(t, e.CreateKey(t.Context(), "orders", KeyOptions{ManagedKey: "p256"}), backend.ErrInvalidParams, "clock")
	if names := e.List(); len(names) != 0 {
		t.Errorf("there are %v", names)
	}
}
