package managedkey

import (
	"context"
	"crypto"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// sizes are the registries that are compared: entries, spread evenly over namespaces.
var sizes = []struct{ entries, namespaces int }{{1_000, 10}, {1_000_000, 10_000}}

// oneKey is a backend whose every key is the same value, so that the benchmarks measure the registry alone.
type oneKey struct{ key fakeKey }

func (*oneKey) Type() string { return "fake" }
func (*oneKey) Close() error { return nil }
func (b *oneKey) Open(context.Context, backend.Params) (backend.Key, error) {
	return &b.key, nil
}

// fill returns a registry of that size, the references of its entries in random order, and the bytes that an entry
// takes.
func fill(b *testing.B, entries, namespaces int) (*Registry, []namespace.Ref, float64) {
	b.Helper()
	refs := make([]namespace.Ref, entries)
	for i, n := range rand.Perm(entries) {
		refs[i] = namespace.Ref{
			Namespace: namespace.Path(fmt.Sprintf("tenant-%05d/payments", n%namespaces)),
			Name:      fmt.Sprintf("issuing-ca-%d", n/namespaces),
		}
	}
	client := &oneKey{fakeKey{"key"}}
	var where backend.Params = params{Label: "key"}
	r := NewRegistry()
	before := heap()
	for _, i := range rand.Perm(entries) {
		if err := r.Create(b.Context(), Entry{Ref: refs[i], Backend: client, Params: where}); err != nil {
			b.Fatal(err)
		}
	}
	return r, refs, float64(heap()-before) / float64(entries)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// lookupAndCheck is what is measured: a handle by name, and the policy check that an operation begins with.
func lookupAndCheck(k *Key, err error) error {
	if err == nil {
		err = k.Permits(backend.UsageSign)
	}
	return err
}

// inUse is how many keys a program works with at a time, however many the registry holds.
const inUse = 1000

// BenchmarkLookup measures a look-up with the policy check of one operation, on open keys, by the registry and by
// mounts that have a grant for each key. It does so with the same few keys again and again, and with all keys in
// random order, where a large registry waits for the computer's memory; "map" is what a plain Go map takes for that,
// without any check.
//
// B/entry is the heap that an entry takes before its key is opened, B/open what an open key adds, and B/grant what a
// grant and the mount's handle add.
func BenchmarkLookup(b *testing.B) {
	for _, size := range sizes {
		if testing.Short() && size.entries > 10_000 {
			continue
		}
		r, refs, perEntry := fill(b, size.entries, size.namespaces)
		ctx := b.Context()
		before := heap()
		for _, ref := range refs {
			if _, err := r.Key(ctx, ref); err != nil {
				b.Fatal(err)
			}
		}
		perOpen := float64(heap()-before) / float64(size.entries)
		mounts, perGrant := mountAll(b, r, refs)
		plain := make(map[namespace.Ref]*Key, len(refs))
		for _, ref := range refs {
			plain[ref] = mustKey(b, r, ref.String())
		}
		ways := []struct {
			name   string
			lookup func(i int) error
		}{
			{"registry", func(i int) error { return lookupAndCheck(r.Key(ctx, refs[i])) }},
			{"mount", func(i int) error { return lookupAndCheck(mounts[i].Key(ctx, refs[i].Name)) }},
			{"map", func(i int) error {
				if plain[refs[i]] == nil {
					return backend.ErrKeyNotFound
				}
				return nil
			}},
		}
		for _, way := range ways {
			for _, keys := range []int{inUse, size.entries} {
				b.Run(fmt.Sprintf("%s/entries=%d/inuse=%d", way.name, size.entries, keys), func(b *testing.B) {
					cycle(b, keys, way.lookup)
					b.ReportMetric(perEntry, "B/entry")
					b.ReportMetric(perOpen, "B/open")
					b.ReportMetric(perGrant, "B/grant")
				})
				if keys == size.entries {
					break
				}
			}
			if way.name == "map" {
				continue
			}
			b.Run(fmt.Sprintf("%s-parallel/entries=%d/inuse=%d", way.name, size.entries, inUse), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := rand.IntN(inUse); pb.Next(); i = (i + 1) % inUse {
						if err := way.lookup(i); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// cycle looks up the first keys in turn.
func cycle(b *testing.B, keys int, lookup func(i int) error) {
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := lookup(i); err != nil {
			b.Fatal(err)
		}
		if i++; i == keys {
			i = 0
		}
	}
}

// mountAll makes a mount in each namespace, with grants for all keys, and returns the mount of each reference and the
// bytes that a grant and its handle take.
func mountAll(b *testing.B, r *Registry, refs []namespace.Ref) ([]*Mount, float64) {
	b.Helper()
	byPath := map[namespace.Path]*Mount{}
	mounts := make([]*Mount, len(refs))
	before := heap()
	for i, ref := range refs {
		m := byPath[ref.Namespace]
		if m == nil {
			m = mustMount(b, r, ref.Namespace, "pki")
			byPath[ref.Namespace] = m
		}
		if err := r.Grant(b.Context(), m, ref.Name); err != nil {
			b.Fatal(err)
		}
		if _, err := m.Key(b.Context(), ref.Name); err != nil {
			b.Fatal(err)
		}
		mounts[i] = m
	}
	return mounts, float64(heap()-before) / float64(len(refs))
}

// BenchmarkList lists one namespace of 100 entries, in registries of both sizes.
func BenchmarkList(b *testing.B) {
	for _, size := range sizes {
		if testing.Short() && size.entries > 10_000 {
			continue
		}
		r, refs, _ := fill(b, size.entries, size.namespaces)
		b.Run(fmt.Sprintf("entries=%d", size.entries), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n := len(r.List(refs[0].Namespace)); n != size.entries/size.namespaces {
					b.Fatalf("listed %d names", n)
				}
			}
		})
	}
}

// TestLookupAllocatesNothing holds for every way to look up an open key, and for the check of an operation.
func TestLookupAllocatesNothing(t *testing.T) {
	v := newVault("a/ca", "a/any")
	c := newClient(v)
	r := NewRegistry()
	everybody := entryOf(c, "a/any", 0)
	everybody.AnyMount = true
	mustCreate(t, r, entryOf(c, "a/ca", backend.UsageSign), everybody)
	m := mustMount(t, r, "a", "pki", "ca")
	ctx, name := t.Context(), ref("a/ca")
	id := mustKey(t, r, "a/ca").UUID()
	lookups := map[string]func() error{
		"registry":         func() error { return lookupAndCheck(r.Key(ctx, name)) },
		"mount, name":      func() error { return lookupAndCheck(m.Key(ctx, "ca")) },
		"mount, UUID":      func() error { return lookupAndCheck(m.Key(ctx, id)) },
		"mount, any_mount": func() error { return lookupAndCheck(m.Key(ctx, "any")) },
		"signer": func() error {
			s, err := r.Signer(ctx, name)
			if s == nil {
				return err
			}
			return err
		},
	}
	for name, lookup := range lookups {
		t.Run(name, func(t *testing.T) {
			var err error
			if n := testing.AllocsPerRun(100, func() { err = lookup() }); n != 0 || err != nil {
				t.Errorf("%v allocations, error %v", n, err)
			}
		})
	}
	key := mustKey(t, r, "a/ca")
	before := testing.AllocsPerRun(100, func() {
		_, _ = fakeKey{"a/ca#1"}.SignContext(ctx, nil, crypto.Hash(0))
	})
	if n := testing.AllocsPerRun(100, func() { _, _ = key.SignContext(ctx, nil, crypto.Hash(0)) }); n > before {
		t.Errorf("signing through the handle takes %v allocations, the backend's key alone %v", n, before)
	}
}

// BenchmarkUnobserved measures what the hook costs that observers use, when there is none.
func BenchmarkUnobserved(b *testing.B) {
	r := NewRegistry()
	if err := r.Create(b.Context(), entryOf(&oneKey{fakeKey{"key"}}, "a/ca", 0)); err != nil {
		b.Fatal(err)
	}
	k := mustKey(b, r, "a/ca")
	b.ReportAllocs()
	for b.Loop() {
		if k.observer() != nil {
			b.Fatal("there is an observer")
		}
	}
}
