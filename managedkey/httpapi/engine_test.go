package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// TestEngines: an engine gets what is under its mount, knows who asks, and ends with its mount.
func TestEngines(t *testing.T) {
	g := newRig(t, nil)
	g.must(204, "POST", keyPath+"ca", ecdsaKey("ca"))
	g.must(204, "POST", "/v1/team-a/sys/mounts/signer", `{"type":"signer"}`)
	g.must(204, "POST", "/v1/sys/mounts/signer", `{"type":"signer","config":{"allowed_managed_keys":["ca"]}}`)
	a := g.must(200, "POST", "/v1/signer/sign/ca", `{"input":"text"}`)
	assert.NotEmpty(t, a.data["signature"])
	g.must(404, "POST", "/v1/team-a/signer/sign/ca", `{"input":"text"}`)
	a = g.must(400, "POST", "/v1/signer/sign/ca", `{"inptu":"text"}`)
	assert.Contains(t, a.errors[0], `"inptu" is unknown; there are: input`)

	a = g.must(200, "GET", "/v1/signer/who?list=true", "")
	assert.Equal(t, "LIST", a.data["method"])
	assert.Equal(t, "root", a.data["id"])
	assert.Equal(t, "127.0.0.1", a.data["address"])
	assert.Contains(t, a.text, `"request_id":"`+a.data["request"].(string))
	assert.Equal(t, "POST", g.must(200, "PUT", "/v1/signer/who", "{}").data["method"])

	assert.Equal(t, false, g.do("GET", "/v1/signer/public", "", "").data["known"])
	assert.Equal(t, 403, g.do("POST", "/v1/signer/public", "", "").status)
	assert.Equal(t, 403, g.do("GET", "/v1/signer/who", "", "").status)
	assert.Equal(t, 200, g.do("POST", "/v1/signer/sign/ca", readerToken, "{}").status)
	assert.Equal(t, 403, g.do("POST", "/v1/signer/new/x", readerToken, "{}").status)

	m, err := g.keys.OpenMount("", "signer")
	require.NoError(t, err)
	g.must(204, "DELETE", "/v1/sys/mounts/signer", "")
	require.Eventually(t, func() bool { _, closed := closedSigners.Load(m.ID()); return closed }, 30*time.Second, time.Millisecond)
	assert.Contains(t, g.must(404, "GET", "/v1/signer/who", "").errors[0], "no handler for route")
	g.must(204, "POST", "/v1/sys/mounts/signer", `{"type":"signer"}`)
	g.must(200, "GET", "/v1/signer/who", "") // another one
}

// TestPanics: an engine's panic is an answer that says nothing, and so is the log.
func TestPanics(t *testing.T) {
	g := newRig(t, nil)
	g.must(204, "POST", "/v1/sys/mounts/signer", `{"type":"signer"}`)
	a := g.must(500, "GET", "/v1/signer/panic", "")
	require.Len(t, a.errors, 2)
	assert.Equal(t, "internal error", a.errors[0])
	id := strings.TrimPrefix(a.errors[1], "request_id: ")
	assert.Len(t, id, 36)
	assert.Contains(t, g.log.String(), id)
	assert.Contains(t, g.log.String(), "ServeHTTP", "where it was")
	for _, text := range []string{a.text, g.log.String()} {
		assert.NotContains(t, text, "hunter2")
		assert.NotContains(t, text, "goroutine")
	}
	r, err := http.NewRequest("GET", g.url+"/v1/signer/half", nil)
	require.NoError(t, err)
	r.Header.Set("X-Vault-Token", rootToken)
	resp, err := g.client.Do(r)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	assert.Error(t, err, "half an answer isn't taken for one")
	g.must(200, "GET", "/v1/signer/who", "")
}

// TestEngineThatFails: an engine that can't be made is tried again, and callers that aren't known don't learn why.
func TestEngineThatFails(t *testing.T) {
	var fails atomic.Bool
	fails.Store(true)
	g := newRig(t, func(o *Options) {
		o.Engines = map[string]Engine{"signer": func(ctx context.Context, m *managedkey.Mount) (Handler, error) {
			if fails.Load() {
				return nil, errors.New("the secret is hunter2")
			}
			return newSigner(ctx, m)
		}}
	})
	g.must(204, "POST", "/v1/sys/mounts/signer", `{"type":"signer"}`)
	assert.Equal(t, 403, g.do("GET", "/v1/signer/who", "", "").status)
	a := g.must(500, "GET", "/v1/signer/who", "")
	assert.NotContains(t, a.text, "hunter2")
	fails.Store(false)
	g.must(200, "GET", "/v1/signer/who", "")
}

