package software

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// bindPermissions makes the rest of the test, on this goroutine, obey the permissions of dir, a t.TempDir, as an owner
// without privileges must. Root is bound by none, so its thread takes another identity for files (setfsuid(2)) and is
// never used again.
func bindPermissions(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	const nobody = 65534
	chown := func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, nobody, nobody)
	}
	if err := filepath.WalkDir(filepath.Dir(dir), chown); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	if err := syscall.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
}
