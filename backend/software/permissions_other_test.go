//go:build !linux

package software

import (
	"os"
	"testing"
)

// bindPermissions skips the test if it runs as root, whom no permissions bind.
func bindPermissions(t *testing.T, _ string) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("permissions don't bind root")
	}
}
