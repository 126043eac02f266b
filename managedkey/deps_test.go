package managedkey

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TestDependencies keeps the core small: what the packages may link outside the standard library is listed here.
func TestDependencies(t *testing.T) {
	goTool := requires.Tool(t, "go", "go")
	const (
		module    = "github.com/managedkeys/managedkeys/"
		secp256k1 = "github.com/decred/dcrd/dcrec/secp256k1/v4"
	)
	for pkg, allowed := range map[string][]string{
		"namespace":  nil,
		"backend":    {"filippo.io/mldsa", secp256k1, module + "internal/nearest", module + "internal/regularfile", module + "internal/strictjson"},
		"managedkey": {"filippo.io/mldsa", secp256k1, "github.com/google/uuid", module + "namespace", module + "backend", module + "managedkey/store", module + "internal/nearest", module + "internal/regularfile", module + "internal/strictjson"},
	} {
		t.Run(pkg, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), goTool, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module+pkg)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("go list: %v", err)
			}
			deps := strings.Fields(string(out))
			if !slices.Contains(deps, module+pkg) {
				t.Fatalf("go list does not know the package itself: %q", deps)
			}
			for _, dep := range deps {
				known := dep == module+pkg || slices.ContainsFunc(allowed, func(a string) bool {
					return dep == a || !strings.HasPrefix(a, module) && strings.HasPrefix(dep, a+"/")
				})
				if !known {
					t.Errorf("%s depends on %s", pkg, dep)
				}
			}
		})
	}
}
