// Package daemon runs the servers that tests need. A server leads a process group of its own, so that the processes that
// it forks end with it; on Linux it also ends when this process dies.
package daemon

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// outputLimit is how much of a server's output is kept, in bytes.
const outputLimit = 4096

// killTimeout is how long [Process.Kill] waits for the output of a server that it killed to end: processes that left the
// group hold it open.
const killTimeout = 5 * time.Second

// Process is a running server. Its methods are safe for concurrent use.
type Process struct {
	cmd    *exec.Cmd
	output output
	done   chan struct{}
	err    error // of cmd.Wait; set before done is closed
}

// Start starts cmd, whose Stdout, Stderr, SysProcAttr and WaitDelay it sets; of SysProcAttr it keeps Credential. The caller
// calls [Process.Kill].
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	cmd.WaitDelay = killTimeout
	prepare(cmd)
	started := make(chan error)
	go func() {
		// The parent-death signal is sent when the thread that started the server ends, so it must last as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		// Wait returns when every process that inherited the output has ended, not the server alone.
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("daemon: %w", err)
	}
	return p, nil
}

// Kill kills the server and the processes that it forked, without giving them a chance to clean up, and returns when
// they have ended. It does nothing if they have ended already.
func (p *Process) Kill() {
	if p.Running() {
		kill(p.cmd.Process)
	}
	<-p.done
}

// Running tells whether the server, or a process that it forked, is alive.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Done returns a channel that is closed when the server, and the processes that it forked, have ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Await calls ready until it returns nil. It returns an error, which holds the end of the server's output, if that has
// not happened after timeout or the server has ended.
func (p *Process) Await(timeout time.Duration, ready func() error) error {
	name := filepath.Base(p.cmd.Path)
	deadline := time.After(timeout)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("daemon: %s ended (%v): %s", name, p.err, p.output.String())
		case <-deadline:
			return fmt.Errorf("daemon: %s is not ready after %v: %w: %s", name, timeout, err, p.output.String())
		case <-tick.C:
		}
	}
}

// output keeps the last bytes that are written to it.
type output struct {
	mu   sync.Mutex
	data []byte
}

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.data = append(o.data, data...)
	o.data = o.data[max(0, len(o.data)-outputLimit):]
	return len(data), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.data)
}
