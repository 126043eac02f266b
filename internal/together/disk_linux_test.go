package together

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// disk is a folder for files that stop growing when it is filled.
type disk struct {
	dir           string
	full          error // of the system
	fill, enlarge func(t *testing.T)
}

// newDisk returns a file system of its own or, for who may not mount one, a folder; there files are limited for the whole
// process.
func newDisk(t *testing.T) disk {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		return limitedDisk(t, dir)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	return disk{dir, syscall.ENOSPC,
		func(t *testing.T) { // another file takes what is free, to the last page
			other, err := os.Create(filepath.Join(dir, "other"))
			require.NoError(t, err)
			defer other.Close()
			for err == nil {
				_, err = other.Write(make([]byte, os.Getpagesize()))
			}
			require.ErrorIs(t, err, syscall.ENOSPC)
		},
		func(t *testing.T) {
			require.NoError(t, syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "size=8m"))
		}}
}

func limitedDisk(t *testing.T, dir string) disk {
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	enlarge := func(t *testing.T) { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)) }
	t.Cleanup(func() {
		enlarge(t)
		signal.Reset(syscall.SIGXFSZ)
	})
	return disk{dir, syscall.EFBIG,
		func(t *testing.T) {
			info, err := os.Stat(filepath.Join(dir, "store"))
			require.NoError(t, err)
			limit := before
			limit.Cur = uint64(info.Size())
			require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
		}, enlarge}
}

// TestFullDisk: on a full disk changes fail and say so, what was acknowledged stays, and look-ups and signatures go on. When
// there is room again, changes work.
func TestFullDisk(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) disk{
		"disk":  newDisk,
		"limit": func(t *testing.T) disk { return limitedDisk(t, t.TempDir()) },
	} {
		t.Run(name, func(t *testing.T) { testFullDisk(t, make(t)) })
	}
}

func testFullDisk(t *testing.T, d disk) {
	path, keys := filepath.Join(d.dir, "store"), keyFile(t)
	p := start(t, openFile(t, path), keys)
	require.NoError(t, p.Create(t.Context(), entry(shared, shared)))
	mount, err := p.Mount(t.Context(), team, "pki", shared)
	require.NoError(t, err)
	key, err := mount.Key(t.Context(), shared)
	require.NoError(t, err)

	d.fill(t)
	made := 0
	for err = nil; err == nil; made++ {
		require.Less(t, made, 10_000, "the file grows without end")
		err = p.Create(t.Context(), entry("e"+strconv.Itoa(made), shared))
	}
	made--
	said := func(err error) {
		t.Helper()
		assert.ErrorIs(t, err, store.ErrUnavailable)
		assert.ErrorIs(t, err, backend.ErrUnavailable)
		assert.ErrorContains(t, err, d.full.Error()) // bbolt keeps the text only
		assert.ErrorContains(t, err, path)
		assert.NotErrorIs(t, err, store.ErrUnknownOutcome)
	}
	said(err)
	if err := p.Revoke(t.Context(), mount, shared); err != nil {
		said(err)
	} else { // it found room in the file
		assert.ErrorIs(t, signs(key), backend.ErrNotPermitted)
		require.NoError(t, p.Grant(t.Context(), mount, shared))
	}
	assert.Len(t, p.List(team), made+1)
	for range 3 {
		require.NoError(t, signs(key))
		_, err := p.Registry.Key(t.Context(), named(shared))
		require.NoError(t, err)
	}
	paths := []string{"pki"}
	see := func() (view, error) { return seen(t.Context(), p.Registry, paths) }
	before := agree(t, p.store, see)

	d.enlarge(t)
	require.NoError(t, p.Create(t.Context(), entry("after", shared)))
	require.NoError(t, p.Revoke(t.Context(), mount, shared))
	assert.True(t, errors.Is(signs(key), backend.ErrNotPermitted))
	after := agree(t, p.store, see)
	assert.Len(t, after, len(before)+1)
	require.NoError(t, p.end())
	p = start(t, openFile(t, path), keys)
	assert.Equal(t, after, agree(t, p.store, see))
}
