package requirestest_test

import (
	"errors"
	"testing"

	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/requires/requirestest"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/internal/swtpm"
)

// A recorder stands in for the test of every package that takes one.
var (
	_ requires.TB = (*requirestest.Recorder)(nil)
	_ softhsm.TB  = (*requirestest.Recorder)(nil)
	_ swtpm.TB    = (*requirestest.Recorder)(nil)
	_ faultp11.TB = (*requirestest.Recorder)(nil)
)

func TestRecorder(t *testing.T) {
	for list, failed := range map[string]bool{"part": true, "": false} {
		t.Setenv(requires.Env, list)
		var r requirestest.Recorder
		requires.Missing(&r, "part", errors.New("not there"))
		if r.Failed != failed || r.Skipped == failed || r.Message == "" {
			t.Errorf("required %q: %+v", list, r)
		}
	}
	var r requirestest.Recorder
	calls := ""
	r.Cleanup(func() { calls += "a" })
	r.Cleanup(func() { calls += "b" })
	for _, f := range r.Cleanups {
		f()
	}
	if calls != "ab" || r.Failed || r.Skipped {
		t.Errorf("calls %q, %+v", calls, r)
	}
}
