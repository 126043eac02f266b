package software

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

var errCause = errors.New("the cause")

// endedContexts are a cancelled context and one whose deadline has passed, with what the error must wrap.
func endedContexts(t *testing.T) map[string]struct {
	ctx  context.Context
	want []error
} {
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(errCause)
	late, stop := context.WithTimeout(t.Context(), -1)
	t.Cleanup(stop)
	return map[string]struct {
		ctx  context.Context
		want []error
	}{
		"cancelled": {cancelled, []error{context.Canceled, errCause}},
		"late":      {late, []error{context.DeadlineExceeded, backend.ErrUnavailable}},
	}
}

func TestEndedContext(t *testing.T) {
	b := New(nil)
	defer b.Close()
	p := Params{KeyName: "k", KeyType: Ed25519}
	must(b.Generate(t.Context(), p, nil))
	for name, test := range endedContexts(t) {
		calls := map[string]func() error{
			"Open":     func() error { _, err := b.Open(test.ctx, p); return err },
			"Generate": func() error { _, err := b.Generate(test.ctx, Params{KeyName: "n", KeyType: Ed25519}, nil); return err },
			"Import": func() error {
				_, err := b.Import(test.ctx, Params{KeyName: "n", KeyType: AES}, make([]byte, 16), nil)
				return err
			},
			"Ping": func() error { return b.Ping(test.ctx) },
			"List": func() error {
				for _, err := range b.List(test.ctx, nil) {
					return err
				}
				return nil
			},
		}
		for op, call := range calls {
			for _, want := range test.want {
				wantError(t, call(), want)
			}
			if t.Failed() {
				t.Fatalf("%s with a context that is %s", op, name)
			}
		}
	}
	wantNames(t, b, "k")
}

// stuckRSA makes b generate RSA keys only when release is closed. started gets a value for each key in the making.
func stuckRSA(b *Backend) (started chan struct{}, release chan struct{}) {
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	started, release = make(chan struct{}, 100), make(chan struct{})
	b.newRSA = func(int) (*rsa.PrivateKey, error) {
		started <- struct{}{}
		<-release
		return key, nil
	}
	return started, release
}

// watchedContext tells when Done is called for the nth time, which is when somebody begins to wait.
type watchedContext struct {
	context.Context
	nth     int32
	calls   atomic.Int32
	reached chan struct{}
}

func (c *watchedContext) Done() <-chan struct{} {
	if c.calls.Add(1) == c.nth {
		close(c.reached)
	}
	return c.Context.Done()
}

// TestGenerateLeaves checks that a caller leaves the making of an RSA key when its context ends, that nothing is stored
// then or later, and that abandoned work keeps its place in the bound.
func TestGenerateLeaves(t *testing.T) {
	b := New(nil)
	defer b.Close()
	b.makers = make(chan struct{}, 2)
	started, release := stuckRSA(b)
	p := Params{KeyName: "k", KeyType: RSA, KeyBits: 2048}
	leave := func(arrived <-chan struct{}, ctx context.Context, cancel func()) error {
		done := make(chan error)
		go func() {
			_, err := b.Generate(ctx, p, nil)
			done <- err
		}()
		<-arrived
		cancel()
		return <-done
	}
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		wantError(t, leave(started, ctx, cancel), context.Canceled, "generate")
	}
	// Both places are taken by work that nobody waits for; the third caller leaves the queue. It waits for the second
	// time then: the first was for the store's lock.
	ctx, cancel := context.WithCancel(t.Context())
	queued := &watchedContext{Context: ctx, nth: 2, reached: make(chan struct{})}
	wantError(t, leave(queued.reached, queued, cancel), context.Canceled, "generate")
	if len(started) != 0 {
		t.Error("more keys are in the making than there are places")
	}
	close(release)
	for range cap(b.makers) { // both places come free again
		b.makers <- struct{}{}
	}
	wantNames(t, b)
	for range cap(b.makers) {
		<-b.makers
	}
	must(b.Generate(t.Context(), p, nil))
	wantNames(t, b, "k")
}

