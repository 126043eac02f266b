// Package swtpm makes tokens of tpm2-pkcs11 over a software TPM for tests: a small, slow device with room for few keys,
// unlike SoftHSM2. A token of this package is a throw-away: its PINs are random, are passed to tools on the command
// line, and protect nothing.
//
// The module reads its environment variables and its store in C_Initialize, so there is one token in a process at a time.
//
// The TPM has room for the objects of two keys, and the module keeps a key there from its first use until C_Logout,
// C_CloseAllSessions of the slot or C_Finalize. Using a third key, or generating a second pair, is CKR_GENERAL_ERROR until
// then. After three wrong PINs even the right one is CKR_PIN_LOCKED.
package swtpm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/internal/daemon"
)

// ErrMissing is wrapped by errors that say that a part of the software TPM or its module is not installed.
var ErrMissing = errors.New("swtpm, tpm2-tools, tpm2-pkcs11 or pkcs11-tool is not installed")

// Advice says how to install what this package needs.
const Advice = "install it with `apt-get install swtpm tpm2-tools libtpm2-pkcs11-1 libtpm2-pkcs11-tools opensc` (Debian, " +
	"Ubuntu), or set TPM2_PKCS11_MODULE to the path of libtpm2_pkcs11.so"

// EnvModule is the environment variable that names the module where it is in none of the usual places.
const EnvModule = "TPM2_PKCS11_MODULE"

// modulePaths are the usual places, as patterns of package filepath.
var modulePaths = []string{
	"/usr/lib/*/pkcs11/libtpm2_pkcs11.so", // Debian, Ubuntu
	"/usr/lib64/pkcs11/libtpm2_pkcs11.so", // Fedora
	"/usr/lib/pkcs11/libtpm2_pkcs11.so",   // Arch
	"/usr/lib64/libtpm2_pkcs11.so",
}

const (
	startTimeout = 10 * time.Second // until a TPM accepts connections
	toolTimeout  = time.Minute      // of one call of a tool; tpm2_ptool takes 1 to 5 s
	portAttempts = 10               // to find two free ports that are still free when the TPM takes them
)

// Token is an initialised token of tpm2-pkcs11.
type Token struct {
	Module string // path of the PKCS#11 module
	Label  string // of the token
	PIN    string // of the user
	SOPIN  string // of the security officer
	Dir    string // that holds the state of the TPM and the store of the module

	process *daemon.Process
	tcti    string
}

// Format keeps the PINs out of everything that package fmt writes.
func (t *Token) Format(f fmt.State, _ rune) {
	if t == nil {
		fmt.Fprint(f, "<nil>")
		return
	}
	fmt.Fprintf(f, "TPM token %q", t.Label)
}

// Module returns the path of the tpm2-pkcs11 module. The error wraps [ErrMissing].
func Module() (string, error) {
	if path := os.Getenv(EnvModule); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("swtpm: %s: %w: %w", EnvModule, ErrMissing, err)
		}
		return path, nil
	}
	for _, pattern := range modulePaths {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("swtpm: found no libtpm2_pkcs11.so: %w: %s", ErrMissing, Advice)
}

// find returns a token that is not made yet. The error wraps [ErrMissing].
func find(label string) (*Token, error) {
	module, err := Module()
	if err != nil {
		return nil, err
	}
	for _, tool := range []string{"swtpm", "tpm2", "tpm2_ptool", "pkcs11-tool"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("swtpm: %w: %w: %s", ErrMissing, err, Advice)
		}
	}
	return &Token{Module: module, Label: label, PIN: rand.Text(), SOPIN: rand.Text()}, nil
}

