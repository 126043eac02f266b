// Package requirestest tests code that ends tests.
package requirestest

import "fmt"

// Recorder is a test that notes what was done with it, where a testing.T would end. It is the TB of package requires and of
// the packages that make tokens; its zero value is a test that has just begun. One goroutine uses it.
type Recorder struct {
	Failed, Skipped bool
	Message         string   // of the failures and skips, one after the other
	Cleanups        []func() // in the order in which they were asked for; nobody calls them but the user
}

// Helper does nothing.
func (*Recorder) Helper() {}

// Cleanup notes f.
func (r *Recorder) Cleanup(f func()) { r.Cleanups = append(r.Cleanups, f) }

// Fatalf notes a failure. Unlike that of a testing.T it returns.
func (r *Recorder) Fatalf(format string, args ...any) {
	r.Failed = true
	r.Message += fmt.Sprintf(format, args...)
}

// Skipf notes a skip. Unlike that of a testing.T it returns.
func (r *Recorder) Skipf(format string, args ...any) {
	r.Skipped = true
	r.Message += fmt.Sprintf(format, args...)
}
