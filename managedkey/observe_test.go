package managedkey

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// watcher is an observer that keeps what it is told.
type watcher struct {
	mu            sync.Mutex
	begun         []Operation // as Begin saw them
	ended         []Operation
	refuse, close func(*Operation) error
}

type watcherKey struct{}

func (w *watcher) Begin(ctx context.Context, op *Operation) (context.Context, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		if err := w.refuse(op); err != nil {
			return nil, err
		}
	}
	w.begun = append(w.begun, *op)
	return context.WithValue(ctx, watcherKey{}, op), nil
}

func (w *watcher) End(ctx context.Context, op *Operation) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Value(watcherKey{}) != op {
		return errors.New("End has not the context of Begin")
	}
	w.ended = append(w.ended, *op)
	if w.close != nil {
		return w.close(op)
	}
	return nil
}

// take returns the names of what ended since the last call, with the class of its error, and forgets it.
func (w *watcher) take() (names []string, all []Operation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all = w.ended
	for _, op := range all {
		names = append(names, strings.TrimSuffix(op.Name+" "+ErrorClass(op.Err), " "))
	}
	w.begun, w.ended = nil, nil
	return names, all
}

// want fails unless exactly these operations ended since the last call, and returns them.
func (w *watcher) want(t *testing.T, names ...string) []Operation {
	t.Helper()
	got, all := w.take()
	if !slices.Equal(got, names) {
		t.Errorf("observed %q, want %q", got, names)
	}
	return all
}

// observedOperations are all that a handle does, with the name that an observer sees.
var observedOperations = []struct {
	method, name string
	do           func(context.Context, *Key) error
}{
	{"SignContext", "sign", func(ctx context.Context, k *Key) error {
		return second(k.SignContext(ctx, []byte("secret"), crypto.SHA256))
	}},
	{"SignMessageContext", "sign_message", func(ctx context.Context, k *Key) error {
		return second(k.SignMessageContext(ctx, []byte("secret"), crypto.SHA256))
	}},
	{"VerifyContext", "verify", func(ctx context.Context, k *Key) error {
		return k.VerifyContext(ctx, []byte("secret"), nil, crypto.SHA256)
	}},
	{"DecryptContext", "decrypt", func(ctx context.Context, k *Key) error { return second(k.DecryptContext(ctx, []byte("secret"), nil)) }},
	{"EncryptContext", "encrypt", func(ctx context.Context, k *Key) error { return second(k.EncryptContext(ctx, []byte("secret"), nil)) }},
	{"Seal", "seal", func(ctx context.Context, k *Key) error { return second(k.Seal(ctx, []byte("secret"), nil)) }},
	{"Open", "unseal", func(ctx context.Context, k *Key) error { return second(k.Open(ctx, []byte("secret"), nil)) }},
	{"ComputeMAC", "mac", func(ctx context.Context, k *Key) error {
		return second(k.ComputeMAC(ctx, backend.HMACSHA256, []byte("secret")))
	}},
	{"VerifyMAC", "verify_mac", func(ctx context.Context, k *Key) error {
		return k.VerifyMAC(ctx, backend.HMACSHA256, []byte("secret"), nil)
	}},
	{"GenerateRandom", "generate_random", func(ctx context.Context, k *Key) error { return second(k.GenerateRandom(ctx, 4)) }},
	{"WrapKey", "wrap", func(ctx context.Context, k *Key) error { return second(k.WrapKey(ctx, []byte("secret"))) }},
	{"UnwrapKey", "unwrap", func(ctx context.Context, k *Key) error { return second(k.UnwrapKey(ctx, []byte("secret"))) }},
	{"ECDHContext", "agree", func(ctx context.Context, k *Key) error { return second(k.ECDHContext(ctx, nil)) }},
	{"DecapsulateContext", "decapsulate", func(ctx context.Context, k *Key) error { return second(k.DecapsulateContext(ctx, []byte("secret"))) }},
	{"Attest", "attest", func(ctx context.Context, k *Key) error {
		_, err := k.Attest(ctx)
		return err
	}},
}

func second(_ []byte, err error) error { return err }

// TestEveryMethodIsInTheTable keeps observedOperations complete: every method of a handle that takes a context is an operation.
func TestEveryMethodIsInTheTable(t *testing.T) {
	known := []string{"WithContext", "Test"} // makes a view; is made of operations
	for _, o := range observedOperations {
		known = append(known, o.method)
	}
	kind := reflect.TypeFor[*Key]()
	context := reflect.TypeFor[context.Context]()
	for i := range kind.NumMethod() {
		m := kind.Method(i)
		if m.Type.NumIn() > 1 && m.Type.In(1) == context && !slices.Contains(known, m.Name) {
			t.Errorf("nobody sees %s", m.Name)
		}
	}
}

