package httpapi

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// call is a request to an operation.
type call struct {
	*handler
	w    http.ResponseWriter
	r    *http.Request
	args []string // segments of the path that stand for something, in order; those left out at the end are ""

	notes []string // warnings of the answer
}

// operation answers a call, or returns the error to answer.
type operation func(*call) error

// route is a path: its segments, those that begin with ":" for anything and those with "?:" for anything or nothing, at the end.
type route struct {
	path    string
	methods map[string]operation
}

// routes are all paths. Of two that fit, the first counts.
var routes = []route{
	{"keys", on("LIST", listKeys)},
	{"keys/:name", map[string]operation{http.MethodGet: readKey, http.MethodPost: createKey, http.MethodDelete: deleteKey}},
	{"keys/:name/config", post(configureKey)},
	{"keys/:name/rotate", post(rotateKey)},
	{"keys/:name/trim", post(trimKey)},
	{"keys/:name/soft-delete", map[string]operation{http.MethodPost: softDelete, http.MethodDelete: softDelete}},
	{"keys/:name/soft-delete-restore", post(softRestore)},
	{"keys/:name/import", post(importKey)},
	{"keys/:name/import_version", post(importVersion)},
	{"keys/:name/csr", post(signRequest)},
	{"keys/:name/set-certificate", post(setCertificate)},
	{"wrapping_key", on(http.MethodGet, wrappingKey)},
	{"export/:type/:name/?:version", on(http.MethodGet, export)},
	{"byok-export/:destination/:source/?:version", on(http.MethodGet, exportWrapped)},
	{"backup/:name", on(http.MethodGet, backup)},
	{"restore/?:name", post(restore)},
	{"encrypt/:name", post(encrypt)},
	{"decrypt/:name", post(decrypt)},
	{"rewrap/:name", post(rewrap)},
	{"datakey/:type/:name", post(dataKey)},
	{"datakeys/:type/:name", post(dataKeys)},
	{"derivedkeys/:type/:name", post(derivedKeys)},
	{"derive-key/:name", post(deriveKey)},
	{"sign/:name/?:hash", post(sign)},
	{"verify/:name/?:hash", post(verify)},
	{"hmac/:name/?:hash", post(hmac)},
	{"cmac/:name/?:length", post(cmac)},
	{"hash/?:hash", post(hash)},
	{"random/?:source/?:bytes", post(random)},
	{"cache-config", map[string]operation{http.MethodGet: readCache, http.MethodPost: writeCache}},
	{"config/keys", map[string]operation{http.MethodGet: readConfig, http.MethodPost: writeConfig}},
}

func on(method string, do operation) map[string]operation { return map[string]operation{method: do} }

func post(do operation) map[string]operation { return on(http.MethodPost, do) }

// matcher is a route, split.
type matcher struct {
	segments []string
	least    int // segments that there must be
	methods  map[string]operation
}

// matchers are the routes by their first segment.
var matchers = func() map[string][]matcher {
	all := make(map[string][]matcher)
	for _, r := range routes {
		m := matcher{segments: strings.Split(r.path, "/"), methods: r.methods}
		for _, s := range m.segments {
			if s[0] != '?' {
				m.least++
			}
		}
		all[m.segments[0]] = append(all[m.segments[0]], m)
	}
	return all
}()

// match returns what stands for something in the path, and whether the route fits it.
func (m *matcher) match(path []string) (args []string, ok bool) {
	if len(path) < m.least || len(path) > len(m.segments) {
		return nil, false
	}
	args = make([]string, 0, 3)
	for i, s := range m.segments {
		switch {
		case i >= len(path):
			args = append(args, "")
		case s[0] == ':' || s[0] == '?':
			args = append(args, path[i])
		case s != path[i]:
			return nil, false
		}
	}
	return args, true
}

// split returns the segments of a request's path, of which none is empty.
func split(r *http.Request) []string { return strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/") }

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := split(r)
	for i := range matchers[path[0]] {
		m := &matchers[path[0]][i]
		args, ok := m.match(path)
		if !ok {
			continue
		}
		do := m.methods[r.Method]
		if do == nil {
			var allow []string
			for method := range m.methods {
				allow = append(allow, method)
			}
			slices.Sort(allow)
			w.Header().Set("Allow", strings.Join(allow, ", "))
			httpapi.WriteError(w, r, httpapi.Errorf(http.StatusMethodNotAllowed, "unsupported operation"))
			return
		}
		if err := do(&call{handler: h, w: w, r: r, args: args}); err != nil {
			httpapi.WriteError(w, r, explain(err))
		}
		return
	}
	httpapi.WriteError(w, r, httpapi.Errorf(http.StatusNotFound, "unsupported path"))
}

// reply answers with data, or with 204 if it is nil.
func (c *call) reply(data any) error {
	httpapi.WriteData(c.w, c.r, data, c.notes...)
	return nil
}

// fields returns the members of the body. "name" may stand there as well as in the path, where it counts.
func (c *call) fields() (*httpapi.Fields, error) {
	f, err := httpapi.ReadFields(c.r)
	if err == nil {
		var name string
		f.String("name", &name)
	}
	return f, err
}

// query returns a parameter of the URL that may be given once.
func (c *call) query(name string) (string, error) {
	values := c.r.URL.Query()[name]
	if len(values) > 1 {
		return "", refuse("parameter %s: it is taken once", name)
	}
	if len(values) == 0 {
		return "", nil
	}
	return values[0], nil
}

// texts takes members that are strings.
func texts(f *httpapi.Fields, names ...string) map[string]string {
	all := make(map[string]string, len(names))
	for _, name := range names {
		var value string
		f.String(name, &value)
		all[name] = value
	}
	return all
}

// unbase64 decodes a member.
func unbase64(name, value string) ([]byte, error) {
	decoded, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, notBase64(member{name: name}, err)
	}
	return decoded, nil
}
