//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package bolt

import (
	"os"
	"syscall"
)

// release unlocks and closes a file that bbolt left open when it panicked. Closing it is not enough: it is still mapped,
// and the lock lasts as long as the map.
func release(f *os.File) error {
	syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	return f.Close()
}
