//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package software

// SyncDir does nothing: not every one of these systems can sync a folder.
func (osDisk) SyncDir(string) error { return nil }

// Lock locks nothing: package syscall has no flock here. Changes by other programs are still seen before each change.
func (osDisk) Lock(string) (unlock func(), err error) { return func() {}, nil }
