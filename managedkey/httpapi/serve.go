package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/namespace"
)

// call is a request on its way.
type call struct {
	api       *API
	r         *http.Request  // with the context of the call
	place                    // where it leads
	asked     namespace.Path // by the header
	method    string         // GET, HEAD, POST, PATCH, DELETE or LIST
	requestID string
	id        *Identity  // nil until it is known, and for public paths
	ocsp      string     // see ocspPath: the path within the mount, if everybody may use that; "" if it can be none
	wrong     error      // what is wrong with the path if it is no such one
	denial    denial     // why it is refused, if it is
	wanted    Capability // what it was refused; 0 if that is what the method takes
}

// action is what a method of a path does. It returns the data of the answer; nil for none.
type action func(*call) (any, error)

// route is what a path of the system can do.
type route struct {
	read, list, write, remove action

	exists func(*call) bool // for write: whether there is something to update; nil if update is the capability in any case
	public bool             // everybody may
	self   bool             // everybody may who is known: it is about the caller
	sudo   bool             // takes sudo besides
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	c := &call{api: a, requestID: uuid.NewString()}
	ctx, cancel := context.WithTimeout(r.Context(), a.limits.Timeout)
	defer cancel()
	c.r = r.WithContext(context.WithValue(ctx, contextKey{}, c))
	written := &watched{ResponseWriter: w, call: c}
	defer c.recover(written)
	if err := c.serve(written); err != nil {
		WriteError(written, c.r, err)
	}
}

// watched is a ResponseWriter that knows whether anything was written, and tells of refusals, whoever answers with them.
type watched struct {
	http.ResponseWriter
	call  *call
	wrote bool
}

func (w *watched) WriteHeader(status int) {
	if !w.wrote && (status == http.StatusUnauthorized || status == http.StatusForbidden) {
		w.call.denied()
	}
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *watched) Write(data []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(data)
}

// Unwrap is for http.ResponseController.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recover answers for a panic of an engine. What it was about may be secret: the log has its type and where it was.
func (c *call) recover(w *watched) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	var where []string
	for {
		f, more := frames.Next()
		where = append(where, fmt.Sprintf("%s:%d", f.Function, f.Line))
		if !more {
			break
		}
	}
	c.api.log.ErrorContext(c.r.Context(), "httpapi: panic", "request_id", c.requestID, "type", fmt.Sprintf("%T", p), "where", where)
	if w.wrote {
		panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
	}
	WriteError(w, c.r, refuse(http.StatusInternalServerError, "internal error"))
}

// serve answers the request, or returns the error to answer.
func (c *call) serve(w http.ResponseWriter) error {
	a, r := c.api, c.r
	if !a.rates.allow(a.limits.ClientAddress(r)) {
		return refuse(http.StatusTooManyRequests, "too many requests")
	}
	path, wrong := checkPath(r)
	before, ocsp := ocspPath(r)
	if wrong != nil && before == "" {
		return wrong
	}
	err := c.checkHeaders()
	if err != nil {
		return err
	}
	if c.method, err = methodOf(r); err != nil {
		return err
	}
	if c.asked, err = namespaceOf(r.Header); err != nil {
		return err
	}
	var there bool
	if wrong == nil {
		c.place, there = a.locate(c.asked, path)
	}
	if before != "" {
		responds, err := c.findOCSP(before, ocsp, wrong)
		if err != nil {
			return err
		}
		there = there || responds
	}
	var to *route
	if there && c.mount == nil {
		to = c.systemRoute(strings.Split(c.path, "/"))
	}
	if to != nil && to.public {
		return c.run(w, to)
	}
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	default:
		return refuse(http.StatusServiceUnavailable, "too many requests at once")
	}
	if r.ContentLength > a.limits.Body {
		return &http.MaxBytesError{Limit: a.limits.Body}
	}
	r.Body = http.MaxBytesReader(w, r.Body, a.limits.Body)
	if there && c.mount != nil {
		return c.engine(w)
	}
	if err := c.authenticate(); err != nil {
		return err
	}
	if err := c.authorize(to); err != nil {
		return err
	}
	switch {
	case to != nil:
		return c.run(w, to)
	case there:
		return errUnsupported
	}
	return errNoRoute(c.path)
}

