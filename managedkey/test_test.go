package managedkey

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestTestGenerates: a test makes a key only if it is asked to and the entry allows it.
func TestTestGenerates(t *testing.T) {
	for _, c := range []struct {
		allowed, asked bool
		made           int64
		want           error
	}{
		{false, false, 0, backend.ErrKeyNotFound},
		{true, false, 0, backend.ErrKeyNotFound},
		{false, true, 0, backend.ErrKeyNotFound},
		{true, true, 1, nil},
	} {
		b := newClient(newVault())
		r := NewRegistry()
		in := entryOf(b, "a/sym", backend.UsageGenerateRandom)
		in.AllowGenerateKey = c.allowed
		mustCreate(t, r, in)
		report, err := r.Test(t.Context(), ref("a/sym"), &TestOptions{Generate: c.asked, Usages: backend.UsageSign})
		check(t, err, c.want)
		if (report == nil) != (c.want != nil) || b.makes.Load() != c.made {
			t.Errorf("allowed %t, asked %t: report %v, %d keys made", c.allowed, c.asked, report, b.makes.Load())
		}
	}
}

// TestTestOfNothing: what isn't there, or is refused, gives no report.
func TestTestOfNothing(t *testing.T) {
	r, b := NewRegistry(), newClient(newVault("a/ca"))
	in := entryOf(b, "a/ca", 0)
	in.PublicKeySHA256 = make([]byte, 32)
	mustCreate(t, r, in)
	for name, want := range map[string]error{
		"a/nothing": backend.ErrKeyNotFound, "b/ca": backend.ErrKeyNotFound, "a/ca": backend.ErrKeyChanged,
	} {
		report, err := r.Test(t.Context(), ref(name), nil)
		check(t, err, want, "test", name)
		if report != nil {
			t.Errorf("%s: there is a report", name)
		}
	}
	if _, err := r.Test(t.Context(), namespace.Ref{Name: "A!"}, nil); !errors.Is(err, backend.ErrInvalidParams) {
		t.Errorf("a malformed name: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	opens := b.opens.Load()
	_, err := r.Test(gone, ref("a/ca"), nil)
	check(t, err, context.Canceled)
	if b.opens.Load() != opens {
		t.Error("the key was opened for a context that has ended")
	}
}

// TestTestDisturbsNobody: the entry, its mount and handles that are out are after a test what they were before, and the test
// uses the key that is open.
func TestTestDisturbsNobody(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	r := NewRegistry()
	mustCreate(t, r, softwareEntry(b, "ecdsa", 0))
	k := mustKey(t, r, "a/ecdsa")
	m := mustMount(t, r, "a", "pki", "ecdsa")
	mounted, err := m.Key(t.Context(), "ecdsa")
	check(t, err, nil)
	before, err := r.Entry(ref("a/ecdsa"))
	check(t, err, nil)
	if _, err := r.Test(t.Context(), ref("a/ecdsa"), &TestOptions{Generate: true}); err != nil {
		t.Fatal(err)
	}
	after, err := r.Entry(ref("a/ecdsa"))
	check(t, err, nil)
	if fmt.Sprintf("%+v", after) != fmt.Sprintf("%+v", before) {
		t.Errorf("the entry is %+v; it was %+v", after, before)
	}
	again, err := m.Key(t.Context(), "ecdsa")
	if check(t, err, nil); again != mounted || mustKey(t, r, "a/ecdsa") != k || len(m.Allowed()) != 1 {
		t.Error("handles or grants are others than before")
	}
	for _, key := range []*Key{k, mounted} {
		_, err := key.SignContext(t.Context(), make([]byte, 32), crypto.SHA256)
		check(t, err, nil)
	}
}

// TestTestPins: the first open of a test is one, and every process sees its pin.
func TestTestPins(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	st := memory.New(nil)
	defer st.Close()
	conns := []Connection{{Name: "hsm", Backend: b}}
	var registries []*Registry
	for range 2 {
		r, err := Open(t.Context(), st, conns, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		registries = append(registries, r)
	}
	one, other := registries[0], registries[1]
	in := softwareEntry(b, "ecdsa", 0)
	mustCreate(t, one, in)
	_, err := one.Test(t.Context(), in.Ref, nil)
	check(t, err, backend.ErrKeyNotFound)
	if e, err := one.Entry(in.Ref); err != nil || e.PublicKeySHA256 != nil {
		t.Fatalf("a pin %x without a key, %v", e.PublicKeySHA256, err)
	}
	if _, err := b.Generate(t.Context(), in.Params, nil); err != nil {
		t.Fatal(err)
	}
	report, err := one.Test(t.Context(), in.Ref, nil)
	check(t, err, nil)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		e, err := other.Entry(in.Ref)
		if err == nil && string(e.PublicKeySHA256) == string(report.PublicKeySHA256) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the other registry has the pin %x, %v; the test had %x", e.PublicKeySHA256, err, report.PublicKeySHA256)
		}
	}
}

// TestTestBesideOpen: who wants the key while a test looks for it may still generate it.
func TestTestBesideOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newClient(newVault())
		found, opens := make(chan struct{}), 0
		b.before = func(_ context.Context, op, _ string) error {
			if opens++; opens == 1 {
				<-found
			}
			return nil
		}
		r := NewRegistry()
		in := entryOf(b, "a/ca", backend.UsageGenerateRandom)
		in.AllowGenerateKey = true
		mustCreate(t, r, in)
		tested, got := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := r.Test(t.Context(), in.Ref, nil)
			tested <- err
		}()
		synctest.Wait()
		go func() {
			_, err := r.Key(t.Context(), in.Ref)
			got <- err
		}()
		synctest.Wait() // it waits for the test's open
		close(found)
		check(t, <-tested, backend.ErrKeyNotFound)
		check(t, <-got, nil)
		if n := b.makes.Load(); n != 1 {
			t.Errorf("%d keys were made, want the one of Key", n)
		}
	})
}

