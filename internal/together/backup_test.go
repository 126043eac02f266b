package together

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
)

// engine is how a store is opened, copied and put back, by the engine's own programs.
type engine struct {
	open    func() store.Store
	shared  bool // whether two processes can have it open
	save    func(store.Store)
	restore func()
}

// putBack does what the README says: it restores a backup and starts the programs again. What they then have must be what
// was there when the backup was made, versions included, and the store must go on from there.
func putBack(t *testing.T, e engine) {
	keys := keyFile(t)
	p := start(t, e.open(), keys)
	for _, name := range []string{shared, "kept"} {
		require.NoError(t, p.Create(t.Context(), entry(name, name)))
		_, err := p.Key(t.Context(), named(name))
		require.NoError(t, err)
	}
	mount, err := p.Mount(t.Context(), team, "pki", shared)
	require.NoError(t, err)
	_, err = p.Mount(t.Context(), team, "transit")
	require.NoError(t, err)
	before, err := stored(t.Context(), p.store)
	require.NoError(t, err)
	require.Len(t, before, 4)
	kept, err := p.Entry(named("kept"))
	require.NoError(t, err)
	e.save(p.store)

	// What nobody will have done.
	require.NoError(t, p.Revoke(t.Context(), mount, shared))
	require.NoError(t, p.Rename(t.Context(), mount, "pki/moved"))
	require.NoError(t, p.Delete(t.Context(), named("kept")))
	require.NoError(t, p.Create(t.Context(), entry("late", "late")))
	page, err := p.store.List(t.Context(), "registry/", "", 1)
	require.NoError(t, err)
	require.NoError(t, p.end())
	e.restore()

	paths := []string{"pki", "pki/moved", "transit"}
	p = start(t, e.open(), keys)
	views := []func() (view, error){func() (view, error) { return seen(t.Context(), p.Registry, paths) }}
	assert.Equal(t, before, agree(t, p.store, views...))
	mount, err = p.OpenMount(team, "pki")
	require.NoError(t, err)
	require.NoError(t, mountSigns(t.Context(), mount))
	for _, err := range p.store.Watch(t.Context(), "registry/", page.Revision) { // of a program that was not started again
		assert.ErrorIs(t, err, store.ErrCompacted)
		assert.ErrorContains(t, err, "put back from a backup")
		break
	}

	// It goes on.
	kept.Usages, kept.Backend = backend.UsageVerify, nil // that was the other program's
	require.NoError(t, p.Update(t.Context(), kept), "the version of before the backup")
	assert.ErrorIs(t, p.Update(t.Context(), kept), store.ErrConflict)
	other := p
	if e.shared {
		other = start(t, e.open(), keys)
		views = append(views, func() (view, error) { return seen(t.Context(), other.Registry, paths) })
	}
	require.NoError(t, p.Revoke(t.Context(), mount, shared))
	require.NoError(t, other.Create(t.Context(), entry("late", "late")))
	after := agree(t, p.store, views...)
	assert.Len(t, after, 5)
	assert.True(t, strings.HasSuffix(after["mount pki"], "signs false"))
	assert.NotContains(t, after, "mount pki/moved")
}

// TestBoltIsPutBack copies the file while it is in use, and puts the copy where it was.
func TestBoltIsPutBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store")
	var backup bytes.Buffer
	putBack(t, engine{
		open: func() store.Store {
			s, err := bolt.Open(path, nil)
			require.NoError(t, err)
			return s
		},
		save: func(s store.Store) {
			_, err := s.(*bolt.Store).Backup(context.Background(), &backup)
			require.NoError(t, err)
		},
		restore: func() { require.NoError(t, os.WriteFile(path, backup.Bytes(), 0o600)) },
	})
}

// TestPostgresIsPutBack uses pg_dump and pg_restore.
func TestPostgresIsPutBack(t *testing.T) {
	t.Parallel()
	server := postgrestest.Require(t)
	database := server.NewDatabase(t)
	var dump []byte
	putBack(t, engine{
		open:   func() store.Store { return mustDial(t, server.URL(server.Addr(), database)) },
		shared: true,
		save:   func(store.Store) { dump = server.Run(t, database, nil, "pg_dump", "--format=custom") },
		restore: func() {
			server.Exec(t, "postgres", "DROP DATABASE "+database)
			server.Exec(t, "postgres", "CREATE DATABASE "+database)
			server.Run(t, database, bytes.NewReader(dump), "pg_restore", "--exit-on-error", "--dbname="+database)
		},
	})
}

// TestEtcdIsPutBack uses snapshots.
func TestEtcdIsPutBack(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Require(t, 1)
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	putBack(t, engine{
		open:    func() store.Store { return mustDial(t, "etcd://"+cluster.Addr(0)) },
		shared:  true,
		save:    func(store.Store) { cluster.Save(t, snapshot) },
		restore: func() { cluster.Restore(t, snapshot) },
	})
}
