package httpapi

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TestDependencies: the engine links no key manager and no store. The program chooses them.
func TestDependencies(t *testing.T) {
	requires.Tool(t, "go", "go")
	const module = "github.com/managedkeys/managedkeys/"
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+"transit/httpapi").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, module+"managedkey/httpapi")
	for _, dep := range deps {
		for _, refused := range []string{"backend/", "managedkey/store/", "managedkey/config", "pki", "internal/softhsm"} {
			assert.False(t, strings.HasPrefix(dep, module+refused), dep)
		}
		assert.NotEqual(t, "testing", dep)
	}
}