// watched returns a registry with the open key a/ca, a mount that has it, and who looks on.
func watched(t *testing.T) (*Registry, *Mount, *watcher) {
	t.Helper()
	r, w := NewRegistry(), new(watcher)
	mustCreate(t, r, entryOf(newClient(newVault("a/ca")), "a/ca", allUsages))
	m := mustMount(t, r, "a", "pki", "ca")
	mustMountKey(t, m, "ca")
	r.Observe(w)
	return r, m, w
}

// TestOperationsAreObserved: each once, whatever way, with who and what and whether it worked.
func TestOperationsAreObserved(t *testing.T) {
	r, m, w := watched(t)
	actor := Actor{ID: "token-1", RequestID: "7"}
	ctx := WithActor(t.Context(), actor)
	for handle, k := range map[string]*Key{"registry": mustKey(t, r, "a/ca"), "mount": mustMountKey(t, m, "ca")} {
		for _, o := range observedOperations {
			err := o.do(ctx, k)
			names, all := w.take()
			if len(all) != 1 || all[0].Name != o.name {
				t.Errorf("%s, %s: observed %q", handle, o.method, names)
				continue
			}
			op := all[0]
			if op.Actor != actor || op.Ref != ref("a/ca") || op.UUID != k.UUID() || op.Version != 1 || op.Backend != "fake" || op.Algorithm == "" || op.Start.IsZero() {
				t.Errorf("%s, %s: observed %+v", handle, o.method, op)
			}
			if through := op.MountID == m.ID() && op.MountPath == "pki"; through != (handle == "mount") {
				t.Errorf("%s, %s: observed through mount %q", handle, o.method, op.MountPath)
			}
			if ErrorClass(op.Err) != ErrorClass(err) {
				t.Errorf("%s, %s: observed %v, the caller got %v", handle, o.method, op.Err, err)
			}
			if text := fmt.Sprintf("%v %+v %#v", op, op, &op); strings.Contains(text, "secret") || strings.Contains(text, fmt.Sprint([]byte("secret"))) {
				t.Errorf("%s, %s: the input shows in %s", handle, o.method, text)
			}
		}
	}
}

