package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/namespace"
)

// mounted is a configuration of one mount, which says more about itself.
func mounted(t *testing.T, kind, says string) *config.Config {
	t.Helper()
	return parse(t, soft+ca+`mount %q "team-a/pki" {
  %s
}`, "", kind, says)
}

// TestMountSays: mounts are made with what the file says of them.
func TestMountSays(t *testing.T) {
	cfg := mounted(t, "pki", `description = "issues for \"web\""
  options = { b = "2", a = "1" }
  allowed_managed_keys = ["ca"]`)
	sys, err := cfg.Open(bg, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sys.Close()) })
	assert.Equal(t, lines(
		"+ create team-a/ca",
		"    type: software",
		"    connection: soft",
		"+ mount team-a/:pki",
		"    type: pki",
		`    description: "issues for \"web\""`,
		`    options.a: "1"`,
		`    options.b: "2"`,
		"    allowed_managed_keys: ca",
		"2 to add, 0 to change, 0 to remove",
	), apply(t, sys, cfg).String())
	m, err := sys.Registry().OpenMount("team-a", "pki")
	require.NoError(t, err)
	assert.Equal(t, "pki", m.Type())
	assert.Equal(t, `issues for "web"`, m.Description())
	assert.Equal(t, map[string]string{"a": "1", "b": "2"}, m.Options())
	assert.Equal(t, []string{"ca"}, m.Allowed())
}

// TestMountDrifts: what was changed of a mount, in the file or by others, is changed back, and nothing else.
func TestMountDrifts(t *testing.T) {
	cfg := mounted(t, "pki", `description = "one"
  options = { a = "1", b = "2" }`)
	sys := start(t, cfg)
	reg := sys.Registry()
	m, err := reg.OpenMount("team-a", "pki")
	require.NoError(t, err)
	require.NoError(t, reg.Grant(bg, m, "ca"))

	plan := apply(t, sys, mounted(t, "pki", `description = "two"
  options = { b = "3", c = "4" }`))
	assert.Equal(t, lines(
		"~ tune team-a/:pki",
		`    description: "one" → "two"`,
		`    options.a: "1" → none`,
		`    options.b: "2" → "3"`,
		`    options.c: none → "4"`,
		"0 to add, 1 to change, 0 to remove",
	), plan.String())
	assert.Equal(t, map[string]string{"b": "3", "c": "4"}, m.Options())
	assert.Equal(t, []string{"ca"}, m.Allowed(), "the file says nothing of grants")

	other := "by hand"
	require.NoError(t, reg.TuneMount(bg, m, managedkey.MountChange{Description: &other}))
	plan = apply(t, sys, mounted(t, "pki", `description = "two"
  options = { b = "3", c = "4" }
  allowed_managed_keys = []`))
	assert.Equal(t, lines(
		"~ tune team-a/:pki",
		`    description: "by hand" → "two"`,
		"- revoke team-a/:pki: ca",
		"0 to add, 1 to change, 1 to remove",
	), plan.String())
	assert.Equal(t, "two", m.Description())

	apply(t, sys, mounted(t, "pki", "")) // what an option permitted is not permitted any more; a description permits nothing
	assert.Equal(t, "two", m.Description())
	assert.Empty(t, m.Options())
	apply(t, sys, mounted(t, "pki", `description = ""`))
	assert.Empty(t, m.Description())
}

// TestMountStaysTuned: what was tuned stays where the file says nothing of it, whichever way the files are read again.
func TestMountStaysTuned(t *testing.T) {
	const usual, longest = managedkey.MountConfigPrefix + "default_lease_ttl", managedkey.MountConfigPrefix + "max_lease_ttl"
	cfg := mounted(t, "pki", `options = { a = "1" }`)
	sys := start(t, cfg)
	m, err := sys.Registry().OpenMount("team-a", "pki")
	require.NoError(t, err)
	tuned := map[string]string{"a": "1", usual: "3600", longest: "7200"}
	about := "by hand"
	require.NoError(t, sys.Registry().TuneMount(bg, m, managedkey.MountChange{Description: &about, Options: tuned, Allowed: []string{"ca"}}))
	for _, says := range []string{"", `allowed_managed_keys = ["ca"]`} {
		plan, err := sys.Reload(bg, mounted(t, "pki", says+`
  options = { a = "1" }`))
		require.NoError(t, err, says)
		assert.True(t, plan.Empty(), "%q: %s", says, plan)
		assert.Equal(t, "by hand", m.Description(), says)
		assert.Equal(t, tuned, m.Options(), says)
		assert.Equal(t, []string{"ca"}, m.Allowed(), says)
	}
	assert.Equal(t, lines(
		"~ tune team-a/:pki",
		`    options.a: "1" → none`,
		`    options.b: none → "2"`,
		`    options.config.max_lease_ttl: "7200" → "9000"`,
		"0 to add, 1 to change, 0 to remove",
	), apply(t, sys, mounted(t, "pki", `options = { b = "2", "config.max_lease_ttl" = "9000" }`)).String())
	assert.Equal(t, map[string]string{"b": "2", usual: "3600", longest: "9000"}, m.Options())
}

