package namespace_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/managedkeys/managedkeys/namespace"
)

func TestParsePath(t *testing.T) {
	long := strings.Repeat("a", namespace.MaxSegment)
	valid := []string{"", "a", "team-a/payments", "0/1/2", "a.b/c_d-e", "a..b", long, "system/sysadmin"}
	for _, s := range valid {
		p, err := namespace.ParsePath(s)
		assert.NoError(t, err, "%q", s)
		assert.Equal(t, s, p.String())
	}
	deep := strings.TrimSuffix(strings.Repeat(long+"/", 8), "/") // 8*129-1 = 1031 bytes
	invalid := map[string]string{
		"/":                 "empty path segment",
		"/a":                "empty path segment",
		"a/":                "empty path segment",
		"a//b":              "empty path segment",
		".":                 `begins with "."`,
		"..":                `begins with "."`,
		"a/../b":            `begins with "."`,
		"a/./b":             `begins with "."`,
		"-a":                `begins with "-"`,
		"_a":                `begins with "_"`,
		"A":                 `has "A" at byte 0`,
		"team-A":            `has "A" at byte 5`,
		"a b":               `has " " at byte 1`,
		"a\x00":             `has "\x00" at byte 1`,
		"a\n":               `has "\n" at byte 1`,
		"ä":                 "at byte 0",
		"a\\b":              "at byte 1",
		"a%2fb":             "at byte 1",
		long + "a":          "129 bytes; at most 128",
		deep:                "1031 bytes; at most 1024",
		"sys":               `"sys" is reserved`,
		"team-a/sys":        `"sys" is reserved`,
		"root":              `"root" is reserved`,
		"a/auth/b":          `"auth" is reserved`,
		"a/identity":        "reserved",
		"cubbyhole":         "reserved",
		"audit":             "reserved",
		"\xff":              "at byte 0",
		"a/\u202eb":         "at byte 0",
		"team-a/payments/ ": "at byte 0",
	}
	for s, want := range invalid {
		p, err := namespace.ParsePath(s)
		assert.ErrorIs(t, err, namespace.ErrInvalid, "%.40q", s)
		assert.ErrorContains(t, err, want, "%.40q", s)
		assert.Equal(t, namespace.Root, p, "nothing is returned with an error")
	}
}

func TestPathFamily(t *testing.T) {
	for _, test := range []struct {
		path, parent namespace.Path
		hasParent    bool
		base         string
		depth        int
	}{
		{"", "", false, "", 0},
		{"a", "", true, "a", 1},
		{"a/b", "a", true, "b", 2},
		{"a/b/c", "a/b", true, "c", 3},
	} {
		parent, ok := test.path.Parent()
		assert.Equal(t, test.parent, parent)
		assert.Equal(t, test.hasParent, ok)
		assert.Equal(t, test.base, test.path.Base())
		assert.Equal(t, test.depth, test.path.Depth())
		if ok {
			child, err := parent.Child(test.base)
			require.NoError(t, err)
			assert.Equal(t, test.path, child)
		}
	}
	for _, segment := range []string{"", "a/b", "..", "sys", "B", strings.Repeat("a", 129)} {
		_, err := namespace.Path("team").Child(segment)
		assert.ErrorIs(t, err, namespace.ErrInvalid, "%q", segment)
	}
	full := namespace.Path(strings.TrimSuffix(strings.Repeat(strings.Repeat("a", 127)+"/", 8), "/"))
	require.NoError(t, full.Validate())
	_, err := full.Child("b")
	assert.ErrorIs(t, err, namespace.ErrInvalid, "longer than MaxPath")
}

func TestContains(t *testing.T) {
	for _, test := range []struct {
		p, q namespace.Path
		want bool
	}{
		{"", "", true}, {"", "a/b", true}, {"a", "a", true}, {"a", "a/b", true}, {"a", "a/b/c", true},
		{"a", "", false}, {"a", "ab", false}, {"a", "ab/c", false}, {"a/b", "a", false}, {"a", "a-b", false}, {"a/b", "a/bc", false},
	} {
		assert.Equal(t, test.want, test.p.Contains(test.q), "%q contains %q", test.p, test.q)
	}
}

func TestCompareKeepsSubtreesTogether(t *testing.T) {
	paths := []namespace.Path{"b", "a/c", "a-b", "", "a", "a-b/x", "a/b/d", "a/b", "a.c"}
	slices.SortFunc(paths, namespace.Path.Compare)
	assert.Equal(t, []namespace.Path{"", "a", "a/b", "a/b/d", "a/c", "a-b", "a-b/x", "a.c", "b"}, paths)
}

func TestReservedIsACopy(t *testing.T) {
	namespace.Reserved()[0] = "changed"
	assert.Equal(t, []string{"audit", "auth", "cubbyhole", "identity", "root", "sys"}, namespace.Reserved())
}

