package managedkey

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// rotator is a client that makes next keys by itself.
type rotator struct{ *client }

func (r rotator) Rotate(ctx context.Context, p backend.Params, version int) (backend.Key, backend.Params, error) {
	label, err := backend.VersionName(p.(params).Label, version, 64)
	if err != nil {
		return nil, nil, err
	}
	key, err := r.Generate(ctx, params{Label: label}, nil)
	return key, params{Label: label}, err
}

// rotating returns a registry with an entry of one version, and its handle.
func rotating(t *testing.T, label string) (*Registry, rotator, *Key) {
	t.Helper()
	r, c := NewRegistry(), rotator{newClient(newVault(label))}
	mustCreate(t, r, Entry{Ref: ref("team-a/ca"), Backend: c, Params: params{Label: label}, Usages: allUsages, AllowGenerateKey: true})
	return r, c, mustKey(t, r, "team-a/ca")
}

// signsAs fails unless k signs, with the key of that id.
func signsAs(t *testing.T, k *Key, id string) {
	t.Helper()
	got, err := sign(k)
	require.NoError(t, err)
	assert.Equal(t, id, got)
}

// TestRotate: look-ups give the newest version, handles that are out keep theirs, and each can be had by its number.
func TestRotate(t *testing.T) {
	r, _, one := rotating(t, "ca")
	m := mustMount(t, r, "team-a", "pki", "ca")
	mine, err := m.Key(t.Context(), "ca")
	require.NoError(t, err)
	two, err := r.Rotate(t.Context(), ref("team-a/ca"), nil)
	require.NoError(t, err)
	three, err := m.Rotate(t.Context(), "ca")
	require.NoError(t, err)
	for i, k := range []*Key{one, two, three} {
		assert.Equal(t, i+1, k.Version())
		signsAs(t, k, fmt.Sprintf("ca%s#%d", []string{"", "-v2", "-v3"}[i], i+1))
		assert.Equal(t, one.UUID(), k.UUID())
		assert.Equal(t, "fake", k.BackendType())
		assert.NotZero(t, k.Capabilities().Usages)
		again, err := r.KeyVersion(t.Context(), ref("team-a/ca"), i+1)
		require.NoError(t, err)
		assert.Equal(t, k.Public(), again.Public())
		found, err := m.KeyFor(t.Context(), "ca", k.Public())
		require.NoError(t, err)
		assert.Equal(t, i+1, found.Version())
		signsAs(t, found, again.ID())
	}
	signsAs(t, mine, "ca#1")
	assert.Equal(t, 3, mustKey(t, r, "team-a/ca").Version())
	entry, err := r.Entry(ref("team-a/ca"))
	require.NoError(t, err)
	assert.Equal(t, 3, entry.KeyVersion)
	assert.Equal(t, params{Label: "ca-v3"}, entry.Params)
	require.Len(t, entry.Older, 2)
	assert.Equal(t, params{Label: "ca"}, entry.Older[0].Params)
	assert.Equal(t, fakeKey{"ca#1"}.pin(t), entry.Older[0].PublicKeySHA256)

	for _, n := range []int{-1, 0, 4} {
		_, err := r.KeyVersion(t.Context(), ref("team-a/ca"), n)
		check(t, err, backend.ErrKeyNotFound, "newest is 3")
		_, err = m.KeyVersion(t.Context(), "ca", n)
		check(t, err, backend.ErrKeyNotFound)
	}
	_, err = m.KeyFor(t.Context(), "ca", fakeKey{"else"}.Public())
	check(t, err, backend.ErrKeyChanged)

	require.NoError(t, r.Revoke(t.Context(), m, "ca"))
	_, err = sign(mine)
	check(t, err, backend.ErrNotPermitted, "no grant")
	_, err = m.KeyVersion(t.Context(), "ca", 1)
	check(t, err, backend.ErrNotPermitted)
	_, err = m.Rotate(t.Context(), "ca")
	check(t, err, backend.ErrNotPermitted)
	require.NoError(t, r.Delete(t.Context(), ref("team-a/ca")))
	for _, k := range []*Key{one, two, three} {
		_, err := sign(k)
		check(t, err, backend.ErrKeyNotFound)
	}
}

