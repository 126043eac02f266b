package faultp11

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/requires/requirestest"
)

func TestBuildNeedsACompiler(t *testing.T) {
	t.Setenv("CC", "no-such-compiler")
	for list, want := range map[string]string{"": "skipped without cc: ", "cc": "cc is required"} {
		t.Setenv(requires.Env, list)
		var r requirestest.Recorder
		assert.Empty(t, install(&r, "x.so", builder("module")))
		assert.Contains(t, r.Message, want)
	}
}

func TestBuildIsKept(t *testing.T) {
	requires.Tool(t, "cc", "cc")
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	kept := func() []string {
		files, err := filepath.Glob(filepath.Join(dir, "managedkeys-faultp11", "*"))
		require.NoError(t, err)
		return files
	}
	first, err := build("module/broken", []string{"-DEMPTY"})
	require.NoError(t, err)
	require.Len(t, kept(), 1)
	_, err = build("module/broken", []string{"-DREFUSES"})
	require.NoError(t, err)
	require.Len(t, kept(), 2, "other flags make another library")

	for _, file := range kept() {
		require.NoError(t, os.WriteFile(file, []byte("from the cache"), 0o600))
	}
	again, err := build("module/broken", []string{"-DEMPTY"})
	require.NoError(t, err)
	assert.Equal(t, "from the cache", string(again))

	t.Setenv("XDG_CACHE_HOME", os.DevNull)
	again, err = build("module/broken", []string{"-DEMPTY"})
	require.NoError(t, err, "no cache is no error")
	assert.Len(t, again, len(first))
}

func TestBrokenSourcesFail(t *testing.T) {
	requires.Tool(t, "cc", "cc")
	t.Setenv(requires.Env, "")
	var r requirestest.Recorder
	assert.Empty(t, install(&r, "x.so", builder("module/broken", "-DEMPTY", "-include", "no-such-header.h")))
	assert.True(t, r.Failed)
	assert.Contains(t, r.Message, "no-such-header.h")
}

func TestInstallRemovesItsFile(t *testing.T) {
	var r requirestest.Recorder
	path := install(&r, "x.so", func() ([]byte, error) { return []byte("x"), nil })
	assert.FileExists(t, path)
	require.Len(t, r.Cleanups, 1)
	r.Cleanups[0]()
	assert.NoFileExists(t, path)
	assert.NoDirExists(t, filepath.Dir(path))
}
