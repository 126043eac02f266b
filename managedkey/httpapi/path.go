package httpapi

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// maxPath is the length of the longest path, in bytes: a namespace, a mount and a name all fit.
const maxPath = 4096

// root is what all paths stand under.
const root = "/v1/"

// checkPath returns the path of a request below /v1/, without a slash at the end. Nothing is cleaned: a path that another program
// could read otherwise is refused, because who may do what is decided by the path.
func checkPath(r *http.Request) (string, error) {
	raw, path := r.URL.EscapedPath(), r.URL.Path
	if len(raw) > maxPath {
		return "", refuse(http.StatusRequestURITooLong, "the path has %d bytes; it takes at most %d", len(raw), maxPath)
	}
	bad := func(what string) (string, error) {
		return "", refuse(http.StatusBadRequest, "the path has %s, which is never cleaned", what)
	}
	// What is escaped without need, or twice, is a trick; so is a slash that is no separator.
	lower := ""
	if strings.Contains(raw, "%") {
		lower = strings.ToLower(raw)
	}
	for _, trick := range []string{"%2e", "%2f", "%5c", "%25", "%00"} {
		if strings.Contains(lower, trick) {
			return bad(trick)
		}
	}
	if !utf8.ValidString(path) {
		return bad("bytes that are no UTF-8")
	}
	for _, c := range path {
		if c < 0x20 || c == 0x7f || c == '\\' {
			return bad("a control character or backslash")
		}
	}
	if path == "/v1" {
		path = root
	}
	rest, ok := strings.CutPrefix(path, root)
	if !ok {
		if path == "" || path[0] != '/' {
			return bad("no slash in front")
		}
		rest = path[1:]
	}
	if rest != "" {
		rest = strings.TrimSuffix(rest, "/")
		for segment := range strings.SplitSeq(rest, "/") {
			if segment == "" || segment == "." || segment == ".." {
				return bad(`an empty segment, "." or ".."`)
			}
		}
	}
	if !ok {
		return "", errNoRoute(rest)
	}
	return rest, nil
}

// place is where a path leads: to the system's own paths of a namespace if mount is nil, and else to an engine.
type place struct {
	ns    namespace.Path
	path  string // within the namespace
	mount *managedkey.Mount
	rest  string // of an engine's path
}

// locate follows a path from a namespace. The namespace that is nearest to the root and has something there is meant, so that nobody
// below can take a path away from those above. ok is false if nobody has it; then the place is that of ns.
func (a *API) locate(ns namespace.Path, path string) (at place, ok bool) {
	at = place{ns: ns, path: path}
	for here, left := ns, path; ; {
		first, rest, more := strings.Cut(left, "/")
		if first == "sys" || first == "auth" {
			return place{ns: here, path: left}, true
		}
		if m, below := a.keys.MountAt(here, left); m != nil {
			return place{here, left, m, below}, true
		}
		child, err := here.Child(first)
		if err != nil || !more {
			return at, false
		}
		here, left = child, rest
	}
}

// namespaceOf returns the namespace that the header says, the root if there is none.
func namespaceOf(h http.Header) (namespace.Path, error) {
	values := h.Values("X-Vault-Namespace")
	if len(values) > 1 {
		return "", refuse(http.StatusBadRequest, "the request has several headers X-Vault-Namespace; it takes one")
	}
	if len(values) == 0 {
		return namespace.Root, nil
	}
	text := values[0]
	if text == "root" || text == "root/" || text == "/" {
		return namespace.Root, nil
	}
	ns, err := namespace.ParsePath(strings.TrimSuffix(strings.TrimPrefix(text, "/"), "/"))
	if err != nil {
		return "", refuse(http.StatusBadRequest, "header X-Vault-Namespace: %v", err)
	}
	return ns, nil
}
