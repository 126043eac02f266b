package faultp11

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

//go:embed module/*.c module/*.h module/broken/*.c
var sources embed.FS

// headers is the module whose directory has the headers of PKCS #11 v2.40.
const headers = "github.com/miekg/pkcs11"

var (
	shim    = builder("module", "-Wl,--no-undefined")
	crashes = builder("module/broken", "-DCRASHES")
	aborts  = builder("module/broken", "-DABORTS")
	empty   = builder("module/broken", "-DEMPTY")
	refuses = builder("module/broken", "-DREFUSES")
	noList  = builder("module/broken", "-DNO_LIST")
)

// errBroken is wrapped by errors of sources that the compiler refuses.
var errBroken = errors.New("the compiler refuses the sources")

// builder returns a function that returns the library built from a folder of sources. It builds once per process, and
// only if no process of the same user has built the same before.
func builder(folder string, flags ...string) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		if errUnusable != nil {
			return nil, errUnusable
		}
		library, err := build(folder, flags)
		if err != nil {
			return nil, fmt.Errorf("building the PKCS #11 module in C: %w", err)
		}
		return library, nil
	})
}

func build(folder string, flags []string) ([]byte, error) {
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	compiler, err := exec.LookPath(compiler)
	if err != nil {
		return nil, err
	}
	include, err := output(exec.Command("go", "list", "-m", "-f", "{{.Dir}}", headers))
	if err != nil {
		return nil, err
	}
	if include = strings.TrimSpace(include); include == "" {
		return nil, fmt.Errorf("the sources of %s, for its headers, are not on this machine", headers)
	}
	args := append([]string{"-shared", "-fPIC", "-O1", "-g", "-pthread", "-Wall", "-Wextra", "-fvisibility=hidden",
		"-Wl,-Bsymbolic", "-I" + include}, flags...)

	dir, err := os.MkdirTemp("", "faultp11-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	files, err := fs.ReadDir(sources, folder)
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %q\n", compiler, args)
	args = append(args, "-o", "module.so")
	for _, file := range files {
		if file.IsDir() {
			continue
		}
		text, err := sources.ReadFile(folder + "/" + file.Name())
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(hash, "%q %q\n", file.Name(), text)
		if err := os.WriteFile(filepath.Join(dir, file.Name()), text, 0o600); err != nil {
			return nil, err
		}
		if strings.HasSuffix(file.Name(), ".c") {
			args = append(args, file.Name())
		}
	}
	key := hex.EncodeToString(hash.Sum(nil))
	if library := cached(key); library != nil {
		return library, nil
	}
	command := exec.Command(compiler, append(args, "-ldl")...)
	command.Dir = dir
	if _, err := output(command); err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	library, err := os.ReadFile(filepath.Join(dir, "module.so"))
	if err == nil {
		cache(key, library)
	}
	return library, err
}

// output returns what the command prints, or an error with what it says.
func output(command *exec.Cmd) (string, error) {
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %.2000s", command.Args[0], err, stderr.String())
	}
	return string(out), nil
}

// cacheFile returns where a library is kept, or "" if the user has no cache.
func cacheFile(key string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "managedkeys-faultp11", key+".so")
}

// cached returns nil if there is none.
func cached(key string) []byte {
	library, err := os.ReadFile(cacheFile(key))
	if err != nil || len(library) == 0 {
		return nil
	}
	return library
}

// cache keeps the library, if it can: without, it is built again.
func cache(key string, library []byte) {
	path := cacheFile(key)
	if path == "" || os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	file, err := os.CreateTemp(filepath.Dir(path), key)
	if err != nil {
		return
	}
	_, err = file.Write(library)
	if closed := file.Close(); err != nil || closed != nil || os.Rename(file.Name(), path) != nil {
		os.Remove(file.Name())
	}
}
