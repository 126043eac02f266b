package managedkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
)

// site is a program with a registry on a store that it shares with others, and keys that it shares with them too.
type site struct {
	*Registry
	keys *software.Backend
}

// sites returns n programs on one store.
func sites(t *testing.T, n int) (st store.Store, all []*site) {
	t.Helper()
	st = memory.New(nil)
	keys := software.New(nil)
	t.Cleanup(func() {
		require.NoError(t, st.Close())
		keys.Close()
	})
	for range n {
		all = append(all, join(t, st, keys))
	}
	return st, all
}

// join starts one more program.
func join(t *testing.T, st store.Store, keys *software.Backend) *site {
	t.Helper()
	own := keys.Share()
	r, err := Open(t.Context(), st, []Connection{{Backend: own}, {Name: "other", Backend: own.Share()}}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return &site{r, own}
}

var (
	keptRef    = namespace.Ref{Namespace: "team-a", Name: "ca"}
	keptParams = software.Params{KeyName: "ca", KeyType: software.ECDSA, Curve: software.P256}
)

func keptEntryOf(p software.Params) Entry {
	return Entry{Ref: keptRef, Connection: "software", Params: p, AllowGenerateKey: true}
}

// soon waits until cond holds: the others see a change when the store has told them.
func soon(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 30*time.Second, time.Millisecond, what)
}

func signs(key *Key) error {
	digest := make([]byte, 32)
	signature, err := key.SignContext(bg, digest, crypto.SHA256)
	if err == nil && !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest, signature) {
		return errors.New("the signature does not verify")
	}
	return err
}

// TestKeptEntries: what one program creates, changes and deletes the others see, their handles follow, and a program that
// starts later finds it.
func TestKeptEntries(t *testing.T) {
	st, all := sites(t, 2)
	a, b := all[0], all[1]
	require.NoError(t, a.Create(t.Context(), keptEntryOf(keptParams)))
	key, err := a.Key(t.Context(), keptRef)
	require.NoError(t, err)
	require.NoError(t, signs(key))
	mine, err := a.Entry(keptRef)
	require.NoError(t, err)
	assert.NotZero(t, mine.Version)
	assert.Len(t, mine.PublicKeySHA256, 32, "the pin is not known")

	soon(t, "b sees the entry and its pin", func() bool {
		theirs, err := b.Entry(keptRef)
		return err == nil && theirs.UUID == mine.UUID && len(theirs.PublicKeySHA256) == 32
	})
	other, err := b.Key(t.Context(), keptRef)
	require.NoError(t, err)
	require.NoError(t, signs(other))
	assert.Equal(t, key.Public(), other.Public())
	assert.ErrorIs(t, b.Create(t.Context(), keptEntryOf(keptParams)), backend.ErrKeyExists)

	mine.Usages = backend.UsageVerify
	require.NoError(t, a.Update(t.Context(), mine))
	assert.ErrorIs(t, signs(key), backend.ErrNotPermitted, "a's own handle")
	soon(t, "b's handle follows", func() bool { return errors.Is(signs(other), backend.ErrNotPermitted) })
	assert.ErrorIs(t, a.Update(t.Context(), mine), store.ErrConflict, "a version that is no longer the entry's")
	mine.Version, mine.Usages = 0, 0
	require.NoError(t, a.Update(t.Context(), mine))
	soon(t, "b's handle works again", func() bool { return signs(other) == nil })

	late := join(t, st, b.keys)
	assert.Equal(t, []string{"ca"}, late.List("team-a"))
	third, err := late.Key(t.Context(), keptRef)
	require.NoError(t, err)
	require.NoError(t, signs(third))

	require.NoError(t, b.Delete(t.Context(), keptRef))
	assert.ErrorIs(t, signs(other), backend.ErrKeyNotFound)
	for _, k := range []*Key{key, third} {
		soon(t, "the others' handles end", func() bool { return errors.Is(signs(k), backend.ErrKeyNotFound) })
	}
	assert.Empty(t, a.List("team-a"))
	require.NoError(t, a.Create(t.Context(), keptEntryOf(keptParams)))
	again, err := a.Entry(keptRef)
	require.NoError(t, err)
	assert.NotEqual(t, mine.UUID, again.UUID)
	assert.ErrorIs(t, signs(key), backend.ErrKeyNotFound, "a handle of the entry that was deleted")
}

