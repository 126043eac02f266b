package managedkey

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

func TestCreateRefusesBadEntries(t *testing.T) {
	c := newClient(newVault("a/ca"))
	var noClient *client
	cause := errors.New("label is missing")
	tests := map[string]struct {
		change func(*Entry)
		want   error
		text   string
	}{
		"namespace":      {func(e *Entry) { e.Ref.Namespace = "A" }, namespace.ErrInvalid, `"A"`},
		"no name":        {func(e *Entry) { e.Ref.Name = "" }, namespace.ErrInvalid, "empty key name"},
		"UUID as name":   {func(e *Entry) { e.Ref.Name = uuid.NewString() }, namespace.ErrInvalid, "form of a UUID"},
		"no backend":     {func(e *Entry) { e.Backend = nil }, backend.ErrInvalidParams, "Backend is nil"},
		"nil pointer":    {func(e *Entry) { e.Backend = noClient }, backend.ErrInvalidParams, "Backend is nil"},
		"no params":      {func(e *Entry) { e.Params = nil }, backend.ErrInvalidParams, `those of backend "fake"`},
		"nil params":     {func(e *Entry) { e.Params = (*params)(nil) }, backend.ErrInvalidParams, "field Params is nil"},
		"other params":   {func(e *Entry) { e.Params = params{Foreign: true} }, backend.ErrInvalidParams, `"foreign", want "fake"`},
		"invalid params": {func(e *Entry) { e.Params = params{Bad: cause} }, backend.ErrInvalidParams, "label is missing"},
		"invalid cause":  {func(e *Entry) { e.Params = params{Bad: cause} }, cause, "Params"},
		"usages":         {func(e *Entry) { e.Usages = allUsages + 1 }, backend.ErrInvalidParams, "0x200"},
		"short pin":      {func(e *Entry) { e.PublicKeySHA256 = make([]byte, 20) }, backend.ErrInvalidParams, "20 bytes, want 32"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := NewRegistry()
			in := entryOf(c, "a/ca", 0)
			tt.change(&in)
			check(t, r.Create(t.Context(), in), tt.want, "managedkey: create", tt.text)
			check(t, r.Create(t.Context(), in), backend.ErrInvalidParams)
			for s := range r.spaces.all {
				t.Errorf("a refused entry left the namespace %q behind", s.path)
			}
			good := entryOf(c, "a/ca", 0)
			mustCreate(t, r, good)
			in.Ref = good.Ref
			if tt.want == namespace.ErrInvalid {
				return
			}
			check(t, r.Update(t.Context(), in), backend.ErrInvalidParams, "managedkey: update")
			if got, _ := r.Entry(good.Ref); got.Usages != backend.UsageDefault || got.Params != good.Params {
				t.Errorf("a refused update changed the entry to %v", got)
			}
		})
	}
	if n := c.opens.Load() + c.makes.Load(); n != 0 {
		t.Errorf("%d calls to the backend", n)
	}
}

func TestCreateAndRead(t *testing.T) {
	c := newClient(newVault())
	r := NewRegistry()
	pin := sha256.Sum256([]byte("pin"))
	in := entryOf(c, "team-a/ca", backend.UsageSign)
	in.UUID = "ignored"
	in.AllowGenerateKey, in.AllowReplaceKey, in.AllowStoreKey, in.AnyMount = true, true, true, true
	in.PublicKeySHA256 = pin[:]
	mustCreate(t, r, in)
	pin[0]++ // what the caller does later is the caller's affair

	got, err := r.Entry(in.Ref)
	check(t, err, nil)
	if _, err := uuid.Parse(got.UUID); err != nil {
		t.Errorf("UUID is %q", got.UUID)
	}
	if got.PublicKeySHA256[0] == pin[0] {
		t.Error("the registry shares the pin with the caller")
	}
	got.PublicKeySHA256[1]++
	again, _ := r.Entry(in.Ref)
	if again.PublicKeySHA256[1] == got.PublicKeySHA256[1] {
		t.Error("the registry gave out its own pin")
	}
	in.UUID, in.PublicKeySHA256, in.KeyVersion = again.UUID, again.PublicKeySHA256, 1
	if fmt.Sprint(again) != fmt.Sprint(in) {
		t.Errorf("got %v, want %v", again, in)
	}
	check(t, r.Create(t.Context(), in), backend.ErrKeyExists, "team-a/ca")
	if n := c.opens.Load(); n != 0 {
		t.Errorf("%d calls to the backend", n)
	}
}

