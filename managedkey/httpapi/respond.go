package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Error is an answer that isn't a success. Engines may return it from what they do, for [WriteError].
type Error struct {
	Status   int      // of HTTP, 400 to 599
	Messages []string // for the client; nothing for an object that isn't there
}

// Errorf returns an *[Error] with one message.
func Errorf(status int, format string, args ...any) *Error {
	return &Error{status, []string{fmt.Sprintf(format, args...)}}
}

// Error returns the status and the messages.
func (e *Error) Error() string { return fmt.Sprintf("httpapi: status %d: %q", e.Status, e.Messages) }

func refuse(status int, format string, args ...any) error { return Errorf(status, format, args...) }

// maxShown bounds how much of a path is shown, in bytes.
const maxShown = 200

var (
	errForbidden   = Errorf(http.StatusForbidden, "permission denied")
	errUnsupported = Errorf(http.StatusNotFound, "unsupported path")
	errMethod      = Errorf(http.StatusMethodNotAllowed, "unsupported operation")

	// errNothing is the answer about something that isn't there, as clients expect it: they take it for no answer.
	errNothing = &Error{Status: http.StatusNotFound}
)

func errNoRoute(path string) error {
	return refuse(http.StatusNotFound, "no handler for route %.*q. route entry not found.", maxShown, path)
}

// statuses are those of the sentinels of package backend and of stores; the first that fits.
var statuses = []struct {
	err    error
	status int
}{
	{backend.ErrInvalidParams, http.StatusBadRequest},
	{backend.ErrNotPermitted, http.StatusForbidden},
	{backend.ErrKeyExists, http.StatusBadRequest},
	{store.ErrConflict, http.StatusConflict},
	{backend.ErrKeyNotFound, http.StatusNotFound},
	{backend.ErrUnsupported, http.StatusBadRequest},
	{backend.ErrAmbiguousKey, http.StatusBadRequest},
	{backend.ErrKeyDisabled, http.StatusBadRequest},
	{backend.ErrDecryption, http.StatusBadRequest},
	{backend.ErrKeyChanged, http.StatusConflict},
	{backend.ErrIntegrity, http.StatusBadGateway},
	{backend.ErrInvalidSignature, http.StatusBadGateway},
	{backend.ErrCredentials, http.StatusBadGateway},
	{backend.ErrThrottled, http.StatusServiceUnavailable},
	{backend.ErrUnavailable, http.StatusServiceUnavailable},
	{context.DeadlineExceeded, http.StatusServiceUnavailable},
	{context.Canceled, http.StatusServiceUnavailable},
}

// StatusOf returns the answer to an error: an *[Error] as it is, what wraps a sentinel of package backend with its text, and everything
// else as 500 without any.
func StatusOf(err error) *Error {
	if answer, ok := errors.AsType[*Error](err); ok {
		return answer
	}
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return Errorf(http.StatusRequestEntityTooLarge, "the body is too long; it takes at most %d bytes", tooLong.Limit)
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return Errorf(s.status, "%v", err)
		}
	}
	return Errorf(http.StatusInternalServerError, "internal error")
}

// WriteData answers a request with data and warnings, or with 204 and nothing if data is nil and there are no warnings.
func WriteData(w http.ResponseWriter, r *http.Request, data any, warnings ...string) {
	if data == nil && len(warnings) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	WriteStatus(w, r, http.StatusOK, data, warnings...)
}

// errNoForm is what an engine's mistake is answered with: the encoder's own error can quote the data.
var errNoForm = errors.New("the data has no JSON form")

// WriteError answers a request with an error, as [StatusOf] has it. What the client isn't told is logged.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	answer := StatusOf(err)
	if c := callOf(r.Context()); c != nil && answer.Status >= 500 {
		c.api.log.ErrorContext(r.Context(), "httpapi: a request failed", "request_id", c.requestID, "status", answer.Status, "error", err)
	}
	messages := answer.Messages
	switch {
	case messages == nil:
		messages = []string{}
	case answer.Status == http.StatusInternalServerError && RequestID(r.Context()) != "":
		messages = append(messages[:len(messages):len(messages)], "request_id: "+RequestID(r.Context()))
	}
	switch answer.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestTimeout:
		w.Header().Set("Connection", "close") // rather than read what is left
	}
	writeJSON(w, answer.Status, struct {
		Errors []string `json:"errors"`
	}{messages})
}

// warned is data with a warning.
type warned struct {
	data    any
	warning string
}

// twice is data that the answer has beside its envelope as well as in it, as the original's answers about mounts and capabilities do for
// clients that are older than the envelope. What the envelope has itself counts.
type twice map[string]any

func writeTwice(w http.ResponseWriter, r *http.Request, data twice) {
	all := make(map[string]any, len(data)+8)
	maps.Copy(all, data)
	maps.Copy(all, map[string]any{"request_id": RequestID(r.Context()), "lease_id": "", "renewable": false, "lease_duration": 0,
		"data": map[string]any(data), "wrap_info": nil, "warnings": nil, "auth": nil})
	writeJSON(w, http.StatusOK, all)
}

// bare is an answer without the envelope.
type bare struct {
	status int
	body   any
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // not reached: v is of this package
		panic(err)
	}
	writeBody(w, status, body)
}

func writeBody(w http.ResponseWriter, status int, body []byte) {
	body = append(body, '\n')
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}
