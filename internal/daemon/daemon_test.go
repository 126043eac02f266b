//go:build unix

package daemon

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// shell starts a script.
func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(exec.Command(requires.Tool(t, "sh", "sh"), "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// read returns the content of a file that the server writes.
func read(t *testing.T, p *Process, file string) string {
	t.Helper()
	var text string
	err := p.Await(10*time.Second, func() error {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if text = string(data); !strings.HasSuffix(text, "\n") {
			return errors.New("file is not complete")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(text)
}

// alive tells whether a process exists that is no zombie.
func alive(pid int) bool {
	if stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat")); err == nil {
		_, state, _ := strings.Cut(string(stat), ") ")
		return !strings.HasPrefix(state, "Z")
	}
	return syscall.Kill(pid, 0) == nil
}

// awaitEnd fails the test if the process doesn't end soon.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still alive", pid)
		}
	}
}

func TestKillEndsChildren(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p := shell(t, "sleep 1000 & echo $! >"+file+"; trap '' TERM; wait")
	pid, err := strconv.Atoi(read(t, p, file))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(pid) || !p.Running() {
		t.Fatalf("child alive %t, server running %t before Kill", alive(pid), p.Running())
	}
	start := time.Now()
	p.Kill()
	if p.Running() {
		t.Error("server runs after Kill")
	}
	if took := time.Since(start); took >= killTimeout {
		t.Errorf("Kill took %v", took)
	}
	awaitEnd(t, pid) // its files are closed, but it may not be gone yet
	p.Kill()         // once more is fine
}

func TestAwait(t *testing.T) {
	p := shell(t, "echo first; echo oops >&2; exit 3")
	err := p.Await(10*time.Second, func() error { return errors.New("never") })
	if err == nil || !strings.Contains(err.Error(), "sh ended (exit status 3)") || !strings.Contains(err.Error(), "oops") {
		t.Errorf("server that ends: error = %v", err)
	}
	if p.Running() {
		t.Error("it still runs")
	}

	never := errors.New("never")
	p = shell(t, "sleep 1000")
	if err := p.Await(10*time.Millisecond, func() error { return never }); !errors.Is(err, never) {
		t.Errorf("server that doesn't get ready: error = %v", err)
	}
	if !p.Running() {
		t.Error("it ended")
	}
	if err := p.Await(0, func() error { return nil }); err != nil {
		t.Errorf("server that is ready: error = %v", err)
	}
}

func TestStartFails(t *testing.T) {
	_, err := Start(exec.Command(filepath.Join(t.TempDir(), "absent")))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v", err)
	}
}

func TestOutputKeepsTheEnd(t *testing.T) {
	var o output
	for range 1000 {
		if n, err := o.Write([]byte("0123456789")); n != 10 || err != nil {
			t.Fatal(n, err)
		}
	}
	o.Write([]byte("end"))
	if text := o.String(); len(text) != outputLimit || !strings.HasSuffix(text, "789end") {
		t.Errorf("%d bytes, end %q", len(text), text[max(0, len(text)-6):])
	}
}
