package managedkey

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// tester is a *testing.T, *testing.B or *rapid.T.
type tester interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// vault is a key manager for tests. Several clients may see the same vault.
type vault struct {
	mu   sync.Mutex
	keys map[string]backend.Key // by label
	made int                    // counts the keys, so that each has another identity
}

func newVault(labels ...string) *vault {
	v := &vault{keys: map[string]backend.Key{}}
	for _, label := range labels {
		v.put(label)
	}
	return v
}

// put makes a key in the place of any other and returns it.
func (v *vault) put(label string) fakeKey {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.made++
	k := fakeKey{fmt.Sprintf("%s#%d", label, v.made)}
	v.keys[label] = k
	return k
}

func (v *vault) set(label string, key backend.Key) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys[label] = key
}

func (v *vault) get(label string) (backend.Key, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, ok := v.keys[label]
	return k, ok
}

// client is a backend of a vault that generates and imports, with hooks to fail or wait before and after the effect.
type client struct {
	*vault
	opens, makes  atomic.Int64
	before, after func(ctx context.Context, op, label string) error
}

func newClient(v *vault) *client { return &client{vault: v} }

// params are the parameters of a client.
type params struct {
	Label   string
	Foreign bool // claims to be another backend's
	Bad     error
}

func (p params) BackendType() string {
	if p.Foreign {
		return "foreign"
	}
	return "fake"
}

func (p params) Validate() error { return p.Bad }

func (c *client) Type() string { return "fake" }
func (c *client) Close() error { return nil }

func (c *client) hook(hook func(context.Context, string, string) error, ctx context.Context, op, label string) error {
	if hook == nil {
		return nil
	}
	return hook(ctx, op, label)
}

func (c *client) Open(ctx context.Context, p backend.Params) (backend.Key, error) {
	c.opens.Add(1)
	label := p.(params).Label
	if err := c.hook(c.before, ctx, "open", label); err != nil {
		return nil, err
	}
	k, ok := c.get(label)
	if !ok {
		return nil, fmt.Errorf("fake: no %q: %w", label, backend.ErrKeyNotFound)
	}
	return k, c.hook(c.after, ctx, "open", label)
}

func (c *client) create(ctx context.Context, op, label string, replace bool) (backend.Key, error) {
	c.makes.Add(1)
	if err := c.hook(c.before, ctx, op, label); err != nil {
		return nil, err
	}
	if _, ok := c.get(label); ok && !replace {
		return nil, fmt.Errorf("fake: %q: %w", label, backend.ErrKeyExists)
	}
	return c.put(label), c.hook(c.after, ctx, op, label)
}

func (c *client) Generate(ctx context.Context, p backend.Params, opts *backend.GenerateOptions) (backend.Key, error) {
	return c.create(ctx, "generate", p.(params).Label, opts != nil && opts.Replace)
}

func (c *client) Import(ctx context.Context, p backend.Params, material any, opts *backend.ImportOptions) (backend.Key, error) {
	label := p.(params).Label
	k, err := c.create(ctx, "import", label, opts != nil && opts.Replace)
	if pair, ok := material.(ed25519.PrivateKey); ok && err == nil {
		k = withPublic{k, pair.Public()}
		c.set(label, k)
	}
	return k, err
}

// plain is a backend without optional interfaces.
type plain struct{ backend.Backend }

// withPublic is a key with another public key.
type withPublic struct {
	backend.Key
	public crypto.PublicKey
}

func (k withPublic) Public() crypto.PublicKey { return k.public }

// fakeKey does everything, and each result names the key and the operation. It is symmetric if its id begins with
// "sym".
type fakeKey struct{ id string }

const allUsages = backend.UsageDerive<<1 - 1

func (k fakeKey) ID() string { return k.id }

func (k fakeKey) Public() crypto.PublicKey {
	if strings.HasPrefix(k.id, "sym") {
		return nil
	}
	sum := sha256.Sum256([]byte(k.id))
	return ed25519.PublicKey(sum[:])
}

func (k fakeKey) pin(tb tester) []byte {
	tb.Helper()
	pin, err := backend.Fingerprint(k.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return pin[:]
}

func (k fakeKey) Capabilities() backend.Capabilities {
	return backend.Capabilities{Algorithm: "Ed25519", Usages: allUsages, MaxRandom: 64}
}

func (k fakeKey) result(ctx context.Context, op string) ([]byte, error) {
	return []byte(k.id + " " + op), ctx.Err()
}

func (k fakeKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("fake: Sign was called without a context")
}

func (k fakeKey) SignContext(ctx context.Context, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	return k.result(ctx, "sign")
}

func (k fakeKey) SignMessage(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("fake: SignMessage was called without a context")
}

func (k fakeKey) SignMessageContext(ctx context.Context, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	return k.result(ctx, "sign message")
}

func (k fakeKey) VerifyContext(ctx context.Context, _, signature []byte, _ crypto.SignerOpts) error {
	if !strings.HasPrefix(string(signature), k.id) {
		return fmt.Errorf("fake: %w", backend.ErrInvalidSignature)
	}
	return ctx.Err()
}

func (k fakeKey) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) {
	return nil, errors.New("fake: Decrypt was called without a context")
}