func TestGenerateFails(t *testing.T) {
	b := New(nil)
	defer b.Close()
	b.newRSA = func(int) (*rsa.PrivateKey, error) { return nil, errCause }
	_, err := b.Generate(t.Context(), Params{KeyName: "k", KeyType: RSA, KeyBits: 2048}, nil)
	wantError(t, err, backend.ErrUnavailable, `"k"`, "the cause")
	wantNames(t, b)
}

// TestGenerateSeesLateRival checks the second look at the name: a key that came while an RSA key was in the making is not
// overwritten.
func TestGenerateSeesLateRival(t *testing.T) {
	b := New(nil)
	defer b.Close()
	started, release := stuckRSA(b)
	done := make(chan error)
	go func() {
		_, err := b.Generate(t.Context(), Params{KeyName: "k", KeyType: RSA, KeyBits: 2048}, nil)
		done <- err
	}()
	<-started
	rival := must(b.Generate(t.Context(), Params{KeyName: "k", KeyType: Ed25519}, nil))
	close(release)
	wantError(t, <-done, backend.ErrKeyExists, rival.ID())
	if got := must(b.Open(t.Context(), Params{KeyName: "k"})).ID(); got != rival.ID() {
		t.Errorf("the key is %q, want %q", got, rival.ID())
	}
}

func TestClose(t *testing.T) {
	b := New(nil)
	p := Params{KeyName: "k", KeyType: ECDSA, Curve: P256}
	key := must(b.Generate(t.Context(), p, nil)).(backend.MessageSigner)
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if key.Public() == nil || key.ID() == "" || key.Capabilities().Algorithm != "ECDSA P-256" {
		t.Error("the key forgot what it is")
	}
	_, err := key.SignContext(t.Context(), make([]byte, 32), crypto.SHA256)
	wantError(t, err, backend.ErrClosed)
	_, err = b.Open(t.Context(), p)
	wantError(t, err, backend.ErrClosed)
	_, err = b.Generate(t.Context(), p, nil)
	wantError(t, err, backend.ErrClosed)
	_, err = b.Import(t.Context(), Params{KeyName: "n", KeyType: AES}, make([]byte, 16), nil)
	wantError(t, err, backend.ErrClosed)
	wantError(t, b.Ping(t.Context()), backend.ErrClosed)
	for _, err := range b.List(t.Context(), nil) {
		wantError(t, err, backend.ErrClosed)
	}
}

// TestCloseWaits checks that Close waits for a key in the making, which is then stored, and lets no other call in.
func TestCloseWaits(t *testing.T) {
	b := New(nil)
	rest := b.Share()
	defer rest.Close()
	started, release := stuckRSA(b)
	generated, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := b.Generate(t.Context(), Params{KeyName: "k", KeyType: RSA, KeyBits: 2048}, nil)
		generated <- err
	}()
	<-started
	go func() { closed <- b.Close() }()
	for !b.gate.Closed() {
		runtime.Gosched()
	}
	select {
	case err := <-closed:
		t.Fatalf("Close returned %v while a call was in flight", err)
	default:
	}
	wantError(t, b.Ping(t.Context()), backend.ErrClosed)
	close(release)
	if err := errors.Join(<-generated, <-closed); err != nil {
		t.Fatal(err)
	}
	wantNames(t, rest, "k")
}

