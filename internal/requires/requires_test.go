package requires_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// recorder is a test that notes how it ended.
type recorder struct{ ended string }

func (*recorder) Helper() {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.ended += "failed: " + fmt.Sprintf(format, args...)
}
func (r *recorder) Skipf(format string, args ...any) { r.ended += fmt.Sprintf(format, args...) }

func TestMissing(t *testing.T) {
	for list, want := range map[string]string{
		"":                "skipped without openssl: not there",
		"softhsm":         "skipped without openssl: not there",
		"open,ssl":        "skipped without openssl: not there",
		"openssl":         "failed: openssl is required by MANAGEDKEYS_REQUIRE: not there",
		"softhsm,openssl": "failed: openssl is required by MANAGEDKEYS_REQUIRE: not there",
		" openssl , x":    "failed: openssl is required by MANAGEDKEYS_REQUIRE: not there",
	} {
		t.Setenv(requires.Env, list)
		var r recorder
		requires.Missing(&r, "openssl", errors.New("not there"))
		assert.Equal(t, want, r.ended, "%q", list)
	}
}

func TestTool(t *testing.T) {
	t.Setenv(requires.Env, "")
	var r recorder
	assert.Contains(t, requires.Tool(&r, "go", "go"), "go")
	assert.Empty(t, r.ended)
	assert.Empty(t, requires.Tool(&r, "nothing", "no-such-command-here"))
	assert.Contains(t, r.ended, "skipped without nothing")
}
