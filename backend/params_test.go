package backend_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// hue is a field with a text form of its own.
type hue int

func (h *hue) UnmarshalText(text []byte) error {
	if string(text) != "red" {
		return errors.New("it takes red")
	}
	*h = 1
	return nil
}

func (h hue) MarshalText() ([]byte, error) { return []byte("red"), nil }

type colours struct {
	Name   string         `json:"name"`
	Bits   int            `json:"key_bits,omitempty"`
	Force  bool           `json:"force,omitempty"`
	Hue    hue            `json:"hue,omitempty"`
	PIN    backend.Secret `json:"pin,omitempty"`
	hidden string
	Skip   string `json:"-"`
}

func (colours) BackendType() string { return "paint" }

func (c colours) Validate() error {
	if c.Name == "" {
		return backend.ErrInvalidParams
	}
	return nil
}

func TestDecodeParams(t *testing.T) {
	for text, want := range map[string]colours{
		`{"name": "a"}`: {Name: "a"},
		`{"name": "a", "key_bits": 2048, "force": true, "hue": "red", "pin": "1234"}`:    {Name: "a", Bits: 2048, Force: true, Hue: 1, PIN: "1234"},
		`{"name": "a", "key_bits": "2048", "force": "true", "pin": "file:/run/pin"}`:     {Name: "a", Bits: 2048, Force: true, PIN: "file:/run/pin"},
		` {"name": "\u0061\"", "key_bits": "-3", "force": "false", "hue": "red"}` + "\n": {Name: `a"`, Bits: -3, Hue: 1},
	} {
		got, err := backend.DecodeParams[colours]([]byte(text))
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
}

func TestDecodeParamsRefuses(t *testing.T) {
	for text, says := range map[string]string{
		``: "one JSON object", `null`: "one JSON object", `[]`: "one JSON object", `{"name": "a"} x`: "one JSON object",
		`{"name": "a"`: "one JSON object", `{"name": "a", }`: "one JSON object", `{"name": }`: "one JSON object",
		`{"name": "a", "size": 3}`: `unknown field "size"`, `{"Name": "a"}`: `unknown field "Name"`, `{"name": "a", "hidden": "x"}`: "unknown field",
		`{"name": "a", "-": "x"}`: "unknown field", `{"name": "a", "Skip": "x"}`: "unknown field",
		`{"name": "a", "name": "b"}`: "given twice",
		`{"name": null}`:             "got null; it takes a string", `{"name": 3}`: "got 3; it takes a string",
		`{"name": "a", "key_bits": "2048 "}`: "whole number", `{"name": "a", "key_bits": 1.5}`: "whole number",
		`{"name": "a", "key_bits": "0x10"}`: "whole number", `{"name": "a", "key_bits": 1e99}`: "whole number",
		`{"name": "a", "force": "yes"}`: "true or false", `{"name": "a", "force": 1}`: "true or false", `{"name": "a", "force": ""}`: "true or false",
		`{"name": "a", "hue": "blue"}`: "it takes red", `{"name": "a", "hue": []}`: "hue",
		`{"name": "a", "pin": 12345678}`: "it takes a string", `{"name": "a", "pin": ["12345678"]}`: "it takes a string",
		`{"key_bits": 1}`: "invalid parameters", // Validate
		`{"name": "` + strings.Repeat("a", 70000) + `"}`: "at most",
	} {
		_, err := backend.DecodeParams[colours]([]byte(text))
		assert.ErrorIs(t, err, backend.ErrInvalidParams, text)
		assert.ErrorContains(t, err, says, text)
		assert.NotContains(t, err.Error(), "12345678", "a secret is shown")
	}
}

func TestEncodeParams(t *testing.T) {
	in := colours{Name: "a", Bits: 2048, Hue: 1, PIN: "1234", hidden: "x", Skip: "y"}
	text, err := backend.EncodeParams(in)
	require.NoError(t, err)
	assert.JSONEq(t, `{"name": "a", "key_bits": 2048, "hue": "red", "pin": "1234"}`, string(text))
	out, err := backend.DecodeParams[colours](text)
	require.NoError(t, err)
	assert.Equal(t, colours{Name: "a", Bits: 2048, Hue: 1, PIN: "1234"}, out)
	shown, err := json.Marshal(in)
	require.NoError(t, err)
	assert.NotContains(t, string(shown), "1234")
	_, err = backend.EncodeParams(&in)
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
}

// FuzzDecodeParams: whatever is read can be written and read again, and a secret never shows.
func FuzzDecodeParams(f *testing.F) {
	f.Add([]byte(`{"name": "a", "key_bits": "2048", "force": true, "hue": "red", "pin": "s3cret-s3cret"}`))
	f.Add([]byte(`{"name": "a", "key_bits": {"pin": "s3cret-s3cret"}}`))
	f.Add([]byte(`{"pin": {"s3cret-s3cret": 1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		params, err := backend.DecodeParams[colours](data)
		if err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) {
				t.Errorf("%v is no ErrInvalidParams", err)
			}
			return
		}
		text, err := backend.EncodeParams(params)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := backend.DecodeParams[colours](text); err != nil || again != params {
			t.Errorf("%s is read as %#v (%v)", text, again, err)
		}
	})
}
