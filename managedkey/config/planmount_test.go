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

	apply(t, sys, mounted(t, "pki", "")) // what is left out has its default
	assert.Empty(t, m.Description())
	assert.Empty(t, m.Options())
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