// TestWindow: the entry's window says what older versions may still do, at once, and usages and switches reach them too.
func TestWindow(t *testing.T) {
	r, _, one := rotating(t, "ca")
	for range 2 {
		_, err := r.Rotate(t.Context(), ref("team-a/ca"), nil)
		require.NoError(t, err)
	}
	set := func(decryption, encryption int, usages backend.Usage) error {
		entry, err := r.Entry(ref("team-a/ca"))
		require.NoError(t, err)
		entry.MinDecryptionVersion, entry.MinEncryptionVersion, entry.Usages = decryption, encryption, usages
		return r.Update(t.Context(), entry)
	}
	two, err := r.KeyVersion(t.Context(), ref("team-a/ca"), 2)
	require.NoError(t, err)
	uses := func(k *Key) (makes, takes error) {
		_, makes = sign(k)
		_, err := k.Seal(t.Context(), nil, nil)
		assert.Equal(t, makes == nil, err == nil)
		_, err = k.ComputeMAC(t.Context(), "", nil)
		assert.Equal(t, makes == nil, err == nil)
		_, err = k.WrapKey(t.Context(), nil)
		assert.Equal(t, makes == nil, err == nil)
		_, takes = k.Open(t.Context(), nil, nil)
		err = k.VerifyMAC(t.Context(), "", nil, []byte(k.ID()))
		assert.Equal(t, takes == nil, err == nil)
		err = k.VerifyContext(t.Context(), nil, []byte(k.ID()), nil)
		assert.Equal(t, takes == nil, err == nil)
		return makes, takes
	}
	for _, c := range []struct {
		decryption, encryption int
		makes, takes           [2]bool // of versions 1 and 2
	}{
		{0, 0, [2]bool{true, true}, [2]bool{true, true}},
		{1, 1, [2]bool{true, true}, [2]bool{true, true}},
		{0, 2, [2]bool{false, true}, [2]bool{true, true}},
		{2, 3, [2]bool{false, false}, [2]bool{false, true}},
		{3, 0, [2]bool{false, false}, [2]bool{false, false}},
		{0, 0, [2]bool{true, true}, [2]bool{true, true}},
	} {
		require.NoError(t, set(c.decryption, c.encryption, allUsages))
		for i, k := range []*Key{one, two} {
			makes, takes := uses(k)
			assert.Equal(t, c.makes[i], makes == nil, "%v, version %d: %v", c, i+1, makes)
			assert.Equal(t, c.takes[i], takes == nil, "%v, version %d: %v", c, i+1, takes)
			for _, err := range []error{makes, takes} {
				if err != nil {
					check(t, err, backend.ErrNotPermitted, fmt.Sprintf("version %d is below min_", i+1))
				}
			}
		}
		signsAs(t, mustKey(t, r, "team-a/ca"), "ca-v3#3")
	}
	for _, c := range [][2]int{{-1, 0}, {4, 0}, {0, -1}, {0, 4}, {3, 2}} {
		check(t, set(c[0], c[1], 0), backend.ErrInvalidParams, "Min")
	}
	require.NoError(t, set(0, 0, backend.UsageVerify))
	_, err = sign(one)
	check(t, err, backend.ErrNotPermitted, "the entry allows verify:")
}

