package transit

import (
	"testing"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
)

// newSoftHouse is a house whose engine allows software keys.
func newSoftHouse(tb testing.TB) *house {
	tb.Helper()
	h := &house{software: software.New(nil), registry: managedkey.NewRegistry()}
	tb.Cleanup(func() { h.software.Close() })
	mount, err := h.registry.Mount(tb.Context(), "", "transit")
	if err != nil {
		tb.Fatal(err)
	}
	h.mount, h.engine = mount, New(mount, &Options{Software: h.software})
	return h
}

// create makes software keys of the types that their names begin with.
func (h *house) create(tb testing.TB, name string, opts KeyOptions) {
	tb.Helper()
	if err := h.engine.CreateKey(tb.Context(), name, opts); err != nil {
		tb.Fatal(err)
	}
}