// TestNamesOfAnyLength covers names that an entry keeps inside itself and those that it doesn't.
func TestNamesOfAnyLength(t *testing.T) {
	r := NewRegistry()
	c := newClient(newVault())
	var want []string
	for _, n := range []int{1, inlineName - 1, inlineName, inlineName + 1, namespace.MaxSegment} {
		for _, last := range "ab" {
			name := strings.Repeat("k", n-1) + string(last)
			mustCreate(t, r, entryOf(c, "ns/"+name, 0))
			want = append(want, name)
		}
	}
	for _, name := range want {
		got, err := r.Entry(ref("ns/" + name))
		if check(t, err, nil); got.Ref.Name != name {
			t.Errorf("%q gave the entry %q", name, got.Ref.Name)
		}
		if len(name) < namespace.MaxSegment {
			_, err = r.Entry(ref("ns/" + name + "x"))
			check(t, err, backend.ErrKeyNotFound)
		}
	}
	slices.Sort(want)
	if got := r.List("ns"); !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
}

func TestListIsOfOneNamespace(t *testing.T) {
	r := NewRegistry()
	c := newClient(newVault())
	for _, name := range []string{"top", "a/y", "a/x", "a/b/deep", "ab/other"} {
		mustCreate(t, r, entryOf(c, name, 0))
	}
	for ns, want := range map[namespace.Path][]string{
		"": {"top"}, "a": {"x", "y"}, "a/b": {"deep"}, "ab": {"other"}, "none": nil, "Bad//": nil,
	} {
		if got := r.List(ns); !slices.Equal(got, want) {
			t.Errorf("List(%q) is %q, want %q", ns, got, want)
		}
	}
}

func TestLookUpWhatIsNotThere(t *testing.T) {
	r := NewRegistry()
	mustCreate(t, r, entryOf(newClient(newVault()), "a/gone", 0), entryOf(newClient(newVault()), "a/stays", 0))
	check(t, r.Delete(t.Context(), ref("a/gone")), nil)
	for _, tt := range []struct {
		ref  namespace.Ref
		want error
	}{
		{ref("a/gone"), backend.ErrKeyNotFound},
		{ref("b/stays"), backend.ErrKeyNotFound},
		{ref("stays"), backend.ErrKeyNotFound},
		{namespace.Ref{}, namespace.ErrInvalid},
		{namespace.Ref{Namespace: "a"}, namespace.ErrInvalid},
		{namespace.Ref{Namespace: "a", Name: strings.Repeat("x", 1<<20)}, backend.ErrInvalidParams},
	} {
		_, keyErr := r.Key(t.Context(), tt.ref)
		_, signerErr := r.Signer(t.Context(), tt.ref)
		_, decrypterErr := r.Decrypter(t.Context(), tt.ref)
		_, exchangerErr := r.KeyExchanger(t.Context(), tt.ref)
		_, entryErr := r.Entry(tt.ref)
		_, generateErr := r.Generate(t.Context(), tt.ref)
		_, importErr := r.Import(t.Context(), tt.ref, []byte("key"))
		update := entryOf(newClient(newVault()), "a/gone", 0)
		update.Ref = tt.ref
		for op, err := range map[string]error{
			"key": keyErr, "signer": signerErr, "decrypter": decrypterErr, "exchanger": exchangerErr, "entry": entryErr, "generate": generateErr,
			"import": importErr, "delete": r.Delete(t.Context(), tt.ref), "update": r.Update(t.Context(), update),
		} {
			check(t, err, tt.want)
			if len(err.Error()) > 3*maxShown {
				t.Errorf("%s: the error has %d bytes", op, len(err.Error()))
			}
		}
	}
}

