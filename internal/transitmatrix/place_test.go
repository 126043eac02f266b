package transitmatrix

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/transit"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// place is where keys are kept, with a transit engine over it.
type place struct {
	name   string
	engine *transit.Engine
	keys   []*key

	// calls returns how many calls of the key manager were made since reset. Both are nil where the keys are in the process.
	calls  func() int
	reset  func()
	detail func() any // what they were, for people

	backend  backend.Backend
	registry *managedkey.Registry
	mount    *managedkey.Mount
}

// key is a transit key and what is known of it beside the engine.
type key struct {
	name string
	row  string // of the README's table: what kind of key it is there

	public  crypto.PublicKey // nil if it is symmetric or derived
	private crypto.Signer    // nil if it isn't known
	secret  []byte           // nil if it isn't known
	hmac    []byte           // the key of HMACs, if it isn't secret
	context []byte           // of a derived key

	// What a request means that leaves it open, if that isn't SHA-256 and PSS; the hash of OAEP, if that isn't SHA-256.
	hash   crypto.Hash
	scheme string
	oaep   crypto.Hash

	signatures map[manner][]byte // by private

	// The service's own SDK, where ciphertexts have a form that only the service knows.
	seal, open func(ctx context.Context, data, associated []byte) ([]byte, error)
}

// request is a managed key to be made: material is imported, and nil generates.
type request struct {
	key
	params   backend.Params
	material any
}

const everything = backend.UsageDerive<<1 - 1

// newPlace makes the keys in b, one managed key and one transit key each.
func newPlace(t *testing.T, name string, b backend.Backend, requests []request) *place {
	t.Helper()
	p := &place{name: name, registry: managedkey.NewRegistry(), backend: b}
	soft := software.New(nil)
	t.Cleanup(func() {
		require.NoError(t, p.registry.Close())
		require.NoError(t, soft.Close())
		require.NoError(t, b.Close())
	})
	var err error
	p.mount, err = p.registry.Mount(t.Context(), "", "transit")
	require.NoError(t, err)
	// Software keys are allowed, which must not matter to managed ones.
	p.engine = transit.New(p.mount, &transit.Options{Software: soft, AllowPKCS1v15: true})
	for _, r := range requests {
		p.add(t, r)
	}
	return p
}

func (p *place) add(t *testing.T, r request) {
	t.Helper()
	if r.material != nil {
		_, err := p.backend.(backend.Importer).Import(t.Context(), r.params, r.material, nil)
		require.NoError(t, err, r.name)
	}
	require.NoError(t, p.registry.Create(t.Context(), managedkey.Entry{
		Ref: namespace.Ref{Name: r.name}, Backend: p.backend, Params: r.params, AllowGenerateKey: r.material == nil, AnyMount: true, Usages: everything,
	}), r.name)
	require.NoError(t, p.engine.CreateKey(t.Context(), r.name, transit.KeyOptions{ManagedKey: r.name}), r.name)
	k := r.key
	k.signatures = make(map[manner][]byte)
	if signer, ok := r.material.(crypto.Signer); ok {
		k.private = signer
	}
	if material, ok := r.material.([]byte); ok {
		k.secret = material
	}
	info, err := p.engine.Key(r.name)
	require.NoError(t, err)
	k.public = info.Versions[0].PublicKey
	p.keys = append(p.keys, &k)
}

// key returns the key of that name.
func (p *place) key(name string) *key {
	for _, k := range p.keys {
		if k.name == name {
			return k
		}
	}
	panic("no key " + name)
}

// counted has the calls counted by the log of a fake. The requests in it that are about no key are not counted.
func (p *place) counted(log *fakecloud.Log, not ...string) *place {
	p.reset = log.Clear
	p.detail = func() any { return log.Requests("") }
	p.calls = func() int {
		n := log.Count("")
		for _, op := range not {
			n -= log.Count(op)
		}
		return n
	}
	return p
}

// begin forgets the calls so far.
func (p *place) begin() {
	if p.reset != nil {
		p.reset()
	}
}

// made checks how many calls were made since begin.
func (p *place) made(t *testing.T, want int) {
	t.Helper()
	if p.calls == nil {
		return
	}
	if got := p.calls(); got != want {
		t.Errorf("made %d calls of the key manager; want %d: %v", got, want, p.detail())
	}
}

// local is how many an operation takes that needs the public key, if there is one.
func (k *key) local() int {
	if k.public != nil {
		return 0
	}
	return 1
}