// TestRotateAdopts: a key that is there already becomes the next version, wherever it is.
func TestRotateAdopts(t *testing.T) {
	r, c, one := rotating(t, "ca")
	elsewhere := rotator{newClient(newVault("next", "wrong"))}
	at := func(label string, b backend.Backend) *RotateOptions {
		return &RotateOptions{Params: params{Label: label}, Backend: b}
	}
	pinned := at("wrong", elsewhere)
	pinned.PublicKeySHA256 = fakeKey{"next#1"}.pin(t)
	_, err := r.Rotate(t.Context(), ref("team-a/ca"), pinned)
	check(t, err, backend.ErrKeyChanged)
	pinned.Params = params{Label: "next"}
	two, err := r.Rotate(t.Context(), ref("team-a/ca"), pinned)
	require.NoError(t, err)
	signsAs(t, two, "next#1")
	signsAs(t, one, "ca#1")
	for _, old := range []*RotateOptions{pinned, at("ca", c)} {
		_, err = r.Rotate(t.Context(), ref("team-a/ca"), old)
		check(t, err, backend.ErrKeyExists, "already")
	}
	three, err := r.Rotate(t.Context(), ref("team-a/ca"), at("fresh", c))
	require.NoError(t, err, "it may be generated")
	signsAs(t, three, "fresh#2")

	foreign := at("ca", &foreignClient{c})
	foreign.Params = params{Label: "ca", Foreign: true}
	_, err = r.Rotate(t.Context(), ref("team-a/ca"), foreign)
	check(t, err, backend.ErrInvalidParams, "keeps its type")
	_, err = r.Rotate(t.Context(), ref("team-a/ca"), &RotateOptions{Backend: c})
	check(t, err, backend.ErrInvalidParams, "Params is nil")
	_, err = r.Rotate(t.Context(), ref("team-a/ca"), &RotateOptions{Params: params{Label: "ca"}, Connection: "x"})
	check(t, err, backend.ErrInvalidParams, "Connection")
	_, err = r.Rotate(t.Context(), ref("team-a/none"), nil)
	check(t, err, backend.ErrKeyNotFound)

	c.set("locked", nil)
	mustCreate(t, r, Entry{Ref: ref("team-a/fixed"), Backend: c, Params: params{Label: "fixed"}})
	_, err = r.Rotate(t.Context(), ref("team-a/fixed"), nil)
	check(t, err, backend.ErrKeyNotFound)
	c.put("fixed")
	_, err = r.Rotate(t.Context(), ref("team-a/fixed"), nil)
	check(t, err, backend.ErrNotPermitted, "allow_generate_key")
	_, err = r.Rotate(t.Context(), ref("team-a/fixed"), at("fixed-2", nil))
	check(t, err, backend.ErrKeyNotFound)
	assert.Equal(t, 1, mustKey(t, r, "team-a/fixed").Version())
}

// foreignClient is a client of another type.
type foreignClient struct{ rotator }

func (foreignClient) Type() string { return "foreign" }

// TestRotateRefuses: backends that can't, a key that is in the way, and keys that are symmetric.
func TestRotateRefuses(t *testing.T) {
	r, c, one := rotating(t, "ca")
	mustCreate(t, r, Entry{Ref: ref("team-a/plain"), Backend: c.client, Params: params{Label: "ca"}, AllowGenerateKey: true})
	_, err := r.Rotate(t.Context(), ref("team-a/plain"), nil)
	check(t, err, backend.ErrUnsupported, "Params would say")
	c.put("ca-v2")
	_, err = r.Rotate(t.Context(), ref("team-a/ca"), nil)
	check(t, err, backend.ErrKeyExists)
	signsAs(t, one, "ca#1")
	_, err = r.Rotate(t.Context(), ref("team-a/ca"), &RotateOptions{Params: params{Label: "ca-v2"}})
	require.NoError(t, err, "adopted")

	r, _, one = rotating(t, "sym")
	_, err = r.Rotate(t.Context(), ref("team-a/ca"), &RotateOptions{Params: params{Label: "sym"}})
	check(t, err, backend.ErrKeyExists, "already")
	two, err := r.Rotate(t.Context(), ref("team-a/ca"), nil)
	require.NoError(t, err)
	signsAs(t, two, "sym-v2#2")
	signsAs(t, one, "sym#1")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Rotate(cancelled, ref("team-a/ca"), nil)
	check(t, err, context.Canceled)
}

