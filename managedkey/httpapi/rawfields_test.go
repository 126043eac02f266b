package httpapi

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRawFields: members that have a form of their own.
func TestRawFields(t *testing.T) {
	f, err := parseFields([]byte(`{"a":[1,{"b":2}],"null":null,"at":"2027-01-31T12:00:00Z","none":"","n":5,"s":"six","left":1}`))
	require.NoError(t, err)
	var a, null json.RawMessage
	assert.True(t, f.Has("a"))
	assert.False(t, f.Has("null"), "as good as absent")
	assert.False(t, f.Has("absent"))
	f.Raw("a", &a)
	f.Raw("null", &null)
	assert.Equal(t, `[1,{"b":2}]`, string(a))
	assert.Nil(t, null)
	assert.False(t, f.Has("a"), "it was taken")
	var at, none time.Time
	f.Time("at", &at)
	f.Time("none", &none)
	assert.True(t, at.Equal(time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)))
	assert.True(t, none.IsZero())
	var n, s string
	f.Text("n", &n)
	f.Text("s", &s)
	assert.Equal(t, "5six", n+s)
	assert.ErrorContains(t, f.Done(), "left")
	for text, want := range map[string]string{`{"x":"yesterday"}`: "field x: it takes a time", `{"x":7}`: "field x: it takes a string"} {
		f, err := parseFields([]byte(text))
		require.NoError(t, err)
		f.Time("x", &at)
		assert.ErrorContains(t, f.Done(), want)
	}
	f, err = parseFields([]byte(`{"x":true}`))
	require.NoError(t, err)
	f.Text("x", &n)
	assert.ErrorContains(t, f.Done(), "field x: it takes a string or a number")
	f, err = parseFields([]byte(`{"x":"y"}`))
	require.NoError(t, err)
	f.String("x", &n)
	f.Refuse("x", "z")
	assert.ErrorContains(t, f.Done(), "field x: it takes z")
}
