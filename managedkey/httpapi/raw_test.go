package httpapi

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReadBody: all of a body comes, whatever its header says of its length and however it comes.
func TestReadBody(t *testing.T) {
	body := strings.Repeat(`{"a":"b"}`, 1000)
	for name, c := range map[string]struct {
		from   io.Reader
		length int64
	}{
		"right": {strings.NewReader(body), int64(len(body))}, "unknown": {strings.NewReader(body), -1},
		"too short": {strings.NewReader(body), 10}, "too long": {strings.NewReader(body), maxGuess}, "far too long": {strings.NewReader(body), 1 << 40},
		"in bytes": {iotest.OneByteReader(strings.NewReader(body)), int64(len(body))}, "with the end": {iotest.DataErrReader(strings.NewReader(body)), int64(len(body))},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", c.from)
			r.ContentLength = c.length
			data, err := ReadBody(r)
			require.NoError(t, err)
			assert.Equal(t, body, string(data))
		})
	}
	r := httptest.NewRequest("POST", "/", iotest.ErrReader(io.ErrUnexpectedEOF))
	r.ContentLength = 10
	_, err := ReadBody(r)
	assert.Equal(t, 400, StatusOf(err).Status)
	for _, nothing := range []string{"", "null", " null\n"} {
		data, err := ReadBody(httptest.NewRequest("POST", "/", strings.NewReader(nothing)))
		require.NoError(t, err)
		assert.Empty(t, data)
	}
}

// TestWriteStatus: the envelope is the same for data that is encoded and for data that comes encoded.
func TestWriteStatus(t *testing.T) {
	for _, data := range []any{map[string]int{"a": 1}, json.RawMessage(`{"a":1}`)} {
		w := httptest.NewRecorder()
		WriteStatus(w, httptest.NewRequest("POST", "/", nil), 400, data, "careful")
		assert.Equal(t, 400, w.Code)
		assert.JSONEq(t, `{"request_id":"","lease_id":"","renewable":false,"lease_duration":0,"data":{"a":1},"wrap_info":null,"warnings":["careful"],"auth":null}`, w.Body.String())
	}
	w := httptest.NewRecorder()
	WriteStatus(w, httptest.NewRequest("POST", "/", nil), 200, make(chan int))
	assert.Equal(t, 500, w.Code)
}

func TestHas(t *testing.T) {
	f, err := parseFields([]byte(`{"a":0,"b":null}`))
	require.NoError(t, err)
	assert.True(t, f.Has("a"))
	assert.False(t, f.Has("b"))
	assert.False(t, f.Has("c"))
	assert.Error(t, f.Done(), "it takes nothing")
}
