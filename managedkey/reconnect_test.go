package managedkey

import (
	"context"
	"crypto"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestReconnectUnderLoad swaps a connection 50 times, and closes each former backend at once, while keys are used, looked up,
// created and updated: nothing fails.
func TestReconnectUnderLoad(t *testing.T) {
	const swaps = 50
	_, all := sites(t, 1)
	r := all[0]
	require.NoError(t, r.Create(bg, keptEntryOf(keptParams)))
	secret := Entry{
		Ref: ref("team-a/secret"), Connection: "software", Usages: backend.UsageEncrypt | backend.UsageDecrypt, AllowGenerateKey: true,
		Params: software.Params{KeyName: "secret", KeyType: software.AES, KeyBits: 256},
	}
	require.NoError(t, r.Create(bg, secret))
	key, err := r.Key(bg, keptRef)
	require.NoError(t, err)
	aes, err := r.Key(bg, secret.Ref)
	require.NoError(t, err)
	_, err = r.Rotate(bg, keptRef, nil) // key is an older version from now on
	require.NoError(t, err)

	var done atomic.Bool
	var operations atomic.Int64
	var wg sync.WaitGroup
	for _, operation := range []func() error{
		func() error { return signs(key) },
		func() error {
			newest, err := r.Key(bg, keptRef)
			if err != nil {
				return err
			}
			return signs(newest)
		},
		func() error {
			sealed, err := aes.Seal(bg, []byte("text"), nil)
			if err == nil {
				_, err = aes.Open(bg, sealed, nil)
			}
			return err
		},
		func() error { // a change that was begun from an entry of before
			in, err := r.Entry(secret.Ref)
			if err != nil {
				return err
			}
			in.AnyMount, in.Version = !in.AnyMount, 0
			return r.Update(bg, in)
		},
		func() error { // a key that is opened for the first time
			in := keptEntryOf(keptParams)
			in.Ref.Name = "fresh"
			if err := r.Create(bg, in); err != nil {
				return err
			}
			fresh, err := r.Key(bg, in.Ref)
			if err == nil {
				err = signs(fresh)
			}
			if err != nil {
				return err
			}
			return r.Delete(bg, in.Ref)
		},
	} {
		wg.Go(func() {
			for !done.Load() {
				if !assert.NoError(t, operation()) {
					return
				}
				operations.Add(1)
			}
		})
	}
	last := r.keys
	for range swaps {
		before := operations.Load()
		next := last.Share()
		swapped, err := r.Reconnect(bg, Connection{Backend: next})
		if !assert.NoError(t, err) || !assert.True(t, swapped) {
			break
		}
		assert.NoError(t, last.Close())
		last = next
		for operations.Load() < before+10 && !t.Failed() {
			assert.NoError(t, signs(key))
		}
	}
	done.Store(true)
	wg.Wait()
	assert.NoError(t, last.Close())
	assert.ErrorIs(t, signs(key), backend.ErrClosed, "the last one is used")
}

// TestReconnectProvesKeys: nothing changes if a key that is open isn't there, or another one is.
func TestReconnectProvesKeys(t *testing.T) {
	for name, prepare := range map[string]func(other *software.Backend) error{
		"absent": func(*software.Backend) error { return backend.ErrKeyNotFound },
		"another": func(other *software.Backend) error {
			_, err := other.Generate(bg, keptParams, nil)
			if err == nil {
				err = backend.ErrKeyChanged
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, all := sites(t, 1)
			r := all[0]
			require.NoError(t, r.Create(bg, keptEntryOf(keptParams)))
			key, err := r.Key(bg, keptRef)
			require.NoError(t, err)
			other := software.New(nil)
			defer other.Close()
			want := prepare(other)
			swapped, err := r.Reconnect(bg, Connection{Backend: other})
			assert.False(t, swapped)
			check(t, err, want, "reconnect", "team-a/ca")
			assert.NoError(t, signs(key))
			now, err := r.Entry(keptRef)
			require.NoError(t, err)
			assert.Same(t, r.keys, now.Backend)
		})
	}
}

// TestReconnectUnopened: keys that were never opened move without a call.
func TestReconnectUnopened(t *testing.T) {
	_, all := sites(t, 1)
	r := all[0]
	require.NoError(t, r.Create(bg, keptEntryOf(keptParams)))
	p := &place{Backend: r.keys.Share()}
	p.away.Store(true)
	swapped, err := r.Reconnect(bg, Connection{Backend: p})
	require.NoError(t, err)
	assert.True(t, swapped)
	assert.Zero(t, p.lost.Load())
	p.away.Store(false)
	key, err := r.Key(bg, keptRef)
	require.NoError(t, err)
	require.NoError(t, signs(key))
	require.NoError(t, p.Close())
	assert.ErrorIs(t, signs(key), backend.ErrClosed)
}

// TestReconnectAdds: entries of a connection that the process didn't have can be used when it is added.
func TestReconnectAdds(t *testing.T) {
	st, all := sites(t, 1)
	in := keptEntryOf(keptParams)
	in.Connection = "other"
	require.NoError(t, all[0].Create(bg, in))
	late, err := Open(bg, st, nil, nil)
	require.NoError(t, err)
	defer late.Close()
	_, err = late.Key(bg, keptRef)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	swapped, err := late.Reconnect(bg, Connection{Name: "other", Backend: all[0].keys})
	require.NoError(t, err)
	assert.True(t, swapped)
	key, err := late.Key(bg, keptRef)
	require.NoError(t, err)
	assert.NoError(t, signs(key))

	check(t, late.Disconnect("other"), backend.ErrNotPermitted, "team-a/ca", "other")
	assert.NoError(t, signs(key))
	require.NoError(t, late.Delete(bg, keptRef))
	assert.NoError(t, late.Disconnect("other"))
	assert.NoError(t, late.Disconnect("other"))
	assert.ErrorIs(t, late.Create(bg, in), backend.ErrInvalidParams)
}

// TestReconnectNamespaces: a connection can be kept from namespaces that don't use it.
func TestReconnectNamespaces(t *testing.T) {
	_, all := sites(t, 1)
	r := all[0]
	require.NoError(t, r.Create(bg, keptEntryOf(keptParams)))
	c := Connection{Backend: r.keys, Namespaces: []namespace.Path{"team-b"}}
	swapped, err := r.Reconnect(bg, c)
	assert.False(t, swapped)
	check(t, err, backend.ErrInvalidParams, "team-a/ca")
	c.Namespaces = []namespace.Path{"team-a"}
	swapped, err = r.Reconnect(bg, c)
	require.NoError(t, err)
	assert.True(t, swapped)
	in := keptEntryOf(keptParams)
	in.Ref.Namespace = "team-b"
	assert.ErrorIs(t, r.Create(bg, in), backend.ErrNotPermitted)
}

// TestReconnectRefuses: what makes no sense changes nothing.
func TestReconnectRefuses(t *testing.T) {
	_, err := NewRegistry().Reconnect(bg, Connection{Backend: software.New(nil)})
	check(t, err, backend.ErrUnsupported, "store")
	check(t, NewRegistry().Disconnect("x"), backend.ErrUnsupported, "store")
	_, all := sites(t, 1)
	r := all[0]
	for _, c := range []Connection{{}, {Name: "NO", Backend: r.keys}, {Name: "software", Backend: newClient(newVault())}, {Name: "software", Backend: otherType{r.keys}}} {
		swapped, err := r.Reconnect(bg, c)
		assert.False(t, swapped)
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
	}
	ended, cancel := context.WithCancel(bg)
	cancel()
	require.NoError(t, r.Create(bg, keptEntryOf(keptParams)))
	_, err = r.Key(bg, keptRef)
	require.NoError(t, err)
	swapped, err := r.Reconnect(ended, Connection{Backend: r.keys.Share()})
	assert.False(t, swapped)
	assert.ErrorIs(t, err, context.Canceled)
	require.NoError(t, r.Close())
	_, err = r.Reconnect(bg, Connection{Backend: r.keys})
	assert.ErrorIs(t, err, backend.ErrClosed)
}

type otherType struct{ *software.Backend }

func (otherType) Type() string { return "other" }

// TestClosedClientIsFinal: a client that was closed while the entry still uses it is an error, and no endless loop.
func TestClosedClientIsFinal(t *testing.T) {
	_, all := sites(t, 1)
	r := all[0]
	require.NoError(t, r.Create(bg, keptEntryOf(keptParams)))
	key, err := r.Key(bg, keptRef)
	require.NoError(t, err)
	require.NoError(t, r.keys.Close())
	_, err = key.Sign(nil, make([]byte, 32), crypto.SHA256)
	assert.ErrorIs(t, err, backend.ErrClosed)
	_, err = key.SignMessage(nil, []byte("m"), crypto.SHA256)
	assert.ErrorIs(t, err, backend.ErrClosed)
}
