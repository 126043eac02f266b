package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestObject(t *testing.T) {
	members, err := Object([]byte(` { "b" : 1, "a":"x\"{[", "c":{"d":[1,2]},"B":null } `), 100)
	require.NoError(t, err)
	var names, values []string
	for _, m := range members {
		names, values = append(names, m.Name), append(values, string(m.Value))
	}
	assert.Equal(t, []string{"b", "a", "c", "B"}, names)
	assert.Equal(t, []string{"1", `"x\"{["`, `{"d":[1,2]}`, "null"}, values)

	members, err = Object([]byte("{}"), 2)
	require.NoError(t, err)
	assert.Empty(t, members)
}

// TestRefusals: what is wrong is said, and nothing of the values is shown.
func TestRefusals(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for text, want := range map[string]string{
		"":                           "one JSON object",
		"null":                       "one JSON object",
		"[1]":                        "one JSON object",
		`"hunter2"`:                  "one JSON object",
		`{"a":hunter2}`:              "one JSON object",
		`{"a":"hunter2"`:             "one JSON object",
		`{"a":"hunter2",}`:           "one JSON object",
		`{"a":"hunter2"} {}`:         "one JSON object",
		`{"a" "hunter2"}`:            "one JSON object",
		`{1:"hunter2"}`:              "one JSON object",
		`{"a":"hunter2","a":1}`:      `field "a" is given twice`,
		`{"a":"hunter2","\u0061":1}`: `field "a" is given twice`,
		nested(MaxDepth + 1):         "nested too deep",
		strings.Repeat("[", 60000):   "nested too deep",
		`{"a":"` + strings.Repeat("x", 70000) + `"}`: "at most 65536",
	} {
		_, err := Object([]byte(text), 64<<10)
		if assert.ErrorContains(t, err, want, "%.60s", text) {
			assert.NotContains(t, err.Error(), "hunter2")
		}
	}
	_, err := Object([]byte(nested(MaxDepth)), 64<<10)
	require.NoError(t, err)
	_, err = Object([]byte(`{"a":"`+strings.Repeat("[", 99)+`\"[["}`), 64<<10)
	require.NoError(t, err, "brackets in text are no nesting")
	_, err = Object([]byte("{}  "), 3)
	assert.True(t, errors.Is(err, ErrTooLong))
}

// FuzzObject: whatever is accepted is an object to encoding/json too, with the same members.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{`{"a":1}`, `{"a":{"a":[]},"b":"\u0000"}`, `{"a":1,"a":2}`, `{}{}`, "[[[[",
		` { "a" : "b\\\"" , "c":[{"d":"}"}],"e":-1e5,"\u0061":null}`, "{\"\xff\":1}", `{"a":1}x`, `{"é":true,"é":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		members, err := Object(data, 4096)
		if err != nil {
			return
		}
		all := make(map[string]json.RawMessage)
		if err := json.Unmarshal(data, &all); err != nil {
			t.Fatalf("%q is accepted, but %v", data, err)
		}
		if len(all) != len(members) {
			t.Fatalf("%q has %d members, got %d", data, len(all), len(members))
		}
		for _, m := range members {
			if string(all[m.Name]) != string(m.Value) {
				t.Fatalf("%q: %s is %s, got %s", data, m.Name, all[m.Name], m.Value)
			}
		}
	})
}

// TestManyMembers: members are told apart however many there are.
func TestManyMembers(t *testing.T) {
	for n := range 3 * few {
		text := "{"
		for i := range n {
			text += fmt.Sprintf(`"m%d" : [{"a":"]}"}, -1.5e3] ,`, i)
		}
		members, err := Object([]byte(text+`"last":true}`), 1<<20)
		require.NoError(t, err)
		assert.Len(t, members, n+1)
		assert.Equal(t, "true", string(members[n].Value))
		for i := range n {
			_, err := Object(fmt.Appendf(nil, `%s"m%d":0}`, text, i), 1<<20)
			assert.ErrorContains(t, err, "given twice")
		}
	}
}

// BenchmarkObject is an ordinary request.
func BenchmarkObject(b *testing.B) {
	data := []byte(`{"input":"` + strings.Repeat("A", 344) + `","prehashed":false}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Object(data, len(data)); err != nil {
			b.Fatal(err)
		}
	}
}
