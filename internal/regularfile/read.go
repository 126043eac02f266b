// Package regularfile reads files whose paths somebody has configured. A path may be that of anything: opening a named pipe waits for
// whoever writes to it, and reading a device may never end.
package regularfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Check returns an error about what is not a regular file, once symbolic links are followed, as those are with which Kubernetes mounts secrets.
// It names the path and says what is there. Nothing is opened.
func Check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return check(path, info)
}

func check(path string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	what := "neither a file nor a directory"
	switch mode := info.Mode(); {
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	}
	return fmt.Errorf("%q is %s; it takes a regular file", path, what)
}

// Read returns what is in a regular file and its permissions. Of a file that is longer than limit, in bytes, it returns one byte more than
// that. Errors are those of [Check] and of the system, and it never waits for anybody.
func Read(path string, limit int64) ([]byte, fs.FileMode, error) {
	if err := Check(path); err != nil { // before it is opened: a device may do something then
		return nil, 0, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|nonblocking, 0)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if err := check(path, info); err != nil { // it has become something else
		return nil, 0, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	return data, info.Mode().Perm(), err
}
