package awskms

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDependencies: programs that import the backend link neither the tests' tools nor the fake, and the fake links no backend.
func TestDependencies(t *testing.T) {
	const module = "github.com/managedkeys/managedkeys/"
	for pkg, forbidden := range map[string][]string{
		module + "backend/awskms":   {"testing", module + "internal/fakeaws", module + "internal/fakecloud", module + "managedkey"},
		module + "internal/fakeaws": {"testing", module + "backend", module + "backend/awskms", module + "managedkey"},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
		require.NoError(t, err)
		deps := strings.Fields(string(out))
		require.Contains(t, deps, pkg)
		for _, dep := range forbidden {
			assert.False(t, slices.Contains(deps, dep), "%s links %s", pkg, dep)
		}
	}
}
