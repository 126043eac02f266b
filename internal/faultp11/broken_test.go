//go:build cgo

package faultp11_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// victim is the environment variable that tells this test program to initialise a module.
const victim = "FAULTP11_TEST_VICTIM"

func TestMain(m *testing.M) {
	if path := os.Getenv(victim); path != "" {
		pkcs11.New(path).Initialize()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestModulesThatKill(t *testing.T) {
	for name, test := range map[string]struct {
		path string
		says string
	}{
		"crashing": {faultp11.Crashing(t), "SIGSEGV"},
		"aborting": {faultp11.Aborting(t), "SIGABRT"},
	} {
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), victim+"="+test.path)
		out, err := command.CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, name)
		status := exit.Sys().(syscall.WaitStatus)
		assert.True(t, status.Signaled() || exit.ExitCode() == 2, "%s: Go's runtime exits with 2: %v", name, err)
		assert.Contains(t, string(out), test.says, name)
	}
}

// The shim is a client that looks before it leaps, unlike miekg/pkcs11.
func TestModulesThatAreNone(t *testing.T) {
	for path, exports := range map[string]bool{
		faultp11.NotAModule(t): false,
		faultp11.Refusing(t):   true,
		faultp11.NoList(t):     true,
	} {
		file, err := elf.Open(path)
		require.NoError(t, err)
		symbols, err := file.DynamicSymbols()
		require.NoError(t, err)
		assert.NoError(t, file.Close())
		assert.Equal(t, exports, slices.ContainsFunc(symbols, func(s elf.Symbol) bool {
			return s.Name == "C_GetFunctionList" && s.Section != elf.SHN_UNDEF
		}), path)
		ctx := pkcs11.New(faultp11.Require(t, path).Path())
		assert.Equal(t, pkcs11.Error(pkcs11.CKR_GENERAL_ERROR), ctx.Initialize(), path)
	}
}
