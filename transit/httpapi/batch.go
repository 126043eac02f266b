package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/transit"
)

// request reads the body of a call.
func (c *call) request(common, each members) (*request, error) {
	body, err := httpapi.ReadBody(c.r)
	if err != nil {
		return nil, err
	}
	q, err := decode(body, common, each, c.opts.MaxBatch)
	if err != nil {
		return nil, err
	}
	if q.items != nil && len(q.items) == 0 {
		return nil, refuse("missing batch input to process")
	}
	return q, nil
}

// all returns the items of the request: those of the batch, or the one that it is.
func (q *request) all() []item {
	if q.items != nil {
		return q.items
	}
	return []item{q.item}
}

// contexts refuses a batch in which some items have a context.
func (q *request) contexts() error {
	for i := range q.items {
		it, first := &q.items[i], &q.items[0]
		if it.derives() != first.derives() {
			return refuse("context should be set either in all the request blocks or in none; item %d differs from item 0", i)
		}
	}
	return nil
}

// derives reports whether there is a context, though it may be wrong.
func (it *item) derives() bool { return it.has(contextSlot) && (len(it.context) > 0 || it.bad != nil) }

// carry has do work on those items that turn into a request, and returns one result for each item, in their order.
func carry[R, T any](items []item, turn func(*item) (R, error), do func([]R) ([]transit.Result[T], error)) ([]transit.Result[T], error) {
	requests, at := make([]R, 0, len(items)), make([]int, 0, len(items))
	results := make([]transit.Result[T], len(items))
	for i := range items {
		err := items[i].bad
		var r R
		if err == nil {
			r, err = turn(&items[i])
		}
		if err != nil {
			results[i] = transit.Result[T]{Reference: items[i].reference, Err: err}
			continue
		}
		requests, at = append(requests, r), append(at, i)
	}
	if len(requests) == 0 {
		return results, nil
	}
	done, err := do(requests)
	if err != nil {
		return nil, err
	}
	if len(done) == len(items) {
		return done, nil
	}
	for i, one := range done {
		results[at[i]] = one
	}
	return results, nil
}

// finish answers with the results: one alone as the data, and a batch as batch_results. show appends the members of a result that is no
// error, which end with a comma, and of one that is. strict says that an item that failed makes the whole a failure.
func finish[T any](c *call, q *request, results []transit.Result[T], strict bool, show func(b []byte, i int, r *transit.Result[T]) []byte) error {
	if q.items == nil {
		if err := results[0].Err; err != nil {
			return err
		}
		b := append(make([]byte, 0, 512), '{')
		b = show(b, 0, &results[0])
		b[len(b)-1] = '}'
		return c.reply(json.RawMessage(b))
	}
	b := append(make([]byte, 0, 32+len(results)*192), `{"batch_results":[`...)
	failed, internal := 0, 0
	for i := range results {
		r := &results[i]
		b = append(b, '{')
		if r.Err != nil {
			failed++
			said := explain(r.Err)
			if said.Status >= http.StatusInternalServerError {
				internal++
			}
			b = appendString(append(b, `"error":`...), message(said))
			b = append(b, ',')
		}
		b = show(b, i, r)
		b = appendString(append(b, `"reference":`...), r.Reference)
		b = append(b, '}', ',')
	}
	b = append(b[:len(b)-1], ']', '}')
	status := http.StatusOK
	switch {
	case !strict || failed == 0:
	case internal == failed:
		status = http.StatusInternalServerError
	default:
		status = http.StatusBadRequest
	}
	if q.has(statusSlot) {
		switch {
		case !sendable(q.status):
			c.notes = append(c.notes, fmt.Sprintf("partial_failure_response_code %d can't be the status of an answer with a body; it takes 200 to 599 except 204, 205 and 304", q.status))
		case failed > 0 && failed < len(results):
			status = q.status
		}
	}
	httpapi.WriteStatus(c.w, c.r, status, json.RawMessage(b), c.notes...)
	return nil
}

// sendable reports whether an answer of that status may have a body (RFC 9110, Section 6.4.1) and is the last one (Section 15.2).
func sendable(status int) bool {
	switch status {
	case http.StatusNoContent, http.StatusResetContent, http.StatusNotModified:
		return false
	}
	return status >= 200 && status <= 599
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil { // not reached: every string has a form
				panic(err)
			}
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendVersion appends key_version.
func appendVersion(b []byte, version int) []byte {
	return append(strconv.AppendInt(append(b, `"key_version":`...), int64(version), 10), ',')
}

// versionOf returns the version that an envelope of package transit names.
func versionOf(envelope string) int {
	digits, _, _ := strings.Cut(strings.TrimPrefix(envelope, "vault:v"), ":")
	n, _ := strconv.Atoi(digits)
	return n
}