// TestTestLeaves: a test whose context ends leaves a call that hangs, and others open the key at once.
func TestTestLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newClient(newVault("a/ca"))
		hung, opens := make(chan struct{}), 0
		defer close(hung)
		b.before = func(context.Context, string, string) error {
			if opens++; opens == 1 {
				<-hung
			}
			return nil
		}
		r := NewRegistry()
		mustCreate(t, r, entryOf(b, "a/ca", 0))
		ctx, cancel := context.WithCancel(t.Context())
		tested := make(chan error, 1)
		go func() {
			_, err := r.Test(ctx, ref("a/ca"), nil)
			tested <- err
		}()
		synctest.Wait()
		began := time.Now()
		cancel()
		check(t, <-tested, context.Canceled)
		mustKey(t, r, "a/ca")
		if took := time.Since(began); took != 0 {
			t.Errorf("others waited %v for a call that was left", took)
		}
	})
}

// TestKeyTest: a mount's handle is tested under the mount's permissions.
func TestKeyTest(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	r := NewRegistry()
	mustCreate(t, r, softwareEntry(b, "ecdsa", backend.UsageDefault|backend.UsageMAC))
	m := mustMount(t, r, "a", "pki", "ecdsa")
	k, err := m.Key(t.Context(), "ecdsa")
	check(t, err, nil)
	report, err := k.Test(t.Context(), &TestOptions{Usages: backend.UsageSign})
	check(t, err, nil)
	if len(report.Steps) != 8 || report.Lacking != backend.UsageMAC || report.Opening != 0 {
		t.Errorf("the report is %+v", report)
	}
	if table := report.String(); !strings.Contains(table, "allowed, but not by the key: mac") || !strings.Contains(table, "a/ecdsa: ECDSA P-256") {
		t.Errorf("the table is\n%s", table)
	}
	check(t, r.Revoke(t.Context(), m, "ecdsa"), nil)
	report, err = k.Test(t.Context(), nil)
	check(t, err, backend.ErrNotPermitted, "test")
	if report != nil {
		t.Error("there is a report without a grant")
	}
}

// TestTestEnds: when the context ends, the step that was not done any more is the last.
func TestTestEnds(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	r := NewRegistry()
	mustCreate(t, r, softwareEntry(b, "rsa", allUsages))
	mustKey(t, r, "a/rsa")
	r = NewRegistry()
	mustCreate(t, r, softwareEntry(liar{b, func(k backend.Key) backend.Key {
		return writes{k.(backend.MessageSigner), func(s backend.MessageSigner, m []byte, opts crypto.SignerOpts) ([]byte, error) {
			if n++; n == 3 {
				cancel()
			}
			return s.SignMessageContext(context.WithoutCancel(ctx), m, opts)
		}}
	}}, "rsa", allUsages))
	report, err := r.Test(ctx, ref("a/rsa"), &TestOptions{Usages: backend.UsageSign})
	check(t, err, context.Canceled, "1 of 4 steps")
	if len(report.Steps) != 4 || n != 3 {
		t.Errorf("%d signatures and these steps:\n%s", n, report)
	}
}
