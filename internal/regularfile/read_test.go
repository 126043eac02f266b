//go:build unix

package regularfile

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRead: files are read up to the limit, through symbolic links too, with the permissions of the file.
func TestRead(t *testing.T) {
	folder := t.TempDir()
	path, link := filepath.Join(folder, "file"), filepath.Join(folder, "link")
	require.NoError(t, os.WriteFile(path, []byte("0123456789"), 0o640))
	require.NoError(t, os.Symlink(path, link))
	for _, p := range []string{path, link} {
		data, mode, err := Read(p, 10)
		require.NoError(t, err)
		assert.Equal(t, "0123456789", string(data))
		assert.Equal(t, fs.FileMode(0o640), mode)
		data, _, err = Read(p, 4)
		require.NoError(t, err)
		assert.Equal(t, "01234", string(data), "one byte more tells that it is too long")
	}
}

// TestOtherThings: what is no file is refused at once, and named.
func TestOtherThings(t *testing.T) {
	folder := t.TempDir()
	at := func(name string) string { return filepath.Join(folder, name) }
	require.NoError(t, syscall.Mkfifo(at("pipe"), 0o600))
	require.NoError(t, os.Symlink(at("pipe"), at("link")))
	require.NoError(t, os.Symlink(at("none"), at("dangling")))
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("socket"), Net: "unix"})
	require.NoError(t, err)
	defer socket.Close()
	for path, want := range map[string]string{
		at("pipe"): "a pipe", at("link"): "a pipe", at("socket"): "a socket", "/dev/zero": "a device", "/dev/null": "a device", folder: "a directory",
	} {
		_, _, err := Read(path, 1000)
		assert.EqualError(t, err, `"`+path+`" is `+want+`; it takes a regular file`)
		assert.Error(t, Check(path))
	}
	for _, path := range []string{at("none"), at("dangling")} {
		_, _, err := Read(path, 1000)
		assert.ErrorIs(t, err, fs.ErrNotExist)
	}
}
