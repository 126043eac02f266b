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

// TestObjects: lists of objects, as they are or in a string; what is wrong in one of them names its place and shows no value.
func TestObjects(t *testing.T) {
	for _, text := range []string{`{"x":[{"a":"1"},{"a":"2"}]}`, `{"x":" [{\"a\":\"1\"},{\"a\":\"2\"}]"}`} {
		f, err := parseFields([]byte(text))
		require.NoError(t, err)
		got := ""
		f.Objects("x", func(one *Fields) { one.String("a", &got) })
		require.NoError(t, f.Done())
		assert.Equal(t, "2", got)
	}
	for text, want := range map[string]string{
		`{"x":{}}`: "field x: it takes a list of objects", `{"x":"secret"}`: "field x: it takes a list of objects", `{"x":7}`: "field x: it takes a list",
		`{"x":[{},7]}`: "field x[1]: it takes an object", `{"x":[{"a":"1","a":"2"}]}`: "field x[0]: it takes an object, whose members are given once",
		`{"x":[{"a":7}]}`: "x[0], field a: it takes a string", `{"x":[{"b":"secret"}]}`: `is unknown; there are: a`, `{"x":[null]}`: "field x[0]",
	} {
		f, err := parseFields([]byte(text))
		require.NoError(t, err)
		f.Objects("x", func(one *Fields) {
			var a string
			one.String("a", &a)
		})
		assert.ErrorContains(t, f.Done(), want, text)
		assert.NotContains(t, f.Done().Error(), "secret")
	}
	for _, nothing := range []string{`{}`, `{"x":null}`, `{"x":""}`, `{"x":[]}`} {
		f, err := parseFields([]byte(nothing))
		require.NoError(t, err)
		f.Objects("x", func(*Fields) { t.Error("there is none") })
		require.NoError(t, f.Done())
	}
}

// TestFieldsClone: what is taken of the one is still there in the other, and each says by itself what was wrong.
func TestFieldsClone(t *testing.T) {
	f, err := parseFields([]byte(`{"a":"x","b":true}`))
	require.NoError(t, err)
	first, second := f.Clone(), f.Clone()
	for _, f := range []*Fields{first, second} {
		var a string
		f.String("a", &a)
		assert.Equal(t, "x", a)
	}
	var b bool
	first.Bool("b", &b)
	assert.NoError(t, first.Done())
	assert.ErrorContains(t, second.Done(), "b")
	second.Refuse("b", "nothing")
	assert.True(t, f.Has("a") && f.Has("b"))
	var n int
	new(Fields).Clone().Int("n", &n)
}
