package managedkey

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// world is a registry beside a model of it that is too simple to be wrong. Handles of every age are kept, and after
// each step every operation is tried on every one of them.
type world struct {
	registry *Registry
	vault    *vault
	clients  []*client // of the same vault
	entries  map[namespace.Ref]*modelEntry
	mounts   []*modelMount
	uuids    []string // of all entries that ever were
	handles  []modelHandle
	labels   int
}

type modelEntry struct {
	ref                    namespace.Ref
	uuid, label, keyID     string // keyID is empty until the key was opened
	client                 int
	usages                 backend.Usage
	any, generate, replace bool
	deleted                bool
}

type modelMount struct {
	mount  *Mount
	path   string
	closed bool
	grants map[*modelEntry]bool
}

type modelHandle struct {
	key   *Key
	keyID string
	entry *modelEntry
	mount *modelMount // nil: from the registry
}

var (
	worldSpaces = []namespace.Path{"", "a", "a/b"}
	worldNames  = []string{"k0", "k1"}
	worldPaths  = []string{"pki", "transit/prod", "a"}
)

// TestPolicyHolds lets random sequences of operations run on a registry and compares each outcome with the model.
func TestPolicyHolds(t *testing.T) {
	for range 5 {
		rapid.Check(t, testSequence)
	}
}

func testSequence(t *rapid.T) {
	v := newVault()
	w := &world{
		registry: NewRegistry(), vault: v, clients: []*client{newClient(v), newClient(v)},
		entries: map[namespace.Ref]*modelEntry{},
	}
	for range 4 { // a world with something in it, where few actions come to nothing
		w.create(t)
		w.newMount(t)
	}
	t.Repeat(map[string]func(*rapid.T){
		"create":         w.create,
		"policy":         w.updatePolicy,
		"move":           w.move,
		"repoint":        w.repoint,
		"delete":         w.delete,
		"generate":       w.generate,
		"mount":          w.newMount,
		"rename":         w.rename,
		"unmount":        w.unmount,
		"grant":          func(t *rapid.T) { w.setGrant(t, true) },
		"grant again":    func(t *rapid.T) { w.setGrant(t, true) },
		"revoke":         func(t *rapid.T) { w.setGrant(t, false) },
		"look up":        w.lookup,
		"look up, mount": w.lookupMount,
		"look up, again": w.lookupMount,
		"":               w.check,
	})
}

func drawRef(t *rapid.T) namespace.Ref {
	return namespace.Ref{
		Namespace: rapid.SampledFrom(worldSpaces).Draw(t, "namespace"),
		Name:      rapid.SampledFrom(worldNames).Draw(t, "name"),
	}
}

// fill draws the policy of an entry.
func (m *modelEntry) fill(t *rapid.T) {
	m.usages = backend.Usage(rapid.Uint16Range(1, uint16(allUsages)).Draw(t, "usages"))
	m.any = rapid.Bool().Draw(t, "any_mount")
	m.replace = rapid.Bool().Draw(t, "allow_replace_key")
}

func (w *world) entry(m *modelEntry) Entry {
	return Entry{
		Ref: m.ref, Backend: w.clients[m.client], Params: params{Label: m.label}, Usages: m.usages,
		AnyMount: m.any, AllowGenerateKey: m.generate, AllowReplaceKey: m.replace,
	}
}

func (w *world) newLabel(of namespace.Ref) string {
	w.labels++
	return fmt.Sprintf("%s|%s|%d", of.Namespace, of.Name, w.labels)
}

// some draws an existing entry or skips the action.
func (w *world) some(t *rapid.T) *modelEntry {
	m := w.entries[drawRef(t)]
	if m == nil {
		t.Skip("no such entry")
	}
	return m
}

func (w *world) someMount(t *rapid.T) *modelMount {
	if len(w.mounts) == 0 {
		t.Skip("no mount")
	}
	return rapid.SampledFrom(w.mounts).Draw(t, "mount")
}

func expect(t *rapid.T, err, want error) {
	t.Helper()
	check(t, err, want)
}

func (w *world) create(t *rapid.T) {
	m := &modelEntry{ref: drawRef(t)}
	m.fill(t)
	m.label = w.newLabel(m.ref)
	if m.generate = rapid.Bool().Draw(t, "allow_generate_key"); !m.generate {
		w.vault.put(m.label)
	}
	err := w.registry.Create(context.Background(), w.entry(m))
	if w.entries[m.ref] != nil {
		expect(t, err, backend.ErrKeyExists)
		return
	}
	expect(t, err, nil)
	created, err := w.registry.Entry(m.ref)
	expect(t, err, nil)
	m.uuid = created.UUID
	w.uuids = append(w.uuids, m.uuid)
	w.entries[m.ref] = m
}

