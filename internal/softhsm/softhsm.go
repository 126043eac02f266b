// Package softhsm makes SoftHSM2 tokens for tests, examples and benchmarks. A token of this package is a throw-away: its
// PINs are random, are passed to softhsm2-util on the command line, and protect nothing.
//
// SoftHSM2 reads its configuration file, which the environment variable SOFTHSM2_CONF names, when the module is
// initialised, and only then looks for tokens. So all tokens that one process uses at the same time live in one
// directory, and a token must be made before the module is initialised, or the module be finalised and initialised
// again before the token is seen.
package softhsm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
)

// ErrMissing is wrapped by errors that say that SoftHSM2 is not installed.
var ErrMissing = errors.New("SoftHSM2 is not installed")

// Advice says how to install SoftHSM2.
const Advice = "install it with `apt-get install softhsm2` (Debian, Ubuntu), `dnf install softhsm` (Fedora) or " +
	"`brew install softhsm` (macOS), or set SOFTHSM2_MODULE to the path of libsofthsm2.so"

// EnvModule is the environment variable that names the module where it is in none of the usual places.
const EnvModule = "SOFTHSM2_MODULE"

// modulePaths are the usual places, most specific first.
var modulePaths = []string{
	"/usr/lib/softhsm/libsofthsm2.so", // Debian, Ubuntu
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so", // Fedora
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/lib64/libsofthsm2.so",
	"/usr/lib/pkcs11/libsofthsm2.so", // Arch
	"/usr/lib/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// Token is an initialised SoftHSM2 token.
type Token struct {
	Module string // path of the PKCS#11 module
	Label  string // of the token
	Slot   string // decimal number of the slot
	PIN    string // of the user
	SOPIN  string // of the security officer
	Dir    string // that holds the configuration file and the token
}

// Format keeps the PINs out of everything that package fmt writes.
func (t *Token) Format(f fmt.State, _ rune) {
	if t == nil {
		fmt.Fprint(f, "<nil>")
		return
	}
	fmt.Fprintf(f, "SoftHSM2 token %q in slot %s", t.Label, t.Slot)
}

// Module returns the path of the SoftHSM2 module. The error wraps [ErrMissing].
func Module() (string, error) {
	if path := os.Getenv(EnvModule); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("softhsm: %s: %w: %w", EnvModule, ErrMissing, err)
		}
		return path, nil
	}
	for _, path := range modulePaths {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("softhsm: found no libsofthsm2.so: %w: %s", ErrMissing, Advice)
}

var slotNumber = regexp.MustCompile(`reassigned to slot (\d+)`)

// mu guards SOFTHSM2_CONF: two tokens must not be made at the same time in different directories.
var mu sync.Mutex

// New makes a token with that label in dir, which must exist, and points SOFTHSM2_CONF of this process at dir. Tokens of
// another dir are then out of reach from the next initialisation of the module on. The caller removes dir when it has
// closed the module. Several tokens may be made in one dir.
//
// The error wraps [ErrMissing] and carries [Advice] if softhsm2-util or the module is missing.
func New(dir, label string) (*Token, error) {
	mu.Lock()
	defer mu.Unlock()
	module, err := Module()
	if err != nil {
		return nil, err
	}
	util, err := exec.LookPath("softhsm2-util")
	if err != nil {
		return nil, fmt.Errorf("softhsm: %w: %w: %s", ErrMissing, err, Advice)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	conf, err := configure(dir)
	if err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	if err := os.Setenv("SOFTHSM2_CONF", conf); err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}

	t := &Token{Module: module, Label: label, Dir: dir}
	if t.PIN, err = newPIN(); err != nil {
		return nil, err
	}
	if t.SOPIN, err = newPIN(); err != nil {
		return nil, err
	}
	out, err := exec.Command(util, "--module", module, "--init-token", "--free", "--label", label,
		"--so-pin", t.SOPIN, "--pin", t.PIN).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("softhsm: softhsm2-util --init-token: %w: %.300s", err, out)
	}
	match := slotNumber.FindSubmatch(out)
	if match == nil {
		return nil, fmt.Errorf("softhsm: softhsm2-util --init-token names no slot: %.300s", out)
	}
	t.Slot = string(match[1])
	return t, nil
}

// configure writes the configuration of dir, if it is not there yet, and returns its path.
func configure(dir string) (string, error) {
	tokens, conf := filepath.Join(dir, "tokens"), filepath.Join(dir, "softhsm2.conf")
	if err := os.MkdirAll(tokens, 0o700); err != nil {
		return "", err
	}
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nslots.removable = false\nlog.level = ERROR\n"
	return conf, os.WriteFile(conf, []byte(text), 0o600)
}

// newPIN returns 12 random decimal digits.
func newPIN() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(1e12))
	if err != nil {
		return "", fmt.Errorf("softhsm: %w", err)
	}
	return fmt.Sprintf("%012d", n), nil
}
