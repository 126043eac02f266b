package backend_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/managedkeys/managedkeys/backend"
)

func TestUsages(t *testing.T) {
	u, err := backend.ParseUsages("verify", "sign", "sign")
	require.NoError(t, err)
	assert.Equal(t, backend.UsageDefault, u)
	assert.Equal(t, "sign,verify", u.String())
	assert.True(t, u.Has(backend.UsageSign))
	assert.False(t, u.Has(backend.UsageSign|backend.UsageMAC))
	assert.True(t, u.Has(0))
	assert.Equal(t, "none", backend.Usage(0).String())
	all, err := backend.ParseUsages("encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "mac", "generate_random", "derive")
	require.NoError(t, err)
	assert.Equal(t, backend.Usage(511), all)
	for _, name := range []string{"", "Sign", "sign ", "signing", "*"} {
		u, err := backend.ParseUsages("sign", name)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, "%q", name)
		assert.ErrorContains(t, err, "is not one of encrypt, decrypt")
		assert.Zero(t, u)
	}
}

func TestUsageJSON(t *testing.T) {
	for text, want := range map[string]backend.Usage{
		`["sign", "verify"]`: backend.UsageDefault,
		`"sign,verify"`:      backend.UsageDefault,
		`" mac , wrap"`:      backend.UsageMAC | backend.UsageWrap,
		`[]`:                 0,
		`""`:                 0,
	} {
		var u backend.Usage
		require.NoError(t, json.Unmarshal([]byte(text), &u), text)
		assert.Equal(t, want, u, text)
	}
	for _, text := range []string{`7`, `["signs"]`, `"sign;verify"`, `{"sign": true}`, `[1]`, `true`} {
		u := backend.UsageMAC
		assert.ErrorIs(t, json.Unmarshal([]byte(text), &u), backend.ErrInvalidParams, text)
		assert.Equal(t, backend.UsageMAC, u, "unchanged on error")
	}
}

func TestUsageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := backend.Usage(rapid.Uint16Range(0, 511).Draw(t, "usage"))
		data, err := json.Marshal(u)
		require.NoError(t, err)
		var v backend.Usage
		require.NoError(t, json.Unmarshal(data, &v))
		assert.Equal(t, u, v)
		parsed, err := backend.ParseUsages(u.Names()...)
		require.NoError(t, err)
		assert.Equal(t, u, parsed)
	})
}