// TestViewsAndNarrowHandlesAreObserved: what takes no context has the actor of its view.
func TestViewsAndNarrowHandlesAreObserved(t *testing.T) {
	r, m, w := watched(t)
	ctx := WithActor(t.Context(), Actor{ID: "me"})
	view := mustMountKey(t, m, "ca").WithContext(ctx)
	_, _ = view.Sign(rand.Reader, nil, crypto.SHA256)
	_, _ = view.SignMessage(rand.Reader, nil, crypto.SHA256)
	_, _ = view.Decrypt(rand.Reader, nil, nil)
	_, _ = view.ECDH(nil)
	_, _ = view.Decapsulate(nil)
	_, all := w.take()
	if len(all) != 5 {
		t.Fatalf("observed %d operations of a view, want 5", len(all))
	}
	for _, op := range all {
		if op.Actor.ID != "me" || op.MountPath != "pki" {
			t.Errorf("%s: by %q through %q", op.Name, op.Actor.ID, op.MountPath)
		}
	}
	s, err := r.Signer(ctx, ref("a/ca"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.Sign(rand.Reader, nil, &rsa.PSSOptions{Hash: crypto.SHA384})
	if op := w.want(t, "sign"); op[0].Options != "RSASSA-PSS with SHA-384" || op[0].MountID != "" {
		t.Errorf("observed %+v", op[0])
	}
}

// TestDenialsAreObserved: what policy refuses, with a handle, and before there is one.
func TestDenialsAreObserved(t *testing.T) {
	r, m, w := watched(t)
	ctx := t.Context()
	k := mustMountKey(t, m, "ca")
	mustCreate(t, r, entryOf(newClient(newVault("a/other")), "a/other", backend.UsageVerify))
	if err := r.Revoke(ctx, m, "ca"); err != nil {
		t.Fatal(err)
	}
	w.want(t, "create", "revoke")
	_, err := k.SignContext(ctx, nil, crypto.SHA256)
	check(t, err, backend.ErrNotPermitted)
	w.want(t, "sign ErrNotPermitted")
	for _, name := range []string{"ca", "other", "absent"} {
		if _, err := m.Key(ctx, name); err == nil {
			t.Errorf("%s: a mount without a grant got it", name)
		}
	}
	if op := w.want(t, "open ErrNotPermitted", "open ErrNotPermitted", "open ErrKeyNotFound"); op[1].MountPath != "pki" || op[1].UUID == "" {
		t.Errorf("observed %+v", op[1])
	}
	_, err = r.Key(ctx, ref("a/absent"))
	check(t, err, backend.ErrKeyNotFound)
	_, err = r.Signer(ctx, ref("a/other"))
	check(t, err, backend.ErrNotPermitted)
	_, err = r.KeyVersion(ctx, ref("a/other"), 7)
	check(t, err, backend.ErrKeyNotFound)
	w.want(t, "open ErrKeyNotFound", "open", "open ErrNotPermitted", "open ErrKeyNotFound")
}

// TestRefusedBeforeTheKeyIsUsed: no call to the key manager is made for what an observer refuses.
func TestRefusedBeforeTheKeyIsUsed(t *testing.T) {
	r, m, w := watched(t)
	ctx := t.Context()
	k := mustKey(t, r, "a/ca")
	full := fmt.Errorf("the disk is full: %w", backend.ErrUnavailable)
	w.refuse = func(*Operation) error { return full }
	for _, o := range observedOperations {
		err := o.do(ctx, k)
		check(t, err, backend.ErrUnavailable, "the disk is full")
	}
	c := newClient(newVault("a/new"))
	check(t, r.Create(ctx, entryOf(c, "a/new", 0)), full)
	check(t, r.Delete(ctx, ref("a/ca")), full)
	check(t, r.Unmount(ctx, m), full)
	check(t, m.Close(), full)
	if _, err := r.Entry(ref("a/new")); err == nil {
		t.Error("an entry was made although that was refused")
	}
	w.refuse = nil
	mustCreate(t, r, entryOf(c, "a/new", 0))
	w.refuse = func(*Operation) error { return full }
	_, err := r.Key(ctx, ref("a/new"))
	check(t, err, full)
	if n := c.opens.Load(); n != 0 {
		t.Errorf("the key was opened %d times although that was refused", n)
	}
	w.want(t, "create")
}

// TestGenerationWithinAnOpenIsObserved, and can be refused, when the key is missing.
func TestGenerationWithinAnOpenIsObserved(t *testing.T) {
	r, w := NewRegistry(), new(watcher)
	c := newClient(newVault())
	e := entryOf(c, "a/ca", 0)
	e.AllowGenerateKey = true
	mustCreate(t, r, e)
	r.Observe(w)
	w.refuse = func(op *Operation) error {
		if op.Name == "generate" {
			return backend.ErrUnavailable
		}
		return nil
	}
	ctx := WithActor(t.Context(), Actor{ID: "me"})
	_, err := r.Key(ctx, ref("a/ca"))
	check(t, err, backend.ErrUnavailable)
	w.want(t, "open ErrUnavailable")
	if n := c.makes.Load(); n != 0 {
		t.Errorf("%d keys were generated although that was refused", n)
	}
	w.refuse = nil
	if _, err := r.Key(ctx, ref("a/ca")); err != nil {
		t.Fatal(err)
	}
	if op := w.want(t, "generate", "open"); op[0].Actor.ID != "me" {
		t.Errorf("generated by %q", op[0].Actor.ID)
	}
}

// TestResultsAreWithheld when an observer could not record them, and not if there is none.
func TestResultsAreWithheld(t *testing.T) {
	r, _, w := watched(t)
	k := mustKey(t, r, "a/ca")
	w.close = func(*Operation) error { return backend.ErrUnavailable }
	out, err := k.SignContext(t.Context(), nil, crypto.SHA256)
	check(t, err, backend.ErrUnavailable, "withheld")
	if out != nil {
		t.Errorf("got %q", out)
	}
	_, err = k.DecryptContext(t.Context(), []byte("not a ciphertext"), nil)
	check(t, err, backend.ErrDecryption)
	check(t, r.Create(t.Context(), entryOf(newClient(newVault()), "a/new", 0)), backend.ErrUnavailable, "withheld")
}

// TestUnobservedAllocatesNothing: without an observer, an operation through the handle allocates what the backend's key does.
func TestUnobservedAllocatesNothing(t *testing.T) {
	r, m, _ := watched(t)
	r.Observe(nil)
	ctx := t.Context()
	key := fakeKey{"a/ca#1"}
	digest := []byte("digest")
	want := testing.AllocsPerRun(100, func() { _, _ = key.SignContext(ctx, digest, crypto.SHA256) })
	for name, k := range map[string]*Key{"registry": mustKey(t, r, "a/ca"), "mount": mustMountKey(t, m, "ca")} {
		for op, do := range map[string]func(){
			"sign":         func() { _, _ = k.SignContext(ctx, digest, crypto.SHA256) },
			"seal":         func() { _, _ = k.Seal(ctx, digest, digest) },
			"mac":          func() { _, _ = k.ComputeMAC(ctx, backend.HMACSHA256, digest) },
			"wrap":         func() { _, _ = k.WrapKey(ctx, digest) },
			"random":       func() { _, _ = k.GenerateRandom(ctx, 8) },
			"sign message": func() { _, _ = k.SignMessageContext(ctx, digest, crypto.SHA256) },
		} {
			if got := testing.AllocsPerRun(100, do); got > want {
				t.Errorf("%s, %s: %v allocations, the backend's key makes %v", name, op, got, want)
			}
		}
	}
}

// TestPanicsAreEnded: an operation that panics is told of, and the panic goes on.
func TestPanicsAreEnded(t *testing.T) {
	r, _, w := watched(t)
	k := mustKey(t, r, "a/ca")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = k.observe(t.Context(), w, k.operation("sign", ""), func(context.Context, *Key) ([]byte, error) { panic("driver") })
	}()
	w.want(t, "sign ErrUnavailable")
}