// TestEntryIsTheBlocks: a block is the whole entry, so that a right that is taken out of a file is gone, whoever gave it; and what a file
// doesn't say of versions and pins stays.
func TestEntryIsTheBlocks(t *testing.T) {
	cfg := parse(t, soft+ca, "any_mount = true")
	sys := start(t, cfg)
	reg := sys.Registry()
	ref := namespace.Ref{Namespace: "team-a", Name: "ca"}
	_, err := reg.Key(bg, ref) // pins it
	require.NoError(t, err)
	before, err := reg.Entry(ref)
	require.NoError(t, err)
	plan, err := sys.Reload(bg, parse(t, soft+ca, ""))
	require.NoError(t, err)
	assert.Contains(t, plan.String(), "any_mount: true → false")
	after, err := reg.Entry(ref)
	require.NoError(t, err)
	assert.False(t, after.AnyMount)
	assert.NotEmpty(t, before.PublicKeySHA256)
	assert.Equal(t, before.PublicKeySHA256, after.PublicKeySHA256)
}

// TestMountKeepsItsType: another type is another mount, and nothing is changed until the operator has decided.
func TestMountKeepsItsType(t *testing.T) {
	sys := start(t, mounted(t, "pki", ""))
	next := mounted(t, "transit", `description = "new"`)
	plan, err := next.Plan(bg, sys.Registry())
	require.Error(t, err)
	assert.Nil(t, plan)
	assert.EqualError(t, err, `config: test.hcl:9:1: the mount "team-a/:pki" has type "pki", and the file says "transit"; `+
		"the type of a mount can't change: delete the mount and create it")
	m, err := sys.Registry().OpenMount("team-a", "pki")
	require.NoError(t, err)
	assert.Empty(t, m.Description())
	require.NoError(t, sys.Registry().Unmount(bg, m))
	apply(t, sys, next)
	m, err = sys.Registry().OpenMount(namespace.Path("team-a"), "pki")
	require.NoError(t, err)
	assert.Equal(t, "transit", m.Type())
}

// TestMountIsAdopted: one that a program made, without a type, gets the file's, and keeps its id and its grants.
func TestMountIsAdopted(t *testing.T) {
	sys := start(t, parse(t, soft+ca, ""))
	made, err := sys.Registry().Mount(bg, "team-a", "pki", "ca")
	require.NoError(t, err)
	assert.Equal(t, lines(
		"~ tune team-a/:pki",
		"    type: none → pki",
		`    description: "" → "ours"`,
		"0 to add, 1 to change, 0 to remove",
	), apply(t, sys, mounted(t, "pki", `description = "ours"`)).String())
	m, err := sys.Registry().OpenMount("team-a", "pki")
	require.NoError(t, err)
	assert.Equal(t, "pki", m.Type())
	assert.Equal(t, made.ID(), m.ID())
	assert.Equal(t, []string{"ca"}, m.Allowed())
	_, err = mounted(t, "transit", "").Plan(bg, sys.Registry())
	assert.ErrorContains(t, err, `has type "pki", and the file says "transit"`)
}

// TestMountLimits: what a registry would refuse of a mount is found when files are loaded.
func TestMountLimits(t *testing.T) {
	many := make([]string, managedkey.MaxMountOptions+1)
	for i := range many {
		many[i] = fmt.Sprintf("o%d = %q", i, "")
	}
	for says, want := range map[string]string{
		"description = " + fmt.Sprintf("%q", strings.Repeat("x", managedkey.MaxMountDescription+1)): "description has 1025 bytes; it takes at most 1024",
		"options = { " + strings.Join(many, ", ") + " }":                                            "options has 65 members; it takes at most 64",
		`options = { "A b" = "" }`: "options: ",
		"options = { a = " + fmt.Sprintf("%q", strings.Repeat("x", managedkey.MaxMountOption+1)) + "}": `option "a" has 4097 bytes; it takes at most 4096`,
	} {
		e := refusal(t, "test.hcl", "mount \"pki\" \"pki\" {\n  "+says+"\n}")
		require.Len(t, e.Problems, 1)
		assert.Contains(t, e.Error(), "config: test.hcl:2:3: "+want)
	}
}
