//go:build !unix

package daemon

import (
	"os"
	"os/exec"
)

func prepare(*exec.Cmd) {}

func kill(server *os.Process) { server.Kill() }
