package config_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/config"
)

// fileConfig is a connection to a file whose passphrase is in another, and what else differs.
func fileConfig(folder, more string) string {
	return fmt.Sprintf("connection \"software\" \"soft\" {\n file = %q\n passphrase = \"file:%s/pass\"\n time = 1\n memory_kib = 64\n threads = 1\n%s}\n", filepath.Join(folder, "soft"), folder, more)
}

// TestReloadUnderLoad reloads again and again, with a connection that changes each time, while keys are used: nothing fails.
func TestReloadUnderLoad(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "pass"), 0o600, "pass")
	sys := start(t, parse(t, "%s", fileConfig(folder, "")+fmt.Sprintf(ca, "")))
	key, err := sys.Registry().Key(bg, ref("team-a/ca"))
	require.NoError(t, err)
	var done atomic.Bool
	var signed atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !done.Load() {
				fresh, err := sys.Registry().Key(bg, ref("team-a/ca"))
				if !assert.NoError(t, err) || !assert.NoError(t, sign(key)) || !assert.NoError(t, sign(fresh)) {
					return
				}
				signed.Add(1)
			}
		})
	}
	for i := range 20 {
		before := signed.Load()
		was := sys.Backend("soft")
		spaces := []string{"", " namespaces = [\"team-a\"]\n"}[i%2]
		if i%4 >= 2 { // another client
			spaces += " store = \"other\"\n"
		}
		_, err := sys.Reload(bg, parse(t, "%s", fileConfig(folder, spaces)+fmt.Sprintf(ca, fmt.Sprintf("any_mount = %t", i%2 == 0))))
		if !assert.NoError(t, err) {
			break
		}
		if i%2 == 0 && i > 0 {
			assert.NotSame(t, was, sys.Backend("soft"))
		} else {
			assert.Same(t, was, sys.Backend("soft"), "only its namespaces have changed")
		}
		for signed.Load() < before+5 && !t.Failed() {
			assert.NoError(t, sign(key))
		}
	}
	done.Store(true)
	wg.Wait()
}

// TestReloadRotatedSecret: a file with another secret is a change, although the text of the configuration is the same.
func TestReloadRotatedSecret(t *testing.T) {
	folder := t.TempDir()
	pass := filepath.Join(folder, "pass")
	write(t, pass, 0o600, "pass")
	cfg := parse(t, "%s", fileConfig(folder, "")+fmt.Sprintf(ca, ""))
	sys := start(t, cfg)
	key, err := sys.Registry().Key(bg, ref("team-a/ca"))
	require.NoError(t, err)
	was := sys.Backend("soft")
	plan, err := sys.Reload(bg, cfg)
	require.NoError(t, err)
	assert.True(t, plan.Empty())
	assert.Same(t, was, sys.Backend("soft"), "nothing has changed")

	write(t, pass, 0o600, "wrong")
	_, err = sys.Reload(bg, cfg)
	require.ErrorIs(t, err, backend.ErrCredentials)
	assert.Contains(t, err.Error(), `test.hcl:1:1: connection "soft": `)
	assert.Same(t, was, sys.Backend("soft"), "what can't be opened changes nothing")
	assert.NoError(t, sign(key))
}

// TestReloadAddsAndRemoves: connections come and go with the files, those that are in use excepted.
func TestReloadAddsAndRemoves(t *testing.T) {
	folder := t.TempDir()
	a, b := softwareFile("a", folder), softwareFile("b", folder)
	keyAt := func(at string) string { return fmt.Sprintf(ca, "connection = \""+at+"\"") }
	sys := start(t, parse(t, "%s", a+keyAt("a")))
	next := parse(t, "%s", a+b+keyAt("b"))
	plan, err := sys.Reload(bg, next)
	require.NoError(t, err)
	assert.Contains(t, plan.String(), "connection: a → b")
	assert.Same(t, next, sys.Config())
	old := sys.Backend("a").(backend.Pinger)
	_, err = sys.Reload(bg, parse(t, "%s", b+keyAt("b")))
	require.NoError(t, err)
	assert.Nil(t, sys.Backend("a"))
	assert.ErrorIs(t, old.Ping(bg), backend.ErrClosed)
	key, err := sys.Registry().Key(bg, ref("team-a/ca"))
	require.NoError(t, err)
	require.NoError(t, sign(key))

	_, err = sys.Reload(bg, parse(t, "%s", a)) // the entry is in no file now, and still there
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
	assert.ErrorContains(t, err, "team-a/ca")
	assert.NoError(t, sign(key))
	_, err = sys.Reload(bg, parse(t, "%s", a+"namespace \"team-a\" { prune = true }"))
	require.NoError(t, err)
	assert.Nil(t, sys.Backend("b"))
}

// TestReloadOfReplicated: a connection that is made of others follows them.
func TestReloadOfReplicated(t *testing.T) {
	folder := t.TempDir()
	text := func(more string) string {
		return softwareFile("a", folder) + fileConfig(folder, more) + "connection \"replicated\" \"both\" { places = [\"a\", \"soft\"] }\n"
	}
	write(t, filepath.Join(folder, "pass"), 0o600, "pass")
	sys := start(t, parse(t, "%s", text("")))
	was, kept := sys.Backend("both"), sys.Backend("a")
	_, err := sys.Reload(bg, parse(t, "%s", text(" store = \"x\"\n")))
	require.NoError(t, err)
	assert.NotSame(t, was, sys.Backend("both"))
	assert.Same(t, kept, sys.Backend("a"))
	assert.NoError(t, sys.Backend("both").(backend.Pinger).Ping(bg))
}

// TestReloadRefuses: what can't change while the system runs, and what can't be had.
func TestReloadRefuses(t *testing.T) {
	sys := start(t, parse(t, soft+ca, ""))
	for _, text := range []string{"store \"memory\" { history = 5 }\n", "store \"bolt\" { path = \"/x\" }\n"} {
		_, err := sys.Reload(bg, parse(t, "%s", text+soft))
		assert.ErrorIs(t, err, backend.ErrUnsupported)
		assert.ErrorContains(t, err, "test.hcl:1:1: the store or the seal has changed; that takes a restart")
	}
	_, err := sys.Reload(bg, parse(t, "connection \"software\" \"soft\" { store = \"x\" }\n"))
	assert.NoError(t, err, "its key was never opened, and so can be anywhere")
	in, err := sys.Registry().Key(bg, ref("team-a/ca"))
	require.NoError(t, err)
	_, err = sys.Reload(bg, parse(t, "connection \"software\" \"soft\" { store = \"y\" }\n"))
	assert.ErrorIs(t, err, backend.ErrKeyNotFound, "keys in memory don't move")
	assert.NoError(t, sign(in))
	_, err = sys.Reload(bg, &config.Config{})
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	require.NoError(t, sys.Close())
	_, err = sys.Reload(bg, parse(t, soft))
	assert.ErrorIs(t, err, backend.ErrClosed)
}
