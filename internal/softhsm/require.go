package softhsm

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TB is what [Require] needs of a testing.TB, so that programs that use this package don't link package testing.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// shared is the directory of the tokens that [Require] made. It lives as long as one of them is in use.
var shared struct {
	sync.Mutex
	dir  string
	used int    // tokens whose test has not ended
	made int    // tokens made so far, for their labels
	conf string // SOFTHSM2_CONF before
}

// Require returns a new token for the test and removes it when the test has ended. Its label is unique within the
// process. It must be called before the test opens the module (see the package documentation).
//
// If SoftHSM2 is not installed, the test ends as requires.Missing says for the part "softhsm".
func Require(tb TB) *Token {
	tb.Helper()
	token, err := acquire()
	switch {
	case errors.Is(err, ErrMissing):
		requires.Missing(tb, "softhsm", err)
	case err != nil:
		tb.Fatalf("%v", err)
	default:
		tb.Cleanup(release)
	}
	return token
}

func acquire() (*Token, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.used == 0 {
		dir, err := os.MkdirTemp("", "softhsm-")
		if err != nil {
			return nil, fmt.Errorf("softhsm: %w", err)
		}
		shared.dir, shared.conf = dir, os.Getenv("SOFTHSM2_CONF")
	}
	shared.used++
	shared.made++
	token, err := New(shared.dir, fmt.Sprintf("test-%d", shared.made))
	if err != nil {
		drop()
	}
	return token, err
}

func release() {
	shared.Lock()
	defer shared.Unlock()
	drop()
}

// drop needs shared to be locked.
func drop() {
	if shared.used--; shared.used > 0 {
		return
	}
	os.RemoveAll(shared.dir)
	if shared.conf == "" {
		os.Unsetenv("SOFTHSM2_CONF")
	} else {
		os.Setenv("SOFTHSM2_CONF", shared.conf)
	}
}
