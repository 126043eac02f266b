package pkcs11

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// TestNewRefusesFiles: what can't be a module is refused before any of its code runs.
func TestNewRefusesFiles(t *testing.T) {
	token := softhsm.Require(t)
	library := faultp11.NotAModule(t)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	module, err := os.ReadFile(token.Module)
	if err != nil {
		t.Fatal(err)
	}
	foreign := append([]byte(nil), module...)
	foreign[18], foreign[19] = 4, 0 // e_machine: EM_68K, where Go doesn't run
	object := append([]byte(nil), module...)
	object[16], object[17] = 1, 0 // e_type: ET_REL
	if err := os.Symlink(filepath.Join(dir, "gone"), filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, path, says string }{
		{"missing", filepath.Join(dir, "absent.so"), "no such file"},
		{"dangling link", filepath.Join(dir, "dangling"), "no such file"},
		{"file as a directory", filepath.Join(token.Module, "m.so"), "not a directory"},
		{"directory", dir, "directory"},
		{"device", "/dev/null", "special file"},
		{"empty", write("empty.so", nil), "not a shared object"},
		{"text", write("text.so", []byte("GROUP ( libsofthsm2.so )\n")), "not a shared object"},
		{"cut off", write("cut.so", module[:100]), "not a shared object"},
		{"other machine", write("foreign.so", foreign), "made for EM_68K"},
		{"object file", write("object.so", object), "ET_REL"},
		{"other library", library, "C_GetFunctionList"},
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
	_, err = New(Library{Name: "hsm1", Path: token.Module}, Library{Name: "HSM1", Path: token.Module})
	wants(t, err, backend.ErrInvalidParams, "given twice")
}

// TestBrokenModules: modules that fail while they start are errors, the program lives, and goes on with others.
func TestBrokenModules(t *testing.T) {
	for name, test := range map[string]struct {
		path  func(faultp11.TB) string
		cause error
		again error // at the second time
		says  string
	}{
		"refuses":      {faultp11.Refusing, cryptoki.ErrNoList, cryptoki.ErrNoList, "CKR 0x5"},
		"gives a NULL": {faultp11.NoList, cryptoki.ErrNoList, cryptoki.ErrNoList, "no function list"},
		"crashes":      {faultp11.Crashing, cryptoki.ErrCrashed, cryptoki.ErrDangerous, "C_Initialize"},
		"aborts":       {faultp11.Aborting, cryptoki.ErrCrashed, cryptoki.ErrDangerous, "C_Initialize"},
	} {
		t.Run(name, func(t *testing.T) {
			path := test.path(t)
			b := connectWith(t, Library{Path: path})
			p := Params{Library: "soft", TokenLabel: "any", PIN: "wrong-pin", KeyLabel: "key", Mechanism: ECDSA}
			_, err := b.Open(t.Context(), p)
			wants(t, err, backend.ErrUnavailable, `library "soft"`, path, test.says)
			wants(t, err, test.cause)
			for range 2 {
				_, err = b.Open(t.Context(), p)
				wants(t, err, backend.ErrUnavailable, path)
				wants(t, err, test.again)
			}
			_, err = connectWith(t, Library{Path: path}).Generate(t.Context(), withCurve(p, "P256"), nil)
			wants(t, err, test.again)

			token := softhsm.Require(t)
			signsWell(t, mustGenerate(t, connectTo(t, token), withCurve(on(token, "key", ECDSA), "P256")))
		})
	}
}

// TestModuleThatFailsToStart: C_Initialize that fails is tried again when it is needed.
func TestModuleThatFailsToStart(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	for _, code := range []ckr{ckrGeneralError, 0x00A, 0x030} {
		r.failing("C_Initialize", code)
		_, err := b.Open(t.Context(), r.p256("key"))
		wants(t, err, code.sentinel(), "C_Initialize", code.Error(), r.Path())
	}
	r.Set()
	signsWell(t, mustGenerate(t, b, r.p256("key")))
}

// TestModuleThatIsRemoved: the dynamic linker has the last word.
func TestModuleThatIsRemoved(t *testing.T) {
	dir := t.TempDir()
	module, err := os.ReadFile(softhsm.Require(t).Module)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "module.so")
	if err := os.WriteFile(path, module, 0o600); err != nil {
		t.Fatal(err)
	}
	b := connectWith(t, Library{Path: path})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p := Params{Library: "soft", TokenLabel: "any", PIN: "wrong-pin", KeyLabel: "key", Mechanism: ECDSA}
	_, err = b.Open(t.Context(), p)
	wants(t, err, backend.ErrUnavailable, "dynamic linker", path)
}

func TestUnknownLibrary(t *testing.T) {
	r := newRig(t)
	p := r.p256("key")
	p.Library = "other"
	b := r.client(t)
	_, err := b.Open(t.Context(), p)
	wants(t, err, backend.ErrInvalidParams, `library: "other"`, `"soft"`)
	p.Library = r.Path() // no file can be named
	_, err = b.Generate(t.Context(), p, nil)
	wants(t, err, backend.ErrInvalidParams, "is not the name of a library")
	if counts := r.Counts(); len(counts) > 0 {
		t.Errorf("the module was called: %v", counts)
	}
}

func TestMachines(t *testing.T) {
	if _, ok := machines[runtime.GOARCH]; !ok {
		t.Errorf("%s is not known", runtime.GOARCH)
	}
}