func TestDeleteStopsHandles(t *testing.T) {
	r := NewRegistry()
	v := newVault("a/ca")
	mustCreate(t, r, entryOf(newClient(v), "a/ca", allUsages))
	old := mustKey(t, r, "a/ca")
	public, id := old.Public(), old.ID()
	check(t, r.Delete(t.Context(), ref("a/ca")), nil)

	mustCreate(t, r, entryOf(newClient(v), "a/ca", allUsages))
	fresh := mustKey(t, r, "a/ca")
	for _, op := range operations {
		_, err := op.run(old)
		check(t, err, backend.ErrKeyNotFound, "the entry was deleted", `"a/ca" (fake)`)
		_, err = op.run(fresh)
		check(t, err, nil)
	}
	if old.UUID() == fresh.UUID() {
		t.Error("the entry that was made again has the same UUID")
	}
	if fmt.Sprint(old.Public()) != fmt.Sprint(public) || old.ID() != id || old.BackendType() != "fake" || old.Ref() != ref("a/ca") {
		t.Error("the old handle forgot what it is")
	}
}

// TestNothingIsLeftBehind checks that namespaces, seats and flights go with what they were for.
func TestNothingIsLeftBehind(t *testing.T) {
	r := NewRegistry()
	for i := range 20 {
		ns := fmt.Sprintf("tenant-%d", i)
		c := newClient(newVault(ns + "/ca"))
		in := entryOf(c, ns+"/ca", 0)
		in.AnyMount = true
		mustCreate(t, r, in)
		keeper := mustMount(t, r, namespace.Path(ns), "pki")
		for range 3 {
			if _, err := keeper.Key(t.Context(), "ca"); err != nil {
				t.Fatal(err)
			}
			check(t, r.Delete(t.Context(), in.Ref), nil)
			if keeper.seats.live != 0 || keeper.seats.table.Load() != nil {
				t.Fatalf("the mount keeps %d seats of entries that were deleted", keeper.seats.live)
			}
			mustCreate(t, r, in)
		}
		check(t, r.Delete(t.Context(), in.Ref), nil)
		if r.spaces.live != 1 || keeper.space.flights != nil || keeper.space.names.live+keeper.space.ids.live != 0 {
			t.Fatalf("the namespace keeps more than its mount: %+v", keeper.space)
		}
		check(t, keeper.Close(), nil)
		if r.spaces.live != 0 {
			t.Fatalf("%d namespaces are left", r.spaces.live)
		}
	}
	_, err := r.Mount(t.Context(), "void", "pki", "unknown")
	check(t, err, backend.ErrKeyNotFound)
	if r.spaces.live != 0 {
		t.Error("a mount that was not made left its namespace behind")
	}
}

func TestEndedContextsDoNothing(t *testing.T) {
	r := NewRegistry()
	c := newClient(newVault("a/ca"))
	mustCreate(t, r, entryOf(c, "a/ca", 0))
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, keyErr := r.Key(ctx, ref("a/ca"))
	_, generateErr := r.Generate(ctx, ref("a/ca"))
	_, mountErr := r.Mount(ctx, "a", "pki")
	for _, err := range []error{
		keyErr, generateErr, mountErr,
		r.Create(ctx, entryOf(c, "a/new", 0)), r.Update(ctx, entryOf(c, "a/ca", backend.UsageMAC)), r.Delete(ctx, ref("a/ca")),
	} {
		check(t, err, context.Canceled)
		check(t, err, cause)
	}
	if got := r.List("a"); !slices.Equal(got, []string{"ca"}) || c.opens.Load() != 0 {
		t.Errorf("listed %q after %d calls", got, c.opens.Load())
	}
	if got, _ := r.Entry(ref("a/ca")); got.Usages != backend.UsageDefault {
		t.Errorf("usages are %v", got.Usages)
	}
}