// TestCloseGivesUp checks that a call that outlasts Close finds the Backend closed, and that no key is wiped under it.
func TestCloseGivesUp(t *testing.T) {
	b := New(nil)
	must(b.Generate(t.Context(), Params{KeyName: "aes", KeyType: AES, KeyBits: 256}, nil))
	m := b.store.entries["aes"].material.Load()
	started, release := stuckRSA(b)
	done := make(chan error, 1)
	go func() {
		_, err := b.Generate(t.Context(), Params{KeyName: "k", KeyType: RSA, KeyBits: 2048}, nil)
		done <- err
	}()
	<-started
	wantError(t, b.close(0), backend.ErrUnavailable, "1 calls")
	close(release)
	wantError(t, <-done, backend.ErrClosed)
	if m.gcm == nil {
		t.Error("a key was wiped although a call was in flight")
	}
	if err := b.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestShare(t *testing.T) {
	b := New(&Options{Store: "laptop"})
	other := b.Share()
	p := Params{KeyName: "k", KeyType: Ed25519, Store: "laptop"}
	key := must(b.Generate(t.Context(), p, nil)).(backend.Signer)
	seen := must(other.Open(t.Context(), p)).(backend.Signer)
	if seen.ID() != key.ID() {
		t.Errorf("the other Backend has %q, want %q", seen.ID(), key.ID())
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := key.SignContext(t.Context(), nil, crypto.Hash(0))
	wantError(t, err, backend.ErrClosed)
	if _, err := seen.SignContext(t.Context(), nil, crypto.Hash(0)); err != nil {
		t.Errorf("after the first of two was closed: %v", err)
	}
	wantError(t, b.Share().Ping(t.Context()), backend.ErrClosed)
	if err := errors.Join(other.Close(), b.Share().Close()); err != nil {
		t.Fatal(err)
	}
	_, err = seen.SignContext(t.Context(), nil, crypto.Hash(0))
	wantError(t, err, backend.ErrClosed)
}

func TestList(t *testing.T) {
	b := New(nil)
	defer b.Close()
	for _, p := range []Params{{KeyName: "b", KeyType: ECDSA, Curve: P384}, {KeyName: "a", KeyType: AES, KeyBits: 128}} {
		must(b.Generate(t.Context(), p, nil))
	}
	var lines []string
	for info, err := range b.List(t.Context(), Params{Store: MemoryStore, KeyBits: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		key := must(b.Open(t.Context(), info.Params)) // no lock is held meanwhile
		if key.ID() != info.ID {
			t.Errorf("%+v opens %q", info, key.ID())
		}
		lines = append(lines, fmt.Sprintf("%s %s %+v", info.Label, info.Algorithm, info.Params))
	}
	want := "a AES-128 {KeyName:a KeyType:AES KeyBits:128 Curve: ParameterSet:0 Store:memory}\n" +
		"b ECDSA P-384 {KeyName:b KeyType:ECDSA KeyBits:0 Curve:P384 ParameterSet:0 Store:memory}"
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	for _, scope := range []backend.Params{Params{Store: "elsewhere"}, foreign{}} {
		n := 0
		for _, err := range b.List(t.Context(), scope) {
			n++
			wantError(t, err, backend.ErrInvalidParams)
		}
		if n != 1 {
			t.Errorf("scope %T yields %d times", scope, n)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs []error
	for _, err := range b.List(ctx, nil) {
		errs = append(errs, err)
		cancel()
	}
	if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], context.Canceled) {
		t.Errorf("cancelled after the first key, the errors are %v", errs)
	}
	for range b.List(t.Context(), nil) {
		break
	}
}

type foreign struct{}

func (foreign) BackendType() string { return "foreign" }
func (foreign) Validate() error     { return nil }

// TestFormat checks that no way of printing a Backend or a key reaches a private key.
func TestFormat(t *testing.T) {
	b := New(nil)
	defer b.Close()
	secret := []byte("0123456789abcdef0123456789abcdef")
	key := must(b.Import(t.Context(), Params{KeyName: "k", KeyType: HMAC}, secret, nil))
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		for _, v := range []any{b, key} {
			text := fmt.Sprintf(format, v)
			for _, leak := range []string{string(secret), fmt.Sprintf("%x", secret), "48 49 50", "0x30, 0x31"} {
				if strings.Contains(text, leak) {
					t.Errorf("%s of %T shows the key", format, v)
				}
			}
		}
	}
	if got, want := fmt.Sprintf("%v %#v", b, b), `software store "memory" software store "memory"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestOpenWaitsForLock checks that a caller whose context ends leaves the queue for the store.
func TestOpenWaitsForLock(t *testing.T) {
	b := New(nil)
	defer b.Close()
	b.store.lock <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	queued := &watchedContext{Context: ctx, nth: 1, reached: make(chan struct{})}
	done := make(chan error)
	go func() {
		_, err := b.Open(queued, Params{KeyName: "k"})
		done <- err
	}()
	<-queued.reached
	cancel()
	wantError(t, <-done, context.Canceled, "open")
	<-b.store.lock
}
