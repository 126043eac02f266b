package softhsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/requires/requirestest"
)

func TestNew(t *testing.T) {
	Require(t) // skips without SoftHSM2
	t.Setenv("SOFTHSM2_CONF", "")
	dir := t.TempDir()
	a, err := New(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(dir, "b")
	if err != nil {
		t.Fatal(err)
	}
	if a.PIN == b.PIN || a.SOPIN == b.SOPIN || a.PIN == a.SOPIN {
		t.Error("PINs are not random")
	}
	if a.Slot == b.Slot {
		t.Errorf("both tokens are in slot %s", a.Slot)
	}
	if got, want := os.Getenv("SOFTHSM2_CONF"), filepath.Join(dir, "softhsm2.conf"); got != want {
		t.Errorf("SOFTHSM2_CONF = %q, want %q", got, want)
	}
	tokens, err := os.ReadDir(filepath.Join(dir, "tokens"))
	if err != nil || len(tokens) != 2 {
		t.Errorf("token directory holds %d tokens, want 2; error %v", len(tokens), err)
	}
	if _, err := New(filepath.Join(dir, "softhsm2.conf"), "c"); err == nil {
		t.Error("New in a directory that is a file succeeded")
	}
}

func TestFormatHidesPINs(t *testing.T) {
	token := &Token{Label: "label", Slot: "7", PIN: "pin-of-user", SOPIN: "pin-of-so"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		text := fmt.Sprintf(verb, token)
		if strings.Contains(text, "pin-of") {
			t.Errorf("%s shows a PIN", verb)
		}
		if !strings.Contains(text, `"label"`) {
			t.Errorf("%s = %s, which doesn't name the token", verb, text)
		}
	}
	if got := fmt.Sprint((*Token)(nil)); got != "<nil>" {
		t.Errorf("nil token is %q", got)
	}
}

func TestMissing(t *testing.T) {
	t.Run("module of the environment", func(t *testing.T) {
		t.Setenv(EnvModule, filepath.Join(t.TempDir(), "absent.so"))
		_, err := New(t.TempDir(), "a")
		if !errors.Is(err, ErrMissing) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), EnvModule) {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("usual places", func(t *testing.T) {
		t.Setenv(EnvModule, "")
		defer func(paths []string) { modulePaths = paths }(modulePaths)
		modulePaths = []string{filepath.Join(t.TempDir(), "absent.so")}
		_, err := New(t.TempDir(), "a")
		if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), Advice) {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("softhsm2-util", func(t *testing.T) {
		t.Setenv(EnvModule, "/dev/null")
		t.Setenv("PATH", t.TempDir())
		_, err := New(t.TempDir(), "a")
		if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), Advice) {
			t.Errorf("error = %v", err)
		}
	})
}

func TestRequire(t *testing.T) {
	t.Run("missing and optional", func(t *testing.T) {
		t.Setenv(EnvModule, "/nowhere/libsofthsm2.so")
		t.Setenv(requires.Env, "postgres, nosofthsm")
		var r requirestest.Recorder
		Require(&r)
		if !r.Skipped || r.Failed {
			t.Errorf("skipped %t, failed %t; want a skip", r.Skipped, r.Failed)
		}
	})
	t.Run("missing and required", func(t *testing.T) {
		t.Setenv(EnvModule, "/nowhere/libsofthsm2.so")
		t.Setenv(requires.Env, "postgres, softhsm")
		var r requirestest.Recorder
		Require(&r)
		if r.Skipped || !r.Failed {
			t.Errorf("skipped %t, failed %t; want a failure", r.Skipped, r.Failed)
		}
	})
	t.Run("directory lives as long as its last token", func(t *testing.T) {
		Require(t) // skips without SoftHSM2
		var r, s requirestest.Recorder
		a, b := Require(&r), Require(&s)
		if r.Failed || s.Failed {
			t.Fatal(r.Message, s.Message)
		}
		if a.Label == b.Label || a.Dir != b.Dir {
			t.Errorf("tokens %v in %s and %v in %s; want two labels in one directory", a, a.Dir, b, b.Dir)
		}
		r.Cleanups[0]()
		if _, err := os.Stat(b.Dir); err != nil {
			t.Errorf("directory is gone before its last token: %v", err)
		}
		s.Cleanups[0]()
		if _, err := os.Stat(b.Dir); err != nil {
			t.Errorf("directory is gone while the test's own token is in use: %v", err)
		}
	})
	t.Run("environment comes back", func(t *testing.T) {
		if _, err := Module(); err != nil {
			t.Skipf("skipped: %v", err)
		}
		t.Setenv("SOFTHSM2_CONF", "/before")
		var r requirestest.Recorder
		token := Require(&r)
		if r.Failed {
			t.Fatal(r.Message)
		}
		r.Cleanups[0]()
		if got := os.Getenv("SOFTHSM2_CONF"); got != "/before" {
			t.Errorf("SOFTHSM2_CONF = %q afterwards", got)
		}
		if _, err := os.Stat(token.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("directory is still there: %v", err)
		}
	})
}
