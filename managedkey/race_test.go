package managedkey

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// TestConcurrentChanges runs everything at once and then checks that what was taken away stays so. It is meant for the
// race detector.
func TestConcurrentChanges(t *testing.T) {
	const names, rounds = 4, 300
	v := newVault()
	c := newClient(v)
	r := NewRegistry()
	entry := func(i int) Entry {
		in := entryOf(c, fmt.Sprintf("a/k%d", i), allUsages)
		in.AllowGenerateKey, in.AllowReplaceKey, in.AllowStoreKey, in.AnyMount = true, true, true, i == 0
		return in
	}
	for i := range names {
		mustCreate(t, r, entry(i))
	}
	m, other := mustMount(t, r, "a", "pki"), mustMount(t, r, "a", "transit", "k1")
	handles := make(chan *Key, 64)
	expected := func(what string, err error) {
		for _, want := range []error{backend.ErrKeyNotFound, backend.ErrKeyExists, backend.ErrNotPermitted, backend.ErrKeyChanged} {
			if err == nil || errors.Is(err, want) {
				return
			}
		}
		t.Errorf("%s: %v", what, err)
	}
	keep := func(k *Key, err error) error {
		if err == nil {
			select {
			case handles <- k:
			default:
			}
		}
		return err
	}
	actions := map[string]func(i int) error{
		"look up":         func(i int) error { return keep(r.Key(bg, entry(i).Ref)) },
		"look up, mount":  func(i int) error { return keep(m.Key(bg, entry(i).Ref.Name)) },
		"look up, other":  func(i int) error { return keep(other.Key(bg, entry(i).Ref.Name)) },
		"delete":          func(i int) error { return r.Delete(bg, entry(i).Ref) },
		"create":          func(i int) error { return r.Create(bg, entry(i)) },
		"generate":        func(i int) error { return keep(r.Generate(bg, entry(i).Ref)) },
		"grant":           func(i int) error { return r.Grant(bg, m, entry(i).Ref.Name) },
		"revoke":          func(i int) error { return r.Revoke(bg, m, entry(i).Ref.Name) },
		"narrow":          func(i int) error { in := entry(i); in.Usages = backend.UsageVerify; return r.Update(bg, in) },
		"move":            func(i int) error { in := entry(i); in.Backend = newClient(v); return r.Update(bg, in) },
		"list":            func(int) error { r.List("a"); m.Allowed(); return nil },
		"rename":          func(i int) error { return r.Rename(bg, m, fmt.Sprint("pki-", i)) },
		"mount and close": func(i int) error { return errors.Join(mountAndClose(r, i)) },
		"read":            func(i int) error { _, err := r.Entry(entry(i).Ref); return err },
		"use": func(int) error {
			select {
			case k := <-handles:
				k.Capabilities()
				_, err := sign(k)
				return err
			default:
				return nil
			}
		},
	}
	var wg sync.WaitGroup
	for name, action := range actions {
		wg.Go(func() {
			for range rounds {
				expected(name, action(rand.IntN(names)))
			}
		})
	}
	wg.Wait()

	var last []*Key
	for i := range names {
		if err := r.Create(bg, entry(i)); !errors.Is(err, backend.ErrKeyExists) {
			expected("create", err)
		}
		k, err := r.Generate(bg, entry(i).Ref)
		if errors.Is(err, backend.ErrNotPermitted) || err != nil {
			t.Fatal(err)
		}
		check(t, r.Grant(bg, m, entry(i).Ref.Name), nil)
		k2, err := m.Key(bg, entry(i).Ref.Name)
		check(t, err, nil)
		last = append(last, k, k2)
	}
	check(t, m.Close(), nil)
	check(t, other.Close(), nil)
	for i := range names {
		check(t, r.Delete(bg, entry(i).Ref), nil)
	}
	close(handles)
	for k := range handles {
		last = append(last, k)
	}
	for _, k := range last {
		if _, err := sign(k); !errors.Is(err, backend.ErrKeyNotFound) {
			t.Errorf("a handle of a deleted entry gave %v", err)
		}
	}
	if r.spaces.live != 0 {
		t.Errorf("%d namespaces are left", r.spaces.live)
	}
}