// opened is what the decrypting operations return. An error says too much, as a careless driver's would.
func (k fakeKey) opened(ctx context.Context, op string, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) > 0 {
		return []byte("partial"), fmt.Errorf("fake: padding byte %x is wrong: %w", ciphertext, backend.ErrDecryption)
	}
	return k.result(ctx, op)
}

func (k fakeKey) DecryptContext(ctx context.Context, ciphertext []byte, _ crypto.DecrypterOpts) ([]byte, error) {
	return k.opened(ctx, "decrypt", ciphertext)
}

func (k fakeKey) Seal(ctx context.Context, _, _ []byte) ([]byte, error) { return k.result(ctx, "seal") }

func (k fakeKey) Open(ctx context.Context, ciphertext, _ []byte) ([]byte, error) {
	return k.opened(ctx, "open", ciphertext)
}

func (k fakeKey) ComputeMAC(ctx context.Context, _ backend.MACAlgorithm, _ []byte) ([]byte, error) {
	return k.result(ctx, "mac")
}

func (k fakeKey) VerifyMAC(ctx context.Context, _ backend.MACAlgorithm, _, mac []byte) error {
	if !strings.HasPrefix(string(mac), k.id) {
		return fmt.Errorf("fake: %w", backend.ErrInvalidSignature)
	}
	return ctx.Err()
}

func (k fakeKey) GenerateRandom(ctx context.Context, _ int) ([]byte, error) {
	return k.result(ctx, "random")
}

func (k fakeKey) WrapKey(ctx context.Context, _ []byte) ([]byte, error) { return k.result(ctx, "wrap") }

func (k fakeKey) UnwrapKey(ctx context.Context, wrapped []byte) ([]byte, error) {
	return k.opened(ctx, "unwrap", wrapped)
}

func (k fakeKey) PublicKey() *ecdh.PublicKey { return nil }

func (k fakeKey) Curve() ecdh.Curve { return nil }

func (k fakeKey) ECDH(*ecdh.PublicKey) ([]byte, error) {
	return nil, errors.New("fake: ECDH was called without a context")
}

func (k fakeKey) ECDHContext(ctx context.Context, _ *ecdh.PublicKey) ([]byte, error) {
	return k.result(ctx, "agree")
}

func (k fakeKey) Attest(ctx context.Context) (backend.Attestation, error) {
	statement, err := k.result(ctx, "attest")
	return backend.Attestation{Format: "fake", Statement: statement}, err
}

// ref reads a reference as "namespace/name".
func ref(s string) namespace.Ref {
	r, err := namespace.ParseRef(s)
	if err != nil {
		panic(err)
	}
	return r
}

// entryOf returns an entry for the vault's key whose label is the entry's full name.
func entryOf(b backend.Backend, name string, usages backend.Usage) Entry {
	return Entry{Ref: ref(name), Backend: b, Params: params{Label: name}, Usages: usages}
}

// mustCreate adds entries.
func mustCreate(tb tester, r *Registry, entries ...Entry) {
	tb.Helper()
	for _, e := range entries {
		if err := r.Create(tb.Context(), e); err != nil {
			tb.Fatal(err)
		}
	}
}

// mustKey returns a handle from the registry.
func mustKey(tb tester, r *Registry, name string) *Key {
	tb.Helper()
	k, err := r.Key(tb.Context(), ref(name))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// mustMount makes a mount.
func mustMount(tb tester, r *Registry, ns namespace.Path, path string, allowed ...string) *Mount {
	tb.Helper()
	m, err := r.Mount(tb.Context(), ns, path, allowed...)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// sign signs with k and returns which key did.
func sign(k *Key) (string, error) {
	out, err := k.SignContext(context.Background(), nil, crypto.Hash(0))
	id, _, _ := strings.Cut(string(out), " ")
	return id, err
}

// check fails unless err wraps want, is nil if want is, is an *Error, and contains each of the texts.
func check(tb tester, err, want error, texts ...string) {
	tb.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		tb.Fatalf("got error %v, want %v", err, want)
	}
	if err == nil {
		return
	}
	var typed *Error
	if !errors.As(err, &typed) {
		tb.Fatalf("error %v is a %T, want an *Error", err, err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			tb.Errorf("error %q does not say %q", err, text)
		}
	}
}
