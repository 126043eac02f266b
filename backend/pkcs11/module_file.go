package pkcs11

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/managedkeys/managedkeys/backend"
)

// machines are the ELF machines of the architectures that cgo runs on.
var machines = map[string]elf.Machine{
	"386": elf.EM_386, "amd64": elf.EM_X86_64, "arm": elf.EM_ARM, "arm64": elf.EM_AARCH64, "loong64": elf.EM_LOONGARCH,
	"mips": elf.EM_MIPS, "mipsle": elf.EM_MIPS, "mips64": elf.EM_MIPS, "mips64le": elf.EM_MIPS, "ppc64": elf.EM_PPC64,
	"ppc64le": elf.EM_PPC64, "riscv64": elf.EM_RISCV, "s390x": elf.EM_S390,
}

// checkModuleFile returns an error unless path is a file that the dynamic linker may take for a PKCS#11 module. Loading
// runs the module's code, and the linker's own message is lost; so everything that can be seen from outside is checked
// first.
func checkModuleFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no such file: %w", errors.Join(backend.ErrInvalidParams, err))
	case err != nil:
		return fmt.Errorf("%w: %w", backend.ErrInvalidParams, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("it is a %s, not a file: %w", kindOfFile(info.Mode()), backend.ErrInvalidParams)
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" || runtime.GOOS == "windows" || runtime.GOOS == "aix" {
		return nil // modules have another format
	}
	return checkELF(path)
}

func kindOfFile(mode fs.FileMode) string {
	if mode.IsDir() {
		return "directory"
	}
	return "special file"
}

func checkELF(path string) error {
	f, err := elf.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", backend.ErrInvalidParams, err)
	}
	if err != nil {
		return fmt.Errorf("it is not a shared object (ELF): %w: %w", backend.ErrInvalidParams, err)
	}
	defer f.Close()
	if f.Type != elf.ET_DYN {
		return fmt.Errorf("it is %v, not a shared object (ET_DYN): %w", f.Type, backend.ErrInvalidParams)
	}
	if want, ok := machines[runtime.GOARCH]; ok && f.Machine != want {
		return fmt.Errorf("it is made for %v, and this program for %v: %w", f.Machine, want, backend.ErrInvalidParams)
	}
	symbols, err := f.DynamicSymbols()
	if err == nil || errors.Is(err, elf.ErrNoSymbols) {
		for _, s := range symbols {
			if s.Name == "C_GetFunctionList" && s.Section != elf.SHN_UNDEF {
				return nil
			}
		}
		return fmt.Errorf("it has no function C_GetFunctionList, so it is no PKCS#11 module: %w", backend.ErrInvalidParams)
	}
	return fmt.Errorf("its symbols can't be read: %w: %w", backend.ErrInvalidParams, err)
}