func mountAndClose(r *Registry, i int) error {
	m, err := r.Mount(context.Background(), "a", fmt.Sprint("short-lived-", i))
	if err != nil {
		return err
	}
	if _, err := m.Key(context.Background(), "k0"); err != nil && !errors.Is(err, backend.ErrKeyNotFound) {
		m.Close()
		return err
	}
	return m.Close()
}

// TestNamespacesComeAndGo lets several callers create the only entry or mount of a namespace and remove it again: what
// one has made must be there, although others empty the namespace at the same time.
func TestNamespacesComeAndGo(t *testing.T) {
	r := NewRegistry()
	c := newClient(newVault())
	var wg sync.WaitGroup
	for i := range 4 {
		in := entryOf(c, fmt.Sprintf("a/k%d", i), 0)
		wg.Go(func() {
			for range 2000 {
				err := r.Create(bg, in)
				_, readErr := r.Entry(in.Ref)
				m, mountErr := r.Mount(bg, "a", fmt.Sprint("m", i), in.Ref.Name)
				if err := errors.Join(err, readErr, mountErr); err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(m.Close(), r.Delete(bg, in.Ref)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if r.spaces.live != 0 {
		t.Errorf("%d namespaces are left", r.spaces.live)
	}
}

// TestNoUseAfterRevoke signs all the time while a grant is revoked: once Revoke has returned, no signature begins.
func TestNoUseAfterRevoke(t *testing.T) {
	stops := map[string]func(r *Registry, m *Mount, in Entry) (stop, start func() error){
		"revoke": func(r *Registry, m *Mount, in Entry) (stop, start func() error) {
			return func() error { return r.Revoke(bg, m, "ca") }, func() error { return r.Grant(bg, m, "ca") }
		},
		"usages": func(r *Registry, m *Mount, in Entry) (stop, start func() error) {
			narrow := in
			narrow.Usages = backend.UsageVerify
			return func() error { return r.Update(bg, narrow) }, func() error { return r.Update(bg, in) }
		},
	}
	for name, stop := range stops {
		t.Run(name, func(t *testing.T) {
			r, _, in := setUp(t)
			m := mustMount(t, r, "a", "pki", "ca")
			k := mustMountKey(t, m, "ca")
			stop, start := stop(r, m, in)
			var epoch atomic.Int64 // odd while signing is forbidden
			var wg sync.WaitGroup
			var done atomic.Bool
			for range 4 {
				wg.Go(func() {
					for !done.Load() {
						before := epoch.Load()
						_, err := sign(k)
						if forbidden := before%2 == 1 && epoch.Load() == before; forbidden && err == nil {
							t.Error("signed while it was forbidden")
							return
						}
					}
				})
			}
			for range 500 {
				check(t, stop(), nil)
				epoch.Add(1)
				_, err := sign(k)
				check(t, err, backend.ErrNotPermitted)
				epoch.Add(1)
				check(t, start(), nil)
				wantSigner(t, k, "a/ca#1")
			}
			done.Store(true)
			wg.Wait()
		})
	}
}

// TestMovedPermissionIsNotDenied moves the permission between grant and any_mount and back while a handle is used: at
// each moment one of them holds, so that no use may be denied.
func TestMovedPermissionIsNotDenied(t *testing.T) {
	r, _, in := setUp(t)
	m := mustMount(t, r, "a", "pki", "ca")
	k := mustMountKey(t, m, "ca")
	shared := in
	shared.AnyMount = true
	var wg sync.WaitGroup
	var done atomic.Bool
	for range 4 {
		wg.Go(func() {
			for !done.Load() {
				if _, err := sign(k); err != nil {
					t.Errorf("denied: %v", err)
					return
				}
			}
		})
	}
	for range 2000 {
		check(t, r.Update(bg, shared), nil)
		check(t, r.Revoke(bg, m, "ca"), nil)
		check(t, r.Grant(bg, m, "ca"), nil)
		check(t, r.Update(bg, in), nil)
	}
	done.Store(true)
	wg.Wait()
}
