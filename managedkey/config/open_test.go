package config_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/config/all"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOpenAgain: a store that lasts has what was applied; sealed by a passphrase, it says nothing without it.
func TestOpenAgain(t *testing.T) {
	folder := t.TempDir()
	text := softwareFile("soft", folder) + "store \"bolt\" { path = \"" + folder + "/store\" }\nseal \"passphrase\" {\n passphrase = %q\n time = 1\n memory_kib = 64\n threads = 1\n}\n" + ca
	cfg := parse(t, text, "open sesame", "")
	var id string
	for range 2 {
		sys, err := cfg.Open(bg, nil)
		require.NoError(t, err)
		plan := apply(t, sys, cfg)
		assert.Equal(t, id != "", plan.Empty())
		e, err := sys.Registry().Entry(ref("team-a/ca"))
		require.NoError(t, err)
		if id != "" {
			assert.Equal(t, id, e.UUID)
		}
		id = e.UUID
		assert.Same(t, cfg, sys.Config())
		assert.NotNil(t, sys.Backend("soft"))
		assert.Nil(t, sys.Backend("other"))
		require.NoError(t, sys.Close())
		require.NoError(t, sys.Close(), "closing again does nothing")
		_, err = sys.Store().Get(bg, "x")
		assert.ErrorIs(t, err, store.ErrClosed)
	}
	raw, err := os.ReadFile(folder + "/store")
	require.NoError(t, err)
	assert.NotContains(t, string(raw), "allow_generate_key")

	_, err = parse(t, text, "wrong", "").Open(bg, nil)
	require.ErrorIs(t, err, seal.ErrSealKey)
	assert.Contains(t, err.Error(), "test.hcl:9:1: seal: ")
	sys, err := cfg.Open(bg, nil)
	require.NoError(t, err, "what was open was closed again")
	require.NoError(t, sys.Close())
}

// TestSealWithManagedKey: the key of the seal has a client of its own, and must be the right one.
func TestSealWithManagedKey(t *testing.T) {
	folder := t.TempDir()
	keys, err := software.OpenFile(filepath.Join(folder, "soft"), "pass", &software.Options{Argon2id: software.Argon2id{Time: 1, MemoryKiB: 64, Threads: 1}})
	require.NoError(t, err)
	_, err = keys.Generate(bg, software.Params{KeyName: "seal", KeyType: software.AES, KeyBits: 256}, nil)
	require.NoError(t, err)
	require.NoError(t, keys.Close())
	text := softwareFile("soft", folder) + "store \"bolt\" { path = \"" + folder + "/store\" }\nseal \"managed_key\" {\n connection = \"soft\"\n key_name = \"seal\"\n encrypt_names = true\n%s\n}\n"
	sys, err := parse(t, text, "").Open(bg, nil)
	require.NoError(t, err)
	assert.Equal(t, "aead", sys.Store().(*seal.Store).Status().SealKind)
	require.NoError(t, sys.Close())

	_, err = parse(t, text, `public_key_sha256 = "0000000000000000000000000000000000000000000000000000000000000001"`).Open(bg, nil)
	assert.ErrorIs(t, err, backend.ErrKeyChanged)
	assert.Contains(t, refusal(t, "test.hcl", softwareFile("soft", folder)+"store \"bolt\" { path = \"/x\" }\nseal \"managed_key\" {\n connection = \"soft\"\n ky_name = \"seal\"\n}").Error(), "test.hcl:9:1: ")
}

// closing notes in which order things are closed.
type closing struct {
	*software.Backend
	name  string
	order *[]string
}

func (c closing) Close() error {
	*c.order = append(*c.order, c.name)
	return c.Backend.Close()
}

// noted is a connection that notes when it is closed, and may be made of others, or fail.
type noted struct {
	From  []string `config:"from"`
	Fail  bool     `config:"fail"`
	order *[]string
}

func (noted) Validate() error { return nil }

func (n noted) Uses() []string { return n.From }

func (n noted) Open(_ context.Context, name string, connection func(string) backend.Backend) (backend.Backend, error) {
	for _, from := range n.From {
		if connection(from) == nil {
			return nil, backend.ErrInvalidParams
		}
	}
	if n.Fail {
		return nil, backend.ErrUnavailable
	}
	*n.order = append(*n.order, "open "+name)
	return closing{software.New(nil), "close " + name, n.order}, nil
}

// TestOrder: what others are made of is opened before them and closed after them, also if something fails.
func TestOrder(t *testing.T) {
	var order []string
	with := &config.Builders{
		Backends: map[string]config.BackendBuilder{"software": {New: func() config.BackendStanza { return &noted{order: &order} }}},
		Stores:   all.Builders().Stores,
	}
	const text = `connection "software" "a" { from = ["b", "c"] }
connection "software" "b" { from = ["c"] }
connection "software" "c" {}
`
	cfg, err := config.Parse("test.hcl", []byte(text), with)
	require.NoError(t, err)
	sys, err := cfg.Open(bg, nil)
	require.NoError(t, err)
	require.NoError(t, sys.Close())
	assert.Equal(t, []string{"open c", "open b", "open a", "close a", "close b", "close c"}, order)

	order = nil
	cfg, err = config.Parse("test.hcl", []byte(text+`connection "software" "d" { fail = true }`), with)
	require.NoError(t, err)
	_, err = cfg.Open(bg, nil)
	require.ErrorIs(t, err, backend.ErrUnavailable)
	assert.Contains(t, err.Error(), `test.hcl:4:1: connection "d": `)
	assert.Contains(t, order, "close c")
	opened, closed := 0, 0
	for _, o := range order {
		if o[:4] == "open" {
			opened++
		} else {
			closed++
		}
	}
	assert.Equal(t, opened, closed)
	_, err = (&config.Config{}).Open(bg, nil)
	assert.ErrorIs(t, err, backend.ErrUnsupported)
}

// names are the operations that an observer saw.
type names struct {
	mu  sync.Mutex
	all []string
}

func (n *names) Begin(ctx context.Context, _ *managedkey.Operation) (context.Context, error) {
	return ctx, nil
}

func (n *names) End(_ context.Context, op *managedkey.Operation) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, op.Name)
	return nil
}

// TestOpenObserved: an observer sees what is applied, the first change among it.
func TestOpenObserved(t *testing.T) {
	cfg := parse(t, soft+ca+`mount "pki" "team-a/pki" {}`, "")
	seen := new(names)
	sys, err := cfg.Open(bg, &config.Options{Observer: seen})
	require.NoError(t, err)
	defer sys.Close()
	apply(t, sys, cfg)
	assert.Contains(t, seen.all, "create")
	assert.Equal(t, "mount", seen.all[len(seen.all)-1])
}
