package httpapi

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/namespace"
)

func mustPolicies(t testing.TB, all ...Policy) *Policies {
	t.Helper()
	p, err := NewPolicies(all...)
	require.NoError(t, err)
	return p
}

func rules(pairs ...string) (out []Rule) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, Rule{pairs[i], strings.Fields(pairs[i+1])})
	}
	return out
}

// TestPolicyPrecedence: the most specific rule decides, in the order that Vault documents.
func TestPolicyPrecedence(t *testing.T) {
	p := mustPolicies(t, Policy{"p", rules(
		"secret/*", "read",
		"secret/foo", "update",
		"secret/foo*", "create",
		"secret/+/bar", "delete",
		"secret/+/+", "list",
		"secret/a/*", "sudo",
		"secret/no*", "deny read",
		"+/wild/+", "read",
		"+/wild/x*", "update",
		"keys/", "list",
		"pki/+", "list",
		"/slash", "read",
	)}, Policy{"q", rules("secret/foo", "list", "secret/a/*", "read", "secret/+/bar", "deny")}, Policy{"all", rules("*", "read")})
	id := &Identity{Policies: []string{"p"}}
	both := &Identity{Policies: []string{"p", "q", "there is no such policy"}}
	for _, c := range []struct {
		id   *Identity
		path string
		want string
	}{
		{id, "secret/x", "read"},
		{id, "secret/", "read"},
		{id, "secret", "deny"},
		{id, "secret/foo", "update"},
		{id, "secret/foo/", "update"}, // to be listed
		{id, "secret/food", "create"},
		{id, "secret/foo/bar", "create"}, // its first wildcard is further right
		{id, "secret/z/bar", "delete"},   // fewer "+"
		{id, "secret/z/y", "list"},
		{id, "secret/a/bar", "sudo"},
		{id, "secret/z/y/x", "read"},
		{id, "secret/nothing", "deny"},
		{id, "any/wild/card", "read"},
		{id, "any/wild/xyz", "read"}, // without "*" before with
		{id, "any/wild/", "deny"},    // "+" is not nothing
		{id, "keys/", "list"},
		{id, "keys", "list"},
		{id, "pki/certs/", "list"},
		{id, "slash", "read"},
		{id, "", "deny"},
		{id, "Secret/x", "deny"},
		{both, "secret/foo", "list update"},
		{both, "secret/a/x", "read sudo"},
		{both, "secret/z/bar", "deny"},
		{&Identity{}, "secret/x", "deny"},
		{&Identity{Policies: []string{"all"}}, "", "read"},
		{&Identity{Policies: []string{RootPolicy, "p"}}, "secret/nothing", "create delete list patch read sudo update"},
	} {
		got, err := p.Capabilities(t.Context(), c.id, "", c.path)
		require.NoError(t, err)
		assert.Equal(t, c.want, strings.Join(got.Names(), " "), c.path)
	}
}

// TestPolicyNamespaces: rules are relative to the namespace of who has them, who is confined to it.
func TestPolicyNamespaces(t *testing.T) {
	p := mustPolicies(t, Policy{"p", rules("sys/mounts/*", "update", "sub/+/sys/mounts", "read")})
	id := &Identity{Namespace: "team-a", Policies: []string{"p"}}
	for _, c := range []struct {
		ns   namespace.Path
		path string
		want string
	}{
		{"team-a", "sys/mounts/pki", "update"},
		{"team-a/sub", "sys/mounts/pki", "deny"},
		{"team-a/sub/x", "sys/mounts", "read"},
		{"", "sys/mounts/pki", "deny"},
		{"", "team-a/sys/mounts/pki", "deny"},
		{"team-ab", "sys/mounts/pki", "deny"},
		{"team-b", "sys/mounts/pki", "deny"},
	} {
		got, err := p.Capabilities(t.Context(), id, c.ns, c.path)
		require.NoError(t, err)
		assert.Equal(t, c.want, strings.Join(got.Names(), " "), "%s %s", c.ns, c.path)
		id := &Identity{Namespace: "team-a", Policies: []string{RootPolicy}}
		got, err = p.Capabilities(t.Context(), id, c.ns, c.path)
		require.NoError(t, err)
		assert.Equal(t, id.Namespace.Contains(c.ns), got.allows(everything), "%s", c.ns)
	}
}

func TestPolicyReaches(t *testing.T) {
	p := mustPolicies(t, Policy{"p", rules("pki/issue/web", "update", "transit/+/x*", "read", "no/*", "deny", "ssh*", "read", "kv", "list")})
	for path, want := range map[string]bool{"pki": true, "pk": false, "transit": true, "no": false, "ssh": true, "ssh-2": true, "kv": true, "pki/issue": true, "pki/sign": false, "transit/any": true, "": false} {
		got, err := p.Reaches(t.Context(), &Identity{Policies: []string{"p"}}, "", path)
		require.NoError(t, err)
		assert.Equal(t, want, got, path)
	}
	got, err := p.Reaches(t.Context(), &Identity{Namespace: "a", Policies: []string{RootPolicy}}, "", "pki")
	require.NoError(t, err)
	assert.False(t, got)
}

