package transit

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDependencies: transit works through the contract alone, and never with a driver that it knows.
func TestDependencies(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Fatal("there is no go command")
	}
	const module = "github.com/managedkeys/managedkeys/"
	cmd := exec.CommandContext(t.Context(), goTool, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module+"transit")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	allowed := []string{
		module + "transit", module + "managedkey", module + "managedkey/store", module + "backend", module + "namespace", module + "internal/nearest", module + "internal/regularfile", module + "internal/removal", module + "internal/rsasize", module + "internal/softkey", module + "internal/strictjson",
		"filippo.io/bigmod", "filippo.io/mldsa", "github.com/decred/dcrd/dcrec/secp256k1/v4", "github.com/google/uuid", "golang.org/x/crypto/chacha20poly1305",
		"golang.org/x/crypto/chacha20", "golang.org/x/crypto/cryptobyte", "golang.org/x/crypto/internal", "golang.org/x/sys/cpu", "github.com/tink-crypto/tink-go/v2",
	}
	deps := strings.Fields(string(out))
	if len(deps) < 5 {
		t.Fatalf("go list knows only %v", deps)
	}
next:
	for _, dep := range deps {
		for _, a := range allowed {
			if dep == a || !strings.HasPrefix(a, module) && strings.HasPrefix(dep, a+"/") {
				continue next
			}
		}
		t.Errorf("transit depends on %s", dep)
	}
}
