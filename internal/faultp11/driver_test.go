//go:build cgo

package faultp11

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// TestDriver runs the shim in a C program under the address and undefined-behaviour sanitizers.
func TestDriver(t *testing.T) {
	token := softhsm.Require(t)
	compiler := requires.Tool(t, "cc", "cc")
	include, err := output(exec.Command("go", "list", "-m", "-f", "{{.Dir}}", headers))
	require.NoError(t, err)
	sanitizers := []string{"-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"}
	program := filepath.Join(t.TempDir(), "driver")
	trial := exec.Command(compiler, append(sanitizers, "-o", program, "-x", "c", "-")...)
	trial.Stdin = strings.NewReader("int main(void) { return 0; }")
	if _, err := output(trial); err != nil {
		requires.Missing(t, "cc", err)
	}
	files, err := filepath.Glob("module/*.c")
	require.NoError(t, err)
	args := append(sanitizers, "-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Werror", "-Imodule",
		"-I"+strings.TrimSpace(include), "-o", program, "testdata/driver.c")
	_, err = output(exec.Command(compiler, append(append(args, files...), "-ldl")...))
	require.NoError(t, err)
	command := exec.Command(program, token.Module, token.Slot, token.PIN)
	// What the shim keeps for ever, so that calls can use it without a lock, would be reported as lost.
	command.Env = append(os.Environ(), "ASAN_OPTIONS=detect_leaks=0")
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
