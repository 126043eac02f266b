// Package together proves what a deployment joins: registries of several processes on one engine, sealed stores, HSMs,
// backups, and what fails meanwhile. Each part alone is proved in its own package.
package together

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/etcd"
	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
	"github.com/managedkeys/managedkeys/namespace"
)

const (
	team   = namespace.Path("team-a")
	shared = "shared" // the name of the entry that all programs grant to their mounts
)

func named(name string) namespace.Ref { return namespace.Ref{Namespace: team, Name: name} }

// program is what a process has: a registry on a store, and keys in a file that all processes share.
type program struct {
	*managedkey.Registry
	store store.Store
	keys  *software.Backend
}

// run starts a program; st is closed with it.
func run(ctx context.Context, st store.Store, keyFile string) (*program, error) {
	keys, err := software.OpenFile(keyFile, "the passphrase of the test", &software.Options{
		Argon2id: software.Argon2id{Time: 1, MemoryKiB: 64, Threads: 1}})
	if err != nil {
		return nil, err
	}
	r, err := managedkey.Open(ctx, st, []managedkey.Connection{{Backend: keys}}, &managedkey.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, keys.Close())
	}
	return &program{r, st, keys}, nil
}

// start is run for a test, with which the program ends.
func start(t *testing.T, st store.Store, keyFile string) *program {
	t.Helper()
	p, err := run(t.Context(), st, keyFile)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.end()) })
	return p
}

// end ends the program in the order that the packages ask for. It may be called again.
func (p *program) end() error {
	return errors.Join(p.Registry.Close(), p.store.Close(), p.keys.Close())
}

// dial opens the store at an address "postgres://…" or "etcd://host:port,…", with calls that last a second at most.
func dial(ctx context.Context, address string) (store.Store, error) {
	if hosts, ok := strings.CutPrefix(address, "etcd://"); ok {
		return etcd.Connect(ctx, clientv3.Config{Endpoints: strings.Split(hosts, ",")}, &etcd.Options{Timeout: callTime})
	}
	return postgres.Connect(ctx, backend.Secret(address), &postgres.Options{Timeout: callTime})
}

// callTime is how long an engine may take for one call.
const callTime = time.Second

func mustDial(t *testing.T, address string) store.Store {
	t.Helper()
	st, err := dial(t.Context(), address)
	require.NoError(t, err)
	return st
}

func keyFile(t *testing.T) string { return filepath.Join(t.TempDir(), "keys") }

// entry is one whose key is made when it is first used; key is its name in the key manager.
func entry(name, key string) managedkey.Entry {
	return managedkey.Entry{Ref: named(name), Connection: software.Type, AllowGenerateKey: true,
		Params: software.Params{KeyName: key, KeyType: software.ECDSA, Curve: software.P256}}
}

// signs makes a signature and verifies it.
func signs(key *managedkey.Key) error {
	digest := make([]byte, 32)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	signature, err := key.SignContext(ctx, digest, crypto.SHA256)
	if err == nil && !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest, signature) {
		return errors.New("the signature does not verify")
	}
	return err
}

// soon waits until cond holds.
func soon(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 20*time.Second, 2*time.Millisecond, what)
}

// TestMain is also the program of another process, and checks that nothing goes on when everything was closed.
func TestMain(m *testing.M) {
	if child() {
		return
	}
	goleak.VerifyTestMain(m)
}
