// Package requires decides what a test does when a part that it needs is missing on this machine: it is skipped, unless
// the environment variable MANAGEDKEYS_REQUIRE lists the part, as it does where the checks run; then it fails.
package requires

import (
	"os"
	"os/exec"
	"strings"
)

// Env is the environment variable that lists the parts that must not be missing, separated by commas: softhsm, opensc,
// gnutls-bin, libnss3-tools, openssl, p11-kit, swtpm, cc (a C compiler), awscli, postgres, etcd, curl, openssh, go.
const Env = "MANAGEDKEYS_REQUIRE"

// TB is what this package needs of a testing.TB, so that programs that use it don't link package testing.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Missing ends the test because of err: it skips it, or fails it if part is listed in [Env].
func Missing(tb TB, part string, err error) {
	tb.Helper()
	for listed := range strings.SplitSeq(os.Getenv(Env), ",") {
		if strings.TrimSpace(listed) == part {
			tb.Fatalf("%s is required by %s: %v", part, Env, err)
			return
		}
	}
	tb.Skipf("skipped without %s: %v", part, err)
}

// Tool returns the path of a command that belongs to part, or ends the test as [Missing] does.
func Tool(tb TB, part, command string) string {
	tb.Helper()
	path, err := exec.LookPath(command)
	if err != nil {
		Missing(tb, part, err)
	}
	return path
}