// TestKeptMounts: mounts, their grants and paths are shared, and a grant that is revoked stops every program's handles.
func TestKeptMounts(t *testing.T) {
	st, all := sites(t, 2)
	a, b := all[0], all[1]
	require.NoError(t, a.Create(t.Context(), keptEntryOf(keptParams)))
	mount, err := a.Mount(t.Context(), "team-a", "pki", "ca")
	require.NoError(t, err)
	var theirs *Mount
	soon(t, "b sees the mount and its grant", func() bool {
		theirs, err = b.OpenMount("team-a", "pki")
		return err == nil && len(theirs.Allowed()) == 1
	})
	assert.Equal(t, mount.ID(), theirs.ID())
	key, err := theirs.Key(t.Context(), "ca")
	require.NoError(t, err)
	require.NoError(t, signs(key))
	_, err = b.Mount(t.Context(), "team-a", "pki")
	assert.ErrorIs(t, err, backend.ErrKeyExists)
	assert.ErrorIs(t, b.Delete(t.Context(), keptRef), backend.ErrNotPermitted, "granted")

	require.NoError(t, a.Revoke(t.Context(), mount, "ca"))
	soon(t, "b's handle ends", func() bool { return errors.Is(signs(key), backend.ErrNotPermitted) })
	require.NoError(t, b.Grant(t.Context(), theirs, "ca"))
	assert.NoError(t, signs(key))
	soon(t, "a sees the grant", func() bool { return len(mount.Allowed()) == 1 })

	require.NoError(t, a.Rename(t.Context(), mount, "pki/prod"))
	soon(t, "b sees the path", func() bool { return theirs.Path() == "pki/prod" })
	assert.NoError(t, signs(key), "grants belong to the mount")
	_, err = b.OpenMount("team-a", "pki")
	assert.ErrorIs(t, err, backend.ErrKeyNotFound)
	assert.NoError(t, a.Rename(t.Context(), mount, "pki/prod"))

	late := join(t, st, b.keys)
	found, err := late.OpenMount("team-a", "pki/prod")
	require.NoError(t, err)
	assert.Equal(t, []string{"ca"}, found.Allowed())
	require.NoError(t, found.Close())
	_, err = found.Key(t.Context(), "ca")
	assert.NoError(t, err, "Close took the mount away")

	require.NoError(t, late.Unmount(t.Context(), found))
	require.NoError(t, late.Unmount(t.Context(), found))
	soon(t, "b's handle ends", func() bool { return errors.Is(signs(key), backend.ErrNotPermitted) })
	soon(t, "the mount is gone everywhere", func() bool {
		_, err := a.OpenMount("team-a", "pki/prod")
		return errors.Is(err, backend.ErrKeyNotFound)
	})
	require.NoError(t, b.Delete(t.Context(), keptRef), "nothing has a grant any more")
	_, err = a.Mount(t.Context(), "team-a", "transit", "absent")
	assert.ErrorIs(t, err, backend.ErrKeyNotFound)
	_, err = a.OpenMount("team-a", "transit")
	assert.ErrorIs(t, err, backend.ErrKeyNotFound, "a mount was made although a grant failed")
}

