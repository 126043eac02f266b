package managedkey

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// slow is a client of a key manager whose opens and generations can be held back.
type slow struct {
	*software.Backend
	hold map[string]*pause // by key_name; the call has its result before it is held
}

func (s *slow) Open(ctx context.Context, params backend.Params) (backend.Key, error) {
	key, err := s.Backend.Open(ctx, params)
	s.wait(params)
	return key, err
}

func (s *slow) Generate(ctx context.Context, params backend.Params, opts *backend.GenerateOptions) (backend.Key, error) {
	key, err := s.Backend.Generate(ctx, params, opts)
	s.wait(params)
	return key, err
}

func (s *slow) wait(params backend.Params) {
	if p := s.hold[params.(software.Params).KeyName]; p != nil {
		select {
		case p.entered <- struct{}{}:
			<-p.release
		case <-p.release:
		}
	}
}

func newPause() *pause { return &pause{make(chan struct{}), make(chan struct{})} }

// named returns parameters of an ECDSA key.
func named(name string) software.Params {
	return software.Params{KeyName: name, KeyType: software.ECDSA, Curve: software.P256}
}

// copyOf puts a copy of the key called from into keys, called to.
func copyOf(t *testing.T, keys *software.Backend, private any, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := keys.Import(t.Context(), software.Params{KeyName: name}, private, nil)
		require.NoError(t, err)
	}
}

// behind joins the programs with one whose opens can be held back.
func behind(t *testing.T, st store.Store, keys *software.Backend, hold ...string) (*Registry, *slow) {
	t.Helper()
	s := &slow{keys.Share(), make(map[string]*pause)}
	for _, name := range hold {
		s.hold[name] = newPause()
	}
	other := keys.Share()
	r, err := Open(t.Context(), st, []Connection{{Backend: s}, {Name: "other", Backend: other}}, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.Close())
		s.Close()
		other.Close()
	})
	return r, s
}

// TestMoveOvertakenByRotate: a key that is being opened at its new place, when the entry is rotated, isn't taken for the next
// version.
func TestMoveOvertakenByRotate(t *testing.T) {
	st, all := sites(t, 1)
	a := all[0]
	private := newPrivate(t)
	copyOf(t, a.keys, private, "ca", "copy")
	b, held := behind(t, st, a.keys, "copy")
	require.NoError(t, a.Create(t.Context(), keptEntryOf(named("ca"))))
	soon(t, "b sees the entry", func() bool { return len(b.List("team-a")) == 1 })
	one, err := b.Key(t.Context(), keptRef)
	require.NoError(t, err)
	require.NoError(t, a.Update(t.Context(), keptEntryOf(named("copy"))))
	<-held.hold["copy"].entered // b opens the key at its new place
	two, err := a.Rotate(t.Context(), keptRef, nil)
	require.NoError(t, err)
	soon(t, "b has heard of version 2", func() bool { e, err := b.Entry(keptRef); return err == nil && e.KeyVersion == 2 })
	close(held.hold["copy"].release)
	got, err := b.Key(t.Context(), keptRef) // which waits for that
	require.NoError(t, err)
	assert.Equal(t, 2, got.Version())
	assert.True(t, two.Public().(*ecdsa.PublicKey).Equal(got.Public()), "it is another key")
	assert.NoError(t, signs(one))
}

func newPrivate(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return private
}

// TestFirstOpenOvertakenByMove: a key that was opened, or is about to be generated, where the entry was when somebody moved it, is
// not pinned as the key of the new place.
func TestFirstOpenOvertakenByMove(t *testing.T) {
	for name, there := range map[string]bool{"opened": true, "generated": false} {
		t.Run(name, func(t *testing.T) {
			st, all := sites(t, 1)
			a := all[0]
			if there {
				copyOf(t, a.keys, newPrivate(t), "from")
				copyOf(t, a.keys, newPrivate(t), "to")
			}
			require.NoError(t, a.Create(t.Context(), keptEntryOf(named("from"))))
			b, held := behind(t, st, a.keys, "from")
			got := make(chan error, 1)
			var key *Key
			go func() {
				var err error
				key, err = b.Key(bg, keptRef)
				got <- err
			}()
			<-held.hold["from"].entered
			require.NoError(t, a.Update(t.Context(), keptEntryOf(named("to"))))
			soon(t, "b has heard", func() bool {
				e, err := b.Entry(keptRef)
				return err == nil && e.Params.(software.Params).KeyName == "to"
			})
			close(held.hold["from"].release)
			require.NoError(t, <-got)
			assert.Contains(t, key.ID(), "to")
			if !there {
				_, err := a.keys.Open(t.Context(), named("from"))
				assert.ErrorIs(t, err, backend.ErrKeyNotFound, "a key was made where the entry was")
			}
			theirs, err := a.Key(t.Context(), keptRef)
			require.NoError(t, err)
			assert.True(t, theirs.Public().(*ecdsa.PublicKey).Equal(key.Public()))
		})
	}
}

