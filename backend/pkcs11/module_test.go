//go:build cgo && linux

package pkcs11

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// systemLibrary returns the path of a shared object that every Linux has and that is no PKCS#11 module.
func systemLibrary(t *testing.T) string {
	t.Helper()
	for _, pattern := range []string{"/lib/*/libm.so.6", "/usr/lib/*/libm.so.6", "/lib64/libm.so.6", "/lib/libm.so.6"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	t.Skip("skipped: found no libm.so.6")
	return ""
}

func TestNewRefusesFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	libm, err := os.ReadFile(systemLibrary(t))
	if err != nil {
		t.Fatal(err)
	}
	// ELF header: e_machine is at offset 18; EM_68K is 4, and Go doesn't run there.
	foreign := append([]byte(nil), libm...)
	foreign[18], foreign[19] = 4, 0
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "gone"), filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, path, says string }{
		{"missing", filepath.Join(dir, "absent.so"), "no such file"},
		{"dangling link", filepath.Join(dir, "dangling"), "no such file"},
		{"directory", dir, "directory"},
		{"device", "/dev/null", "special file"},
		{"empty", write("empty.so", nil), "not a shared object"},
		{"text", write("text.so", []byte("GROUP ( libsofthsm2.so )\n")), "not a shared object"},
		{"cut off", write("cut.so", libm[:100]), "not a shared object"},
		{"other machine", write("foreign.so", foreign), "made for EM_68K"},
		{"other library", systemLibrary(t), "C_GetFunctionList"},
		{"program", program, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := New(Library{Name: "hsm1", Path: test.path})
			if b != nil {
				t.Error("got a backend as well")
			}
			wants(t, err, backend.ErrInvalidParams, `library Path: of "hsm1"`, test.path, test.says)
		})
	}
	_, err = New(Library{Name: "hsm1", Path: filepath.Join(dir, "absent.so")})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error = %v, want one that wraps fs.ErrNotExist", err)
	}
	_, err = New()
	wants(t, err, backend.ErrInvalidParams, "no library")
	_, err = New(Library{Name: "hsm1", Path: systemLibrary(t)}, Library{Name: "HSM1", Path: systemLibrary(t)})
	wants(t, err, backend.ErrInvalidParams, "given twice")
}

// TestModuleThatCannotBeLoaded: a module that looks like one, but that the dynamic linker refuses.
func TestModuleThatCannotBeLoaded(t *testing.T) {
	m := &cryptoki{path: filepath.Join(t.TempDir(), "absent.so")}
	_, err := m.tokens()
	wants(t, err, backend.ErrUnavailable, "dynamic linker")
	_, err = m.open(0, fakePIN, 8)
	wants(t, err, backend.ErrUnavailable, "dynamic linker")
	if got := neededLibraries(systemLibrary(t)); !strings.Contains(got, "libc") {
		t.Errorf("libm needs %q", got)
	}
}

func TestShareModule(t *testing.T) {
	dir := t.TempDir()
	file, link, hard := filepath.Join(dir, "m.so"), filepath.Join(dir, "link.so"), filepath.Join(dir, "hard.so")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("m.so", link), os.Link(file, hard),
		os.WriteFile(filepath.Join(dir, "other.so"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	first, err := shareModule(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, hard, filepath.Join(dir, "..", filepath.Base(dir), "m.so")} {
		if m, err := shareModule(path); err != nil || m != first {
			t.Errorf("%s is another module than %s; error %v", path, file, err)
		}
	}
	if m, err := shareModule(filepath.Join(dir, "other.so")); err != nil || m == first {
		t.Errorf("another file is the same module; error %v", err)
	}
	if _, err := shareModule(filepath.Join(dir, "absent.so")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error = %v", err)
	}
}

func TestMachines(t *testing.T) {
	if _, ok := machines[runtime.GOARCH]; !ok {
		t.Errorf("%s is not known", runtime.GOARCH)
	}
}

func TestSessionCounts(t *testing.T) {
	const unavailable = ^uint(0)
	for _, test := range []struct {
		all, rw uint
		want    int
	}{{0, 0, 0}, {unavailable, 0, 0}, {16, unavailable, 16}, {16, 8, 8}, {8, 16, 8}, {1, 1, 1}, {1 << 31, 0, 0}} {
		if got := sessionLimit(test.all, test.rw); got != test.want {
			t.Errorf("%d and %d: %d, want %d", test.all, test.rw, got, test.want)
		}
	}
}

func TestULong(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, make([]byte, 7), make([]byte, 16)} {
		if got := ulong(b); got != 0 {
			t.Errorf("%x: %d", b, got)
		}
	}
	if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
		if ulong([]byte{3, 1, 0, 0}) != 259 || ulong([]byte{3, 1, 0, 0, 0, 0, 0, 0}) != 259 {
			t.Error("259 is read as something else")
		}
	}
}