// environment returns the variables that lead the module and the tools to the token.
func (t *Token) environment() map[string]string {
	return map[string]string{
		"TPM2_PKCS11_STORE":     filepath.Join(t.Dir, "store"),
		"TPM2_PKCS11_TCTI":      t.tcti,
		"TPM2_PKCS11_BACKEND":   "esysdb",
		"TPM2_PKCS11_LOG_LEVEL": "0",        // errors
		"TSS2_LOG":              "all+NONE", // the module reports what goes wrong below it
		"TPM2TOOLS_TCTI":        t.tcti,
	}
}

// make starts a TPM and initialises the token on it. The caller calls close, also after an error.
//
// The module does it, not tpm2_ptool: that takes a second more and, without a resource manager, leaves so many objects
// in the TPM that "addtoken" fails with "out of memory for object contexts".
func (t *Token) make() error {
	dir, err := os.MkdirTemp("", "swtpm-")
	if err != nil {
		return fmt.Errorf("swtpm: %w", err)
	}
	t.Dir = dir
	for _, name := range []string{"state", "store"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return fmt.Errorf("swtpm: %w", err)
		}
	}
	if err := t.start(); err != nil {
		return err
	}
	if err := t.run("pkcs11-tool", "--module", t.Module, "--slot-index", "0", "--init-token", "--label", t.Label,
		"--so-pin", t.SOPIN); err != nil {
		return err
	}
	return t.run("pkcs11-tool", "--module", t.Module, "--token-label", t.Label, "--login", "--login-type", "so",
		"--so-pin", t.SOPIN, "--init-pin", "--pin", t.PIN)
}

// close ends the TPM and removes its files.
func (t *Token) close() {
	if t.process != nil {
		t.process.Kill()
	}
	if t.Dir != "" {
		os.RemoveAll(t.Dir)
	}
}

// start starts a TPM on two ports that are free.
func (t *Token) start() error {
	var err error
	for range portAttempts {
		var port int
		if port, err = freePorts(); err != nil {
			continue
		}
		if err = t.startOn(port); err == nil {
			return nil
		}
	}
	return fmt.Errorf("swtpm: %w", err)
}

// freePorts returns the first of two adjacent ports of 127.0.0.1 that are free: the TPM's clients take the port for control
// to be the next one.
func freePorts() (int, error) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer first.Close()
	port := first.Addr().(*net.TCPAddr).Port
	second, err := net.Listen("tcp", address(port+1))
	if err != nil {
		return 0, err
	}
	return port, second.Close()
}

func address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func (t *Token) startOn(port int) error {
	process, err := daemon.Start(exec.Command("swtpm", "socket", "--tpm2", "--flags", "not-need-init,startup-clear",
		"--tpmstate", "dir="+filepath.Join(t.Dir, "state"),
		"--server", fmt.Sprintf("type=tcp,bindaddr=127.0.0.1,port=%d", port),
		"--ctrl", fmt.Sprintf("type=tcp,bindaddr=127.0.0.1,port=%d", port+1)))
	if err != nil {
		return err
	}
	err = process.Await(startTimeout, func() error { return answers(address(port + 1)) })
	if err != nil {
		process.Kill()
		return err
	}
	t.process, t.tcti = process, fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", port)
	return nil
}

// answers asks a TPM over its control port what commands it takes there (CMD_GET_CAPABILITY of swtpm_ioctls(3)). That it
// listens is not enough: it may yet find that the other port is taken.
func answers(control string) error {
	conn, err := net.Dial("tcp", control)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{0, 0, 0, 1}); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 8))
	return err
}

// run runs a tool on the token. The error doesn't name its arguments, which hold PINs.
func (t *Token) run(tool string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Env = os.Environ()
	for name, value := range t.environment() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	shims := filepath.Join(t.Dir, "shims")
	cmd.Env = append(cmd.Env, "PATH="+shims+string(filepath.ListSeparator)+os.Getenv("PATH"))
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		text := strings.NewReplacer(t.PIN, "…", t.SOPIN, "…").Replace(string(out))
		return fmt.Errorf("swtpm: %s: %w: %s", tool, err, text[max(0, len(text)-600):])
	}
	return nil
}