func TestParseRef(t *testing.T) {
	for s, want := range map[string]namespace.Ref{
		"issuing-ca":                 {Name: "issuing-ca"},
		"team-a/issuing-ca":          {Namespace: "team-a", Name: "issuing-ca"},
		"team-a/payments/issuing-ca": {Namespace: "team-a/payments", Name: "issuing-ca"},
		"sys":                        {Name: "sys"}, // a key's name can't shadow a path of the HTTP API
	} {
		ref, err := namespace.ParseRef(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, ref)
		assert.Equal(t, s, ref.String())
	}
	for _, s := range []string{"", "/", "/a", "a/", "a//b", "A", "a/B", "sys/a", "..", "a/..", "../a", strings.Repeat("a", 129), "a\x7f"} {
		ref, err := namespace.ParseRef(s)
		assert.ErrorIs(t, err, namespace.ErrInvalid, "%q", s)
		assert.Zero(t, ref)
	}
}

func TestRefCompare(t *testing.T) {
	refs := []namespace.Ref{{Namespace: "b", Name: "a"}, {Namespace: "a", Name: "z"}, {Name: "m"}, {Namespace: "a", Name: "b"}}
	slices.SortFunc(refs, namespace.Ref.Compare)
	assert.Equal(t, []namespace.Ref{{Name: "m"}, {Namespace: "a", Name: "b"}, {Namespace: "a", Name: "z"}, {Namespace: "b", Name: "a"}}, refs)
}

func TestText(t *testing.T) {
	type doc struct {
		Path namespace.Path
		Ref  namespace.Ref
	}
	in := doc{"team-a", namespace.Ref{Namespace: "team-a", Name: "k"}}
	data, err := json.Marshal(in)
	require.NoError(t, err)
	assert.JSONEq(t, `{"Path": "team-a", "Ref": "team-a/k"}`, string(data))
	var out doc
	require.NoError(t, json.Unmarshal(data, &out))
	assert.Equal(t, in, out)

	for _, bad := range []string{`{"Path": "A"}`, `{"Ref": "a/"}`, `{"Ref": ""}`} {
		out := in
		assert.ErrorIs(t, json.Unmarshal([]byte(bad), &out), namespace.ErrInvalid, bad)
		assert.Equal(t, in, out, "unchanged on error")
	}
	for _, bad := range []any{namespace.Path("A"), namespace.Ref{Name: "A"}, namespace.Ref{}} {
		_, err := json.Marshal(bad)
		assert.ErrorIs(t, err, namespace.ErrInvalid)
	}
}

func segments() *rapid.Generator[string] {
	return rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,10}`).Filter(func(s string) bool {
		return !slices.Contains(namespace.Reserved(), s)
	})
}

func paths() *rapid.Generator[namespace.Path] {
	return rapid.Custom(func(t *rapid.T) namespace.Path {
		return namespace.Path(strings.Join(rapid.SliceOfN(segments(), 0, 4).Draw(t, "segments"), "/"))
	})
}

// TestPathLaws checks that order, containment and parenthood agree with each other.
func TestPathLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, q, r := paths().Draw(t, "p"), paths().Draw(t, "q"), paths().Draw(t, "r")
		require.NoError(t, p.Validate())
		if parent, ok := p.Parent(); ok {
			assert.True(t, parent.Contains(p))
			assert.False(t, p.Contains(parent))
			assert.Negative(t, parent.Compare(p))
			assert.Equal(t, p.Depth()-1, parent.Depth())
		}
		assert.Equal(t, p == q, p.Compare(q) == 0)
		assert.Equal(t, p.Compare(q) < 0, q.Compare(p) > 0)
		if p.Contains(q) && q.Contains(p) {
			assert.Equal(t, p, q)
		}
		if p.Contains(r) && p.Compare(q) <= 0 && q.Compare(r) <= 0 {
			assert.True(t, p.Contains(q), "nothing foreign sorts between a path and what it contains")
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"", "a", "team-a/payments", "a/../b", "/", "sys", "A", strings.Repeat("a/", 600)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := namespace.ParsePath(s)
		if err != nil {
			if !errors.Is(err, namespace.ErrInvalid) {
				t.Fatalf("error %v does not wrap ErrInvalid", err)
			}
			if len(err.Error()) > 4*namespace.MaxSegment+200 {
				t.Fatalf("error of %d bytes", len(err.Error()))
			}
			return
		}
		if p.String() != s {
			t.Fatalf("ParsePath(%q).String() = %q", s, p)
		}
		// What is accepted must be rebuilt from its own parts.
		var built namespace.Path
		if s != "" {
			for segment := range strings.SplitSeq(s, "/") {
				if built, err = built.Child(segment); err != nil {
					t.Fatalf("Child(%q): %v", segment, err)
				}
			}
		}
		if built != p {
			t.Fatalf("built %q from the segments of %q", built, p)
		}
	})
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"", "a", "team-a/payments/key", "/a", "a//b", "sys/a", "A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := namespace.ParseRef(s)
		if err != nil {
			if !errors.Is(err, namespace.ErrInvalid) {
				t.Fatalf("error %v does not wrap ErrInvalid", err)
			}
			return
		}
		if r.String() != s {
			t.Fatalf("ParseRef(%q).String() = %q", s, r)
		}
		if r.Namespace.Validate() != nil || namespace.ValidateName(r.Name) != nil {
			t.Fatalf("ParseRef(%q) = %+v has an invalid part", s, r)
		}
	})
}
