package together

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/internal/p11kit"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
)

// hsm is a SoftHSM2 token with entries for seal keys of two kinds, two of each. Entries of seal keys are in a registry without
// a store: what opens the store can't be in it.
type hsm struct {
	*managedkey.Registry
	token  *softhsm.Token
	module string
	conn   *pkcs11.Backend
}

// newHSM makes the keys of names, by way of a module, that of the token if it is empty.
func newHSM(t *testing.T, token *softhsm.Token, module string, names ...string) *hsm {
	t.Helper()
	h := &hsm{token: token, module: cmp.Or(module, token.Module)}
	h.connect(t)
	t.Cleanup(func() { require.NoError(t, h.conn.Close()) })
	for _, name := range names {
		_, err := h.Key(t.Context(), named(name))
		require.NoError(t, err)
	}
	return h
}

// connect begins with a new client and registry, as a program that is started again.
func (h *hsm) connect(t *testing.T) {
	t.Helper()
	if h.conn != nil {
		require.NoError(t, h.conn.Close())
	}
	var err error
	h.conn, err = pkcs11.New(pkcs11.Library{Name: "hsm", Path: h.module, CallTimeout: 2 * time.Second})
	require.NoError(t, err)
	h.Registry = managedkey.NewRegistry()
	for name, p := range map[string]pkcs11.Params{
		"aes":   {Mechanism: pkcs11.AESGCM, KeyBits: 256},
		"aes-2": {Mechanism: pkcs11.AESGCM, KeyBits: 256},
		"rsa":   {Mechanism: pkcs11.RSAPKCSOAEP, KeyBits: 2048},
		"rsa-2": {Mechanism: pkcs11.RSAPKCSOAEP, KeyBits: 2048},
	} {
		p.Library, p.TokenLabel, p.PIN, p.KeyLabel = "hsm", h.token.Label, backend.Secret(h.token.PIN), name
		require.NoError(t, h.Create(t.Context(), managedkey.Entry{Ref: named(name), Backend: h.conn, Params: p,
			AllowGenerateKey: true, Usages: backend.UsageEncrypt | backend.UsageDecrypt}))
	}
}

// sealKey returns the seal key of that name, or one of a passphrase.
func (h *hsm) sealKey(t *testing.T, name string) seal.Key {
	t.Helper()
	if name == "passphrase" {
		key, err := seal.Passphrase("correct horse battery staple", &seal.Argon2id{Time: 1, MemoryKiB: 64, Threads: 1})
		require.NoError(t, err)
		return key
	}
	handle, err := h.Key(t.Context(), named(name))
	require.NoError(t, err)
	key, err := seal.Managed(handle)
	require.NoError(t, err)
	return key
}

