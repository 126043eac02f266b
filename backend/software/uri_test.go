package software

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestURI: each key has one URI, and it is read back.
func TestURI(t *testing.T) {
	for uri, want := range map[string]Params{
		"software:memory/ca":            {Store: "memory", KeyName: "ca"},
		"software:/ca":                  {KeyName: "ca"},
		"software:a%2Fb%20c/team%2Fca~": {Store: "a/b c", KeyName: "team/ca~"},
		"software:memory/%25%3F%23":     {Store: "memory", KeyName: "%?#"},
	} {
		got, err := ParseURI(uri)
		require.NoError(t, err, uri)
		assert.Equal(t, want, got)
		assert.Equal(t, uri, want.URI())
	}
	for _, bad := range []string{
		"", "software:", "software:memory", "software:memory/", "Software:memory/ca", "software:memory/ca/x", "software:memory/a%2", "software:mem%6Fry/ca",
		"software:memory/c%61", "software:memory/%00", "software:memory/ca?x", "software:memory/ca#x", "software://memory/ca", "software:memory/a b",
	} {
		_, err := ParseURI(bad)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, bad)
	}
}

// TestURIOfBackend: a backend reads URIs of any store, and says which are of its own.
func TestURIOfBackend(t *testing.T) {
	b := New(&Options{Store: "hall-1"})
	defer b.Close()
	p, err := b.ParseURI("software:hall-1/ca", nil)
	require.NoError(t, err)
	assert.NoError(t, b.Matches(p))
	p, err = b.ParseURI("software:hall-2/ca", nil)
	require.NoError(t, err)
	assert.ErrorContains(t, b.Matches(p), `store is "hall-1"`)
	_, err = b.ParseURI("software:hall-2/ca", Params{Store: "hall-1"})
	assert.ErrorContains(t, err, `the scope is of "hall-1"`)
}

// FuzzURI: what is taken is written as it was read, and every valid key's URI is taken.
func FuzzURI(f *testing.F) {
	f.Add("software:memory/ca", "a/b", "x y")
	f.Add("software:a%2Fb/%25", "", "%")
	f.Fuzz(func(t *testing.T, uri, store, name string) {
		if p, err := ParseURI(uri); err != nil {
			assert.ErrorIs(t, err, backend.ErrInvalidParams)
		} else {
			assert.NoError(t, p.Validate())
			assert.Equal(t, uri, p.URI())
		}
		p := Params{Store: store, KeyName: name}
		if p.Validate() != nil || len(p.URI()) > maxURI {
			return
		}
		got, err := ParseURI(p.URI())
		require.NoError(t, err)
		assert.Equal(t, p, got)
	})
}
