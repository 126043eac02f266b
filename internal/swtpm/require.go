package swtpm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// TB is what [Require] needs of a testing.TB, so that programs that use this package don't link package testing.
type TB = softhsm.TB

// current guards the environment of the process.
var current struct {
	sync.Mutex
	used bool
	made int // tokens made so far, for their labels
}

// Require returns a new token on a TPM of its own, and points the environment variables of the module in this process at
// them, for Go and for C. When the test has ended, the TPM ends and the variables are what they were. The test must have
// finalised the module by then. There can be one token at a time; its label is unique within the process.
//
// If swtpm, tpm2-tools, tpm2-pkcs11 or pkcs11-tool is not installed, the test ends as requires.Missing says for the part
// "swtpm".
func Require(tb TB) *Token {
	tb.Helper()
	current.Lock()
	defer current.Unlock()
	if current.used {
		tb.Fatalf("swtpm: another test of this process uses a token")
		return nil
	}
	t, err := find(fmt.Sprintf("tpm-%d", current.made+1))
	if err != nil {
		requires.Missing(tb, "swtpm", err)
		return nil
	}
	if err := t.make(); err != nil {
		t.close()
		tb.Fatalf("%v", err)
		return nil
	}
	current.used = true
	current.made++
	restore := setenv(t.environment())
	tb.Cleanup(func() {
		current.Lock()
		defer current.Unlock()
		t.close()
		restore()
		current.used = false
	})
	return t
}

// setenv sets variables and returns a function that undoes it.
func setenv(variables map[string]string) (restore func()) {
	before := map[string]string{}
	for name, value := range variables {
		if old, set := os.LookupEnv(name); set {
			before[name] = old
		}
		os.Setenv(name, value)
	}
	return func() {
		for name := range variables {
			if old, set := before[name]; set {
				os.Setenv(name, old)
			} else {
				os.Unsetenv(name)
			}
		}
	}
}

// AddKey makes a key on the token with tpm2_ptool, which takes 1 to 4 s. The algorithm is one of tpm2_ptool's: rsa2048,
// rsa3072, ecc256, ecc384, aes128, aes256, hmac:sha1, hmac:sha256, hmac:sha384 or hmac:sha512. The id becomes CKA_ID byte
// by byte. The test fails if the key can't be made.
//
// The module sees the key when it is initialised the next time. AddKey empties the TPM: a key that an initialised module has
// used fails with CKR_GENERAL_ERROR until the user has logged out and in again.
func (t *Token) AddKey(tb TB, algorithm, label, id string) {
	tb.Helper()
	if err := t.addKey(algorithm, label, id); err != nil {
		tb.Fatalf("%v", err)
	}
}

func (t *Token) addKey(algorithm, label, id string) error {
	if err := t.makeShims(); err != nil {
		return fmt.Errorf("swtpm: %w", err)
	}
	if err := t.run("tpm2_ptool", "addkey", "--algorithm", algorithm, "--label", t.Label, "--userpin", t.PIN,
		"--key-label", label, "--id", id); err != nil {
		return err
	}
	return t.run("tpm2", "flushcontext", "--transient-object")
}

// shimmed are the commands that tpm2_ptool runs. Each leaves its object in the TPM, which has room for three: usually a
// resource manager removes them.
var shimmed = []string{
	"changeauth", "create", "createprimary", "encryptdecrypt", "evictcontrol", "getcap", "import", "load", "loadexternal",
	"readpublic", "sign", "unseal",
}

// shim runs a command on a TPM that it empties before. What tpm2_ptool passes from command to command is in files.
const shim = `#!/bin/sh
%[1]q flushcontext --transient-object && exec %[1]q %s "$@"
`

// makeShims writes commands that go before those of tpm2-tools in the PATH.
func (t *Token) makeShims() error {
	tool, err := exec.LookPath("tpm2")
	if err != nil {
		return err
	}
	dir := filepath.Join(t.Dir, "shims")
	if err := os.Mkdir(dir, 0o700); errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, command := range shimmed {
		text := fmt.Sprintf(shim, tool, command)
		if err := os.WriteFile(filepath.Join(dir, "tpm2_"+command), []byte(text), 0o700); err != nil {
			return err
		}
	}
	return nil
}
