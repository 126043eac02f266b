//go:build !cgo

package pkcs11

import (
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func TestNewWithoutCgo(t *testing.T) {
	b, err := New(Library{Name: "hsm1", Path: "/m.so"})
	if b != nil {
		t.Error("got a backend")
	}
	wants(t, err, backend.ErrUnsupported, "without cgo", "CGO_ENABLED=1")
}