// TestOpenMounts: handlers are there before anybody asks, one for each mount; one that can't be made keeps none from it.
func TestOpenMounts(t *testing.T) {
	var made sync.Map
	var fails atomic.Bool
	fails.Store(true)
	g := newRig(t, func(o *Options) {
		o.Engines = map[string]Engine{"none": nil, "signer": func(ctx context.Context, m *managedkey.Mount) (Handler, error) {
			if m.Path() == "bad" && fails.Load() {
				return nil, errors.New("no luck")
			}
			if _, again := made.LoadOrStore(m, true); again {
				t.Errorf("another handler for %s", m.Path())
			}
			return newSigner(ctx, m)
		}}
	})
	require.NoError(t, g.api.OpenMounts(t.Context()), "there are none")
	var all []*managedkey.Mount
	for _, spec := range []managedkey.MountSpec{{Path: "bad", Type: "signer"}, {Path: "good", Type: "signer"},
		{Namespace: "team-a/x", Path: "good", Type: "signer"}, {Path: "pathless", Type: "none"}, {Path: "typeless"}} {
		m, err := g.keys.CreateMount(t.Context(), spec)
		require.NoError(t, err)
		all = append(all, m)
	}
	assert.ErrorContains(t, g.api.OpenMounts(t.Context()), "httpapi: mount bad: no luck")
	for n, want := range []bool{false, true, true, false, false} {
		_, ok := made.Load(all[n])
		assert.Equal(t, want, ok, all[n].Path())
	}
	g.must(200, "GET", "/v1/good/who", "")
	fails.Store(false)
	require.NoError(t, g.api.OpenMounts(t.Context()))
	_, ok := made.Load(all[0])
	assert.True(t, ok)
	require.NoError(t, g.api.Close())
	assert.Error(t, g.api.OpenMounts(t.Context()), "after the end")
}

// keeper is an engine that keeps something for its mount.
type keeper struct {
	*signer
	removed chan string
	fail    error
}

func (k *keeper) Remove(ctx context.Context) error {
	if _, closed := closedSigners.Load(k.mount.ID()); !closed {
		return errors.New("it was not closed before")
	}
	k.removed <- k.mount.ID()
	if k.fail == nil {
		return nil
	}
	<-ctx.Done()
	return k.fail
}

// TestRemover: what an engine keeps for a mount goes with it, also of one that was never used here, and only if the mount is gone for
// good; the API's end ends it.
func TestRemover(t *testing.T) {
	removed := make(chan string, 10)
	var fail atomic.Pointer[error]
	g := newRig(t, func(o *Options) {
		o.Engines = map[string]Engine{"signer": func(_ context.Context, m *managedkey.Mount) (Handler, error) {
			k := &keeper{signer: &signer{mount: m}, removed: removed}
			if err := fail.Load(); err != nil {
				k.fail = *err
			}
			return k, nil
		}}
	})
	ids := map[string]string{}
	for _, path := range []string{"unused", "used", "moved", "kept", "late"} {
		m, err := g.keys.CreateMount(t.Context(), managedkey.MountSpec{Path: path, Type: "signer"})
		require.NoError(t, err)
		ids[path] = m.ID()
	}
	g.must(200, "GET", "/v1/used/who", "")
	for _, path := range []string{"unused", "used"} {
		g.must(204, "DELETE", "/v1/sys/mounts/"+path, "")
		assert.Equal(t, ids[path], <-removed)
	}
	g.must(200, "GET", "/v1/moved/who", "")
	g.must(200, "GET", "/v1/kept/who", "")
	m, err := g.keys.OpenMount("", "moved")
	require.NoError(t, err)
	require.NoError(t, g.keys.Rename(t.Context(), m, "elsewhere"))
	g.api.engines.sweep(func(m *managedkey.Mount) bool { return m.Path() == "kept" }, g.api.removed) // as if this process were mistaken
	g.api.engines.sweeping.Wait()
	g.must(204, "DELETE", "/v1/sys/mounts/elsewhere", "")
	assert.Equal(t, ids["moved"], <-removed)

	err = errors.New("ended")
	fail.Store(&err)
	g.must(204, "DELETE", "/v1/sys/mounts/late", "")
	assert.Equal(t, ids["late"], <-removed)
	require.NoError(t, g.api.Close())
	assert.Empty(t, removed, "%v", ids)
	assert.Contains(t, g.log.String(), "what a mount has had was not removed")
}

// TestMountsOfOthers: what another process mounts is served, and what it removes isn't.
func TestMountsOfOthers(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	g := newRig(t, nil)
	ours, err := managedkey.Open(t.Context(), st, []managedkey.Connection{{Backend: g.software}}, nil)
	require.NoError(t, err)
	defer ours.Close()
	theirs, err := managedkey.Open(t.Context(), st, []managedkey.Connection{{Backend: g.software.Share()}}, nil)
	require.NoError(t, err)
	defer theirs.Close()
	own := g.api.keys
	g.api.keys = ours // before its first request
	defer func() { g.api.keys = own }()
	m, err := theirs.CreateMount(t.Context(), managedkey.MountSpec{Path: "signer", Type: "signer"})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return g.do("GET", "/v1/signer/who", rootToken, "").status == 200 }, 30*time.Second, time.Millisecond)
	require.NoError(t, theirs.Unmount(t.Context(), m))
	require.Eventually(t, func() bool { return g.do("GET", "/v1/signer/who", rootToken, "").status == 404 }, 30*time.Second, time.Millisecond)
	g.api.sweepNow()
	require.Eventually(t, func() bool { _, closed := closedSigners.Load(m.ID()); return closed }, 30*time.Second, time.Millisecond)
}

// TestEnginesUnderLoad: mounts come and go while they are used; no engine is used after it was closed.
func TestEnginesUnderLoad(t *testing.T) {
	g := newRig(t, nil)
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				a := g.do("GET", "/v1/signer/who", rootToken, "")
				assert.Contains(t, []int{200, 404}, a.status, a.text)
			}
		})
	}
	for range 50 {
		g.must(204, "POST", "/v1/sys/mounts/signer", `{"type":"signer"}`)
		g.must(204, "DELETE", "/v1/sys/mounts/signer", "")
	}
	stop()
	running.Wait()
	assert.NotContains(t, g.log.String(), "panic")
}