// TestUpdateVersions: a client that takes another's place takes all versions along, and older ones can be moved by
// themselves.
func TestUpdateVersions(t *testing.T) {
	r, c, one := rotating(t, "ca")
	two, err := r.Rotate(t.Context(), ref("team-a/ca"), nil)
	require.NoError(t, err)
	entry, err := r.Entry(ref("team-a/ca"))
	require.NoError(t, err)
	next := rotator{newClient(c.vault)}
	moved := entry
	moved.Backend, moved.Older = next, nil
	require.NoError(t, r.Update(t.Context(), moved))
	opens := c.opens.Load()
	signsAs(t, one, "ca#1")
	signsAs(t, two, "ca-v2#2")
	got, err := r.Entry(ref("team-a/ca"))
	require.NoError(t, err)
	assert.Equal(t, next, got.Older[0].Backend)
	assert.Equal(t, opens, c.opens.Load())

	c.set("copy", fakeKey{"ca#1"})
	c.set("wrong", fakeKey{"else"})
	older := func(change func(*OlderVersion)) error {
		in, err := r.Entry(ref("team-a/ca"))
		require.NoError(t, err)
		change(&in.Older[0])
		return r.Update(t.Context(), in)
	}
	check(t, older(func(o *OlderVersion) { o.Params = params{Label: "wrong"} }), backend.ErrKeyChanged, "version 1")
	check(t, older(func(o *OlderVersion) { o.Params = params{Label: "absent"} }), backend.ErrKeyNotFound, "version 1")
	check(t, older(func(o *OlderVersion) { o.Params = nil }), backend.ErrInvalidParams, "version 1")
	check(t, older(func(o *OlderVersion) { o.Version = 7 }), backend.ErrInvalidParams, "version 7 where 1")
	check(t, older(func(o *OlderVersion) { o.PublicKeySHA256 = fakeKey{"else"}.pin(t) }), backend.ErrKeyChanged, "keeps its key")
	check(t, older(func(o *OlderVersion) { o.Backend = &foreignClient{next} }), backend.ErrInvalidParams, "version 1")
	require.NoError(t, older(func(o *OlderVersion) { o.Params = params{Label: "copy"} }))
	signsAs(t, one, "ca#1")
	moved.KeyVersion = 1
	check(t, r.Update(t.Context(), moved), store.ErrConflict, "KeyVersion is 1")
	moved.KeyVersion, moved.Older = 2, []OlderVersion{}
	check(t, r.Update(t.Context(), moved), backend.ErrInvalidParams, "Older has 0")
	foreign := Entry{Ref: ref("team-a/ca"), Backend: &foreignClient{next}, Params: params{Label: "ca", Foreign: true}}
	check(t, r.Update(t.Context(), foreign), backend.ErrInvalidParams, "keeps its type")
}

// TestTrim: versions that may not be used any more can be taken away, others not.
func TestTrim(t *testing.T) {
	r, _, one := rotating(t, "ca")
	for range 3 {
		_, err := r.Rotate(t.Context(), ref("team-a/ca"), nil)
		require.NoError(t, err)
	}
	check(t, r.Trim(t.Context(), ref("team-a/ca"), 2), backend.ErrInvalidParams, "still in use")
	entry, err := r.Entry(ref("team-a/ca"))
	require.NoError(t, err)
	entry.MinDecryptionVersion = 3
	require.NoError(t, r.Update(t.Context(), entry))
	check(t, r.Trim(t.Context(), ref("team-a/ca"), 4), backend.ErrInvalidParams, "still in use")
	check(t, r.Trim(t.Context(), ref("team-a/ca"), 0), backend.ErrInvalidParams, "no version 0")
	check(t, r.Trim(t.Context(), ref("team-a/ca"), 5), backend.ErrInvalidParams, "no version 5")
	check(t, r.Trim(t.Context(), ref("team-a/none"), 5), backend.ErrKeyNotFound)
	for range 2 {
		require.NoError(t, r.Trim(t.Context(), ref("team-a/ca"), 3))
	}
	entry, err = r.Entry(ref("team-a/ca"))
	require.NoError(t, err)
	require.Len(t, entry.Older, 1)
	assert.Equal(t, 3, entry.Older[0].Version)
	_, err = sign(one)
	check(t, err, backend.ErrKeyNotFound)
	_, err = r.KeyVersion(t.Context(), ref("team-a/ca"), 2)
	check(t, err, backend.ErrKeyNotFound)
	three, err := r.KeyVersion(t.Context(), ref("team-a/ca"), 3)
	require.NoError(t, err)
	signsAs(t, three, "ca-v3#3")
	five, err := r.Rotate(t.Context(), ref("team-a/ca"), nil)
	require.NoError(t, err)
	assert.Equal(t, 5, five.Version())
}