func (w *world) updatePolicy(t *rapid.T) {
	m := w.some(t)
	m.fill(t)
	expect(t, w.registry.Update(context.Background(), w.entry(m)), nil)
}

// move changes the client, and sometimes the place too, which only an entry without a pin may do.
func (w *world) move(t *rapid.T) {
	m := w.some(t)
	moved := *m
	moved.fill(t)
	moved.client = 1 - m.client
	if rapid.Bool().Draw(t, "elsewhere") {
		moved.label = w.newLabel(m.ref)
		w.vault.put(moved.label)
	}
	err := w.registry.Update(context.Background(), w.entry(&moved))
	there, exists := w.vault.get(moved.label)
	switch {
	case m.keyID == "" && !exists:
		expect(t, err, nil)
	case m.keyID == "" || m.keyID == there.ID():
		expect(t, err, nil)
		moved.keyID = there.ID()
	default:
		expect(t, err, backend.ErrKeyChanged)
		return
	}
	*m = moved
}

// repoint names the pin of another key.
func (w *world) repoint(t *rapid.T) {
	m := w.some(t)
	moved := *m
	moved.label = w.newLabel(m.ref)
	k := w.vault.put(moved.label)
	in := w.entry(&moved)
	in.PublicKeySHA256 = k.pin(t)
	expect(t, w.registry.Update(context.Background(), in), nil)
	moved.keyID = k.id
	*m = moved
}

func (w *world) delete(t *rapid.T) {
	r := drawRef(t)
	m := w.entries[r]
	err := w.registry.Delete(context.Background(), r)
	if m == nil {
		expect(t, err, backend.ErrKeyNotFound)
		return
	}
	for _, mount := range w.mounts {
		if !mount.closed && mount.grants[m] {
			expect(t, err, backend.ErrNotPermitted)
			return
		}
	}
	expect(t, err, nil)
	m.deleted = true
	delete(w.entries, r)
}

func (w *world) generate(t *rapid.T) {
	m := w.some(t)
	k, err := w.registry.Generate(context.Background(), m.ref)
	_, exists := w.vault.get(m.label)
	switch {
	case !m.generate:
		expect(t, err, backend.ErrNotPermitted)
	case !m.replace && m.keyID != "":
		expect(t, err, backend.ErrKeyExists)
	case err != nil:
		expect(t, err, backend.ErrKeyExists)
		if m.replace || !exists {
			t.Fatalf("generate was refused: %v", err)
		}
	default:
		m.keyID = k.ID()
		w.handles = append(w.handles, modelHandle{k, m.keyID, m, nil})
	}
}

func (w *world) newMount(t *rapid.T) {
	ns := rapid.SampledFrom(worldSpaces).Draw(t, "namespace")
	path := rapid.SampledFrom(worldPaths).Draw(t, "path")
	names := rapid.SliceOfN(rapid.SampledFrom(worldNames), 0, 2).Draw(t, "allowed")
	var want error
	grants := map[*modelEntry]bool{}
	for _, name := range names {
		m := w.entries[namespace.Ref{Namespace: ns, Name: name}]
		if m == nil {
			want = backend.ErrKeyNotFound
		}
		grants[m] = true
	}
	for _, other := range w.mounts {
		if !other.closed && other.mount.Namespace() == ns && other.path == path {
			want = backend.ErrKeyExists
		}
	}
	mount, err := w.registry.Mount(context.Background(), ns, path, names...)
	expect(t, err, want)
	if err == nil {
		w.mounts = append(w.mounts, &modelMount{mount: mount, path: path, grants: grants})
	}
}

func (w *world) rename(t *rapid.T) {
	m := w.someMount(t)
	path := rapid.SampledFrom(worldPaths).Draw(t, "path")
	var want error
	for _, other := range w.mounts {
		if other != m && !other.closed && other.mount.Namespace() == m.mount.Namespace() && other.path == path {
			want = backend.ErrKeyExists
		}
	}
	if m.closed {
		want = backend.ErrNotPermitted
	}
	expect(t, w.registry.Rename(bg, m.mount, path), want)
	if want == nil {
		m.path = path
	}
}

func (w *world) unmount(t *rapid.T) {
	m := w.someMount(t)
	expect(t, m.mount.Close(), nil)
	m.closed = true
	clear(m.grants)
}

