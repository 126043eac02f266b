package managedkey

import (
	"context"
	"crypto"
	"fmt"
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
