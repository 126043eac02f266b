package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/internal/daemon"
	"github.com/managedkeys/managedkeys/internal/p11kit"
)

// host is a process that has the vendor's module. It is started again whenever it ends, until it is closed.
type host struct {
	out     io.Writer
	command func() *exec.Cmd
	socket  string

	signatures atomic.Int64 // made so far

	mu      sync.Mutex
	process *daemon.Process
	closed  bool
}

// start starts the process, for the token with that label, and tells p11-kit's client where it is.
func (h *host) start(socket, module, label string) error {
	tool, err := exec.LookPath("p11-kit")
	if err != nil {
		return fmt.Errorf("%w: %s", err, p11kit.Advice)
	}
	h.socket = socket
	h.command = func() *exec.Cmd {
		return exec.Command(tool, "server", "--foreground", "--sh", "--provider", module, "--name", socket, "pkcs11:token="+url.PathEscape(label))
	}
	if err := os.Setenv(p11kit.EnvAddress, "unix:path="+socket); err != nil {
		return err
	}
	ended, err := h.spawn()
	if err != nil {
		return err
	}
	go h.keep(ended)
	return nil
}

// spawn starts a process, and returns when it can be reached, what tells when it has ended.
func (h *host) spawn() (ended <-chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, net.ErrClosed
	}
	if err := os.Remove(h.socket); err != nil && !errors.Is(err, os.ErrNotExist) { // that of a process that was killed
		return nil, err
	}
	cmd := h.command()
	process, err := daemon.Start(cmd)
	if err != nil {
		return nil, err
	}
	if err := process.Await(10*time.Second, func() error { return h.reach() }); err != nil {
		process.Kill()
		return nil, err
	}
	h.process = process
	fmt.Fprintf(h.out, "process %d has the module\n", cmd.Process.Pid)
	return process.Done(), nil
}

// reach connects to the process.
func (h *host) reach() error {
	conn, err := net.Dial("unix", h.socket)
	if err != nil {
		return err
	}
	return conn.Close()
}

// keep starts another process whenever the last one has ended.
func (h *host) keep(ended <-chan struct{}) {
	for {
		<-ended
		next, err := h.spawn()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			fmt.Fprintln(h.out, "the module's process can't be started:", err)
			time.Sleep(time.Second)
		default:
			ended = next
		}
	}
}

// kill kills the process, as a module that crashes would.
func (h *host) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.process != nil {
		h.process.Kill()
	}
}

func (h *host) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.kill()
}
