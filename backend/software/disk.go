package software

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// disk is what a file store needs of the file system. Tests have one that fails.
type disk interface {
	// Resolve returns the absolute path without symbolic links. The file need not exist.
	Resolve(path string) (string, error)

	// Read returns a regular file's content, at most limit bytes of it, and its permissions.
	Read(path string, limit int64) ([]byte, fs.FileMode, error)

	// Create makes a file that must not exist.
	Create(path string, perm fs.FileMode) (tempFile, error)

	Rename(from, to string) error
	Remove(path string) error

	// SyncDir makes renames in a folder last.
	SyncDir(path string) error

	// Lock locks the file path, which is made if need be, against other open files. It does not wait: if the lock is
	// taken, the error wraps errLocked.
	Lock(path string) (unlock func(), err error)
}

type tempFile interface {
	io.Writer
	Sync() error // makes what was written last
	Close() error
}

var errLocked = errors.New("locked by another program")

// osDisk is the operating system's file system.
type osDisk struct{}

func (osDisk) Read(path string, limit int64) ([]byte, fs.FileMode, error) {
	// Before it is opened: opening a named pipe would wait for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%q is not a regular file but %v", path, info.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, 0, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return data, info.Mode().Perm(), err
}

func (osDisk) Create(path string, perm fs.FileMode) (tempFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, newFilePerm)
	if err != nil {
		return nil, err
	}
	if perm == newFilePerm {
		return f, nil
	}
	if err := f.Chmod(perm); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) Remove(path string) error { return os.Remove(path) }
