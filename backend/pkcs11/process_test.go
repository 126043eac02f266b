package pkcs11

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// childKey is the environment variable that makes the test binary a program that signs, with a child as its value.
const childKey = "MANAGEDKEYS_TEST_CHILD"

// child says what the other process signs with.
type child struct {
	Module, Label, PIN, Key string
}

// main signs until standard input ends, writes one byte for each signature, and returns what to exit with.
func (c child) main() int {
	err := func() error {
		b, err := New(Library{Name: "soft", Path: c.Module})
		if err != nil {
			return err
		}
		defer b.Close()
		token := &softhsm.Token{Label: c.Label, PIN: c.PIN}
		key, err := b.Open(context.Background(), on(token, c.Key, ECDSA))
		if err != nil {
			return err
		}
		var ended atomic.Bool
		go func() {
			io.Copy(io.Discard, os.Stdin)
			ended.Store(true)
		}()
		for !ended.Load() {
			if err := signOnce(context.Background(), key); err != nil {
				return err
			}
			if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
				return err
			}
		}
		return b.Close()
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// asChild makes this process what the environment says, if it does.
func asChild() {
	text := os.Getenv(childKey)
	if text == "" {
		return
	}
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(c.main())
}

// sibling is another process that signs.
type sibling struct {
	cmd    *exec.Cmd
	input  io.Closer
	output io.Reader
	errors bytes.Buffer
}

// startSibling starts a process that signs with the key until end is called.
func startSibling(t *testing.T, token *softhsm.Token, key string) *sibling {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(child{token.Module, token.Label, token.PIN, key})
	if err != nil {
		t.Fatal(err)
	}
	s := &sibling{cmd: exec.CommandContext(t.Context(), program)}
	s.cmd.Env = append(os.Environ(), childKey+"="+string(text))
	s.cmd.Stderr = &s.errors
	input, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.input, s.output = input, output
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// signs waits for n signatures of the process.
func (s *sibling) signs(n int) error {
	_, err := io.ReadFull(s.output, make([]byte, n))
	return err
}

// end has the process end.
func (s *sibling) end() error {
	s.input.Close()
	if _, err := io.Copy(io.Discard, s.output); err != nil {
		return err
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, s.errors.Bytes())
	}
	return nil
}

// TestTwoProcesses: processes are started while keys are in use, and use the same keys of the same token. All go on, and go
// on when one of them has logged out and gone.
func TestTwoProcesses(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	for _, label := range []string{"a", "b"} {
		mustGenerate(t, b, withCurve(on(token, label, ECDSA), "P256"))
	}
	var wg sync.WaitGroup
	var signed atomic.Int64
	stop := make(chan struct{})
	defer wg.Wait()
	defer close(stop)
	for _, label := range []string{"a", "a", "b", "b"} {
		key := mustOpen(t, b, on(token, label, ECDSA))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := signOnce(context.Background(), key); err != nil {
					t.Errorf("signing beside another process: %v", err)
					return
				}
				signed.Add(1)
			}
		})
	}
	goesOn := func() {
		t.Helper()
		before := signed.Load()
		awaits(t, "signing", func() error {
			if now := signed.Load(); now < before+20 {
				return fmt.Errorf("%d signatures", now-before)
			}
			return nil
		})
	}
	first := startSibling(t, token, "a")
	second := startSibling(t, token, "b")
	for name, s := range map[string]*sibling{"first": first, "second": second} {
		if err := s.signs(20); err != nil {
			t.Errorf("the %s process: %v: %v", name, err, s.end())
		}
	}
	goesOn()
	if err := first.end(); err != nil {
		t.Errorf("the first process: %v", err)
	}
	goesOn()
	if err := second.signs(20); err != nil {
		t.Errorf("the second process, when the first had gone: %v", err)
	}
	if err := second.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := second.end(); err == nil {
		t.Error("the second process was killed and ended well")
	}
	goesOn()
}
