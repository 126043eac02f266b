// Package faultp11 is a PKCS #11 module for tests that forwards to a real one and misbehaves on demand: it returns errors
// before or after the real call, hangs, drops sessions and logins, loses the token, lies about attributes and mechanisms,
// and counts what reaches it.
//
//	module := faultp11.Require(t, token.Module)
//	hsm, err := pkcs11.New(pkcs11.Library{Name: "hsm", Path: module.Path()})
//	…
//	module.Set(faultp11.Rule{Function: "C_Sign", Code: 0x30 /* CKR_DEVICE_ERROR */, Times: 1})
//
// The module is written in C (folder module), built by the machine's C compiler when the first test asks for it, and
// loaded into the test's own process, where the methods of [Module] act on it at once: what a method changed holds for
// every call that starts after the method has returned.
//
// Every [Module] is a library of its own to the dynamic linker. The real module behind it is not: two Modules of the same
// real module share its state, and so does other code of the process that loads the real module by itself.
package faultp11

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TB is what this package needs of a testing.TB, so that programs that use it don't link package testing.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Module is a fault shim. Its methods may be called from any goroutine, also while the module is in use; they wait for
// calls that are in the real module only where they say so.
type Module struct {
	path      string
	functions []string // by number
	library   library
}

// Require returns a new module, which forwards to the module whose path is real from the first C_Initialize on. When the
// test has ended all faults are lifted, so that hanging calls return, and the file is removed; the module stays loaded.
//
// If there is no C compiler, or this program was built without cgo, the test ends as requires.Missing says for the part
// "cc".
func Require(tb TB, real string) *Module {
	tb.Helper()
	m := &Module{path: install(tb, "shim.so", shim)}
	if m.path == "" {
		return nil
	}
	var err error
	if m.library, err = load(m.path); err != nil {
		tb.Fatalf("faultp11: %v", err)
		return nil
	}
	names := make([]byte, 1<<12)
	names = names[:m.call("functions", names)]
	m.functions = strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00")
	m.call("configure", []byte(real))
	tb.Cleanup(func() {
		m.DelayAll(0)
		m.Set()
	})
	return m
}

// install writes what build returns into a directory that is removed after the test, and returns its path, or "" if the
// test has ended. The name would be what the dynamic linker knows a library by, if the path were not always new.
func install(tb TB, name string, build func() ([]byte, error)) string {
	tb.Helper()
	library, err := build()
	if errors.Is(err, errBroken) {
		tb.Fatalf("faultp11: %v", err)
		return ""
	}
	if err != nil {
		requires.Missing(tb, "cc", err)
		return ""
	}
	dir, err := os.MkdirTemp("", "faultp11-")
	if err != nil {
		tb.Fatalf("faultp11: %v", err)
		return ""
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, library, 0o700); err != nil {
		tb.Fatalf("faultp11: %v", err)
		return ""
	}
	return path
}

// Path returns the path of the module, to be loaded as any PKCS #11 module.
func (m *Module) Path() string { return m.path }

// When says whether a rule strikes before or after the real call.
type When int

// Before: the request is lost, the real function is not called. After: the reply is lost, the real function is called and
// has its effect.
const (
	Before When = iota
	After
)

// Rule is one fault. A call that it applies to first waits (Delay, then Hang), and then returns Code.
type Rule struct {
	Function string // such as C_Sign; "*" for all
	When     When
	Code     uint64        // what the call returns; if it is 0 (CKR_OK), the real function's own result, so that the rule only delays
	Skip     int           // calls of the function that the rule lets pass first
	Times    int           // calls that it applies to; 0 for no limit
	Delay    time.Duration // by which the call takes longer
	Hang     bool          // until Release or Set is called
}

// Set replaces all rules and lets go of the calls that hang because of them. A call is seen by all rules of its function,
// which counts for their Skip, and the first of those that are due applies. It panics on a function that doesn't exist.
func (m *Module) Set(rules ...Rule) {
	var data []byte
	for _, r := range rules {
		times := uint64(r.Times)
		if times == 0 {
			times = ^uint64(0)
		}
		function := uint64(len(m.functions))
		if r.Function != "*" {
			function = m.number(r.Function)
		}
		for _, field := range []uint64{function, uint64(r.When), r.Code, uint64(r.Skip), times, uint64(r.Delay), flag(r.Hang)} {
			data = binary.NativeEndian.AppendUint64(data, field)
		}
	}
	m.call("rules", data)
}

// Release lets the calls that hang now go on. Later calls hang as their rules say.
func (m *Module) Release() { m.call("release", nil) }

// Hanging returns the number of calls that hang now.
func (m *Module) Hanging() int { return int(m.call("hanging", nil)) }

// DelayAll makes each call take d longer, as that to an HSM on the network does.
func (m *Module) DelayAll(d time.Duration) { m.call("delay", nil, uint64(d)) }

// Count returns the number of calls of the function since [Module.ResetCounts], whatever became of them. Calls that the
// shim makes by itself are not counted. It panics on a function that doesn't exist.
func (m *Module) Count(function string) int { return int(m.call("count", nil, m.number(function))) }

// Counts returns the counts of all functions that were called.
func (m *Module) Counts() map[string]int {
	counts := map[string]int{}
	for i, name := range m.functions {
		if n := m.call("count", nil, uint64(i)); n > 0 {
			counts[name] = int(n)
		}
	}
	return counts
}

// ResetCounts makes all counts of functions 0. It leaves UserLogins, WrongPINs and OverlappingFinalizes alone.
func (m *Module) ResetCounts() { m.call("reset_counts", nil) }

// Functions returns the names of all functions that rules and counters know, in the order of CK_FUNCTION_LIST.
func (m *Module) Functions() []string { return slices.Clone(m.functions) }

func (m *Module) number(function string) uint64 {
	i := slices.Index(m.functions, function)
	if i < 0 {
		panic(fmt.Sprintf("faultp11: PKCS #11 v2.40 has no function %q", function))
	}
	return uint64(i)
}

// call calls a control function of the shim. Data are bytes that it reads or fills in.
func (m *Module) call(control string, data []byte, numbers ...uint64) uint64 {
	return m.library.call(control, data, numbers)
}

func flag(on bool) uint64 {
	if on {
		return 1
	}
	return 0
}