// TestKeptPin: programs that open a key for the first time at once agree on one pin, and a key that was replaced by one
// program is the others' key too.
func TestKeptPin(t *testing.T) {
	_, all := sites(t, 4)
	in := keptEntryOf(keptParams)
	in.AllowReplaceKey = true
	require.NoError(t, all[0].Create(t.Context(), in))
	for _, s := range all {
		soon(t, "all see the entry", func() bool { return len(s.List("team-a")) == 1 })
	}
	var wg sync.WaitGroup
	keys := make([]*Key, len(all))
	for i, s := range all {
		wg.Go(func() {
			var err error
			keys[i], err = s.Key(t.Context(), keptRef)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	for _, key := range keys {
		require.NotNil(t, key)
		assert.Equal(t, keys[0].Public(), key.Public())
	}
	fresh, err := all[1].Generate(t.Context(), keptRef)
	require.NoError(t, err)
	assert.NotEqual(t, keys[0].Public(), fresh.Public())
	assert.ErrorIs(t, signs(keys[1]), backend.ErrKeyChanged)
	for i, s := range all {
		soon(t, "all have the new key", func() bool {
			key, err := s.Key(t.Context(), keptRef)
			return err == nil && key.Public().(*ecdsa.PublicKey).Equal(fresh.Public()) && signs(key) == nil
		})
		assert.ErrorIs(t, signs(keys[i]), backend.ErrKeyChanged)
	}
}

// TestKeptForeignKey: a program whose key manager has another key under the entry's name gets ErrKeyChanged.
func TestKeptForeignKey(t *testing.T) {
	st, all := sites(t, 1)
	require.NoError(t, all[0].Create(t.Context(), keptEntryOf(keptParams)))
	_, err := all[0].Key(t.Context(), keptRef)
	require.NoError(t, err)
	elsewhere := software.New(nil)
	defer elsewhere.Close()
	_, err = elsewhere.Generate(t.Context(), keptParams, nil)
	require.NoError(t, err)
	b := join(t, st, elsewhere)
	_, err = b.Key(t.Context(), keptRef)
	assert.ErrorIs(t, err, backend.ErrKeyChanged)
}

// TestKeptMove: an entry whose key moves to another place takes its handles along, in every program; one whose key is not
// there is not moved.
func TestKeptMove(t *testing.T) {
	_, all := sites(t, 2)
	a, b := all[0], all[1]
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	for _, name := range []string{"old", "new"} {
		_, err := a.keys.Import(t.Context(), software.Params{KeyName: name}, private, nil)
		require.NoError(t, err)
	}
	in := keptEntryOf(software.Params{KeyName: "old"})
	require.NoError(t, a.Create(t.Context(), in))
	soon(t, "b sees the entry", func() bool { return len(b.List("team-a")) == 1 })
	mine, err := a.Key(t.Context(), keptRef)
	require.NoError(t, err)
	theirs, err := b.Key(t.Context(), keptRef)
	require.NoError(t, err)
	old := theirs.ID()

	in.Params = software.Params{KeyName: "absent"}
	assert.ErrorIs(t, a.Update(t.Context(), in), backend.ErrKeyNotFound)
	_, err = a.keys.Generate(t.Context(), software.Params{KeyName: "foreign", KeyType: software.ECDSA, Curve: software.P256}, nil)
	require.NoError(t, err)
	in.Params = software.Params{KeyName: "foreign"}
	assert.ErrorIs(t, a.Update(t.Context(), in), backend.ErrKeyChanged)
	in.Params, in.Connection = software.Params{KeyName: "new"}, "other"
	require.NoError(t, a.Update(t.Context(), in))
	assert.NotEqual(t, old, mine.ID())
	soon(t, "b's handle moves", func() bool { return theirs.ID() != old })
	assert.Equal(t, mine.ID(), theirs.ID())
	assert.NoError(t, signs(mine))
	assert.NoError(t, signs(theirs))
	entry, err := b.Entry(keptRef)
	require.NoError(t, err)
	assert.Equal(t, "other", entry.Connection)
}

// TestConnections: entries use the connections of their namespace by name or by backend, and a program that lacks one can
// read the entry and not use it.
func TestConnections(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	one, two := software.New(nil), software.New(nil)
	defer one.Close()
	defer two.Close()
	r, err := Open(t.Context(), st, []Connection{
		{Name: "shared", Backend: one}, {Name: "team-a", Backend: two, Namespaces: []namespace.Path{"team-a"}},
	}, nil)
	require.NoError(t, err)
	defer r.Close()
	create := func(ns namespace.Path, name, connection string, b backend.Backend) error {
		return r.Create(t.Context(), Entry{Ref: namespace.Ref{Namespace: ns, Name: name}, Connection: connection, Backend: b,
			Params: keptParams, AllowGenerateKey: true})
	}
	assert.NoError(t, create("team-a/payments", "by-name", "team-a", nil))
	assert.NoError(t, create("team-a", "by-backend", "", two))
	assert.NoError(t, create("team-b", "shared", "shared", one))
	assert.ErrorIs(t, create("team-b", "x", "team-a", nil), backend.ErrNotPermitted)
	assert.ErrorIs(t, create("team-b", "x", "", two), backend.ErrInvalidParams)
	assert.ErrorIs(t, create("team-b", "x", "absent", nil), backend.ErrInvalidParams)
	assert.ErrorIs(t, create("team-b", "x", "", nil), backend.ErrInvalidParams)
	assert.ErrorIs(t, create("team-b", "x", "shared", two), backend.ErrInvalidParams)
	assert.ErrorIs(t, create("team-b", "x", "", software.New(nil)), backend.ErrInvalidParams)
	assert.ErrorIs(t, NewRegistry().Create(t.Context(), Entry{Ref: keptRef, Connection: "shared", Backend: one, Params: keptParams}), backend.ErrInvalidParams)

	poor, err := Open(t.Context(), st, []Connection{{Name: "shared", Backend: one}}, nil)
	require.NoError(t, err)
	defer poor.Close()
	ref := namespace.Ref{Namespace: "team-a", Name: "by-backend"}
	entry, err := poor.Entry(ref)
	require.NoError(t, err)
	assert.Equal(t, "software", entry.Params.BackendType())
	_, err = poor.Key(t.Context(), ref)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorContains(t, err, `no connection "team-a"`)
	assert.NoError(t, poor.Delete(t.Context(), ref))

	for name, conns := range map[string][]Connection{
		"no backend": {{Name: "a"}}, "bad name": {{Name: "A", Backend: one}}, "twice": {{Backend: one}, {Backend: two}},
		"no decoder": {{Backend: plain{one}}}, "bad namespace": {{Backend: one, Namespaces: []namespace.Path{"Team"}}},
		"long name": {{Name: strings.Repeat("a", 65), Backend: one}},
	} {
		_, err := Open(t.Context(), st, conns, nil)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
	}
}

// TestForeignRecords: records that nobody can read keep the registry from opening; one that appears later is reported and
// changes nothing.
func TestForeignRecords(t *testing.T) {
	for name, record := range map[string]store.Op{
		"no JSON":       {Key: "registry/entries/:/ca", Value: []byte("hello")},
		"newer format":  {Key: "registry/entries/:/ca", Value: []byte(`{"format": 2}`)},
		"unknown field": {Key: "registry/entries/:/ca", Value: []byte(`{"format": 1, "x": 1}`)},
		"no colon":      {Key: "registry/entries/ca", Value: []byte(`{"format": 1}`)},
		"bad namespace": {Key: "registry/entries/Team/:/ca", Value: []byte(`{"format": 1}`)},
		"bad mount":     {Key: "registry/mounts/:/PKI", Value: []byte(`{"format": 1, "id": "x"}`)},
		"elsewhere":     {Key: "registry/stuff/:/ca", Value: []byte(`{"format": 1}`)},
	} {
		t.Run(name, func(t *testing.T) {
			st := memory.New(nil)
			defer st.Close()
			keys := software.New(nil)
			defer keys.Close()
			var log strings.Builder
			var mu sync.Mutex
			logger := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				return log.Write(p)
			}), nil))
			r, err := Open(t.Context(), st, []Connection{{Backend: keys}}, &Options{Logger: logger})
			require.NoError(t, err)
			defer r.Close()
			_, err = st.Apply(t.Context(), record)
			require.NoError(t, err)
			if name != "elsewhere" {
				soon(t, "the log says so", func() bool { mu.Lock(); defer mu.Unlock(); return strings.Contains(log.String(), record.Key) })
			}
			assert.Empty(t, r.List(""))
			again, err := Open(t.Context(), st, []Connection{{Backend: keys}}, nil)
			if name == "elsewhere" {
				require.NoError(t, err)
				require.NoError(t, again.Close())
				return
			}
			assert.True(t, errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrForeign), "%v", err)
			assert.NotContains(t, err.Error(), "hello", "content may be secret")
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestClosedRegistry: a registry that was closed changes nothing any more, and its handles go on.
func TestClosedRegistry(t *testing.T) {
	_, all := sites(t, 1)
	r := all[0]
	require.NoError(t, r.Create(t.Context(), keptEntryOf(keptParams)))
	key, err := r.Key(t.Context(), keptRef)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	assert.NoError(t, signs(key))
	assert.ErrorIs(t, r.Delete(context.Background(), keptRef), backend.ErrClosed)
	assert.NoError(t, NewRegistry().Close())
}
