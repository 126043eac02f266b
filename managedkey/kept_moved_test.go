package managedkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// TestMountMovedMeanwhile: a program that has not heard yet that another one moved or removed a mount can neither remove nor
// move it, is told so, and takes nothing from the one who moved it.
func TestMountMovedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(r *Registry, m *Mount) error{
		"moved":          func(r *Registry, m *Mount) error { return r.Rename(bg, m, "pki/prod") },
		"moved and back": func(r *Registry, m *Mount) error { _ = r.Rename(bg, m, "pki/prod"); return r.Rename(bg, m, "pki") },
		"removed":        func(r *Registry, m *Mount) error { return r.Unmount(bg, m) },
		"another instead": func(r *Registry, m *Mount) error {
			_ = r.Unmount(bg, m)
			_, err := r.Mount(bg, "team-a", "pki", "ca")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			st, all := sites(t, 1)
			a := all[0]
			require.NoError(t, a.Create(bg, keptEntryOf(keptParams)))
			mine, err := a.Mount(bg, "team-a", "pki", "ca")
			require.NoError(t, err)
			b := join(t, deaf{st}, a.keys)
			theirs, err := b.OpenMount("team-a", "pki")
			require.NoError(t, err)
			require.NoError(t, change(a.Registry, mine))
			before, _, err := store.Load(bg, st, registryPrefix)
			require.NoError(t, err)

			assert.ErrorIs(t, b.Unmount(bg, theirs), store.ErrConflict)
			assert.ErrorIs(t, b.Rename(bg, theirs, "pki/other"), store.ErrConflict)
			after, _, err := store.Load(bg, st, registryPrefix)
			require.NoError(t, err)
			assert.Equal(t, before, after)
			if name == "moved" { // and whoever has heard can
				late := join(t, st, a.keys)
				_, err = late.OpenMount("team-a", "pki")
				assert.ErrorIs(t, err, backend.ErrKeyNotFound)
				there, err := late.OpenMount("team-a", "pki/prod")
				require.NoError(t, err)
				require.NoError(t, late.Unmount(bg, there))
			}
		})
	}
}

// place is a client of a key manager, of which a program may have several: it can be away, and hold a signature back.
type place struct {
	*software.Backend
	away atomic.Bool
	hold atomic.Pointer[pause] // the next signature, if not nil
	made atomic.Int64          // signatures
	lost atomic.Int64          // calls while it was away
}

type pause struct{ entered, release chan struct{} }

func (p *place) Open(ctx context.Context, params backend.Params) (backend.Key, error) {
	if p.away.Load() {
		p.lost.Add(1)
		return nil, backend.ErrUnavailable
	}
	key, err := p.Backend.Open(ctx, params)
	if err != nil {
		return nil, err
	}
	return placeKey{key, p}, nil
}

type placeKey struct {
	backend.Key
	place *place
}

func (k placeKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(bg, digest, opts)
}

func (k placeKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if p := k.place.hold.Swap(nil); p != nil {
		close(p.entered)
		<-p.release
	}
	k.place.made.Add(1)
	return k.Key.(backend.Signer).SignContext(ctx, digest, opts)
}

// TestMoveSeenByAnother: when one program moves an entry to another connection, the handles of the other one go on: at the old
// place for as long as the new one is away, then at the new one, while what is under way at the old one ends there.
func TestMoveSeenByAnother(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	st := memory.New(nil)
	defer st.Close()
	var programs []*Registry
	var old, next []*place
	for range 2 {
		var conns []Connection
		for _, name := range []string{"old", "new"} {
			p := &place{Backend: software.New(nil)}
			defer p.Close()
			_, err := p.Import(bg, software.Params{KeyName: "ca"}, private, nil)
			require.NoError(t, err)
			conns = append(conns, Connection{Name: name, Backend: p})
		}
		old, next = append(old, conns[0].Backend.(*place)), append(next, conns[1].Backend.(*place))
		r, err := Open(bg, st, conns, nil)
		require.NoError(t, err)
		defer r.Close()
		programs = append(programs, r)
	}
	a, b := programs[0], programs[1]
	in := Entry{Ref: keptRef, Connection: "old", Params: software.Params{KeyName: "ca"}}
	require.NoError(t, a.Create(bg, in))
	soon(t, "b sees the entry", func() bool { return len(b.List("team-a")) == 1 })
	key, err := b.Key(bg, keptRef)
	require.NoError(t, err)

	underWay := &pause{make(chan struct{}), make(chan struct{})}
	old[1].hold.Store(underWay)
	ended := make(chan error, 1)
	go func() { ended <- signs(key) }()
	<-underWay.entered
	next[1].away.Store(true)
	in.Connection = "new"
	require.NoError(t, a.Update(bg, in))
	soon(t, "b has heard, and tried", func() bool { return next[1].lost.Load() > 0 })
	require.NoError(t, signs(key), "while the new place is away")
	assert.EqualValues(t, 1, old[1].made.Load())
	entry, err := b.Entry(keptRef)
	require.NoError(t, err)
	assert.Equal(t, "new", entry.Connection)
	assert.Equal(t, next[1], entry.Backend, "the entry says where the key is to be")

	next[1].away.Store(false)
	soon(t, "b's handle signs at the new place", func() bool { return signs(key) == nil && next[1].made.Load() > 0 })
	before := old[1].made.Load()
	require.NoError(t, signs(key))
	close(underWay.release)
	require.NoError(t, <-ended, "what was under way")
	assert.Equal(t, before+1, old[1].made.Load(), "signatures at the old place")
	mine, err := a.Key(bg, keptRef)
	require.NoError(t, err)
	require.NoError(t, signs(mine))
	assert.Zero(t, old[0].made.Load())
}
