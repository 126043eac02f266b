package main

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// The environment tells a contender's process where the token is.
const (
	envModule = "MANAGEDKEYS_BENCH_MODULE"
	envLabel  = "MANAGEDKEYS_BENCH_TOKEN"
	envPIN    = "MANAGEDKEYS_BENCH_PIN"
	envReal   = "MANAGEDKEYS_BENCH_REAL" // the module that slow.so forwards to
)

//go:embed c
var programSource embed.FS

// errNoCgo is why a table can't be printed.
var errNoCgo = errors.New("the contenders on a PKCS#11 token need cgo; build with CGO_ENABLED=1 and a C compiler")

// workplace has what tables share, made when the first of them asks for it.
type workplace struct {
	dir     string // of the C program
	memory  string // of the tokens, in memory where the machine has such a file system
	program string // the C program
	keys    *softhsm.Token
	servers *servers
}

func newWorkplace() (*workplace, error) {
	w := new(workplace)
	var err error
	if w.dir, err = os.MkdirTemp("", "managedkeys-bench-"); err != nil {
		return nil, err
	}
	// SoftHSM2 writes every object to the disk before it goes on: 10 ms for each on an ordinary one, which makes a token
	// of 10,000 objects a matter of minutes. What is measured only reads.
	if w.memory, err = os.MkdirTemp("/dev/shm", "managedkeys-bench-"); err != nil {
		w.memory = w.dir
	}
	return w, nil
}

// Close removes everything.
func (w *workplace) Close() error {
	w.servers.close()
	return errors.Join(os.RemoveAll(w.dir), os.RemoveAll(w.memory))
}

// newToken makes an empty token out of sight of the others, so that no contender has to load those.
func (w *workplace) newToken(label string) (*softhsm.Token, error) {
	if !hasCgo {
		return nil, errNoCgo
	}
	dir := filepath.Join(w.memory, label)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return softhsm.New(dir, label)
}

// token returns the token with the keys whose operations are measured. The C program makes them, so that no contender
// has keys that are to its liking.
func (w *workplace) token() (*softhsm.Token, error) {
	if w.keys != nil {
		return w.keys, nil
	}
	token, err := w.newToken("bench")
	if err != nil {
		return nil, err
	}
	if _, err := w.once(contenderC, token, "make"); err != nil {
		return nil, err
	}
	w.keys = token
	return token, nil
}

// compile returns the path of the C program, and beside it is the module of slowModule.
func (w *workplace) compile() (string, error) {
	if w.program != "" {
		return w.program, nil
	}
	// The headers are those of the wrapper that cgo was given.
	headers, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		return "", fmt.Errorf("go list, for the directory of pkcs11.h; run this in the repository: %w", err)
	}
	if err := os.CopyFS(w.dir, programSource); err != nil {
		return "", err
	}
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	script := `cd "$1" && cc="$0 -std=gnu11 -O2 -Wall -Wextra -Werror -pthread" && $cc -I "$2" -o bench c/*.c -ldl &&
		$cc -I "$2" -shared -fPIC -o slow.so c/slow/slow.c -ldl`
	out, err := exec.Command("sh", "-c", script, cc, w.dir, strings.TrimSpace(string(headers))).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %.2000s", cc, err, out)
	}
	w.program = filepath.Join(w.dir, "bench")
	return w.program, nil
}
