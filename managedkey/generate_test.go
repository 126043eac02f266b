package managedkey

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

func TestGenerate(t *testing.T) {
	entry := func(b backend.Backend, generate, replace bool) (*Registry, Entry) {
		r := NewRegistry()
		in := entryOf(b, "a/ca", allUsages)
		in.AllowGenerateKey, in.AllowReplaceKey = generate, replace
		mustCreate(t, r, in)
		return r, in
	}
	t.Run("not allowed", func(t *testing.T) {
		c := newClient(newVault())
		r, in := entry(c, false, true)
		_, err := r.Generate(t.Context(), in.Ref)
		check(t, err, backend.ErrNotPermitted, "allow_generate_key")
		if c.makes.Load() != 0 {
			t.Error("the backend was asked")
		}
	})
	t.Run("unsupported", func(t *testing.T) {
		r, in := entry(plain{newClient(newVault())}, true, true)
		_, err := r.Generate(t.Context(), in.Ref)
		check(t, err, backend.ErrUnsupported)
	})
	t.Run("no key yet", func(t *testing.T) {
		r, in := entry(newClient(newVault()), true, false)
		k, err := r.Generate(t.Context(), in.Ref)
		check(t, err, nil)
		wantSigner(t, k, "a/ca#1")
		if mustKey(t, r, "a/ca") != k {
			t.Error("a look-up gives another handle")
		}
	})
	t.Run("key exists", func(t *testing.T) {
		r, in := entry(newClient(newVault("a/ca")), true, false)
		_, err := r.Generate(t.Context(), in.Ref)
		check(t, err, backend.ErrKeyExists, "allow_replace_key")
		check(t, err, backend.ErrNotPermitted)
	})
	t.Run("pinned key lost", func(t *testing.T) {
		c := newClient(newVault("a/ca"))
		r, in := entry(c, true, false)
		mustKey(t, r, "a/ca")
		delete(c.keys, "a/ca")
		_, err := r.Generate(t.Context(), in.Ref)
		check(t, err, backend.ErrKeyExists, "pinned")
		if c.makes.Load() != 0 {
			t.Error("the backend was asked")
		}
	})
	t.Run("replace", func(t *testing.T) {
		c := newClient(newVault("a/ca"))
		r, in := entry(c, true, true)
		m := mustMount(t, r, "a", "pki", "ca")
		old := mustKey(t, r, "a/ca")
		byMount, err := m.Key(t.Context(), "ca")
		check(t, err, nil)
		k, err := r.Generate(t.Context(), in.Ref)
		check(t, err, nil)
		wantSigner(t, k, "a/ca#2")
		for _, h := range []*Key{old, byMount, old.WithContext(t.Context())} {
			_, err := sign(h)
			check(t, err, backend.ErrKeyChanged)
			if h.ID() != "a/ca#1" || len(h.Capabilities().Usages.Names()) != 0 {
				t.Errorf("the old handle says that it is %s", h.ID())
			}
		}
		byMount, err = m.Key(t.Context(), "ca")
		check(t, err, nil)
		wantSigner(t, byMount, "a/ca#2")
		if got, _ := r.Entry(in.Ref); string(got.PublicKeySHA256) != string(fakeKey{"a/ca#2"}.pin(t)) {
			t.Error("the pin is not that of the new key")
		}
	})
	t.Run("failure keeps the old key", func(t *testing.T) {
		c := newClient(newVault("a/ca"))
		r, in := entry(c, true, true)
		old := mustKey(t, r, "a/ca")
		c.before = func(context.Context, string, string) error { return backend.ErrThrottled }
		_, err := r.Generate(t.Context(), in.Ref)
		check(t, err, backend.ErrThrottled)
		wantSigner(t, old, "a/ca#1")
	})
}

// TestGenerateOutlivesItsCaller lets the caller leave: the key that is made nevertheless becomes the entry's key.
func TestGenerateOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c, in := setUp(t)
		in.AllowGenerateKey, in.AllowReplaceKey = true, true
		check(t, r.Update(t.Context(), in), nil)
		old := mustKey(t, r, "a/ca")
		h := newHeld()
		c.after = h.obedient
		ctx, cancel := context.WithCancel(t.Context())
		generate := inBackground(func() (*Key, error) { return r.Generate(ctx, in.Ref) })
		<-h.entered
		waits := inBackground(func() (*Key, error) { return nil, r.Update(t.Context(), entryOf(newClient(c.vault), "a/ca", 0)) })
		synctest.Wait()
		wantSigner(t, old, "a/ca#1")
		cancel()
		(<-generate).want(t, context.Canceled)
		h.release <- nil
		check(t, (<-waits).err, nil)
		_, err := sign(old)
		check(t, err, backend.ErrKeyChanged)
		wantSigner(t, mustKey(t, r, "a/ca"), "a/ca#2")
	})
}

