package config_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TestDependencies: the package links no backend and no engine of a store; package all does.
func TestDependencies(t *testing.T) {
	goTool := requires.Tool(t, "go", "go")
	out, err := exec.CommandContext(t.Context(), goTool, "list", "-deps", "github.com/managedkeys/managedkeys/managedkey/config").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := string(out)
	if !strings.Contains(deps, "github.com/hashicorp/hcl/v2") {
		t.Fatal("go list doesn't know the package")
	}
	for _, not := range []string{"/backend/", "/store/bolt", "/store/postgres", "/store/etcd", "aws-sdk-go", "azure-sdk-for-go", "cloud.google.com", "miekg/pkcs11", "pgx", "bbolt", "testing\n"} {
		if strings.Contains(deps, not) {
			t.Errorf("the package depends on %s", not)
		}
	}
}
