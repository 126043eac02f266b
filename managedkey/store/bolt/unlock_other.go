//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package bolt

import "os"

// release closes a file that bbolt left open when it panicked.
func release(f *os.File) error { return f.Close() }
