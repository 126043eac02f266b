package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// ReadBody returns the body of a request, checked as [ReadFields] checks it but for its JSON; nothing if there is no body or it is
// null. It is for engines whose bodies are long, and which read them in one go. The error is an *[Error], or one that [StatusOf] knows.
func ReadBody(r *http.Request) ([]byte, error) { return readBody(r) }

// maxGuess bounds, in bytes, what is set aside for a body because its header says that it will be so long.
const maxGuess = 1 << 20

// readAll reads a body into a buffer that need not grow if the header told the truth.
func readAll(r *http.Request) ([]byte, error) {
	if r.ContentLength <= 0 || r.ContentLength > maxGuess {
		return io.ReadAll(r.Body)
	}
	data := make([]byte, 0, r.ContentLength+1) // the last byte is room to find out that nothing follows
	for {
		n, err := r.Body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case errors.Is(err, io.EOF):
			return data, nil
		case err != nil:
			return data, err
		case len(data) == cap(data): // not reached over HTTP, where a body ends with its length
			rest, err := io.ReadAll(r.Body)
			return append(data, rest...), err
		}
	}
}

// WriteStatus is [WriteData] with another status than 200, of which clients read the data nevertheless. A json.RawMessage is written
// as it is, and must be valid.
func WriteStatus(w http.ResponseWriter, r *http.Request, status int, data any, warnings ...string) {
	payload, raw := data.(json.RawMessage)
	var err error
	if !raw {
		payload, err = json.Marshal(data)
	}
	shown := []byte("null")
	if err == nil && len(warnings) > 0 {
		shown, err = json.Marshal(warnings)
	}
	if err != nil { // not reached but by an engine's data
		WriteError(w, r, fmt.Errorf("httpapi: data of type %T: %w", data, errNoForm))
		return
	}
	body := make([]byte, 0, len(payload)+len(shown)+200)
	body = append(body, `{"request_id":"`...)
	body = append(body, RequestID(r.Context())...)
	body = append(body, `","lease_id":"","renewable":false,"lease_duration":0,"data":`...)
	body = append(body, payload...)
	body = append(body, `,"wrap_info":null,"warnings":`...)
	body = append(body, shown...)
	body = append(body, `,"auth":null}`...)
	writeBody(w, status, body)
}