// TestNothingBesideGenerate keeps every other call away from an entry whose key is being made, even by a driver that
// ignores its context; they wait for as long as their own context lasts or the time limit of the one.
func TestNothingBesideGenerate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		c := newClient(newVault())
		in := entryOf(c, "a/ca", 0)
		in.AllowGenerateKey, in.AllowReplaceKey, in.AllowStoreKey = true, true, true
		mustCreate(t, r, in)
		h := newHeld()
		c.before = h.hook
		generate := inBackground(func() (*Key, error) { return r.Generate(context.Background(), in.Ref) })
		<-h.entered
		other := in
		other.Params = params{Label: "other"}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		(<-lookupOf(short, r, "a/ca")).want(t, context.DeadlineExceeded)
		wantUpdate(t, updateOf(short, r, other), context.DeadlineExceeded)
		(<-generate).want(t, backend.ErrUnavailable)
		(<-lookupOf(t.Context(), r, "a/ca")).want(t, backend.ErrUnavailable)
		wantUpdate(t, updateOf(t.Context(), r, other), backend.ErrUnavailable)
		_, err := r.Import(t.Context(), in.Ref, []byte("key"))
		check(t, err, backend.ErrUnavailable)
		if c.makes.Load() != 1 || c.opens.Load() != 0 {
			t.Error("another call began")
		}
		check(t, r.Delete(t.Context(), in.Ref), nil)
		h.release <- nil
		synctest.Wait()
		if names := r.List("a"); len(names) != 0 {
			t.Errorf("the key that came late brought %q back", names)
		}
	})
}

// TestGenerateForDeletedEntry deletes the entry while its key is made.
func TestGenerateForDeletedEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		c := newClient(newVault())
		in := entryOf(c, "a/ca", 0)
		in.AllowGenerateKey = true
		mustCreate(t, r, in)
		h := newHeld()
		c.before = h.hook
		one := inBackground(func() (*Key, error) { return r.Generate(t.Context(), in.Ref) })
		<-h.entered
		two := inBackground(func() (*Key, error) { return r.Generate(t.Context(), in.Ref) })
		synctest.Wait()
		check(t, r.Delete(t.Context(), in.Ref), nil)
		h.release <- nil
		(<-one).want(t, backend.ErrKeyNotFound)
		(<-two).want(t, backend.ErrKeyNotFound)
	})
}

// brokenPair is key material that panics.
type brokenPair struct{ ed25519.PrivateKey }

