package transitmatrix

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestRules: patterns and negations of the table of refusals mean what they say.
func TestRules(t *testing.T) {
	op := &operation{name: "op", dimensions: []dimension{{"hash", []string{"", "sha1", "sha3-256"}}, {"size", []string{"0", "1"}}}}
	all := op.combinations()
	assert.Len(t, all, 6)
	assert.Equal(t, "op hash=sha1 size=1", all[3].String())
	assert.Equal(t, "sha1", all[3].get("hash"))
	kept := refused
	defer func() { refused = kept }()
	for what, want := range map[string][]string{
		"op":                     {"op hash= size=0", "op hash= size=1", "op hash=sha1 size=0", "op hash=sha1 size=1", "op hash=sha3-256 size=0", "op hash=sha3-256 size=1"},
		"other,op hash=sha3-*":   {"op hash=sha3-256 size=0", "op hash=sha3-256 size=1"},
		"op hash=! size=0":       {"op hash=sha1 size=0", "op hash=sha3-256 size=0"},
		"op hash=!,sha1 size=!0": {"op hash=sha3-256 size=1"},
		"op hash= size=1":        {"op hash= size=1"},
		"another":                nil,
	} {
		refused = []refusal{{"a/B/* c/*/*", what, "reason"}}
		p, k := &place{name: "a"}, &key{row: "B", name: "k"}
		var got []string
		for _, c := range all {
			if slices.ContainsFunc(rules(p, k, op), func(r rule) bool { return r.takesAll(c) }) {
				got = append(got, c.String())
			}
		}
		assert.Equal(t, want, got, what)
		assert.Empty(t, rules(&place{name: "b"}, k, op), "of another place")
		assert.Empty(t, rules(p, &key{row: "C", name: "k"}, op), "of another kind")
	}
	refused = []refusal{{"*/*/*", "op color=red", "reason"}}
	assert.Panics(t, func() { rules(&place{name: "a"}, &key{}, op) }, "a dimension that there is not")
}

// TestManner: the independent check is one: it refuses a signature with another hash, salt or message.
func TestManner(t *testing.T) {
	for kind, manners := range map[string][]manner{
		"rsa-2048":  {{hash: hashes["sha2-256"]}, {hash: hashes["sha2-384"]}, {hash: hashes["sha2-256"], pss: true, salt: 32}, {hash: hashes["sha2-256"], pss: true, salt: 20}},
		"p256":      {{hash: hashes["sha2-256"]}, {hash: hashes["sha3-256"]}},
		"ed25519":   {{}, {context: "c"}, {hash: hashes["sha2-512"]}},
		"ml-dsa-44": {{}, {context: "c"}},
	} {
		key := private(t, kind)
		for _, m := range manners {
			signature, err := m.sign(key, message)
			assert.NoError(t, err, kind)
			for _, other := range manners {
				err := other.check(key.Public(), message, signature)
				assert.Equal(t, m == other, err == nil, "%s: %v is checked as %v: %v", kind, m, other, err)
			}
			assert.Error(t, m.check(key.Public(), []byte("messagf"), signature), "%s: another message", kind)
		}
	}
}
