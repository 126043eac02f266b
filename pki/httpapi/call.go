package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/pki"
)

// call is a request on its way.
type call struct {
	*handler
	w        http.ResponseWriter
	r        *http.Request
	params   []param
	warnings []string
	body     *api.Fields // nil before read
}

// object is the data of an answer.
type object map[string]any

// raw is an answer without the envelope.
type raw struct {
	kind     string // Content-Type
	body     []byte
	modified time.Time // for Last-Modified and If-Modified-Since; zero if unknown
}

// accepted is the data of an answer with status 202.
type accepted struct{ data any }

var (
	errUnsupported = api.Errorf(http.StatusNotFound, "unsupported path")
	errMethod      = api.Errorf(http.StatusMethodNotAllowed, "unsupported operation")

	// errNothing is the answer about something that isn't there, as clients expect it: they take it for no answer.
	errNothing = &api.Error{Status: http.StatusNotFound}
)

func refuse(format string, args ...any) error {
	return api.Errorf(http.StatusBadRequest, format, args...)
}

func (c *call) ctx() context.Context { return c.r.Context() }

// param returns a parameter of the path, "" if it has none of that name.
func (c *call) param(name string) string {
	for _, p := range c.params {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

func (c *call) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// read reads the fields of the body. take takes them all; what is left over is an error. It can be called again.
func (c *call) read(take func(*api.Fields)) error {
	if c.body == nil {
		body, err := api.ReadFields(c.r)
		if err != nil {
			return err
		}
		c.body = body
	}
	f := c.body.Clone()
	take(f)
	return f.Done()
}

// maxMerges is how often what a request changes is merged again with what others have changed meanwhile.
const maxMerges = 100

// merge calls change, which reads something, changes it by the body, and stores it if it is as it was read, again until nobody else
// was faster. read returns the version that change was about, and where that stays the same, the conflict is not about that.
func merge[T any](c *call, read func() (T, uint64, error), change func(T) (any, error)) (any, error) {
	last, warnings := uint64(0), c.warnings
	for try := 0; ; try++ {
		value, version, err := read()
		if err != nil {
			return nil, err
		}
		c.warnings = warnings
		data, err := change(value)
		if !errors.Is(err, store.ErrConflict) || try == maxMerges || version == last || c.ctx().Err() != nil {
			return data, err
		}
		last = version
	}
}

// nothing makes sure that the body has no fields.
func (c *call) nothing() error { return c.read(func(*api.Fields) {}) }

// write answers with data.
func (c *call) write(data any) {
	switch data := data.(type) {
	case raw:
		c.writeRaw(data)
	case http.Handler:
		data.ServeHTTP(c.w, c.r)
	case accepted:
		api.WriteData(status{c.w, http.StatusAccepted}, c.r, data.data, c.warnings...)
	default:
		api.WriteData(c.w, c.r, data, c.warnings...)
	}
}

// status is a ResponseWriter that answers with that instead of 200.
type status struct {
	http.ResponseWriter
	code int
}

func (s status) WriteHeader(int) { s.ResponseWriter.WriteHeader(s.code) }

// settling is how long after its time something is not said to be unmodified, since a list with the same second may still be signed, or
// a default change in it: a client must not miss a revocation by that (RFC 9110, Section 8.8.2.2).
const settling = 2 * time.Minute

// modified returns when what the path leads to became what it is: the object itself, its issuer's settings, and which issuer is the
// default one, where the path names none.
func (c *call) modified(issuer *pki.Issuer, at time.Time) (time.Time, error) {
	if issuer.Modified.After(at) {
		at = issuer.Modified
	}
	if ref := c.param("ref"); ref != "" && ref != "default" {
		return at, nil
	}
	changed, err := c.a.DefaultIssuerChanged(c.ctx())
	if changed.After(at) {
		at = changed
	}
	return at, err
}

func (c *call) writeRaw(data raw) {
	h := c.w.Header()
	if len(data.body) == 0 {
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	if !data.modified.IsZero() {
		at := data.modified.UTC().Truncate(time.Second)
		settled := c.opts.Now().Sub(at) >= settling
		if since, err := http.ParseTime(c.r.Header.Get("If-Modified-Since")); err == nil && settled && !at.After(since) {
			h.Set("Last-Modified", at.Format(http.TimeFormat))
			c.w.WriteHeader(http.StatusNotModified)
			return
		}
		if !settled {
			at = at.Add(-time.Second) // whoever asks with that gets what is there then
		}
		h.Set("Last-Modified", at.Format(http.TimeFormat))
	}
	h.Set("Content-Type", data.kind)
	h.Set("Content-Length", strconv.Itoa(len(data.body)))
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method != http.MethodHead {
		c.w.Write(data.body)
	}
}

// answerTo is the answer to an error of an action: what isn't there is 404 with a text, a managed key that isn't there 400, since
// it is what the request has named and not what its path leads to, and everything else as api.StatusOf has it.
func answerTo(err error) error {
	if _, ok := errors.AsType[*api.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return api.Errorf(http.StatusNotFound, "%s: it is not there", without(err))
	case errors.Is(err, backend.ErrKeyNotFound):
		return api.Errorf(http.StatusBadRequest, "%v", err)
	}
	return err
}

// without returns the text of an error that wraps one of the store's, without that: where the store keeps things is nobody's business.
func without(err error) string {
	text := err.Error()
	if inner := errors.Unwrap(err); inner != nil {
		text = strings.TrimSuffix(text, inner.Error())
	}
	return strings.TrimSuffix(text, ": ")
}

// unlessThere turns the error about something that isn't there into the answer that there is nothing.
func unlessThere(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return errNothing
	}
	return err
}

// named returns a list of names as data, or the answer that there is nothing.
func named(keys []string, info object) (any, error) {
	if len(keys) == 0 {
		return nil, errNothing
	}
	out := object{"keys": keys}
	if info != nil {
		out["key_info"] = info
	}
	return out, nil
}

// page returns the parameters after and limit of a list; limit is 0 for all.
func (c *call) page() (after string, limit int, err error) {
	query := c.r.URL.Query()
	for _, name := range []string{"after", "limit"} {
		if len(query[name]) > 1 {
			return "", 0, refuse("parameter %s: it is taken once", name)
		}
	}
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil {
			return "", 0, refuse("parameter limit: it takes a whole number")
		}
	}
	return query.Get("after"), max(limit, 0), nil
}

// issuer returns the issuer that the path names, the default one if it names none.
func (c *call) issuer() (*pki.Issuer, error) { return c.a.Issuer(c.ctx(), c.param("ref")) }
