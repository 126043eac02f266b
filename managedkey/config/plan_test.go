package config_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

const soft = `connection "software" "soft" {}
`

const ca = `managed_key "software" "team-a/ca" {
  key_name = "ca"
  key_type = "ECDSA"
  curve = "P256"
  allow_generate_key = true
  %s
}
`

// TestApplyIsIdempotent: a plan makes what is missing, changes what differs, and then there is nothing to do.
func TestApplyIsIdempotent(t *testing.T) {
	first := parse(t, soft+ca+`mount "pki" "team-a/pki" { allowed_managed_keys = ["ca"] }`, "")
	sys := start(t, first)
	key, err := sys.Registry().Key(bg, ref("team-a/ca"))
	require.NoError(t, err)
	require.NoError(t, sign(key))

	second := parse(t, soft+ca+`mount "pki" "team-a/pki" { allowed_managed_keys = ["other"] }
managed_key "software" "team-a/other" {
  key_name = "other"
  usages = "sign"
}`, "any_mount = true\nusages = [\"sign\"]")
	plan := apply(t, sys, second)
	assert.Equal(t, lines(
		"~ update team-a/ca",
		"    usages: sign,verify → sign",
		"    any_mount: false → true",
		"+ create team-a/other",
		"    type: software",
		"    connection: soft",
		"+ grant team-a/:pki: other",
		"- revoke team-a/:pki: ca",
		"2 to add, 1 to change, 1 to remove",
	), plan.String())
	m, err := sys.Registry().OpenMount("team-a", "pki")
	require.NoError(t, err)
	assert.Equal(t, []string{"other"}, m.Allowed())
	assert.NoError(t, sign(key))

	third := parse(t, soft) // what is in no file is left alone
	assert.True(t, apply(t, sys, third).Empty())
	assert.Equal(t, []string{"ca", "other"}, sys.Registry().List("team-a"))
}

// TestPrune: what is in a namespace that the files own, and in no file, goes.
func TestPrune(t *testing.T) {
	sys := start(t, parse(t, soft+ca+`mount "pki" "team-a/pki" { allowed_managed_keys = ["ca"] }
mount "pki" "team-a/b/pki" {}`, ""))
	plan := apply(t, sys, parse(t, soft+`namespace "team-a" { prune = true }`))
	assert.Equal(t, lines("- unmount team-a/:pki", "- delete team-a/ca", "0 to add, 0 to change, 2 to remove"), plan.String())
	assert.Len(t, sys.Registry().Mounts("team-a/b"), 1)
	assert.Empty(t, sys.Registry().Mounts("team-a"))
}

// TestMove: a key that moves is opened at its new place first, and must be there.
func TestMove(t *testing.T) {
	folder := t.TempDir()
	both := softwareFile("old", folder) + softwareFile("new", folder)
	sys := start(t, parse(t, both+ca, `connection = "old"`))
	key, err := sys.Registry().Key(bg, ref("team-a/ca"))
	require.NoError(t, err)
	moved := parse(t, both+ca, `connection = "new"`)
	plan, err := moved.Plan(bg, sys.Registry())
	require.NoError(t, err)
	assert.Equal(t, lines("~ move team-a/ca", "    connection: old → new", "0 to add, 1 to change, 0 to remove"), plan.String())
	assert.ErrorIs(t, config.Apply(bg, plan), backend.ErrKeyNotFound)
	assert.NoError(t, sign(key))
}

// TestRotated: a file doesn't undo a rotation, and can follow it.
func TestRotated(t *testing.T) {
	cfg := parse(t, soft+ca, "")
	sys := start(t, cfg)
	reg := sys.Registry()
	_, err := reg.Rotate(bg, ref("team-a/ca"), nil)
	require.NoError(t, err)
	assert.True(t, apply(t, sys, cfg).Empty())
	plan := apply(t, sys, parse(t, soft+ca, "any_mount = true"))
	assert.Len(t, plan.Changes, 1)
	now, err := reg.Entry(ref("team-a/ca"))
	require.NoError(t, err)
	assert.Equal(t, 2, now.KeyVersion)
	assert.Equal(t, "ca-v2", now.Params.(software.Params).KeyName)

	said := parse(t, soft+ca, "any_mount = true\nkey_version = 3\nversion \"1\" {}\nversion \"2\" { key_name = \"ca-v2\" }")
	plan, err = said.Plan(bg, reg)
	require.NoError(t, err)
	assert.Equal(t, lines("~ rotate team-a/ca", "    key_version: 2 → 3", "0 to add, 1 to change, 0 to remove"), plan.String())
	assert.ErrorIs(t, config.Apply(bg, plan), backend.ErrKeyExists, "the first key again")
	said = parse(t, soft+`managed_key "software" "team-a/ca" {
  key_name = "third"
  key_type = "ECDSA"
  curve = "P256"
  allow_generate_key = true
  min_encryption_version = 2
  version "1" { key_name = "ca" }
  version "2" { key_name = "ca-v2" }
}`)
	apply(t, sys, said)
	now, err = reg.Entry(ref("team-a/ca"))
	require.NoError(t, err)
	assert.Equal(t, 3, now.KeyVersion)
	assert.Equal(t, 2, now.MinEncryptionVersion)
	assert.False(t, now.AnyMount)
}

