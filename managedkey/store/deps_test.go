package store_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TestDependencies keeps each engine's dependencies to itself: what else the packages may link is listed here.
func TestDependencies(t *testing.T) {
	goTool := requires.Tool(t, "go", "go")
	const (
		module = "github.com/managedkeys/managedkeys/"
		self   = module + "managedkey/store"
		system = "golang.org/x/sys"
	)
	base := []string{"filippo.io/mldsa", "github.com/decred/dcrd/dcrec/secp256k1/v4", module + "backend", module + "internal/nearest", module + "internal/regularfile", module + "internal/strictjson", self}
	for pkg, more := range map[string][]string{
		"":          nil,
		"/memory":   {self + "/internal/engine"},
		"/bolt":     {self + "/internal/engine", "go.etcd.io/bbolt", system},
		"/postgres": {self + "/internal/engine", "github.com/jackc", "github.com/failsafe-go/failsafe-go", "golang.org/x/text", "golang.org/x/sync", "github.com/bits-and-blooms/bitset"},
		"/seal":     {module + "internal/argon2id", "golang.org/x/crypto", "github.com/tink-crypto/tink-go/v2", system},
	} {
		t.Run("store"+pkg, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), goTool, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", self+pkg)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("go list: %v", err)
			}
			deps := strings.Fields(string(out))
			if !slices.Contains(deps, self+pkg) {
				t.Fatalf("go list does not know the package itself: %q", deps)
			}
			allowed := slices.Concat(base, more, []string{self + pkg})
			for _, dep := range deps {
				known := slices.ContainsFunc(allowed, func(a string) bool {
					return dep == a || !strings.HasPrefix(a, module) && strings.HasPrefix(dep, a+"/")
				})
				if !known {
					t.Errorf("%s depends on %s", pkg, dep)
				}
			}
		})
	}
}