// TestCreateWithVersions: an entry can begin with a history, whose keys are opened when they are asked for.
func TestCreateWithVersions(t *testing.T) {
	r, c := NewRegistry(), newClient(newVault("a", "b", "c"))
	in := entryOf(c, "team-a/c", 0)
	in.Params = params{Label: "c"}
	old := func(n int, label string) OlderVersion {
		return OlderVersion{Version: n, Backend: c, Params: params{Label: label}}
	}
	for want, older := range map[string][]OlderVersion{
		"version 1 where 2":  {old(1, "a"), old(3, "b")},
		"is 0 with 2 older":  {old(0, "a"), old(1, "b")},
		"Backend is nil":     {{Version: 1, Params: params{Label: "a"}}},
		"has 3 bytes":        {{Version: 1, Backend: c, Params: params{Label: "a"}, PublicKeySHA256: []byte("pin")}},
		"has 500 versions":   make([]OlderVersion, MaxKeyVersions),
		"version 1: backend": {{Version: 1, Backend: foreignClient{rotator{c}}, Params: params{Label: "a", Foreign: true}}},
	} {
		in.Older = older
		check(t, r.Create(t.Context(), in), backend.ErrInvalidParams, want)
	}
	in.Older = []OlderVersion{old(4, "a"), old(5, "b")}
	in.Older[0].PublicKeySHA256 = fakeKey{"a#1"}.pin(t)
	require.NoError(t, r.Create(t.Context(), in))
	assert.Zero(t, c.opens.Load())
	six := mustKey(t, r, "team-a/c")
	assert.Equal(t, 6, six.Version())
	four, err := r.KeyVersion(t.Context(), ref("team-a/c"), 4)
	require.NoError(t, err)
	signsAs(t, four, "a#1")
	c.put("b")
	five, err := r.KeyVersion(t.Context(), ref("team-a/c"), 5)
	require.NoError(t, err)
	signsAs(t, five, "b#4")
	assert.EqualValues(t, 3, c.opens.Load())
}

// TestRotateUnderLoad: nobody who uses a key sees that it is rotated, whatever is asked at the same time.
func TestRotateUnderLoad(t *testing.T) {
	r, _, _ := rotating(t, "ca")
	m := mustMount(t, r, "team-a", "pki", "ca")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var held []*Key
			for {
				select {
				case <-stop:
					return
				default:
				}
				k, err := m.Key(t.Context(), "ca")
				if !assert.NoError(t, err) {
					return
				}
				if held = append(held, k); len(held) > 50 {
					held = held[1:]
				}
				old := held[0]
				id, err := sign(old)
				if !assert.NoError(t, err) || !assert.Equal(t, old.Public(), fakeKey{id}.Public()) ||
					!assert.Equal(t, id, old.ID()) || !assert.NotZero(t, old.Capabilities().Usages) {
					return
				}
				again, err := m.KeyVersion(t.Context(), "ca", old.Version())
				if !assert.NoError(t, err) || !assert.Equal(t, id, again.ID()) {
					return
				}
				if again, err = m.KeyFor(t.Context(), "ca", old.Public()); !assert.NoError(t, err) || !assert.Equal(t, id, again.ID()) {
					return
				}
			}
		})
	}
	for range 100 {
		_, err := r.Rotate(t.Context(), ref("team-a/ca"), nil)
		require.NoError(t, err)
	}
	close(stop)
	wg.Wait()
	assert.True(t, strings.HasPrefix(mustKey(t, r, "team-a/ca").ID(), "ca-v101#"))
}