// TestVersions: an entry is made with its older versions.
func TestVersions(t *testing.T) {
	sys := start(t, parse(t, soft+ca, "version \"1\" { key_name = \"ca-2024\" }\nversion \"2\" { key_name = \"ca-2025\" }"))
	now, err := sys.Registry().Entry(ref("team-a/ca"))
	require.NoError(t, err)
	assert.Equal(t, 3, now.KeyVersion)
	require.Len(t, now.Older, 2)
	assert.Equal(t, "ca-2024", now.Older[0].Params.(software.Params).KeyName)
	assert.Equal(t, software.Curve("P256"), now.Older[1].Params.(software.Params).Curve)
	plan, err := parse(t, soft+ca, "version \"1\" { key_name = \"ca-2023\" }\nversion \"2\" { key_name = \"ca-2025\" }").Plan(bg, sys.Registry())
	require.NoError(t, err)
	assert.ErrorIs(t, config.Apply(bg, plan), backend.ErrKeyNotFound, "an older version moves only to where its key is")
	assert.Contains(t, plan.String(), "version 1: key_name: \"ca-2024\" → \"ca-2023\"")
}

// TestConflict: what somebody else changed since the plan was made is not overwritten.
func TestConflict(t *testing.T) {
	sys := start(t, parse(t, soft+ca, ""))
	reg := sys.Registry()
	plan, err := parse(t, soft+ca, "any_mount = true").Plan(bg, reg)
	require.NoError(t, err)
	in, err := reg.Entry(ref("team-a/ca"))
	require.NoError(t, err)
	in.AllowStoreKey = true
	require.NoError(t, reg.Update(bg, in))
	assert.ErrorIs(t, config.Apply(bg, plan), store.ErrConflict)

	create, err := parse(t, soft+`managed_key "software" "x" { key_name = "x" }`).Plan(bg, reg)
	require.NoError(t, err)
	require.NoError(t, reg.Create(bg, managedkey.Entry{Ref: ref("x"), Connection: "soft", Params: software.Params{KeyName: "y"}}))
	assert.ErrorIs(t, config.Apply(bg, create), store.ErrConflict)

	gone, err := parse(t, soft+`namespace "root" { prune = true }`).Plan(bg, reg)
	require.NoError(t, err)
	require.NoError(t, reg.Delete(bg, ref("x")))
	require.NoError(t, reg.Create(bg, managedkey.Entry{Ref: ref("x"), Connection: "soft", Params: software.Params{KeyName: "y"}}))
	assert.ErrorIs(t, config.Apply(bg, gone), store.ErrConflict)
	assert.Equal(t, []string{"x"}, reg.List(""))
}

// TestPlanRefuses: what can't be had is said with its place, and nothing is changed.
func TestPlanRefuses(t *testing.T) {
	sys := start(t, parse(t, soft+ca, ""))
	for text, want := range map[string]string{
		`mount "pki" "team-a/pki" { allowed_managed_keys = ["cq"] }`:                       `test.hcl:2:1: mount "team-a/:pki" allows "cq", which is no key of the namespace; did you mean "ca"?`,
		`managed_key "software" "x" { key_name = "redacted" }` + "\n":                      "",
		"managed_key \"software\" \"team-a/ca\" {\n key_name = \"a\"\n key_version = 5\n}": `test.hcl:2:1: the entry "team-a/ca" has version 1, and the file nothing on version 2`,
	} {
		plan, err := parse(t, "%s", soft+text).Plan(bg, sys.Registry())
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.Error(t, err)
		assert.Nil(t, plan)
		assert.Contains(t, err.Error(), want)
	}
}

// TestPinIsChangedOnPurpose: a file that names another public key is about another key, which must be there.
func TestPinIsChangedOnPurpose(t *testing.T) {
	const pin = `public_key_sha256 = "0000000000000000000000000000000000000000000000000000000000000001"`
	sys := start(t, parse(t, soft+ca, ""))
	key, err := sys.Registry().Key(bg, ref("team-a/ca"))
	require.NoError(t, err)
	cfg := parse(t, soft+ca, pin)
	plan, err := cfg.Plan(bg, sys.Registry())
	require.NoError(t, err)
	assert.Contains(t, plan.String(), "→ 00")
	assert.ErrorIs(t, config.Apply(bg, plan), backend.ErrKeyChanged)
	assert.NoError(t, key.Permits(backend.UsageSign), "nothing was changed")
	assert.True(t, apply(t, sys, parse(t, soft+ca, "")).Empty(), "a file without a pin leaves it")
}