func TestPolicyRefusals(t *testing.T) {
	for _, all := range [][]Policy{
		{{Name: ""}}, {{Name: RootPolicy}}, {{Name: "a"}, {Name: "a"}},
		{{"a", rules("x", "write")}}, {{"a", rules("x*y", "read")}}, {{"a", rules("", "read")}}, {{"a", rules("/", "read")}},
		{{"a", rules("**", "read")}}, {{"a", rules(strings.Repeat("x", maxPath+1), "read")}},
	} {
		_, err := NewPolicies(all...)
		assert.Error(t, err, "%v", all)
	}
}

// TestPoliciesOverTheWire: each method takes its capability.
func TestPoliciesOverTheWire(t *testing.T) {
	g := newRig(t, nil)
	token := func(name string, pairs ...string) string {
		policies := mustPolicies(t, Policy{name, rules(pairs...)})
		g.api.opts.Authorizer = policies // before its first request
		secret, hash := NewToken()
		require.NoError(t, g.tokens.Add(Token{SHA256: hash, Name: name, Policies: []string{name}}))
		return secret
	}
	creator := token("create", "sys/managed-keys/software/*", "create")
	assert.Equal(t, 204, g.do("POST", keyPath+"a", creator, ecdsaKey("a")).status)
	assert.Equal(t, 403, g.do("POST", keyPath+"a", creator, ecdsaKey("a")).status, "that is an update")
	assert.Equal(t, 403, g.do("GET", keyPath+"a", creator, "").status)
	updater := token("update", "sys/managed-keys/software/*", "update", "sys/remount", "update", "signer/*", "create")
	assert.Equal(t, 204, g.do("POST", keyPath+"a", updater, ecdsaKey("a")).status)
	assert.Equal(t, 403, g.do("POST", keyPath+"b", updater, ecdsaKey("b")).status)
	assert.Equal(t, 204, g.do("POST", keyPath+"a/test/sign", updater, "").status)
	assert.Equal(t, 403, g.do("DELETE", keyPath+"a", updater, "").status)
	assert.Equal(t, 403, g.do("POST", "/v1/sys/remount", updater, `{"from":"a","to":"b"}`).status, "it takes sudo")
	lister := token("list", "sys/managed-keys/software/", "list")
	assert.Equal(t, 200, g.do("LIST", "/v1/sys/managed-keys/software", lister, "").status)
	assert.Equal(t, 200, g.do("GET", "/v1/sys/managed-keys/software?list=true", lister, "").status)
	assert.Equal(t, 403, g.do("GET", keyPath+"a", lister, "").status)
}

// FuzzPolicy: what is allowed is what a slow and obvious matcher allows, and nothing panics.
func FuzzPolicy(f *testing.F) {
	f.Add("secret/+/x*\nsecret/*", "secret/a/xyz")
	f.Add("+/+\n*", "a/")
	f.Add("a*\na/+", "a/b")
	f.Fuzz(func(t *testing.T, paths, path string) {
		if len(paths) > 400 || len(path) > 200 {
			return
		}
		var all []Rule
		for i, rule := range strings.Split(paths, "\n") {
			one := Rule{rule, []string{capabilityNames[i%7]}}
			if _, err := NewPolicies(Policy{"p", []Rule{one}}); err == nil {
				all = append(all, one)
			}
		}
		p := mustPolicies(t, Policy{"p", all})
		got, err := p.Capabilities(context.Background(), &Identity{Policies: []string{"p"}}, "", path)
		if err != nil {
			t.Fatal(err)
		}
		var possible Capability
		for _, rule := range all {
			if obviously(strings.TrimPrefix(rule.Path, "/"), path) {
				may, _ := ParseCapabilities(rule.Capabilities...)
				possible |= may
			}
		}
		if got&^possible != 0 {
			t.Fatalf("%q: %v, but its rules allow %v", path, got.Names(), possible.Names())
		}
		if possible != 0 && got == 0 {
			t.Fatalf("%q: nothing, but its rules allow %v", path, possible.Names())
		}
	})
}

// obviously reports whether a rule's path is that of path.
func obviously(rule, path string) bool {
	glob := strings.HasSuffix(rule, "*")
	rule = strings.TrimSuffix(rule, "*")
	if !glob && strings.HasSuffix(path, "/") && !strings.HasSuffix(rule, "/") {
		path = strings.TrimSuffix(path, "/")
	}
	if !strings.Contains(rule, "+") && !glob {
		return strings.TrimSuffix(rule, "/") == strings.TrimSuffix(path, "/")
	}
	want, have := strings.Split(rule, "/"), strings.Split(path, "/")
	if len(have) < len(want) || !glob && len(have) != len(want) {
		return false
	}
	for i, segment := range want {
		switch {
		case segment == "+" && have[i] != "":
		case segment == have[i]:
		case i == len(want)-1 && glob && segment != "+" && strings.HasPrefix(have[i], segment):
		default:
			return false
		}
	}
	return true
}
