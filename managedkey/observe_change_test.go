package managedkey

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// TestChangesAreObserved: each change of a registry once, with and without a store.
func TestChangesAreObserved(t *testing.T) {
	for _, kind := range []string{"memory", "store"} {
		t.Run(kind, func(t *testing.T) {
			ctx, w := t.Context(), new(watcher)
			b := software.New(nil)
			defer b.Close()
			r := NewRegistry()
			r.Observe(w)
			in := softwareEntry(b, "ecdsa", backend.UsageDefault)
			if kind == "store" {
				st := memory.New(nil)
				defer st.Close()
				var err error
				if r, err = Open(ctx, st, []Connection{{Name: "soft", Backend: b}}, &Options{Observer: w}); err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				in.Connection = "soft"
			}
			in.AllowReplaceKey = true
			mustCreate(t, r, in)
			if op := w.want(t, "create")[0]; op.UUID == "" || op.Backend != "software" || op.Options != "usages sign,verify, allow_generate_key, allow_replace_key" {
				t.Errorf("observed %+v", op)
			}
			check(t, r.Create(ctx, in), backend.ErrKeyExists)
			w.want(t, "create ErrKeyExists")
			m := mustMount(t, r, "a", "pki", "ecdsa")
			if op := w.want(t, "mount")[0]; op.MountID != m.ID() || op.MountPath != "pki" || op.Ref.Namespace != "a" {
				t.Errorf("observed %+v", op)
			}
			do := func(_ any, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			do(r.Generate(ctx, in.Ref))
			do(m.Rotate(ctx, "ecdsa"))
			do(r.Rotate(ctx, in.Ref, nil))
			do(r.Test(ctx, in.Ref, &TestOptions{Usages: backend.UsageVerify}))
			do(nil, r.TestSign(ctx, in.Ref, nil))
			names, _ := w.take()
			if len(names) < 6 || names[0] != "generate" || names[1] != "rotate" || names[2] != "rotate" || names[len(names)-1] != "test" {
				t.Errorf("observed %q", names)
			}
			now, err := r.Entry(in.Ref)
			if err != nil {
				t.Fatal(err)
			}
			now.MinDecryptionVersion = 2
			do(nil, r.Update(ctx, now))
			do(nil, r.Trim(ctx, in.Ref, 2))
			do(nil, r.Rename(ctx, m, "pki2"))
			do(nil, r.Revoke(ctx, m, "ecdsa"))
			do(nil, r.Grant(ctx, m, "ecdsa"))
			do(nil, r.Unmount(ctx, m))
			do(nil, r.Delete(ctx, in.Ref))
			all := w.want(t, "update", "trim", "rename", "revoke", "grant", "unmount", "delete")
			if got := fmt.Sprint(all[1].Options, "; ", all[2].MountPath, " ", all[2].Options, "; ", all[4].MountPath); got != "oldest 2; pki to pki2; pki2" {
				t.Errorf("observed %s", got)
			}
			if all[6].UUID != now.UUID || all[3].UUID != now.UUID {
				t.Errorf("the UUID is %q, observed %q and %q", now.UUID, all[6].UUID, all[3].UUID)
			}
		})
	}
}

// TestObservers: they begin in order and end in reverse, each with its own context, and a refusal ends those before.
func TestObservers(t *testing.T) {
	r := NewRegistry()
	first, last := new(watcher), new(watcher)
	r.Observe(Observers(first, nil, last))
	mustCreate(t, r, entryOf(newClient(newVault("a/ca")), "a/ca", 0))
	first.want(t, "create")
	last.want(t, "create")
	k := mustKey(t, r, "a/ca")
	first.take()
	last.take()
	last.refuse = func(*Operation) error { return backend.ErrUnavailable }
	_, err := k.SignContext(t.Context(), nil, crypto.SHA256)
	check(t, err, backend.ErrUnavailable)
	first.want(t, "sign ErrUnavailable")
	last.want(t)
	r.Observe(nil)
	if _, err := k.SignContext(t.Context(), nil, crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	first.want(t)
}

// TestContent: parts can't be shifted into each other, and the form is the documented one.
func TestContent(t *testing.T) {
	mac := hmac.New(sha256.New, []byte("key"))
	ab := NewContent([]byte("a"), []byte("b")).Sum(mac)
	if string(ab) == string(NewContent([]byte("ab"), nil).Sum(mac)) || string(ab) == string(NewContent([]byte("ab")).Sum(mac)) {
		t.Error("other parts have the same sum")
	}
	plain := hmac.New(sha256.New, []byte("key"))
	plain.Write([]byte("\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x01b"))
	if hex.EncodeToString(ab) != hex.EncodeToString(plain.Sum(nil)) {
		t.Errorf("the sum is %x", ab)
	}
	if c := NewContent(); c.Sum(mac) != nil || c.Len() != 0 || NewContent([]byte("abc"), []byte("d")).Len() != 4 {
		t.Error("lengths are wrong")
	}
}

// expired returns a context whose deadline has passed.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), -1)
	t.Cleanup(cancel)
	return ctx
}

// TestErrorClass: the class is a sentinel's name, and the most telling one.
func TestErrorClass(t *testing.T) {
	for want, err := range map[string]error{
		"": nil, "other": errors.New("pin 1234"), "ErrKeyNotFound": &Error{Err: fmt.Errorf("x: %w", backend.ErrKeyNotFound)},
		"ErrClosed": backend.ErrClosed, "ErrUnavailable": backend.ContextError(expired(t)), "ErrConflict": &store.ConflictError{}, "ErrTooLarge": store.ErrTooLarge,
		"ErrNotPermitted": errReplace(backend.ErrKeyExists), "ErrUnknownOutcome": store.ErrUnknownOutcome, "DeadlineExceeded": expired(t).Err(),
	} {
		if got := ErrorClass(err); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
}