func TestImport(t *testing.T) {
	_, private, _ := ed25519.GenerateKey(nil)
	pin, err := backend.Fingerprint(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		change   func(*Entry)
		exists   bool
		material any
		want     error
		text     string
	}{
		{"fine", nil, false, private, nil, ""},
		{"symmetric", nil, false, []byte("key"), nil, ""},
		{"not allowed", func(e *Entry) { e.AllowStoreKey = false }, false, private, backend.ErrNotPermitted, "allow_store_key"},
		{"unsupported", func(e *Entry) { e.Backend = plain{e.Backend} }, false, private, backend.ErrUnsupported, "can't import"},
		{"nil", nil, false, nil, backend.ErrInvalidParams, "material is nil"},
		{"nil pointer", nil, false, (*rsa.PrivateKey)(nil), backend.ErrInvalidParams, "material is nil"},
		{"exists", nil, true, private, backend.ErrKeyExists, "allow_replace_key"},
		{"replaces", func(e *Entry) { e.AllowReplaceKey = true }, true, private, nil, ""},
		{"pinned to it", func(e *Entry) { e.PublicKeySHA256 = pin[:] }, false, private, nil, ""},
		{"pinned to another", func(e *Entry) { e.PublicKeySHA256 = make([]byte, 32) }, false, private, backend.ErrKeyExists, "pinned"},
		{"pinned, symmetric", func(e *Entry) { e.PublicKeySHA256 = make([]byte, 32) }, false, []byte("key"), backend.ErrNotPermitted, "pinned"},
		{"pinned, malformed", func(e *Entry) { e.PublicKeySHA256 = make([]byte, 32) }, false, &rsa.PrivateKey{}, backend.ErrKeyExists, "pinned"},
		{"pinned, panics", func(e *Entry) { e.PublicKeySHA256 = make([]byte, 32) }, false, brokenPair{}, backend.ErrKeyExists, "pinned"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewRegistry()
			c := newClient(newVault())
			if tt.exists {
				c.put("a/ca")
			}
			in := entryOf(c, "a/ca", allUsages)
			in.AllowStoreKey = true
			if tt.change != nil {
				tt.change(&in)
			}
			mustCreate(t, r, in)
			k, err := r.Import(t.Context(), in.Ref, tt.material)
			check(t, err, tt.want, tt.text)
			if tt.want != nil {
				if k != nil || tt.want != backend.ErrKeyExists && c.makes.Load() != 0 {
					t.Errorf("got %v after %d calls", k, c.makes.Load())
				}
				return
			}
			if mustKey(t, r, "a/ca") != k {
				t.Error("a look-up gives another handle")
			}
			if got, isPair := k.Public().(ed25519.PublicKey); isPair && tt.name != "symmetric" && !got.Equal(private.Public()) {
				t.Error("the handle has another public key than what was imported")
			}
		})
	}
}

// TestImportOfTheSameKey keeps the handles that are out, since they are bound to that key.
func TestImportOfTheSameKey(t *testing.T) {
	_, private, _ := ed25519.GenerateKey(nil)
	r := NewRegistry()
	in := entryOf(newClient(newVault()), "a/ca", allUsages)
	in.AllowStoreKey, in.AllowReplaceKey = true, true
	mustCreate(t, r, in)
	first, err := r.Import(t.Context(), in.Ref, private)
	check(t, err, nil)
	again, err := r.Import(t.Context(), in.Ref, private)
	check(t, err, nil)
	if first != again {
		t.Error("the same key gave another handle")
	}
	if caps := first.Capabilities(); caps.Usages != allUsages {
		t.Errorf("the handle was stopped; its usages are %s", caps.Usages)
	}
}

func TestErrorsOfMakingNameTheOperation(t *testing.T) {
	r, _, in := setUp(t)
	_, generateErr := r.Generate(t.Context(), in.Ref)
	_, importErr := r.Import(t.Context(), in.Ref, []byte("secret material"))
	for op, err := range map[string]error{"generate": generateErr, "import": importErr} {
		var e *Error
		if !errors.As(err, &e) || e.Op != op || e.Ref != in.Ref || e.Backend != "fake" {
			t.Errorf("got %#v", err)
		}
		check(t, err, backend.ErrNotPermitted, fmt.Sprintf("managedkey: %s %q (fake): ", op, in.Ref))
	}
}

// A mount imports what it was granted, and nothing else.
func TestMountImport(t *testing.T) {
	_, private, _ := ed25519.GenerateKey(nil)
	r := NewRegistry()
	c := newClient(newVault())
	in := entryOf(c, "a/ca", allUsages)
	in.AllowStoreKey = true
	mustCreate(t, r, in)
	m := mustMount(t, r, in.Ref.Namespace, "transit")
	_, err := m.Import(t.Context(), "ca", private)
	check(t, err, backend.ErrNotPermitted)
	_, err = m.Import(t.Context(), "nobody", private)
	check(t, err, backend.ErrKeyNotFound)
	if c.makes.Load() != 0 {
		t.Error("the backend was asked")
	}
	check(t, r.Grant(t.Context(), m, "ca"), nil)
	_, err = m.Import(t.Context(), "ca", nil)
	check(t, err, backend.ErrInvalidParams, "material is nil")
	k, err := m.Import(t.Context(), "ca", private)
	check(t, err, nil)
	if k.ID() != mustMountKey(t, m, "ca").ID() {
		t.Error("a look-up gives another key")
	}
	check(t, r.Revoke(t.Context(), m, "ca"), nil)
	_, err = k.SignContext(t.Context(), nil, crypto.Hash(0))
	check(t, err, backend.ErrNotPermitted)
}
