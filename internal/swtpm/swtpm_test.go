package swtpm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/requires/requirestest"
)

func TestFormatHidesPINs(t *testing.T) {
	token := &Token{Label: "label", PIN: "pin-of-user", SOPIN: "pin-of-so"}
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
	for _, test := range []struct {
		name string
		hide func(*testing.T)
	}{
		{"module of the environment", func(t *testing.T) { t.Setenv(EnvModule, "/nowhere/libtpm2_pkcs11.so") }},
		{"usual places", func(t *testing.T) {
			t.Setenv(EnvModule, "")
			paths := modulePaths
			t.Cleanup(func() { modulePaths = paths })
			modulePaths = []string{filepath.Join(t.TempDir(), "*")}
		}},
		{"tools", func(t *testing.T) {
			t.Setenv(EnvModule, "/dev/null")
			t.Setenv("PATH", t.TempDir())
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.hide(t)
			if _, err := find("label"); !errors.Is(err, ErrMissing) {
				t.Errorf("error = %v", err)
			}
			for _, list := range []string{"softhsm,swtpm", "softhsm"} {
				t.Setenv(requires.Env, list)
				var r requirestest.Recorder
				token := Require(&r)
				if required := list != "softhsm"; token != nil || r.Failed != required || r.Skipped == required {
					t.Errorf("required %s: %v, failed %t, skipped %t", list, token, r.Failed, r.Skipped)
				}
			}
		})
	}
}

func TestRequire(t *testing.T) {
	t.Setenv("TPM2_PKCS11_STORE", "before")
	t.Setenv("TSS2_LOG", "")
	os.Unsetenv("TSS2_LOG")
	var r requirestest.Recorder
	token := Require(&r)
	if r.Skipped {
		t.Skip(r.Message)
	}
	if r.Failed {
		t.Fatal(r.Message)
	}
	for name, want := range token.environment() {
		if got := os.Getenv(name); got != want || want == "" {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if token.PIN == token.SOPIN || len(token.PIN) < 16 {
		t.Error("PINs are not random")
	}
	if second := (requirestest.Recorder{}); Require(&second) != nil || !second.Failed {
		t.Error("a second token at the same time is accepted")
	}

	r.Cleanups[0]()
	if got := os.Getenv("TPM2_PKCS11_STORE"); got != "before" {
		t.Errorf("TPM2_PKCS11_STORE = %q afterwards", got)
	}
	if got, set := os.LookupEnv("TSS2_LOG"); set {
		t.Errorf("TSS2_LOG = %q afterwards, was not set", got)
	}
	if _, err := os.Stat(token.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory is still there: %v", err)
	}
	if token.process.Running() {
		t.Error("TPM outlived the test")
	}
	var third requirestest.Recorder
	other := Require(&third)
	if third.Failed {
		t.Fatal(third.Message)
	}
	defer third.Cleanups[0]()
	if other.PIN == token.PIN || other.Label == token.Label || other.Dir == token.Dir {
		t.Errorf("%v in %s after %v in %s: not a new token", other, other.Dir, token, token.Dir)
	}
}

func TestRunHidesPINs(t *testing.T) {
	token := &Token{PIN: "pin-of-user", SOPIN: "pin-of-so"}
	err := token.run(requires.Tool(t, "sh", "sh"), "-c", "echo $0 $1 not taken; exit 1", token.PIN, token.SOPIN)
	if err == nil || strings.Contains(err.Error(), "pin-of") || !strings.Contains(err.Error(), "not taken") {
		t.Errorf("error = %v", err)
	}
}

func TestFreePorts(t *testing.T) {
	var failed error
	for range portAttempts { // others may take them in between
		port, err := freePorts()
		if err == nil {
			var first, second net.Listener
			if first, err = net.Listen("tcp", address(port)); err == nil {
				defer first.Close()
			}
			if second, err = net.Listen("tcp", address(port+1)); err == nil {
				second.Close()
				if first != nil {
					return
				}
			}
		}
		failed = err
	}
	t.Errorf("ports are not free: %v", failed)
}

func TestStartOnTakenPorts(t *testing.T) {
	if _, err := find("label"); err != nil {
		requires.Missing(t, "swtpm", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	token := &Token{Dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(token.Dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := token.startOn(listener.Addr().(*net.TCPAddr).Port); err == nil || token.process != nil {
		t.Errorf("error = %v", err)
	}
}
