package fakeazure

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWrapPad: the examples of RFC 5649, Section 6.
func TestWrapPad(t *testing.T) {
	kek, err := hex.DecodeString("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	require.NoError(t, err)
	for plain, want := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		material, err := hex.DecodeString(plain)
		require.NoError(t, err)
		wrapped, err := wrapPad(kek, material)
		require.NoError(t, err)
		assert.Equal(t, want, hex.EncodeToString(wrapped))
		out, err := unwrapPad(kek, wrapped)
		require.NoError(t, err)
		assert.Equal(t, material, out)
		for i := range wrapped {
			bad := bytes.Clone(wrapped)
			bad[i] ^= 1
			_, err := unwrapPad(kek, bad)
			assert.Error(t, err)
		}
	}
	for _, n := range []int{0, 8, 15, 17} {
		_, err := unwrapPad(kek, make([]byte, n))
		assert.Error(t, err)
	}
	_, err = wrapPad(kek, nil)
	assert.Error(t, err)
}
