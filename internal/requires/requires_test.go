package requires_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/requires/requirestest"
)

func TestMissing(t *testing.T) {
	for list, want := range map[string]string{
		"":                "skipped without openssl: not there",
		"softhsm":         "skipped without openssl: not there",
		"open,ssl":        "skipped without openssl: not there",
		"openssl":         "openssl is required by MANAGEDKEYS_REQUIRE: not there",
		"softhsm,openssl": "openssl is required by MANAGEDKEYS_REQUIRE: not there",
		" openssl , x":    "openssl is required by MANAGEDKEYS_REQUIRE: not there",
	} {
		t.Setenv(requires.Env, list)
		var r requirestest.Recorder
		requires.Missing(&r, "openssl", errors.New("not there"))
		assert.Equal(t, want, r.Message, "%q", list)
		assert.Equal(t, strings.Contains(want, "is required"), r.Failed, "%q", list)
		assert.NotEqual(t, r.Failed, r.Skipped, "%q", list)
	}
}

func TestTool(t *testing.T) {
	t.Setenv(requires.Env, "")
	var r requirestest.Recorder
	assert.Contains(t, requires.Tool(&r, "go", "go"), "go")
	assert.Empty(t, r.Message)
	assert.Empty(t, requires.Tool(&r, "nothing", "no-such-command-here"))
	assert.Contains(t, r.Message, "skipped without nothing")
}