// checkHeaders refuses what can't be honoured.
func (c *call) checkHeaders() error {
	h := c.r.Header
	for _, v := range h.Values("X-Vault-Wrap-TTL") {
		if v != "" && v != "0" && v != "0s" {
			return refuse(http.StatusBadRequest, "header X-Vault-Wrap-TTL: this server has no response wrapping")
		}
	}
	switch v := h.Values("X-Vault-Request"); {
	case len(v) == 0 && c.api.opts.RequireRequestHeader:
		return refuse(http.StatusPreconditionFailed, "missing header X-Vault-Request: true")
	case len(v) > 0 && !(len(v) == 1 && v[0] == "true"):
		return refuse(http.StatusBadRequest, "header X-Vault-Request: it takes true")
	}
	return nil
}

// methodOf returns the method as it is meant.
func methodOf(r *http.Request) (string, error) {
	method := r.Method
	query := r.URL.Query()
	if query.Get("help") != "" { // on any method, and what it is asked about must not happen
		return "", refuse(http.StatusBadRequest, "parameter help: this server has no help for paths")
	}
	switch method {
	case http.MethodPut:
		method = http.MethodPost
	case http.MethodGet:
		if query.Get("scan") != "" { // OpenBao's recursive list
			return "", errMethod
		}
		if lists := query["list"]; len(lists) > 0 {
			list, err := strconv.ParseBool(lists[0])
			if err != nil || len(lists) > 1 {
				return "", refuse(http.StatusBadRequest, "parameter list: it takes true or false")
			}
			if list {
				method = "LIST"
			}
		}
	case http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodDelete, "LIST":
	default:
		return "", errMethod
	}
	if method != http.MethodPost && method != http.MethodPatch && r.ContentLength != 0 {
		return "", refuse(http.StatusBadRequest, "the method takes no body")
	}
	return method, nil
}

// run does what the method asks for.
func (c *call) run(w http.ResponseWriter, to *route) error {
	do := map[string]action{http.MethodGet: to.read, http.MethodHead: to.read, "LIST": to.list, http.MethodPost: to.write, http.MethodDelete: to.remove}
	if c.method == http.MethodHead && !to.public || do[c.method] == nil {
		var allow []string
		for _, method := range []string{http.MethodGet, "LIST", http.MethodPost, http.MethodDelete} {
			if do[method] != nil {
				allow = append(allow, method)
			}
		}
		w.Header().Set("Allow", strings.Join(allow, ", "))
		return errMethod
	}
	data, err := do[c.method](c)
	if err != nil {
		return err
	}
	if handler, ok := data.(http.Handler); ok {
		handler.ServeHTTP(w, c.r)
		return nil
	}
	switch data := data.(type) {
	case bare:
		writeJSON(w, data.status, data.body)
	case twice:
		writeTwice(w, c.r, data)
	case warned:
		WriteData(w, c.r, data.data, data.warning)
	default:
		WriteData(w, c.r, data)
	}
	return nil
}

// engine has the mount's engine answer.
func (c *call) engine(w http.ResponseWriter) error {
	a := c.api
	a.sweep(time.Now())
	handler, done, err := a.engines.use(c.r.Context(), c.mount)
	if err != nil {
		// Who isn't known is not to learn what is wrong.
		if known := c.authenticate(); known != nil {
			return known
		}
		return err
	}
	defer done()
	rest := c.rest
	inner := func() *http.Request {
		r, u := *c.r, *c.r.URL
		u.Path, u.RawPath = "/"+rest, ""
		r.Method, r.URL = c.method, &u
		return &r
	}
	if publisher, ok := handler.(Publisher); ok {
		if c.ocsp != "" && publisher.Public(c.method, c.ocsp) {
			rest = c.ocsp
			handler.ServeHTTP(w, inner())
			return nil
		}
		if c.wrong == nil && publisher.Public(c.method, c.rest) {
			handler.ServeHTTP(w, inner())
			return nil
		}
	}
	if c.wrong != nil {
		return c.wrong
	}
	if err := c.authenticate(); err != nil {
		return err
	}
	var exists func() bool
	var failed error
	if exister, ok := handler.(Exister); ok {
		exists = func() bool {
			there, err := exister.Exists(inner())
			failed = err
			return there
		}
	}
	want := c.capability(exists)
	if guarded, ok := handler.(Guarded); ok && guarded.Sudo(c.method, c.rest) {
		want |= Sudo
	}
	if err := c.demand(want); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if handler == nil {
		return errUnsupported
	}
	handler.ServeHTTP(w, inner())
	return nil
}
