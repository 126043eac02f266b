//go:build !unix

package postgrestest

import "os/exec"

// runAs does nothing: only Unix has root, as whom PostgreSQL refuses to run.
func runAs(*exec.Cmd, int, int) {}
