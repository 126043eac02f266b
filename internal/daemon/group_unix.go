//go:build unix && !linux

package daemon

import (
	"os"
	"os/exec"
	"syscall"
)

func prepare(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func kill(server *os.Process) { syscall.Kill(-server.Pid, syscall.SIGKILL) }