// drawTarget draws a name or the UUID of any entry that ever was, and the entry of the mount's namespace that it means.
func (w *world) drawTarget(t *rapid.T, m *modelMount) (string, *modelEntry) {
	ns := m.mount.Namespace()
	if len(w.uuids) > 0 && rapid.Bool().Draw(t, "by uuid") {
		id := rapid.SampledFrom(w.uuids).Draw(t, "uuid")
		for _, e := range w.entries {
			if e.uuid == id && e.ref.Namespace == ns {
				return id, e
			}
		}
		return id, nil
	}
	name := rapid.SampledFrom(worldNames).Draw(t, "name")
	return name, w.entries[namespace.Ref{Namespace: ns, Name: name}]
}

func (w *world) setGrant(t *rapid.T, granted bool) {
	m := w.someMount(t)
	target, e := w.drawTarget(t, m)
	var err error
	if granted {
		err = w.registry.Grant(bg, m.mount, target)
	} else {
		err = w.registry.Revoke(bg, m.mount, target)
	}
	switch {
	case m.closed:
		expect(t, err, backend.ErrNotPermitted)
	case e == nil:
		expect(t, err, backend.ErrKeyNotFound)
	default:
		expect(t, err, nil)
		m.grants[e] = granted
	}
}

// seen notes that a look-up of e gave k.
func (w *world) seen(t *rapid.T, k *Key, e *modelEntry, m *modelMount) {
	there, _ := w.vault.get(e.label)
	if e.keyID == "" {
		e.keyID = there.ID()
	}
	if k.ID() != e.keyID || k.UUID() != e.uuid || k.Ref() != e.ref {
		t.Fatalf("look-up of %v gave the key %s of %v, want %s", e.ref, k.ID(), k.Ref(), e.keyID)
	}
	if rapid.Bool().Draw(t, "view") {
		k = k.WithContext(context.Background())
	}
	w.handles = append(w.handles, modelHandle{k, e.keyID, e, m})
}

func (w *world) lookup(t *rapid.T) {
	r := drawRef(t)
	k, err := w.registry.Key(context.Background(), r)
	if w.entries[r] == nil {
		expect(t, err, backend.ErrKeyNotFound)
		return
	}
	expect(t, err, nil)
	w.seen(t, k, w.entries[r], nil)
}

func (w *world) lookupMount(t *rapid.T) {
	m := w.someMount(t)
	target, e := w.drawTarget(t, m)
	k, err := m.mount.Key(context.Background(), target)
	switch {
	case m.closed:
		expect(t, err, backend.ErrNotPermitted)
	case e == nil:
		expect(t, err, backend.ErrKeyNotFound)
	case !m.grants[e] && !e.any:
		expect(t, err, backend.ErrNotPermitted)
	default:
		expect(t, err, nil)
		w.seen(t, k, e, m)
	}
}

// allows returns the error that the model expects of a use of h.
func (h modelHandle) allows(u backend.Usage) error {
	switch {
	case h.entry.deleted:
		return backend.ErrKeyNotFound
	case h.mount != nil && (h.mount.closed || !h.mount.grants[h.entry] && !h.entry.any):
		return backend.ErrNotPermitted
	case h.entry.keyID != h.keyID:
		return backend.ErrKeyChanged
	case !h.entry.usages.Has(u):
		return backend.ErrNotPermitted
	}
	return nil
}

// operations are all operations of a Key by the usage that each needs.
var operations = []struct {
	name  string
	usage backend.Usage
	run   func(k *Key) ([]byte, error)
}{
	{"Sign", backend.UsageSign, func(k *Key) ([]byte, error) { return k.Sign(nil, nil, crypto.Hash(0)) }},
	{"SignContext", backend.UsageSign, func(k *Key) ([]byte, error) { return k.SignContext(bg, nil, crypto.Hash(0)) }},
	{"SignMessage", backend.UsageSign, func(k *Key) ([]byte, error) { return k.SignMessage(nil, nil, crypto.Hash(0)) }},
	{"SignMessageContext", backend.UsageSign, func(k *Key) ([]byte, error) { return k.SignMessageContext(bg, nil, crypto.Hash(0)) }},
	{"VerifyContext", backend.UsageVerify, func(k *Key) ([]byte, error) {
		return []byte(k.ID() + " "), k.VerifyContext(bg, nil, []byte(k.ID()), crypto.Hash(0))
	}},
	{"Decrypt", backend.UsageDecrypt, func(k *Key) ([]byte, error) { return k.Decrypt(nil, nil, nil) }},
	{"DecryptContext", backend.UsageDecrypt, func(k *Key) ([]byte, error) { return k.DecryptContext(bg, nil, nil) }},
	{"Open", backend.UsageDecrypt, func(k *Key) ([]byte, error) { return k.Open(bg, nil, nil) }},
	{"Seal", backend.UsageEncrypt, func(k *Key) ([]byte, error) { return k.Seal(bg, nil, nil) }},
	{"WrapKey", backend.UsageWrap, func(k *Key) ([]byte, error) { return k.WrapKey(bg, nil) }},
	{"UnwrapKey", backend.UsageUnwrap, func(k *Key) ([]byte, error) { return k.UnwrapKey(bg, nil) }},
	{"ComputeMAC", backend.UsageMAC, func(k *Key) ([]byte, error) { return k.ComputeMAC(bg, "", nil) }},
	{"VerifyMAC", backend.UsageMAC, func(k *Key) ([]byte, error) {
		return []byte(k.ID() + " "), k.VerifyMAC(bg, "", nil, []byte(k.ID()))
	}},
	{"GenerateRandom", backend.UsageGenerateRandom, func(k *Key) ([]byte, error) { return k.GenerateRandom(bg, 1) }},
	{"ECDH", backend.UsageDerive, func(k *Key) ([]byte, error) { return k.ECDH(nil) }},
	{"ECDHContext", backend.UsageDerive, func(k *Key) ([]byte, error) { return k.ECDHContext(bg, nil) }},
	{"Attest", 0, func(k *Key) ([]byte, error) {
		a, err := k.Attest(bg)
		return a.Statement, err
	}},
}

