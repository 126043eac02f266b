//go:build unix

package regularfile

import "syscall"

// nonblocking has opening a named pipe return at once.
const nonblocking = syscall.O_NONBLOCK