// TestFirstOpenBehind is the same where the program has not heard of the move.
func TestFirstOpenBehind(t *testing.T) {
	for name, open := range map[string]func(r *Registry) (*Key, error){
		"open":     func(r *Registry) (*Key, error) { return r.Key(bg, keptRef) },
		"generate": func(r *Registry) (*Key, error) { return r.Generate(bg, keptRef) },
	} {
		t.Run(name, func(t *testing.T) {
			st, all := sites(t, 1)
			a := all[0]
			copyOf(t, a.keys, newPrivate(t), "from")
			copyOf(t, a.keys, newPrivate(t), "to")
			in := keptEntryOf(named("from"))
			in.AllowReplaceKey = true
			require.NoError(t, a.Create(t.Context(), in))
			b := join(t, frozen{st}, a.keys)
			in.Params = named("to")
			require.NoError(t, a.Update(t.Context(), in))
			key, err := open(b.Registry)
			if name == "open" {
				require.NoError(t, err)
				assert.Contains(t, key.ID(), "to")
			} else {
				assert.ErrorIs(t, err, store.ErrConflict)
			}
			theirs, err := a.Key(t.Context(), keptRef)
			require.NoError(t, err, "the entry is pinned to a key that is elsewhere")
			require.NoError(t, signs(theirs))
		})
	}
}

// hooked is a store that calls a function after the next change.
type hooked struct {
	store.Store
	after func()
}

func (h *hooked) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	version, err := h.Store.Apply(ctx, ops...)
	if f := h.after; f != nil {
		h.after = nil
		f()
	}
	return version, err
}

// TestRotateOvertakenByMove: a symmetric key that was made by a rotation isn't taken for the one that another program pointed
// the new version at before the rotation was over.
func TestRotateOvertakenByMove(t *testing.T) {
	st, all := sites(t, 1)
	a := all[0]
	secret := func(name string) Entry {
		return Entry{Ref: keptRef, Connection: "software", AllowGenerateKey: true, Usages: backend.UsageEncrypt | backend.UsageDecrypt,
			Params: software.Params{KeyName: name, KeyType: software.AES, KeyBits: 256}}
	}
	require.NoError(t, a.Create(t.Context(), secret("ca")))
	h := &hooked{Store: st}
	b := join(t, h, a.keys)
	_, err := b.Key(t.Context(), keptRef)
	require.NoError(t, err)
	_, err = a.keys.Generate(t.Context(), secret("new").Params, nil)
	require.NoError(t, err)
	h.after = func() {
		soon(t, "a has heard of version 2", func() bool { e, err := a.Entry(keptRef); return err == nil && e.KeyVersion == 2 })
		require.NoError(t, a.Update(bg, secret("new")))
		soon(t, "b has heard of the move", func() bool {
			e, err := b.Entry(keptRef)
			return err == nil && e.Params.(software.Params).KeyName == "new"
		})
	}
	two, err := b.Rotate(t.Context(), keptRef, nil)
	require.NoError(t, err)
	assert.Equal(t, 2, two.Version())
	theirs, err := a.Key(t.Context(), keptRef)
	require.NoError(t, err)
	assert.Equal(t, theirs.ID(), two.ID())
	ciphertext, err := two.Seal(t.Context(), []byte("text"), nil)
	require.NoError(t, err)
	_, err = theirs.Open(t.Context(), ciphertext, nil)
	assert.NoError(t, err)
}

// TestGenerateOvertakenByMove: nor is one that was made by Generate.
func TestGenerateOvertakenByMove(t *testing.T) {
	st, all := sites(t, 1)
	a := all[0]
	secret := func(name string) Entry {
		return Entry{Ref: keptRef, Connection: "software", AllowGenerateKey: true, AllowReplaceKey: true, Usages: backend.UsageEncrypt,
			Params: software.Params{KeyName: name, KeyType: software.AES, KeyBits: 256}}
	}
	require.NoError(t, a.Create(t.Context(), secret("ca")))
	_, err := a.keys.Generate(t.Context(), secret("new").Params, nil)
	require.NoError(t, err)
	b, held := behind(t, st, a.keys, "ca")
	made := make(chan error, 1)
	go func() {
		_, err := b.Generate(bg, keptRef)
		made <- err
	}()
	<-held.hold["ca"].entered
	require.NoError(t, a.Update(t.Context(), secret("new")))
	soon(t, "b has heard of the move", func() bool {
		e, err := b.Entry(keptRef)
		return err == nil && e.Params.(software.Params).KeyName == "new"
	})
	close(held.hold["ca"].release)
	assert.ErrorIs(t, <-made, store.ErrConflict)
	key, err := b.Key(t.Context(), keptRef)
	require.NoError(t, err)
	assert.Contains(t, key.ID(), "new")
}
