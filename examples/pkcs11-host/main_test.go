package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/internal/p11kit"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// transcript is what the program printed.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// awaits waits until the program has printed words n times.
func (t *transcript) awaits(tb testing.TB, words string, n int) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); strings.Count(t.String(), words) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("the program did not print %q %d times:\n%s", words, n, t)
		}
	}
}

// socket is the same for all servers of this process: p11-kit's client goes where it was told first.
var socket string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pkcs11-host-")
	if err != nil {
		panic(err)
	}
	socket = filepath.Join(dir, "socket")
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func TestSurvivesKill(t *testing.T) {
	if _, err := p11kit.Module(); err != nil {
		requires.Missing(t, "p11-kit", err)
	}
	if _, err := softhsm.Module(); err != nil {
		requires.Missing(t, "softhsm", err)
	}
	requires.Tool(t, "p11-kit", "p11-kit")
	t.Setenv(p11kit.EnvAddress, "")
	t.Setenv("SOFTHSM2_CONF", "")
	ctx, stop := context.WithCancel(t.Context())
	var out transcript
	h := &host{out: &out, socket: socket}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, true, "", pkcs11.Params{KeyLabel: "test"}, h) }()
	out.awaits(t, "signing with ", 1)
	for n := range 2 {
		h.kill()
		out.awaits(t, "has the module", n+2)
		before := h.signatures.Load()
		for end := time.Now().Add(20 * time.Second); h.signatures.Load() < before+5; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no signatures after kill %d:\n%s", n+1, &out)
			}
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	t.Logf("%s", &out)
	if !strings.Contains(out.String(), "made ") {
		t.Errorf("the program doesn't say how it went:\n%s", &out)
	}
}

func TestUsage(t *testing.T) {
	for name, test := range map[string]struct {
		soft   bool
		module string
		params pkcs11.Params
	}{
		"nothing": {}, "both": {soft: true, module: "/usr/lib/vendor.so"},
		"no token": {module: "/usr/lib/vendor.so", params: pkcs11.Params{PIN: "1234"}},
		"no PIN":   {module: "/usr/lib/vendor.so", params: pkcs11.Params{TokenLabel: "token"}},
	} {
		err := run(t.Context(), test.soft, test.module, test.params, &host{})
		if err == nil || !strings.Contains(err.Error(), "-softhsm") {
			t.Errorf("%s: error = %v", name, err)
		}
	}
}

func TestAdvice(t *testing.T) {
	t.Setenv(p11kit.EnvModule, "/nowhere/p11-kit-client.so")
	err := run(t.Context(), true, "", pkcs11.Params{}, &host{})
	if !errors.Is(err, p11kit.ErrMissing) {
		t.Errorf("without p11-kit's client: error = %v", err)
	}
	t.Setenv(p11kit.EnvModule, "/dev/null")
	t.Setenv("PATH", t.TempDir())
	err = (&host{}).start("/nowhere/socket", "/usr/lib/vendor.so", "token")
	if err == nil || !strings.Contains(err.Error(), p11kit.Advice) {
		t.Errorf("without p11-kit: error = %v", err)
	}
	if errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("what is not installed does not come back: %v", err)
	}
}
