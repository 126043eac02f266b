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
)

// recorder is a TB that notes what Require did with it.
type recorder struct {
	cleanups        []func()
	failed, skipped bool
	message         string
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.failed, r.message = true, fmt.Sprintf(format, args...)
}
func (r *recorder) Skipf(format string, args ...any) {
	r.skipped, r.message = true, fmt.Sprintf(format, args...)
}

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
				var r recorder
				token := Require(&r)
				if required := list != "softhsm"; token != nil || r.failed != required || r.skipped == required {
					t.Errorf("required %s: %v, failed %t, skipped %t", list, token, r.failed, r.skipped)
				}
			}
		})
	}
}

func TestRequire(t *testing.T) {
	t.Setenv("TPM2_PKCS11_STORE", "before")
	t.Setenv("TSS2_LOG", "")
	os.Unsetenv("TSS2_LOG")
	var r recorder
	token := Require(&r)
	if r.skipped {
		t.Skip(r.message)
	}
	if r.failed {
		t.Fatal(r.message)
	}
	for name, want := range token.environment() {
		if got := os.Getenv(name); got != want || want == "" {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if token.PIN == token.SOPIN || len(token.PIN) < 16 {
		t.Error("PINs are not random")
	}
	if second := (recorder{}); Require(&second) != nil || !second.failed {
		t.Error("a second token at the same time is accepted")
	}

	r.cleanups[0]()
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
	var third recorder
	other := Require(&third)
	if third.failed {
		t.Fatal(third.message)
	}
	defer third.cleanups[0]()
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