var bg = context.Background()

// check compares the whole registry with the model and tries every operation on every handle that ever was given out.
func (w *world) check(t *rapid.T) {
	for _, h := range w.handles {
		usages := backend.Usage(0)
		for _, op := range operations {
			out, err := op.run(h.key)
			want := h.allows(op.usage)
			if want != nil {
				if !errors.Is(err, want) || len(out) > 0 && op.usage != backend.UsageVerify && op.usage != backend.UsageMAC {
					t.Fatalf("%s with %v by %s gave %q, %v; want %v", op.name, h.entry.ref, h.via(), out, err, want)
				}
				continue
			}
			usages |= op.usage
			if err != nil || !strings.HasPrefix(string(out), h.keyID+" ") {
				t.Fatalf("%s with %v by %s gave %q, %v; want a result of %s", op.name, h.entry.ref, h.via(), out, err, h.keyID)
			}
			// The key's label begins with the namespace that it was made for.
			if ns, _, _ := strings.Cut(string(out), "|"); h.mount != nil && ns != string(h.mount.mount.Namespace()) {
				t.Fatalf("a mount of %q used the key %q", h.mount.mount.Namespace(), out)
			}
		}
		for _, u := range []backend.Usage{0, backend.UsageSign, backend.UsageSign | backend.UsageMAC, allUsages} {
			if err, want := h.key.Permits(u), h.allows(u); want == nil && err != nil || !errors.Is(err, want) {
				t.Fatalf("%v by %s permits %s: %v, want %v", h.entry.ref, h.via(), u, err, want)
			}
		}
		if got := h.key.Capabilities().Usages; got != usages {
			t.Fatalf("%v by %s has usages %v, want %v", h.entry.ref, h.via(), got, usages)
		}
	}
	w.checkState(t)
}

func (h modelHandle) via() string {
	if h.mount == nil {
		return "the registry"
	}
	return "mount " + h.mount.path
}

func (w *world) checkState(t *rapid.T) {
	for _, ns := range worldSpaces {
		var names []string
		for _, name := range worldNames {
			r := namespace.Ref{Namespace: ns, Name: name}
			m := w.entries[r]
			got, err := w.registry.Entry(r)
			if m == nil {
				expect(t, err, backend.ErrKeyNotFound)
				continue
			}
			names = append(names, name)
			want := w.entry(m)
			if want.UUID, want.KeyVersion = m.uuid, 1; m.keyID != "" {
				want.PublicKeySHA256 = fakeKey{m.keyID}.pin(t)
			}
			if !bytes.Equal(got.PublicKeySHA256, want.PublicKeySHA256) || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("entry is %v, want %v", got, want)
			}
		}
		if got := w.registry.List(ns); !slices.Equal(got, names) {
			t.Fatalf("namespace %q lists %v, want %v", ns, got, names)
		}
	}
	for _, m := range w.mounts {
		var names []string
		for e, granted := range m.grants {
			if granted {
				names = append(names, e.ref.Name)
			}
		}
		slices.Sort(names)
		if got := m.mount.Allowed(); !slices.Equal(got, names) || m.mount.Path() != m.path {
			t.Fatalf("mount %s of %q allows %v, want %v", m.mount.Path(), m.mount.Namespace(), got, names)
		}
	}
}
