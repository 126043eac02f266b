package backendtest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// patience is how long a call may take before the suite says that it hangs. No case measures time otherwise.
const patience = 2 * time.Minute

// sentinels are the errors one of which every error of a backend wraps.
var sentinels = []error{
	backend.ErrKeyNotFound, backend.ErrKeyExists, backend.ErrAmbiguousKey, backend.ErrUnsupported,
	backend.ErrNotPermitted, backend.ErrUnavailable, backend.ErrThrottled, backend.ErrCredentials,
	backend.ErrKeyDisabled, backend.ErrKeyChanged, backend.ErrIntegrity, backend.ErrInvalidSignature, backend.ErrDecryption,
	backend.ErrInvalidParams, context.Canceled, context.DeadlineExceeded,
}

// checker is what a case works with: the test that it reports to and the configuration. All errors of the backend go
// through see, directly or through must, ok or refused, which is how the suite knows that none shows a secret.
type checker struct {
	*testing.T
	cfg Config
}

// sub runs fn as a subtest. A panic fails the subtest and not the whole program.
func (c *checker) sub(name string, fn func(*checker)) {
	c.Helper()
	c.Run(name, func(t *testing.T) {
		s := &checker{t, c.cfg}
		defer s.contain()
		fn(s)
	})
}

// contain fails the test if the goroutine that defers it panics.
func (c *checker) contain() {
	if r := recover(); r != nil {
		c.Errorf("panic: %s\n%s", c.cfg.mask(fmt.Sprint(r)), debug.Stack())
	}
}

// client returns a new client of the key manager, closed when the test ends.
func (c *checker) client() backend.Backend {
	c.Helper()
	b := c.cfg.New(c.T)
	if b == nil {
		c.Fatal("Config.New returned nil")
	}
	c.Cleanup(func() { c.ok("Close", b.Close()) })
	return b
}

// open opens a key and fails the test if that fails.
func (c *checker) open(b backend.Backend, p backend.Params) backend.Key {
	c.Helper()
	key, err := b.Open(c.Context(), p)
	c.must("Open", err)
	if key == nil {
		c.Fatal("Open returned neither a key nor an error")
	}
	return key
}

// see checks what holds for every error of a backend: it shows no secret and wraps a sentinel.
func (c *checker) see(op string, err error) {
	c.Helper()
	if err == nil {
		return
	}
	eachError(err, func(e error) {
		for _, format := range []string{"%v", "%+v", "%#v", "%q"} {
			c.scan(op+": error formatted with "+format, fmt.Sprintf(format, e))
		}
	})
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return
		}
	}
	c.Errorf("%s: error %q wraps no sentinel of package backend", op, c.cfg.mask(err.Error()))
}

// eachError calls fn with err and everything in its tree.
func eachError(err error, fn func(error)) {
	fn(err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if next := e.Unwrap(); next != nil {
			eachError(next, fn)
		}
	case interface{ Unwrap() []error }:
		for _, next := range e.Unwrap() {
			eachError(next, fn)
		}
	}
}

// ok reports whether err is nil and otherwise fails the test.
func (c *checker) ok(op string, err error) bool {
	c.Helper()
	c.see(op, err)
	if err != nil {
		c.Errorf("%s: %s", op, c.cfg.mask(err.Error()))
	}
	return err == nil
}

// must ends the test unless err is nil.
func (c *checker) must(op string, err error) {
	c.Helper()
	if !c.ok(op, err) {
		c.FailNow()
	}
}

// refused fails the test unless err wraps one of want.
func (c *checker) refused(op string, err error, want ...error) {
	c.Helper()
	c.see(op, err)
	if err == nil {
		c.Errorf("%s: succeeded, want the error %s", op, list(want))
		return
	}
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	c.Errorf("%s: got the error %q, want %s", op, c.cfg.mask(err.Error()), list(want))
}

// failedDecryption fails the test unless err is exactly ErrDecryption and there is no output: wrapped, it would carry a
// reason, and a reason is an oracle.
func (c *checker) failedDecryption(op string, out []byte, err error) {
	c.Helper()
	c.see(op, err)
	if err != backend.ErrDecryption { //nolint:errorlint // identity is the rule
		c.Errorf("%s: got the error %s, want exactly backend.ErrDecryption and nothing around it", op, c.describe(err))
	}
	if len(out) != 0 {
		c.Errorf("%s: got %d bytes of output together with an error", op, len(out))
	}
}

func (c *checker) describe(err error) string {
	if err == nil {
		return "nil"
	}
	return fmt.Sprintf("%T %q", err, c.cfg.mask(err.Error()))
}

func list(errs []error) string {
	names := make([]string, len(errs))
	for i, err := range errs {
		names[i] = fmt.Sprintf("%q", err)
	}
	return strings.Join(names, " or ")
}

// concurrently runs fn n times at once and waits for all of them. It ends the test if they hang.
func (c *checker) concurrently(n int, fn func(i int)) {
	c.Helper()
	done, wait := make(chan struct{}), c.background(n, fn)
	go func() { wait(); close(done) }()
	c.await("concurrent calls", done)
}

// background starts fn n times and returns a function that waits for all of them.
func (c *checker) background(n int, fn func(i int)) (wait func()) {
	done := make(chan struct{}, n)
	for i := range n {
		go func() {
			defer func() { done <- struct{}{} }()
			defer c.contain()
			fn(i)
		}()
	}
	return func() {
		for range n {
			<-done
		}
	}
}

// await ends the test if done isn't closed within the suite's patience.
func (c *checker) await(what string, done <-chan struct{}) {
	c.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		c.Fatalf("%s: hang for %v", what, patience)
	}
}
