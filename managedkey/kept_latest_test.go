package managedkey

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// latest is a key manager that keeps versions of a key under one name: key_name "ca" is the newest and "ca.1" is the first.
type latest struct {
	*software.Backend
	loses atomic.Bool // the answer to the next Rotate
	after func()      // of the next Rotate
}

func (l *latest) Open(ctx context.Context, params backend.Params) (backend.Key, error) {
	p := params.(software.Params)
	if strings.Contains(p.KeyName, ".") {
		return l.Backend.Open(ctx, p)
	}
	name := p.KeyName
	var found backend.Key
	err := fmt.Errorf("no version of %q: %w", name, backend.ErrKeyNotFound)
	for n := 1; ; n++ {
		p.KeyName = fmt.Sprintf("%s.%d", name, n)
		key, nextErr := l.Backend.Open(ctx, p)
		if nextErr != nil {
			if found != nil {
				err = nil
			}
			return found, err
		}
		found = key
	}
}

func (l *latest) Generate(ctx context.Context, params backend.Params, _ *backend.GenerateOptions) (backend.Key, error) {
	p := params.(software.Params)
	name := p.KeyName
	for n := 1; ; n++ {
		p.KeyName = fmt.Sprintf("%s.%d", name, n)
		if _, err := l.Backend.Open(ctx, p); err != nil {
			return l.Backend.Generate(ctx, p, nil)
		}
	}
}

func (l *latest) Rotate(ctx context.Context, params backend.Params, _ int) (backend.Key, backend.Params, error) {
	p := params.(software.Params)
	p.KeyName, _, _ = strings.Cut(p.KeyName, ".")
	key, err := l.Generate(ctx, p, nil)
	if err != nil || l.loses.Swap(false) {
		return nil, nil, fmt.Errorf("%w: the answer was lost", backend.ErrUnavailable)
	}
	if l.after != nil {
		l.after()
	}
	return key, l.ExactParams(p, key), nil
}

func (*latest) ExactParams(params backend.Params, key backend.Key) backend.Params {
	p := params.(software.Params)
	p.KeyName, _, _ = strings.Cut(key.ID(), "#")
	return p
}

func latests(t *testing.T) (start func(st store.Store) (*Registry, *latest)) {
	t.Helper()
	keys := software.New(nil)
	t.Cleanup(func() { keys.Close() })
	return func(st store.Store) (*Registry, *latest) {
		l := &latest{Backend: keys.Share()}
		r, err := Open(t.Context(), st, []Connection{{Backend: l}}, nil)
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, r.Close())
			l.Close()
		})
		return r, l
	}
}

// TestHalfRotation: when the key manager made a version that nobody recorded, the entry still has its key, in programs that
// start then as well, and can be rotated.
func TestHalfRotation(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	f := &forgetful{Store: st}
	start := latests(t)
	for name, lose := range map[string]func(l *latest){
		"answer": func(l *latest) { l.loses.Store(true) },
		"record": nil,
	} {
		t.Run(name, func(t *testing.T) {
			a, l := start(f)
			in := Entry{Ref: keptRef, Connection: "software", Params: named("ca-" + name), AllowGenerateKey: true}
			in.Ref.Name = name
			require.NoError(t, a.Create(t.Context(), in))
			one, err := a.Key(t.Context(), in.Ref)
			require.NoError(t, err)
			if lose != nil {
				lose(l)
			} else {
				l.after = func() { f.loses.Store(losesChange) }
			}
			_, err = a.Rotate(t.Context(), in.Ref, nil)
			require.ErrorIs(t, err, backend.ErrUnavailable)
			newest, err := l.Open(t.Context(), in.Params)
			require.NoError(t, err)
			require.Contains(t, newest.ID(), ".2#")

			late, _ := start(st)
			key, err := late.Key(t.Context(), in.Ref)
			require.NoError(t, err)
			assert.Equal(t, one.Public(), key.Public())
			require.NoError(t, signs(key))
			require.NoError(t, signs(one))
			two, err := late.Rotate(t.Context(), in.Ref, nil)
			require.NoError(t, err)
			assert.Contains(t, two.ID(), ".3#")
			soon(t, "a hears of it", func() bool { k, err := a.Key(t.Context(), in.Ref); return err == nil && k.Version() == 2 })
			assert.NoError(t, signs(one))
		})
	}
}

// TestRotateAwayFromLatest: a version that was the newest of its name is recorded as the one that it is, also by a program that
// has not opened it.
func TestRotateAwayFromLatest(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	start := latests(t)
	a, l := start(st)
	in := Entry{Ref: keptRef, Connection: "software", Params: named("ca"), AllowGenerateKey: true}
	require.NoError(t, a.Create(t.Context(), in))
	one, err := a.Key(t.Context(), in.Ref)
	require.NoError(t, err)
	b, _ := start(st)
	_, err = b.Rotate(t.Context(), in.Ref, &RotateOptions{Params: named("next")})
	require.NoError(t, err)
	_, err = l.Generate(t.Context(), named("ca"), nil)
	require.NoError(t, err)
	late, _ := start(st)
	got, err := late.KeyVersion(t.Context(), in.Ref, 1)
	require.NoError(t, err)
	assert.Equal(t, one.Public(), got.Public())
}

// TestRotateLatestSymmetric: handles of a symmetric key go on when its record says more exactly which version it is.
func TestRotateLatestSymmetric(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	start := latests(t)
	a, _ := start(st)
	in := Entry{Ref: keptRef, Connection: "software", AllowGenerateKey: true, Usages: backend.UsageEncrypt,
		Params: software.Params{KeyName: "ca", KeyType: software.AES, KeyBits: 256}}
	require.NoError(t, a.Create(t.Context(), in))
	b, _ := start(st)
	var held []*Key
	for _, r := range []*Registry{a, b} {
		key, err := r.Key(t.Context(), in.Ref)
		require.NoError(t, err)
		held = append(held, key)
	}
	_, err := a.Rotate(t.Context(), in.Ref, nil)
	require.NoError(t, err)
	soon(t, "b hears of it", func() bool { e, err := b.Entry(in.Ref); return err == nil && e.KeyVersion == 2 })
	for _, key := range held {
		_, err := key.Seal(t.Context(), nil, nil)
		assert.NoError(t, err)
		assert.Equal(t, 1, key.Version())
	}
}