// unseal opens the sealed store over inner, or closes inner.
func unseal(inner store.Store, key seal.Key) (*seal.Store, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := seal.Open(ctx, inner, key, &seal.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	return s, nil
}

func openFile(t *testing.T, path string) store.Store {
	t.Helper()
	s, err := bolt.Open(path, nil)
	require.NoError(t, err)
	return s
}

// TestSealedByHSM: a registry over a store that keys of an HSM seal, one kind after the other, is there when it is opened with
// that key, and is refused to every other one.
func TestSealedByHSM(t *testing.T) {
	h := newHSM(t, softhsm.Require(t), "", "aes", "aes-2", "rsa", "rsa-2")
	path, keys := filepath.Join(t.TempDir(), "store"), keyFile(t)
	all := []string{"aes", "aes-2", "rsa", "rsa-2", "passphrase"}
	var want view
	for round, name := range []string{"passphrase", "aes", "rsa", "aes-2", "passphrase"} {
		for _, other := range all {
			if other == name || round == 0 {
				continue
			}
			_, err := unseal(openFile(t, path), h.sealKey(t, other))
			assert.ErrorIs(t, err, seal.ErrSealKey, other)
			assert.ErrorIs(t, err, backend.ErrCredentials, other)
			assert.ErrorContains(t, err, "the store was sealed with", other)
		}
		s, err := unseal(openFile(t, path), h.sealKey(t, name))
		require.NoError(t, err)
		p, err := run(t.Context(), s, keys)
		require.NoError(t, err)
		see := func() (view, error) { return seen(t.Context(), p.Registry, []string{"pki", "moved"}) }
		if round == 0 {
			require.NoError(t, p.Create(t.Context(), entry(shared, shared)))
			_, err = p.Mount(t.Context(), team, "pki", shared)
			require.NoError(t, err)
		} else {
			assert.Equal(t, want, agree(t, s, see))
		}
		m, err := p.OpenMount(team, "pki")
		require.NoError(t, err)
		require.NoError(t, mountSigns(t.Context(), m))
		require.NoError(t, p.Create(t.Context(), entry("new-"+name+string(rune('0'+round)), "new")))
		want = agree(t, s, see)
		next := []string{"aes", "rsa", "aes-2", "passphrase", "rsa-2"}[round]
		require.NoError(t, s.RotateSealKey(t.Context(), h.sealKey(t, next)))
		require.NoError(t, p.end())
	}
}

// TestHSMIsAway: a sealed store can't be opened while the HSM of its seal key is away, says so, and is opened when the HSM is
// back. A store that is open goes on without.
func TestHSMIsAway(t *testing.T) {
	token := softhsm.Require(t)
	server := p11kit.Require(t, token)
	const name = "rsa" // p11-kit does not pass AES-GCM on
	h := newHSM(t, token, server.Module(), name)
	path, keys := filepath.Join(t.TempDir(), "store"), keyFile(t)
	key := h.sealKey(t, name)
	s, err := unseal(openFile(t, path), key)
	require.NoError(t, err)
	p := start(t, s, keys)
	require.NoError(t, p.Create(t.Context(), entry(shared, shared)))

	server.Kill()
	_, err = h.Key(t.Context(), named(name))
	require.NoError(t, err, "a handle that is there")
	require.NoError(t, p.Create(t.Context(), entry("meanwhile", "meanwhile")))
	second, err := p.Key(t.Context(), named("meanwhile"))
	require.NoError(t, err)
	require.NoError(t, signs(second))
	before := s.Status()
	err = s.RotateDataKey(t.Context())
	assert.ErrorIs(t, err, backend.ErrUnavailable, "which needs the seal key")
	assert.Equal(t, before, s.Status())
	want, err := stored(t.Context(), s)
	require.NoError(t, err)
	require.NoError(t, p.end())

	began := time.Now()
	_, err = unseal(openFile(t, path), key)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorContains(t, err, "the store can be opened when it is back")
	assert.NotErrorIs(t, err, seal.ErrSealKey)
	assert.Less(t, time.Since(began), 7*time.Second)
	h.connect(t)
	_, err = h.Key(t.Context(), named(name))
	assert.ErrorIs(t, err, backend.ErrUnavailable, "a program that starts")

	require.NoError(t, server.Start())
	var handle *managedkey.Key
	soon(t, "the HSM is back", func() bool { handle, err = h.Key(t.Context(), named(name)); return err == nil })
	key, err = seal.Managed(handle)
	require.NoError(t, err)
	s, err = unseal(openFile(t, path), key)
	require.NoError(t, err)
	p = start(t, s, keys)
	assert.Equal(t, want, agree(t, s, func() (view, error) { return seen(t.Context(), p.Registry, nil) }))
	require.NoError(t, s.RotateDataKey(t.Context()))
}

// TestSealedPostgres: two processes share a sealed store. The seal key is rotated from a passphrase to an HSM and back by one
// of them, and the other goes on.
func TestSealedPostgres(t *testing.T) {
	server := postgrestest.Require(t)
	address := server.URL(server.Addr(), server.NewDatabase(t))
	h := newHSM(t, softhsm.Require(t), "", "aes", "rsa")
	keys := keyFile(t)
	join := func(sealKey string) (*program, *seal.Store) {
		s, err := unseal(mustDial(t, address), h.sealKey(t, sealKey))
		require.NoError(t, err)
		return start(t, s, keys), s
	}
	a, rotates := join("passphrase")
	b, _ := join("passphrase")
	require.NoError(t, a.Create(t.Context(), entry(shared, shared)))
	_, err := a.Key(t.Context(), named(shared)) // which pins it
	require.NoError(t, err)
	mount, err := a.Mount(t.Context(), team, "pki", shared)
	require.NoError(t, err)
	paths := []string{"pki"}
	see := func(p *program) func() (view, error) {
		return func() (view, error) { return seen(t.Context(), p.Registry, paths) }
	}
	for _, next := range []string{"aes", "rsa", "passphrase"} {
		require.NoError(t, rotates.RotateSealKey(t.Context(), h.sealKey(t, next)))
		require.NoError(t, b.Create(t.Context(), entry("from-b-"+next, "b")))
		require.NoError(t, a.Create(t.Context(), entry("from-a-"+next, "a")))
		late, _ := join(next)
		agree(t, a.store, see(a), see(b), see(late))
	}
	require.NoError(t, a.Revoke(t.Context(), mount, shared))
	assert.NotContains(t, agree(t, b.store, see(a), see(b))["mount pki"], "true")
	// The engine sees nothing of it.
	raw := mustDial(t, address)
	defer raw.Close()
	n := 0
	for record, err := range store.All(t.Context(), raw, "data/") {
		require.NoError(t, err)
		assert.NotContains(t, string(record.Value), "key_name")
		n++
	}
	assert.Equal(t, 8, n)
	_, err = managedkey.Open(t.Context(), raw, []managedkey.Connection{{Backend: a.keys}}, nil)
	assert.ErrorIs(t, err, store.ErrForeign, "it would write in the clear")
	assert.ErrorContains(t, err, "seal.Open")
}
